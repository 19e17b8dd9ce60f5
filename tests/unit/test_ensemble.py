"""Several teachers, one distribution."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.ensemble import combine_log_p, normalise_weights
from raydistill.errors import ConfigError, SignalError
from raydistill.losses import soft_cross_entropy, soft_cross_entropy_from_log_p

SPACES = ["probabilities", "logits"]
WEIGHTS = [0.5, 0.3, 0.2]


def three_teachers(dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    return list(scale * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def test_combine_is_the_formula_in_both_spaces():
    """A temperature applied after the mean is another target than the paper's."""
    z = [one.numpy() for one in three_teachers()]
    votes = sum(w * softmax(one / 2) for w, one in zip(WEIGHTS, z, strict=True))
    logits = softmax(sum(w * one for w, one in zip(WEIGHTS, z, strict=True)) / 2)
    for space, expected in zip(SPACES, [votes, logits], strict=True):
        log_p = combine_log_p(three_teachers(), WEIGHTS, temperature=2.0, space=space)
        np.testing.assert_allclose(log_p.exp().numpy(), expected, rtol=1e-12)
    assert np.abs(votes - logits).max() > 0.01, "the case must tell the two apart"


@pytest.mark.parametrize("space", SPACES)
def test_combined_distribution_sums_to_one(space):
    """A target that does not sum to 1 is a hidden weight."""
    log_p = combine_log_p(three_teachers(torch.float32), WEIGHTS, temperature=0.5, space=space)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("space", SPACES)
def test_order_of_teachers_changes_nothing(space):
    """Teachers answer in any order; the student must not depend on who was first."""
    pairs = list(zip(three_teachers(torch.float32), WEIGHTS, strict=True))
    first = combine_log_p(*zip(*pairs, strict=True), temperature=3.0, space=space)
    for order in itertools.permutations(pairs):
        other = combine_log_p(*zip(*order, strict=True), temperature=3.0, space=space)
        torch.testing.assert_close(other, first, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("space", SPACES)
def test_one_teacher_is_its_own_log_softmax(space):
    """An ensemble of one must train the same student as the teacher alone."""
    z = three_teachers()[0]
    combined = combine_log_p([z], [1.0], temperature=4.0, space=space)
    torch.testing.assert_close(combined, (z / 4).log_softmax(-1))


@pytest.mark.parametrize("space", SPACES)
def test_teachers_that_agree_are_one_teacher(space):
    """Copies of a teacher must not sharpen or soften it."""
    z = three_teachers()[0]
    combined = combine_log_p([z, z, z], WEIGHTS, temperature=4.0, space=space)
    torch.testing.assert_close(combined, (z / 4).log_softmax(-1))


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


@pytest.mark.parametrize("space", SPACES)
def test_class_excluded_by_all_teachers_has_probability_zero(space):
    """-inf - -inf is NaN; a class masked out by all must be 0, not the end of the run."""
    z = [torch.tensor([[1.0, 2.0, -torch.inf]]), torch.tensor([[0.0, 5.0, -torch.inf]])]
    p = combine_log_p(z, [0.4, 0.6], temperature=2.0, space=space).exp()
    assert p[0, 2] == 0
    assert p.sum().item() == pytest.approx(1)


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


def test_mean_of_probabilities_is_the_sum_of_cross_entropies():
    """The module's docstring says so; a user chooses by it."""
    student, teachers = torch.randn(4, 5, dtype=torch.float64), three_teachers()
    log_p = combine_log_p(teachers, WEIGHTS, temperature=2.0)
    combined = soft_cross_entropy_from_log_p(student, log_p, temperature=2.0)
    losses = [soft_cross_entropy(student, one, temperature=2.0) for one in teachers]
    summed = sum(w * loss for w, loss in zip(WEIGHTS, losses, strict=True))
    torch.testing.assert_close(combined, summed)


def test_combine_refuses_teachers_of_different_shapes():
    """A broadcast teacher answers every row alike."""
    with pytest.raises(SignalError, match=r"\[\[4, 5\], \[1, 5\]\]"):
        combine_log_p([torch.ones(4, 5), torch.ones(1, 5)], [0.5, 0.5], temperature=1.0)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.6], "sum to 1"),
        ([1.5, -0.5], "must be positive"),
        ([1.0, 0.0], "must be positive"),
        ([float("nan"), 1.0], "must be positive"),
        ([1.0], "got 1 for 2 teachers"),
    ],
)
def test_combine_refuses_weights_that_are_not_normalised(weights, words):
    """Weights that sum to 2 halve the temperature in the space of logits."""
    with pytest.raises(ValueError, match=words):
        combine_log_p([torch.ones(1, 2)] * 2, weights, temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -2.0, float("inf"), float("nan")])
def test_combine_refuses_a_temperature_that_is_none(temperature):
    """Divided by 0, every target is NaN."""
    with pytest.raises(ValueError, match="temperature must be"):
        combine_log_p([torch.ones(1, 2)], [1.0], temperature=temperature)


def test_combine_refuses_an_unknown_space_and_no_teachers():
    """A misspelt space must not be one of the two."""
    with pytest.raises(ValueError, match="space must be"):
        combine_log_p([torch.ones(1, 2)], [1.0], temperature=1.0, space="logit")
    with pytest.raises(ValueError, match="at least one"):
        combine_log_p([], [], temperature=1.0)


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
