"""Several teachers, one distribution."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.ensemble import answered, combine_log_p, normalise_weights
from raydistill.ensemble.combine import log_mixture
from raydistill.errors import ConfigError, SignalError
from raydistill.losses import soft_cross_entropy

SPACES = ["probabilities", "logits", "log_probabilities", "best"]
MEANS = SPACES[:3]
WEIGHTS = [0.5, 0.3, 0.2]
# Row 0: all; 1: without the second; 2: one alone; 3: nobody.
BY_ROW = [[0.5, 0.4, 0.0, 0.0], [0.3, 0.0, 1.0, 0.0], [0.2, 0.6, 0.0, 0.0]]
NAN = float("nan")


def three_teachers(dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    return list(scale * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def combined_by_hand(z, weights, taus, space):
    """One row of one formula: z [M, V], weights [M], taus [M]."""
    u = [one / tau for one, tau in zip(z, taus, strict=True)]
    pairs = [(w, one) for w, one in zip(weights, u, strict=True) if w > 0]
    if space == "probabilities":
        return sum(w * softmax(one) for w, one in pairs)
    if space == "best":
        return softmax(u[max(range(len(u)), key=lambda i: weights[i])])
    if space == "log_probabilities":
        pairs = [(w, np.log(softmax(one))) for w, one in pairs]
    return softmax(sum(w * one for w, one in pairs))


@pytest.mark.parametrize("space", SPACES)
def test_combine_is_the_formula(space):
    """A temperature applied after the mean is another target than the paper's."""
    z = torch.stack(three_teachers()).numpy()
    log_p = combine_log_p(three_teachers(), WEIGHTS, temperature=2.0, space=space)
    for b in range(4):
        expected = combined_by_hand(z[:, b], WEIGHTS, [2.0] * 3, space)
        np.testing.assert_allclose(log_p[b].exp().numpy(), expected, rtol=1e-12)


def test_spaces_are_told_apart_by_the_cases():
    """A formula test on teachers that agree would pass for any formula."""
    p = {
        s: combine_log_p(three_teachers(), WEIGHTS, temperature=2.0, space=s).exp() for s in SPACES
    }
    for one, other in itertools.combinations(["probabilities", "logits", "best"], 2):
        assert (p[one] - p[other]).abs().max() > 0.01


@pytest.mark.parametrize("space", SPACES)
def test_combine_is_the_formula_with_weights_and_temperatures_of_their_own(space):
    """A weight or temperature of another row or teacher is a wrong target with a healthy loss."""
    z = torch.stack(three_teachers()).numpy()
    temperature, own = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64), [1.0, 2.0, 0.7]
    weights = torch.tensor(BY_ROW, dtype=torch.float64)
    log_p = combine_log_p(
        three_teachers(), weights, temperature=temperature, teacher_temperatures=own, space=space
    )
    for b in range(3):
        taus = [temperature[b].item() * t for t in own]
        expected = combined_by_hand(z[:, b], weights[:, b].tolist(), taus, space)
        np.testing.assert_allclose(log_p[b].exp().numpy(), expected, rtol=1e-12)
    assert log_p[3].tolist() == [0.0] * 5, "a placeholder that is no distribution"
    assert answered(weights).tolist() == [True, True, True, False]


def test_mean_of_log_probabilities_is_the_mean_of_logits():
    """The docstring says that they never differ; a user who tunes between them wastes runs."""
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for w in (WEIGHTS, weights / weights.sum(0)):
        both = [
            combine_log_p(
                three_teachers(), w, temperature=1.5, teacher_temperatures=[1, 3, 0.2], space=space
            )
            for space in ("logits", "log_probabilities")
        ]
        torch.testing.assert_close(*both, rtol=1e-12, atol=1e-12)


