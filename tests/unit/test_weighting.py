"""Weights of several teachers: from their answers, from outside, learned."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.ensemble import (
    Gate,
    agreement_weights,
    answered,
    chosen_weights,
    combine_log_p,
    confidence_weights,
    fixed_weights,
    gate_features,
    gate_loss,
    label_cross_entropy_weights,
    routed,
    stochastic_choice,
    validation_weights,
)
from raydistill.errors import SignalError

NAN = float("nan")
BASE = [0.5, 0.3, 0.2]
# Row 0: all three; 1: two; 2: one alone; 3: nobody; 4: all three.
ANSWERED = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [1, 1, 0, 0, 1]]).bool()
ALL = torch.ones_like(ANSWERED)
LABELS = torch.tensor([2, 0, 3, 1, -100])


def three_teachers(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(3, 5, 4, generator=generator, dtype=torch.float64).to(dtype)


def by_fixed(z, said, **options):
    return fixed_weights(options.get("base", BASE), said)


def by_confidence(z, said, base=BASE, **options):
    return confidence_weights(z, base, said, **options)


def by_label(z, said, base=BASE):
    return label_cross_entropy_weights(z, LABELS, base, said)


def by_agreement(z, said, base=BASE, **options):
    return agreement_weights(z, base, said, **options)


def by_route(z, said, base=BASE):
    return fixed_weights(base, routed(torch.tensor([-1, 2, 1, 0, -1]), 3) & said)


def by_gate(z, said, base=BASE):
    gate = Gate(6, base).double()
    with torch.no_grad():  # of the teachers, not of their order
        gate.weight[:, :] = torch.tensor(
            [[1, -2, 0.5, 0, 1, 0], [0, 1, 0, 2, 0, -1], [3, 0, 0, 1, 0, 1]]
        )
    return gate(gate_features(z, said), said).detach()


# Those that judge answers; the gate's parameters and the route belong to a place among the teachers.
SYMMETRIC = [by_fixed, by_confidence, by_label, by_agreement]
ALL_WAYS = [*SYMMETRIC, by_route, by_gate]
of_all = pytest.mark.parametrize("way", ALL_WAYS)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def shared_out(numbers, who):
    total = sum(numbers[i] for i in who)
    return [numbers[i] / total if i in who else 0.0 for i in range(3)]


def confidence_by_hand(p, who, label, sharpness=1.0):
    relative = [BASE[i] * math.exp(-sharpness * entropy(p[i]) / math.log(4)) for i in range(3)]
    return shared_out(relative, who)


def label_by_hand(p, who, label, sharpness=None):
    if label == -100:
        return shared_out(BASE, who)
    if len(who) == 1:
        return [float(i in who) for i in range(3)]
    total = sum(1 / p[i][label] for i in who)  # exp of the cross-entropy
    return [(1 - 1 / p[i][label] / total) / (len(who) - 1) if i in who else 0.0 for i in range(3)]


def agreement_by_hand(p, who, label, sharpness=1.0):
    relative = list(BASE)
    for i in who:
        rest = [j for j in who if j != i]
        if rest:
            other = sum(BASE[j] * p[j] for j in rest) / sum(BASE[j] for j in rest)
            middle = (p[i] + other) / 2
            distance = (kl(p[i], middle) + kl(other, middle)) / 2 / math.log(2)
            relative[i] *= math.exp(-sharpness * distance)
    return shared_out(relative, who)


def fixed_by_hand(p, who, label, sharpness=None):
    return shared_out(BASE, who)


@pytest.mark.parametrize(
    ("way", "by_hand", "options"),
    [
        (by_fixed, fixed_by_hand, {}),
        (by_confidence, confidence_by_hand, {}),
        (by_confidence, confidence_by_hand, {"sharpness": 7.0, "temperature": 3.0}),
        (by_label, label_by_hand, {}),
        (by_agreement, agreement_by_hand, {}),
        (by_agreement, agreement_by_hand, {"sharpness": 7.0, "temperature": 3.0}),
    ],
)
def test_weights_are_the_formula(way, by_hand, options):
    """A weighting that is nearly the published one cannot be compared with it."""
    z = three_teachers()
    weights = way(z, ANSWERED, **options)
    tau = options.get("temperature", 1.0)
    sharp = {"sharpness": options["sharpness"]} if "sharpness" in options else {}
    for b in (0, 1, 2, 4):
        p = [softmax(z[i, b].numpy() / tau) for i in range(3)]
        who = [i for i in range(3) if ANSWERED[i, b]]
        expected = by_hand(p, who, LABELS[b].item(), **sharp)
        np.testing.assert_allclose(weights[:, b].numpy(), expected, rtol=1e-6, atol=1e-7)


@of_all
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_weights_sum_to_one_over_who_answered(way, dtype):
    """Weights that sum to less are a smaller learning rate for some rows."""
    weights = way(three_teachers(dtype), ANSWERED)
    assert weights.shape == (3, 5)
    assert weights.dtype in (torch.float32, torch.float64)
    assert not weights.requires_grad
    assert (weights >= 0).all()
    assert (weights[~ANSWERED] == 0).all()
    expected = torch.tensor([1.0, 1, 1, 0, 1]).to(weights)
    torch.testing.assert_close(weights.sum(0), expected, rtol=1e-6, atol=1e-6)
    assert answered(weights).tolist() == [True, True, True, False, True]


@of_all
def test_teacher_that_did_not_answer_is_not_read(way):
    """A lost teacher leaves whatever was in memory; NaN in one weight is NaN in the sum."""
    z = three_teachers()
    torn = z.masked_fill(~ANSWERED.unsqueeze(-1), NAN)
    weights = way(torn, ANSWERED)
    assert torch.equal(weights, way(z, ANSWERED))
    combined = combine_log_p(torn, weights)
    assert combined.isfinite().all()
    assert torch.equal(combined, combine_log_p(z, weights))


@pytest.mark.parametrize("way", SYMMETRIC)
def test_order_of_teachers_changes_nothing(way):
    """A teacher must be judged by its answers, not by its line in the configuration."""
    z, base = three_teachers(), torch.tensor(BASE, dtype=torch.float64)
    expected = way(z, ANSWERED, base=base)
    for order in itertools.permutations(range(3)):
        o = list(order)
        torch.testing.assert_close(way(z[o], ANSWERED[o], base=base[o]), expected[o])


@pytest.mark.parametrize("way", SYMMETRIC)
def test_teachers_in_a_list_or_in_one_tensor_and_more_dimensions_are_the_same(way):
    """Token classification weighs [M, B, S]."""
    z = three_teachers()
    assert torch.equal(way(list(z), ANSWERED), way(z, ANSWERED))
    if way is not by_label:
        deep = way(z.view(3, 5, 1, 4), ANSWERED.view(3, 5, 1))
        torch.testing.assert_close(deep.view(3, 5), way(z, ANSWERED))


@of_all
def test_extreme_logits_give_finite_weights(way):
    """exp of a cross-entropy of 20000 is infinite, and inf / inf is NaN."""
    z = 1e4 * three_teachers().float().sign()
    weights = way(z, ANSWERED)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(0), torch.tensor([1.0, 1, 1, 0, 1]).to(weights))


@of_all
def test_excluded_classes_give_finite_weights(way):
    """A teacher that excludes the right class has an infinite cross-entropy."""
    z = three_teachers()
    z[0, :, 2] = -torch.inf  # the label of row 0
    z[1, 2, 3] = -torch.inf  # that of row 2, whose only teacher it is
    weights = way(z, ANSWERED)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(0), torch.tensor([1.0, 1, 1, 0, 1]).to(weights))
    if way is by_label:
        torch.testing.assert_close(weights[:, 0], torch.tensor([0.0, 0.5, 0.5]).double())
        assert weights[1, 2] == 1
        everyone = z.clone()
        everyone[:, 0, 2] = -torch.inf
        torch.testing.assert_close(way(everyone, ANSWERED)[:, 0], torch.full((3,), 1 / 3).double())


@of_all
def test_single_teacher_weighs_one(way):
    """CA-MKD divides by M - 1."""
    if way is by_gate:
        weights = Gate(2, [0.4])(gate_features(three_teachers()[:1], ALL[:1]), ALL[:1])
    elif way is by_route:
        weights = fixed_weights([0.4], routed(torch.tensor([0, -1, 0, -1, 0]), 1))
    else:
        weights = way(three_teachers()[:1], ALL[:1], base=[0.4])
    assert (weights == 1).all()


@pytest.mark.parametrize("way", [by_confidence, by_label, by_agreement])
def test_nan_of_a_teacher_that_answered_is_seen(way):
    """A weight of 0 for it would hide that a teacher is broken."""
    z = three_teachers()
    z[0, 0] = NAN
    weights = way(z, ANSWERED)
    assert weights[:, 0].isnan().any()
    assert weights[:, 1:].isfinite().all()


@pytest.mark.parametrize("way", [by_confidence, by_agreement])
def test_sharpness_zero_is_the_base_and_large_follows_one(way):
    """A knob whose zero is not "off" cannot be compared with nothing."""
    z = three_teachers()
    torch.testing.assert_close(way(z, ANSWERED, sharpness=0.0), fixed_weights(BASE, ANSWERED).double())  # fmt: skip
    sharp = way(z, ALL, sharpness=1e6)
    torch.testing.assert_close(sharp.amax(0), torch.ones(5).double())


def test_fixed_weights_of_a_full_row_are_the_weights_of_the_configuration_to_the_last_bit():
    """A run in which everybody answers must be the run without abstaining."""
    third = [1 / 3, 1 / 3, 1 / 3]
    for base in (BASE, third):
        weights = fixed_weights(base, ALL)
        assert torch.equal(weights, torch.tensor(base).unsqueeze(1).expand(3, 5))
        z = three_teachers(torch.float32)
        assert torch.equal(combine_log_p(z, weights), combine_log_p(z, base))


def test_confidence_prefers_the_sure_and_two_labels_the_right_one():
    """A sign the wrong way round teaches from the worst teacher."""
    sure, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[1.0, 0, 0]])
    both = torch.ones(2, 1, dtype=torch.bool)
    assert confidence_weights([sure, unsure], [1, 1], both)[0] > 0.6
    weights = label_cross_entropy_weights([sure, unsure], torch.tensor([1]), [1, 1], both)
    p = torch.stack([sure, unsure]).softmax(-1)[:, 0, 1]
    torch.testing.assert_close(weights[:, 0], p / p.sum())
    assert weights[0] < 0.01


def test_two_teachers_that_disagree_keep_their_base_weights():
    """Of two there is no majority; the surer or the vaguer one must not become it."""
    z = three_teachers()[:2]
    weights = agreement_weights(z, [0.7, 0.3], ALL[:2], sharpness=50.0)
    torch.testing.assert_close(weights, fixed_weights([0.7, 0.3], ALL[:2]).double())


def test_label_weights_give_no_teacher_more_than_its_bound():
    """The docstring says so; a user who wants to follow the best teacher chooses another."""
    weights = label_cross_entropy_weights(50 * three_teachers(), LABELS, [1, 1, 1], ALL)
    assert weights[:, :4].max() <= 0.5


def test_single_class_has_no_entropy():
    """log 1 = 0 below the line."""
    one = torch.ones(2, 1, dtype=torch.bool)
    weights = confidence_weights(torch.ones(2, 1, 1), [0.5, 0.5], one)
    assert weights.flatten().tolist() == [0.5, 0.5]
    assert gate_features(torch.ones(2, 1, 1), one).tolist() == [[1.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("way", [by_fixed, by_confidence, by_label, by_agreement, by_route])
def test_base_is_refused_when_it_is_none(way):
    """A base weight too few shifts all others to the wrong teacher."""
    z = three_teachers()
    for base, words in [
        ([0.5, 0.5], "got 2 for 3 teachers"),
        ([0.5, -0.5, 1.0], "zero or more"),
        ([0.5, NAN, 1.0], "finite"),
        (torch.ones(3, 1), r"got \[3, 1\] for 3 teachers"),
    ]:
        with pytest.raises(ValueError, match=words):
            way(z, ALL, base=base)


def test_answered_is_refused_when_it_does_not_fit():
    """Numbers in place of bools would invert to -2 and mask nothing."""
    for call in (by_fixed, by_confidence, by_label, by_agreement, by_route, by_gate):
        with pytest.raises(SignalError, match="answered must be bool"):
            call(three_teachers(), ALL.int())
    for call in (by_confidence, by_label, by_agreement, by_gate):
        with pytest.raises(SignalError, match=r"shape \[3, 5\], got \[5, 3\]"):
            call(three_teachers(), ALL.T)
    with pytest.raises(SignalError, match=r"shape \[M, ...\], got \[\]"):
        fixed_weights([1.0], torch.tensor(True))


@pytest.mark.parametrize("sharpness", [-1.0, NAN, float("inf")])
def test_sharpness_is_refused_when_it_is_none(sharpness):
    """A negative one follows the worst teacher."""
    for call in (
        lambda: by_confidence(three_teachers(), ALL, sharpness=sharpness),
        lambda: by_agreement(three_teachers(), ALL, sharpness=sharpness),
        lambda: validation_weights({"a": 1.0}, sharpness=sharpness, greater_is_better=True),
    ):
        with pytest.raises(ValueError, match="sharpness must be"):
            call()


def test_labels_are_refused_when_they_are_none():
    """On a GPU an index out of range kills the process."""
    z = three_teachers()
    for labels, words in [
        (torch.tensor([4, 0, 0, 0, 0]), "between 0 and 3, or be -100 .*, got 4"),
        (torch.tensor([-1, 0, 0, 0, 0]), "got -1"),
        (torch.zeros(5), "must be integers"),
        (torch.zeros(1).long(), r"shape \[5\], got \[1\]"),
    ]:
        with pytest.raises(SignalError, match=words):
            label_cross_entropy_weights(z, labels, BASE, ALL)
        with pytest.raises(SignalError, match=words):
            gate_loss(fixed_weights(BASE, ALL), z, labels)


# --- known before anybody answers


@pytest.mark.parametrize("greater", [True, False])
def test_validation_weights_are_the_softmax(greater):
    """A loss read as an accuracy follows the worst teacher."""
    scores = {"a": 0.2, "b": 0.5, "c": 0.4}
    weights = validation_weights(scores, sharpness=3.0, greater_is_better=greater)
    assert list(weights) == ["a", "b", "c"]
    expected = softmax((3.0 if greater else -3.0) * np.array(list(scores.values())))
    np.testing.assert_allclose(list(weights.values()), expected, rtol=1e-12)


def test_validation_weights_stay_finite_and_even_at_zero():
    """A loss of 1e300 must not overflow, and sharpness 0 is no preference."""
    weights = validation_weights({"a": 1e300, "b": -1e300}, sharpness=9.0, greater_is_better=False)
    assert weights == {"a": 0.0, "b": 1.0}
    assert validation_weights({"a": 1, "b": 9}, sharpness=0, greater_is_better=True) == {"a": 0.5, "b": 0.5}  # fmt: skip
    with pytest.raises(ValueError, match="'b'"):
        validation_weights({"a": 1.0, "b": NAN}, sharpness=1.0, greater_is_better=True)
    with pytest.raises(ValueError, match="at least one"):
        validation_weights({}, sharpness=1.0, greater_is_better=True)


def test_stochastic_choice_is_the_same_in_every_process():
    """Workers that draw different teachers average gradients of different targets."""
    program = (
        "from raydistill.ensemble import stochastic_choice as c;"
        "print([c([0.5, 0.3, 0.2], seed=7, step=s) for s in range(40)])"
    )
    here = str([stochastic_choice(BASE, seed=7, step=step) for step in range(40)])
    there = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here


def test_stochastic_choice_leaves_the_global_generators_alone():
    """A draw that moves them makes the run depend on how teachers are chosen."""
    before = torch.get_rng_state()
    stochastic_choice(BASE, seed=1, step=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_stochastic_choice_follows_the_weights():
    """A teacher drawn too often is another objective. Three standard deviations of 20,000 draws."""
    draws = [stochastic_choice([5.0, 3.0, 0.0, 2.0], seed=3, step=step) for step in range(20_000)]
    counts = np.bincount(draws, minlength=4)
    assert counts[2] == 0
    for share, count in zip([0.5, 0.3, 0.0, 0.2], counts, strict=True):
        assert abs(count - 20_000 * share) <= 3 * math.sqrt(20_000 * share * (1 - share))
    others = [stochastic_choice([5.0, 3.0, 0.0, 2.0], seed=4, step=s) for s in range(1000)]
    assert others != draws[:1000], "another seed, another order"


def test_stochastic_choice_of_one_and_of_extremes():
    """The sum of large weights overflows; a weight of 0 at an end must not be hit by rounding."""
    assert stochastic_choice([0.1], seed=0, step=0) == 0
    assert {stochastic_choice([1e308, 1e308, 0.0], seed=0, step=s) for s in range(50)} == {0, 1}
    assert {stochastic_choice([0.0, 1e-300, 0.0], seed=0, step=s) for s in range(50)} == {1}
    for base in ([], [0.0, 0.0], [1.0, -1.0], [NAN]):
        with pytest.raises(ValueError, match="base weights must be"):
            stochastic_choice(base, seed=0, step=0)


def test_chosen_teacher_alone_is_read():
    """The others were not asked: there is nothing to read."""
    weights = fixed_weights(chosen_weights(1, 3), ANSWERED)
    assert weights[1].tolist() == [1, 0, 1, 0, 1]
    assert weights[[0, 2]].abs().sum() == 0
    with pytest.raises(ValueError, match="between 0 and 2, got 3"):
        chosen_weights(3, 3)


def test_route_gives_a_row_to_its_teacher_alone():
    """A row routed to a teacher that failed must not be taught by one that does not know it."""
    route = torch.tensor([2, 1, 1, -1, -1])
    weights = fixed_weights(BASE, routed(route, 3) & ANSWERED)
    expected = torch.tensor([[0, 0, 0, 0, 0.5], [0, 0, 1, 0, 0.3], [1, 0, 0, 0, 0.2]])
    torch.testing.assert_close(weights, expected)


def test_route_that_is_no_place_is_refused():
    """Weights given as routes would select nobody, in silence."""
    for route in (torch.zeros(5), torch.zeros(5).bool()):
        with pytest.raises(SignalError, match="must be integers"):
            routed(route, 3)


# --- learned


def test_gate_starts_at_the_base_weights_to_the_last_bit():
    """A gate that has learned nothing must be the run without a gate."""
    for base in (BASE, [1 / 3] * 3, [7.0, 2.0, 1.0]):
        state = torch.get_rng_state()
        gate = Gate(4, base)
        assert torch.equal(torch.get_rng_state(), state)
        weights = gate(torch.randn(5, 4), ANSWERED)
        assert torch.equal(weights, fixed_weights(base, ANSWERED))
        assert weights.requires_grad


def test_gate_is_the_formula():
    """Base weights lost on the way are a preference lost."""
    gate, f = Gate(4, BASE), torch.randn(5, 4)
    torch.nn.init.normal_(gate.weight)
    torch.nn.init.normal_(gate.bias)
    g = (f @ gate.weight.T + gate.bias).T.detach().numpy()
    weights = gate(f, ANSWERED).detach().numpy()
    for b in range(5):
        who = [i for i in range(3) if ANSWERED[i, b]]
        relative = [BASE[i] * math.exp(g[i, b]) for i in range(3)]
        expected = shared_out(relative, who) if who else [0.0] * 3
        np.testing.assert_allclose(weights[:, b], expected, rtol=1e-5, atol=1e-7)


def test_gate_gives_no_gradient_to_its_features():
    """The student must not learn to look like the rows of an easier teacher."""
    features = torch.randn(5, 4, requires_grad=True)
    gate = Gate(4, BASE)
    gate_loss(gate(features, ANSWERED), three_teachers(), LABELS).sum().backward()
    assert features.grad is None
    assert gate.weight.grad.isfinite().all()
    assert gate.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gate_weighs_in_float32(dtype):
    """Weights in half precision sum to 1.002."""
    features = torch.randn(5, 4).to(dtype)
    assert Gate(4, BASE)(features, ANSWERED).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Gate(4, BASE)(features, ANSWERED).dtype == torch.float32


def test_gate_is_saved_with_its_base():
    """A gate loaded beside other base weights would weigh otherwise than it was trained."""
    one, other = Gate(4, BASE), Gate(4, [1.0, 1.0, 1.0])
    other.load_state_dict(one.state_dict())
    features = torch.randn(5, 4)
    assert torch.equal(other(features, ALL), one(features, ALL))


def test_gate_refuses_what_does_not_fit():
    """A width of another model would be broadcast or end in torch."""
    with pytest.raises(SignalError, match=r"features of a gate must be \[..., 4\], got \[5, 3\]"):
        Gate(4, BASE)(torch.ones(5, 3), ALL)
    with pytest.raises(SignalError, match=r"shape \[3, 2\], got \[3, 5\]"):
        Gate(4, BASE)(torch.ones(2, 4), ALL)
    with pytest.raises(ValueError, match="width"):
        Gate(0, BASE)
    for base in ([], [1.0, 0.0], [NAN]):
        with pytest.raises(ValueError, match="positive"):
            Gate(4, base)


def test_gate_features_are_the_formula():
    """Features of another teacher, or of one that did not answer, are noise to a gate."""
    z = three_teachers()
    features = gate_features(z, ANSWERED)
    assert features.shape == (5, 6)
    for i, b in itertools.product(range(3), range(5)):
        p = softmax(z[i, b].numpy())
        pair = (1 - entropy(p) / math.log(4), p.max()) if ANSWERED[i, b] else (0.0, 0.0)
        np.testing.assert_allclose(features[b, [i, 3 + i]].numpy(), pair, rtol=1e-10, atol=1e-12)


def test_gate_loss_is_the_formula():
    """The mixture of logits, or the mean of cross-entropies, has another optimum."""
    z, weights = three_teachers(), by_gate(three_teachers(), ANSWERED)
    values = gate_loss(weights, z, LABELS, temperature=2.0)
    for b in range(3):
        p = [softmax(z[i, b].numpy() / 2) for i in range(3)]
        expected = -math.log(sum(weights[i, b].item() * p[i][LABELS[b]] for i in range(3)))
        assert values[b].item() == pytest.approx(expected, rel=1e-10)
    assert values[3:].tolist() == [0.0, 0.0], "nobody answered; no label"


def test_gate_loss_is_the_cross_entropy_of_the_combined_target():
    """The gate must judge the same distribution that the student gets."""
    z, weights = three_teachers(), fixed_weights(BASE, ALL).double()
    log_p = combine_log_p(z, weights)
    expected = torch.nn.functional.nll_loss(log_p, LABELS, reduction="none")
    torch.testing.assert_close(gate_loss(weights, z, LABELS), expected)


def test_gate_loss_has_the_gradient_of_its_docstring():
    """Weight before the label minus weight after: what makes it learn the better teacher."""
    z = three_teachers()
    g = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    w = g.softmax(0)
    (gradient,) = torch.autograd.grad(gate_loss(w, z, LABELS)[:4].sum(), g)
    p_y = z.softmax(-1)[:, torch.arange(4), LABELS[:4]]
    after = w[:, :4] * p_y / (w[:, :4] * p_y).sum(0)
    torch.testing.assert_close(gradient[:, :4], (w[:, :4] - after).detach())
    assert (gradient[:, 4] == 0).all()


@pytest.mark.parametrize("bad", [NAN, -torch.inf, 1e30])
def test_gate_loss_has_finite_gradients_whatever_a_silent_teacher_left(bad):
    """One NaN in the gradient of a gate is a gate of NaN in the next step."""
    z = three_teachers().masked_fill(~ANSWERED.unsqueeze(-1), bad)
    gate = Gate(4, BASE).double()
    values = gate_loss(gate(torch.randn(5, 4), ANSWERED), z, LABELS)
    values.sum().backward()
    assert values.isfinite().all()
    assert gate.weight.grad.isfinite().all()


def test_gate_loss_is_infinite_where_all_exclude_the_label():
    """A finite number there would hide that no teacher knows the class."""
    z = three_teachers()
    z[:, 0, 2] = -torch.inf
    gate = Gate(4, BASE)
    values = gate_loss(gate(torch.randn(5, 4), ALL), z, LABELS)
    assert values[0] == torch.inf
    values[:3].sum().backward()
    assert gate.weight.grad.isfinite().all()


def test_gate_loss_is_finite_for_half_precision_and_extreme_logits():
    """Signals travel in half precision."""
    weights = fixed_weights(BASE, ALL)
    for dtype in (torch.float16, torch.bfloat16):
        values = gate_loss(weights, 1e4 * three_teachers(dtype).sign(), LABELS)
        assert values.dtype == torch.float32
        assert values.isfinite().all()


def test_gate_loss_refuses_weights_that_would_broadcast():
    """Fixed weights [M] against [M, B] would be read as one per row when M = B."""
    with pytest.raises(SignalError, match=r"shape \[3, 5\], got \[3\]"):
        gate_loss(torch.tensor(BASE), three_teachers(), LABELS)


def specialists(num_rows=200):
    """Two teachers, each right on half of the rows and sure and wrong on the other."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 3, (num_rows,), generator=generator)
    own = torch.rand(num_rows, generator=generator) < 0.5  # rows of teacher 0
    right = 3.0 * torch.nn.functional.one_hot(labels, 3).float()
    wrong = 3.0 * torch.nn.functional.one_hot((labels + 1) % 3, 3).float()
    z = torch.stack([torch.where(mine.unsqueeze(1), right, wrong) for mine in (own, ~own)])
    features = torch.randn(num_rows, 6, generator=generator)
    features[:, 0] += torch.where(own, 2.0, -2.0)
    return features, z, labels, own


def learn(loss_of, features, steps=40):
    gate, everybody = Gate(features.shape[1], [0.5, 0.5]), torch.ones(2, len(features)).bool()
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(gate(features, everybody)).mean().backward()
        optimizer.step()
    return gate(features, everybody).detach()


def test_gate_learns_which_teacher_is_right():
    """The point of having one."""
    features, z, labels, own = specialists()
    weights = learn(lambda w: gate_loss(w, z, labels), features)
    right = torch.where(own, weights[0], weights[1])
    assert right.mean() > 0.9
    assert ((right > 0.5).float().mean()) > 0.95
    before = fixed_weights([0.5, 0.5], torch.ones(2, len(labels)).bool())
    assert gate_loss(weights, z, labels).mean() < 0.5 * gate_loss(before, z, labels).mean()


def test_gate_that_learns_from_the_distance_to_the_student_takes_the_easy_teacher():
    """The reason, in the module's docstring, why a gate has an objective of its own."""
    features, z, labels, _ = specialists()
    z[1] = 0.1 * z[1]  # teacher 1 says next to nothing, as does a student at its start
    student = torch.zeros(len(labels), 3)

    def distance(w):
        log_p = combine_log_p(z, w)
        return (log_p.exp() * (log_p - student.log_softmax(-1))).sum(-1)

    assert learn(distance, features)[1].mean() > 0.9