def test_log_probabilities_keep_what_an_offset_of_the_logits_would_drown():
    """At 1e6 a float32 has steps of 0.06; summed first, three teachers' steps add up."""
    z = three_teachers(torch.float32)
    moved = [one + offset for one, offset in zip(z, (1e6, -1e6, 1e6), strict=True)]
    stored = [one.double() for one in moved]  # what float32 still holds of them
    exact = combine_log_p(stored, WEIGHTS, space="logits")
    error = {
        space: (combine_log_p(moved, WEIGHTS, space=space).double() - exact).abs().max()
        for space in ("logits", "log_probabilities")
    }
    assert error["log_probabilities"] < 1e-5 < error["logits"]


@pytest.mark.parametrize("space", SPACES)
def test_combined_distribution_sums_to_one(space):
    """A target that does not sum to 1 is a hidden weight."""
    log_p = combine_log_p(three_teachers(torch.float32), WEIGHTS, temperature=0.5, space=space)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("weights", [WEIGHTS, torch.tensor(BY_ROW)], ids=["fixed", "by_row"])
def test_order_of_teachers_changes_nothing(space, weights):
    """Teachers answer in any order; the student must not depend on who was first."""
    z = three_teachers(torch.float32)
    first = combine_log_p(z, weights, temperature=3.0, space=space)
    for order in itertools.permutations(range(3)):
        moved = weights[list(order)] if isinstance(weights, torch.Tensor) else [weights[i] for i in order]  # fmt: skip
        other = combine_log_p([z[i] for i in order], moved, temperature=3.0, space=space)
        torch.testing.assert_close(other, first, rtol=1e-6, atol=1e-6)


def test_best_takes_the_first_of_equals():
    """A tie decided by chance is a run that cannot be repeated."""
    z = three_teachers()
    combined = combine_log_p(z, [0.25, 0.375, 0.375], space="best")
    assert torch.equal(combined, z[1].log_softmax(-1))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_teacher_is_its_own_log_softmax(space, dtype):
    """An ensemble of one must train the same student as the teacher alone, to the last bit."""
    z = three_teachers(dtype)[0]
    expected = (z / 4).log_softmax(-1)
    ones = torch.ones(1, 4)
    combined = [
        combine_log_p([z], [1.0], temperature=4.0, space=space),
        combine_log_p(z.unsqueeze(0), ones, temperature=4.0, space=space),
        combine_log_p([z, z * NAN], [1.0, 0.0], temperature=4.0, space=space),
    ]
    for one in combined:
        if space == "log_probabilities":  # normalised twice
            torch.testing.assert_close(one, expected)
        else:
            assert torch.equal(one, expected)


@pytest.mark.parametrize("space", SPACES)
def test_teachers_that_agree_are_one_teacher(space):
    """Copies of a teacher must not sharpen or soften it."""
    z = three_teachers()[0]
    combined = combine_log_p([z, z, z], WEIGHTS, temperature=4.0, space=space)
    torch.testing.assert_close(combined, (z / 4).log_softmax(-1))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ways_of_writing_the_same_give_the_same_bits(space, dtype):
    """A run must not change because a number came as a tensor, or the teachers in one tensor."""
    z = three_teachers(dtype)
    expected = combine_log_p(z, WEIGHTS, temperature=3.0, space=space)
    column = torch.tensor(WEIGHTS, dtype=dtype)
    for logits in (z, torch.stack(z)):
        for weights in (WEIGHTS, column, column.unsqueeze(1).expand(3, 4)):
            for temperature in (3.0, torch.tensor(3.0), torch.full((4,), 3.0)):
                for own in (None, [1.0, 1.0, 1.0]):
                    combined = combine_log_p(
                        logits,
                        weights,
                        temperature=temperature,
                        teacher_temperatures=own,
                        space=space,
                    )
                    assert torch.equal(combined, expected)


def test_arguments_are_left_as_they_are():
    """Logits are used again by the next loss; a NaN turned into 0 in them would hide."""
    stacked = torch.stack(three_teachers())
    stacked[2, 1] = NAN
    before = stacked.clone()
    combine_log_p(stacked, torch.tensor([[0.5] * 4, [0.5] * 4, [0.0] * 4]).double())
    assert torch.equal(stacked.nan_to_num(7.0), before.nan_to_num(7.0))


@pytest.mark.parametrize("space", SPACES)
def test_more_dimensions_are_more_rows(space):
    """Token classification combines [B, S, V]."""
    z = torch.stack(three_teachers())  # [3, 4, 5]
    weights = torch.tensor(BY_ROW, dtype=torch.float64)
    flat = combine_log_p(z, weights, space=space)
    deep = combine_log_p(z.view(3, 2, 2, 5), weights.view(3, 2, 2), space=space)
    assert torch.equal(deep.view(4, 5), flat)
    single = combine_log_p(z[:, 0], WEIGHTS, space=space)
    torch.testing.assert_close(single, flat[0])


def test_probabilities_do_not_see_a_shift_of_one_teachers_logits():
    """A teacher with larger logits must not be louder."""
    shifted = three_teachers()
    shifted[1] = shifted[1] + 100
    expected = combine_log_p(three_teachers(), WEIGHTS, temperature=2.0)
    torch.testing.assert_close(combine_log_p(shifted, WEIGHTS, temperature=2.0), expected)


@pytest.mark.parametrize("space", SPACES)
def test_extreme_logits_stay_finite(space):
    """log(Σ w softmax) written naively is log 0 where both teachers are sure."""
    z = [torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[1e4, -1e4, 1.0]])]
    assert combine_log_p(z, [0.5, 0.5], temperature=1.0, space=space).isfinite().all()


def test_teacher_that_is_not_read_does_not_hide_what_the_others_say():
    """The largest of all teachers as a reference would drown those that are read in 0."""
    z = [torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])]
    log_p = combine_log_p(z, torch.tensor([[1.0], [0.0]]))
    assert torch.equal(log_p, z[0].log_softmax(-1))


@pytest.mark.parametrize("space", SPACES)
def test_class_excluded_by_all_teachers_has_probability_zero(space):
    """-inf - -inf is NaN; a class masked out by all must be 0, not the end of the run."""
    z = [torch.tensor([[1.0, 2.0, -torch.inf]]), torch.tensor([[0.0, 5.0, -torch.inf]])]
    p = combine_log_p(z, [0.4, 0.6], temperature=2.0, space=space).exp()
    assert p[0, 2] == 0
    assert p.sum().item() == pytest.approx(1)


def test_class_excluded_by_one_teacher_is_vetoed_by_the_geometric_mean_only():
    """What a -inf means is the difference between a vote and a veto."""
    z = [torch.tensor([[1.0, 2.0, -torch.inf]]), torch.tensor([[0.0, 5.0, 3.0]])]
    p = {space: combine_log_p(z, [0.6, 0.4], space=space).exp() for space in SPACES}
    assert p["probabilities"][0, 2].item() == pytest.approx(0.4 * softmax(z[1].numpy())[0, 2])
    assert p["logits"][0, 2] == p["log_probabilities"][0, 2] == p["best"][0, 2] == 0


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_combined_in_float32(space, dtype):
    """Signals travel in half precision; log-probabilities must not be computed in it."""
    z = three_teachers(dtype)
    log_p = combine_log_p(z, WEIGHTS, temperature=2.0, space=space)
    assert log_p.dtype == torch.float32
    expected = combine_log_p([one.double() for one in z], WEIGHTS, temperature=2.0, space=space)
    torch.testing.assert_close(log_p.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", SPACES)
def test_no_gradient_reaches_a_teacher(space):
    """Teachers are frozen; a graph through them only costs memory."""
    z = [one.requires_grad_() for one in three_teachers()]
    assert not combine_log_p(z, WEIGHTS, temperature=2.0, space=space).requires_grad


@pytest.mark.parametrize("space", SPACES)
def test_teacher_without_weight_is_not_read(space):
    """A teacher that failed leaves NaN; 0 · NaN is NaN, in the value and in the gradient."""
    z, weights = three_teachers(), torch.tensor(BY_ROW, dtype=torch.float64, requires_grad=True)
    expected = combine_log_p(z, weights, space=space)
    torn = [one.masked_fill((weights[i] == 0).unsqueeze(-1), NAN) for i, one in enumerate(z)]
    combined = combine_log_p(torn, weights, space=space)
    assert torch.equal(combined, expected)
    if space == "best":
        assert not combined.requires_grad
        return
    (gradient,) = torch.autograd.grad(combined.sin().sum(), weights)
    assert gradient.isfinite().all()
    assert (gradient[weights == 0] == 0).all()
    assert (gradient[weights != 0] != 0).any()


@pytest.mark.parametrize("space", SPACES)
def test_nan_of_a_teacher_that_is_read_is_seen(space):
    """NaN turned into a number trains on an invented target."""
    z = three_teachers()
    z[0][1] = NAN
    combined = combine_log_p(z, WEIGHTS, space=space)
    assert combined[1].isnan().all()
    assert combined[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("space", SPACES)
def test_nan_among_the_weights_is_seen(space):
    """Taken for "not read", it would leave out the broken teacher without a word."""
    weights = torch.tensor(BY_ROW, dtype=torch.float64)
    weights[2, 0] = NAN
    combined = combine_log_p(three_teachers(), weights, space=space)
    assert combined[0].isnan().all()
    assert combined[1:].isfinite().all()
    assert answered(weights).tolist() == [True, True, True, False]


@pytest.mark.parametrize("space", MEANS)
def test_gradient_of_the_weights_is_that_of_the_formula(space):
    """A gate learns from it."""
    weights = torch.tensor(BY_ROW, dtype=torch.float64)[:, :2].clone() + 0.05
    z = torch.stack(three_teachers())[:, :2]
    assert torch.autograd.gradcheck(
        lambda w: combine_log_p(z, w, temperature=2.0, space=space), weights.requires_grad_()
    )
    fixed = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: combine_log_p(z, w, space=space), fixed)


@pytest.mark.parametrize("space", MEANS)
def test_gradient_of_the_weights_is_finite_with_excluded_classes(space):
    """The slope of log 0 is infinite, and 0 · inf is NaN: one masked class would end the gate."""
    z = torch.stack(three_teachers())
    z[:, :, 4] = -torch.inf
    z[0, :, 3] = -torch.inf
    weights = torch.tensor(BY_ROW, dtype=torch.float64, requires_grad=True)
    log_p = combine_log_p(z, weights, space=space)
    p = log_p[:3].exp()
    torch.where(p == 0, 0.0, p * log_p[:3]).sum().backward()
    assert weights.grad.isfinite().all()


def test_log_mixture_is_the_logarithm_of_the_mixture():
    """The gate's loss and the target of the student must be the same mixture."""
    log_p = torch.stack(three_teachers()).log_softmax(-1)
    weights = torch.tensor(BY_ROW, dtype=torch.float64)
    expected = (weights.unsqueeze(-1) * log_p.exp()).sum(0).log()
    torch.testing.assert_close(log_mixture(weights, log_p), expected)


def test_mean_of_probabilities_is_the_sum_of_cross_entropies():
    """The module's docstring says so; a user chooses by it."""
    student, teachers = torch.randn(4, 5, dtype=torch.float64), three_teachers()
    log_p = combine_log_p(teachers, WEIGHTS, temperature=2.0)
    combined = soft_cross_entropy(student, 2.0 * log_p, temperature=2.0)
    losses = [soft_cross_entropy(student, one, temperature=2.0) for one in teachers]
    summed = sum(w * loss for w, loss in zip(WEIGHTS, losses, strict=True))
    torch.testing.assert_close(combined, summed)


def test_combine_refuses_teachers_of_different_shapes():
    """A broadcast teacher answers every row alike."""
    with pytest.raises(SignalError, match=r"\[\[4, 5\], \[1, 5\]\]"):
        combine_log_p([torch.ones(4, 5), torch.ones(1, 5)], [0.5, 0.5], temperature=1.0)
    with pytest.raises(SignalError, match=r"\[M, ..., V\], got \[5\]"):
        combine_log_p(torch.ones(5), [1.0])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.6], "sum to 1"),
        ([0.0, 0.0], "sum to 1"),
        ([1.5, -0.5], "must not be negative"),
        ([float("nan"), 1.0], "must not be negative"),
        ([1.0], "got 1 for 2 teachers"),
    ],
)
def test_combine_refuses_weights_that_are_not_normalised(weights, words):
    """Weights that sum to 2 halve the temperature in the space of logits."""
    with pytest.raises(ValueError, match=words):
        combine_log_p([torch.ones(1, 2)] * 2, weights, temperature=1.0)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (4, 2), (1, 4), ()])
def test_combine_refuses_weights_that_would_broadcast(shape):
    """[B, M] for [M, B] gives every row a stranger's weights."""
    with pytest.raises(SignalError, match=r"weights must be one per teacher, shape \[2\]"):
        combine_log_p([torch.ones(4, 5)] * 2, torch.full(shape, 0.5))


@pytest.mark.parametrize("temperature", [0.0, -2.0, float("inf"), float("nan")])
def test_combine_refuses_a_temperature_that_is_none(temperature):
    """Divided by 0, every target is NaN."""
    with pytest.raises(ValueError, match="temperature must be"):
        combine_log_p([torch.ones(1, 2)], [1.0], temperature=temperature)
    with pytest.raises(ValueError, match="teacher_temperatures must be"):
        combine_log_p([torch.ones(1, 2)], [1.0], teacher_temperatures=[temperature])


def test_combine_refuses_temperatures_that_do_not_fit():
    """A temperature too few would be broadcast over classes."""
    with pytest.raises(SignalError, match=r"one per row, shape \[4\], got \[5\]"):
        combine_log_p([torch.ones(4, 5)], [1.0], temperature=torch.ones(5))
    with pytest.raises(ValueError, match="got 2 for 1 teachers"):
        combine_log_p([torch.ones(4, 5)], [1.0], teacher_temperatures=[1.0, 1.0])


def test_combine_refuses_an_unknown_space_and_no_teachers():
    """A misspelt space must not be one of the four."""
    with pytest.raises(ValueError, match="space must be one of 'probabilities', "):
        combine_log_p([torch.ones(1, 2)], [1.0], temperature=1.0, space="logit")
    with pytest.raises(ValueError, match="at least one"):
        combine_log_p([], [], temperature=1.0)
    with pytest.raises(ValueError, match="at least one"):
        combine_log_p(torch.ones(0, 4, 5), torch.ones(0, 4))


def test_weights_not_given_count_one_and_order_is_the_teachers():
    """Weights in another order than the logits are the wrong teachers' weights."""
    weights = normalise_weights(["a", "b", "c"], {"c": 2.0})
    assert list(weights.items()) == [("a", 0.25), ("b", 0.25), ("c", 0.5)]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.floats(1e-300, 1.7e308), min_size=1, max_size=6))
def test_weights_sum_to_one(given_weights):
    """The sum of large weights overflows, and every weight becomes 0."""
    weights = normalise_weights(list(given_weights), given_weights)
    assert math.fsum(weights.values()) == pytest.approx(1, abs=1e-12)


def test_weights_name_all_faults():
    """A weight for a misspelt teacher that is ignored leaves the teacher at 1."""
    with pytest.raises(ConfigError) as caught:
        normalise_weights(["deep", "wide"], {"wied": 2.0, "wide": 0.0, "deep": float("inf")})
    assert str(caught.value).splitlines() == [
        "ensemble.weights.wied names no teacher. Teachers: deep, wide.",
        "ensemble.weights.wide must be a positive finite number, got 0.0.",
        "ensemble.weights.deep must be a positive finite number, got inf.",
    ]
    with pytest.raises(ConfigError, match="at least one teacher"):
        normalise_weights([], {})
