"""Terms of different scale in one sum: learned variances, and factors relative to one term."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.schedules import (
    RelativeBalance,
    UncertaintyBalance,
    relative_factors,
    uncertainty_sum,
)

VALUES = torch.tensor([0.3, 7.0, 0.02], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)


def balance(num_terms: int = 3, **changes: float) -> RelativeBalance:
    return RelativeBalance(num_terms, **{"main": 0, "max_factor": 1e4, "momentum": 0.9, **changes})


# ---- uncertainty


def test_uncertainty_sum_is_its_formula():
    """exp(s) in place of exp(-s) makes the noisiest term the loudest."""
    s = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    found = uncertainty_sum(VALUES, WEIGHTS, s)
    v, w, n = VALUES.numpy(), WEIGHTS.numpy(), s.numpy()
    assert found.item() == pytest.approx((np.exp(-n) * w * v + n / 2).sum())


def test_uncertainty_sum_starts_as_the_plain_sum():
    """The first step must not differ from that of a run without balancing."""
    module = UncertaintyBalance(3).double()
    assert module(VALUES, WEIGHTS).item() == (VALUES * WEIGHTS).sum().item()
    assert module.factors().tolist() == [1, 1, 1]
    assert not module.factors().requires_grad


def test_weight_of_one_half_is_the_papers_form_for_regression():
    """L / 2σ² + log σ of half the squared error, against L / σ² + log σ."""
    sigma = torch.tensor([1.7], dtype=torch.float64)
    found = uncertainty_sum(VALUES[1:2], torch.tensor([0.5]), 2 * sigma.log())
    torch.testing.assert_close(found, (VALUES[1] / (2 * sigma**2) + sigma.log()).squeeze())
    found = uncertainty_sum(VALUES[1:2], torch.tensor([1.0]), 2 * sigma.log())
    torch.testing.assert_close(found, (VALUES[1] / sigma**2 + sigma.log()).squeeze())


def test_best_variance_gives_every_term_the_same_share_whatever_its_weight():
    """What the docstring says of weights, so that nobody believes they last."""
    s = (2 * WEIGHTS * VALUES).log().requires_grad_()
    found = uncertainty_sum(VALUES, WEIGHTS, s)
    (slope,) = torch.autograd.grad(found, s)
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(torch.exp(-s.detach()) * WEIGHTS, 1 / (2 * VALUES))
    expected = 0.5 * (1 + np.log(2 * VALUES.numpy() * WEIGHTS.numpy())).sum()
    assert found.item() == pytest.approx(expected)


def test_learned_variances_go_to_the_best():
    """An optimizer that walks away from it would silence a term."""
    module = UncertaintyBalance(3).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        module(VALUES, WEIGHTS).backward()
        optimizer.step()
    best = (2 * WEIGHTS * VALUES).log()
    torch.testing.assert_close(module.log_variances.detach(), best, rtol=0, atol=1e-3)


def test_uncertainty_sum_has_the_gradient_of_its_formula():
    """A detached factor would leave the variances where they are."""
    s = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64, requires_grad=True)
    values = VALUES.clone().requires_grad_()
    share = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v, z: uncertainty_sum(v, WEIGHTS, z, share), (values, s))


def test_parts_of_a_step_add_up_to_the_step():
    """A price paid in every micro-batch drives the variances down by their number."""
    s = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    cut = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.3, 0.6], [0.0, 0.5, 0.4]], dtype=torch.float64)
    slopes = []
    for shares in (torch.ones(1, 3, dtype=torch.float64), cut):
        module = UncertaintyBalance(3).double()
        module.load_state_dict({"log_variances": s})
        total = 0.0
        for share in shares:
            part = module(share * VALUES, WEIGHTS, share)
            part.backward()
            total += part.item()
        assert total == pytest.approx(uncertainty_sum(VALUES, WEIGHTS, s).item())
        slopes.append(module.log_variances.grad)
    torch.testing.assert_close(*slopes)


def test_term_that_does_not_count_keeps_its_variance():
    """A term without labels in this step, or of weight 0, has not been measured as 0."""
    module = UncertaintyBalance(3)
    share = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    values, weights = torch.tensor([0.3, 0.0, 5.0]), torch.tensor([1.0, 1.0, 0.0])
    total = module(values, weights, share)
    total.backward()
    assert total.dtype == torch.float32
    assert module.log_variances.grad[0] != 0
    assert module.log_variances.grad[1:].tolist() == [0, 0]


def test_uncertainty_balance_is_in_state():
    """A run that resumes with all variances 1 is another run."""
    module, copy = UncertaintyBalance(3), UncertaintyBalance(3)
    with torch.no_grad():
        module.log_variances.copy_(torch.tensor([0.4, -1.1, 2.0]))
    copy.load_state_dict(module.state_dict())
    assert torch.equal(copy.factors(), module.factors())
    torch.testing.assert_close(module.factors(), torch.tensor([-0.4, 1.1, -2.0]).exp())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    """60000 + 60000 is infinite in float16."""
    values, weights = torch.tensor([6e4, 6e4], dtype=dtype), torch.ones(2, dtype=dtype)
    total = uncertainty_sum(values, weights, torch.zeros(2, dtype=dtype))
    assert total.dtype == torch.float32
    assert total.item() == values.float().sum().item()
    factors = relative_factors(values, weights, main=0, max_factor=1e4)
    assert factors.dtype == torch.float32
    assert factors.tolist() == [1, 1]
    tiny = torch.tensor([6e4, 6e-8 if dtype == torch.float16 else 1e-30], dtype=dtype)
    assert relative_factors(tiny, weights, main=0, max_factor=1e4).tolist() == [1, 1e4]


# ---- relative


def test_relative_factors_are_their_formula():
    """The ratio upside down makes large terms larger."""
    for main in range(3):
        found = relative_factors(VALUES, WEIGHTS, main=main, max_factor=20.0)
        v, w = VALUES.numpy(), WEIGHTS.numpy()
        np.testing.assert_allclose(found.numpy(), w * np.minimum(v[main] / v, 20.0))
        assert found[main] == WEIGHTS[main]


def test_relative_weights_are_shares():
    """Each term contributes its weight times the main one's size, whatever its scale."""
    for scale in (1e-3, 1.0, 1e3):
        values = VALUES * torch.tensor([1.0, scale, 1.0])
        factors = relative_factors(values, WEIGHTS, main=0, max_factor=1e12)
        torch.testing.assert_close(factors * values, WEIGHTS * VALUES[0])


def test_relative_factors_are_model_optimizers():
    """With one term of each kind: CE + s·(logits + inter·logits/inter)·CE/KD, factors detached."""
    s = 1.6
    x = torch.tensor([0.5, -0.2, 1.5], dtype=torch.float64, requires_grad=True)
    ce, on_logits, inter = (x**2).sum(), (3 * x).exp().sum(), (x - 4).abs().sum() * 50

    kd = on_logits + inter * (on_logits / inter).detach()
    theirs = ce + s * kd * (ce / kd).detach()
    (expected,) = torch.autograd.grad(theirs, x, retain_graph=True)

    values = torch.stack([ce, on_logits, inter])
    weights = torch.tensor([1.0, s / 2, s / 2], dtype=torch.float64)
    factors = relative_factors(values, weights, main=0, max_factor=1e4)
    ours = (factors * values).sum()
    (found,) = torch.autograd.grad(ours, x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, expected)


def test_relative_factors_at_zero():
    """0/0 is NaN in every weight; main/0 is infinity."""
    ones = torch.ones(3)
    factors = relative_factors(torch.tensor([2.0, 0.0, 1e-9]), ones, main=0, max_factor=50.0)
    assert factors.tolist() == [1, 50, 50]
    factors = relative_factors(torch.tensor([0.0, 0.0, 3.0]), ones, main=0, max_factor=50.0)
    assert factors.tolist() == [1, 1, 0]
    assert relative_factors(torch.zeros(3), ones, main=1, max_factor=50.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_factor_of_what_is_not_finite_is_its_weight(bad):
    """A factor of 0 or of ten thousand would be made of a number that says nothing."""
    weights = torch.tensor([1.0, 2.0, 3.0])
    values = torch.tensor([1.0, bad, 4.0])
    factors = relative_factors(values, weights, main=0, max_factor=50.0)
    assert factors.tolist() == [1, 2, 0.75]
    factors = relative_factors(values, weights, main=1, max_factor=50.0)
    assert factors.tolist() == weights.tolist()


def test_sign_of_a_term_is_not_turned_round():
    """A term that is negative, such as a mutual information, would be maximised."""
    factors = relative_factors(
        torch.tensor([1.0, -4.0, 2.0]), torch.ones(3), main=0, max_factor=50.0
    )
    assert factors.tolist() == [1, 0.25, 0.5]
    factors = relative_factors(
        torch.tensor([-1.0, 4.0, 2.0]), torch.ones(3), main=0, max_factor=50.0
    )
    assert factors.tolist() == [1, 0.25, 0.5]


ANY = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1e-45, 1e-38, 3e38]),
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(ANY, min_size=3, max_size=3), st.integers(0, 2), st.sampled_from([1e-3, 1.0, 1e4]))
def test_relative_factors_are_always_a_number(values, main, max_factor):
    """One NaN factor ends the run a step after the cause."""
    found = relative_factors(
        torch.tensor(values), torch.tensor([1.0, 0.0, 2.0]), main=main, max_factor=max_factor
    )
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert found[1] == 0
    assert found[main] == [1.0, 0.0, 2.0][main]
    assert (found <= 2 * max(max_factor, 1.0)).all()


def test_relative_factors_have_no_gradient():
    """Through the ratio, every term's gradient would cancel."""
    values, weights = VALUES.clone().requires_grad_(), WEIGHTS.clone().requires_grad_()
    assert not relative_factors(values, weights, main=0, max_factor=1e4).requires_grad


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: relative_factors(VALUES, WEIGHTS[:2], main=0, max_factor=1.0), r"weights must be one per term, shape \[3\], got \[2\]"),
        (lambda: relative_factors(VALUES[0], WEIGHTS, main=0, max_factor=1.0), r"values must be one per term"),
        (lambda: relative_factors(VALUES, WEIGHTS, main=3, max_factor=1.0), "main must be the place of a term, 0 to 2, got 3"),
        (lambda: relative_factors(VALUES, WEIGHTS, main=-1, max_factor=1.0), "main must be"),
        (lambda: relative_factors(VALUES, WEIGHTS, main=0, max_factor=0.0), "max_factor must be"),
        (lambda: balance(main=3), "main must be"),
        (lambda: balance(max_factor=math.inf), "max_factor must be"),
        (lambda: balance(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: balance().update(torch.ones(1)), r"values must be one per term, shape \[3\], got \[1\]"),
        (lambda: balance().update(torch.ones(3), torch.ones(2).bool()), "counted must be one per term"),
        (lambda: balance()(torch.ones(1)), "weights must be one per term"),
        (lambda: UncertaintyBalance(3)(torch.ones(1), torch.ones(3)), "values must be one per term"),
        (lambda: UncertaintyBalance(3)(torch.ones(3), torch.ones(1)), "weights must be one per term"),
        (lambda: UncertaintyBalance(3)(torch.ones(3), torch.ones(3), torch.ones(1)), "share must be one per term"),
    ],
)  # fmt: skip
def test_what_is_not_one_per_term_is_refused(call, words):
    """One number taken for all terms is a plausible sum of something else."""
    with pytest.raises(ValueError, match=words):
        call()


# ---- from the steps before


def test_first_step_has_plain_weights():
    """Nothing is known yet; a factor of 0/0 would end the run before it began."""
    weights = torch.tensor([1.0, 0.5, 3.0])
    assert balance()(weights).tolist() == weights.tolist()


def test_averages_are_exponential_and_start_at_the_first_value():
    """Started from 0, the first factors would be ratios of what is missing."""
    module = balance(momentum=0.75)
    draw = np.random.default_rng(0)
    steps = draw.uniform(0.1, 10, size=(6, 3))
    expected = steps[0]
    for number, values in enumerate(steps):
        if number:
            expected = 0.75 * expected + 0.25 * values
        module.update(torch.tensor(values))
        np.testing.assert_allclose(module.averages.numpy(), expected, rtol=1e-5)
        found = module(torch.tensor([1.0, 0.5, 3.0]))
        np.testing.assert_allclose(
            found.numpy(), np.array([1.0, 0.5, 3.0]) * expected[0] / expected, rtol=1e-5
        )


def test_momentum_of_zero_is_the_step_before():
    """The plain rule, one step late."""
    module = balance(momentum=0.0)
    weights = torch.ones(3)
    for values in (torch.tensor([1.0, 4.0, 0.1]), torch.tensor([2.0, 1.0, 0.0])):
        module.update(values)
        expected = relative_factors(values, weights, main=0, max_factor=1e4)
        torch.testing.assert_close(module(weights), expected)


def test_term_that_did_not_count_keeps_its_average():
    """Unlabelled batches give the hard labels' term 0, which would pull all others to 0."""
    module = balance(momentum=0.5)
    weights = torch.ones(3)
    nothing = torch.tensor([False, True, True])
    module.update(torch.tensor([0.0, 4.0, 1.0]), nothing)
    assert module(weights).tolist() == [1, 1, 1]  # the main term is not known yet
    module.update(torch.tensor([2.0, 4.0, 0.0]), torch.tensor([True, True, False]))
    assert module.averages.tolist() == [2, 4, 1]
    module.update(torch.tensor([0.0, 4.0, 1.0]), nothing)
    assert module(weights).tolist() == [1, 0.5, 2]


def test_term_that_never_counted_has_its_plain_weight():
    """Its average of 0 is no measurement, and must not become the largest factor."""
    module = balance()
    module.update(torch.tensor([2.0, 4.0, 0.0]), torch.tensor([True, True, False]))
    assert module(torch.tensor([1.0, 1.0, 0.3])).tolist() == pytest.approx([1, 0.5, 0.3])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_not_taken_in(bad):
    """NaN in an average stays for ever, also in the checkpoint."""
    module = balance(momentum=0.5)
    module.update(torch.tensor([1.0, bad, 4.0]))
    assert module.measured.tolist() == [True, False, True]
    module.update(torch.tensor([1.0, 2.0, bad]))
    assert module.averages.tolist() == [1, 2, 4]
    assert module(torch.ones(3)).tolist() == [1, 0.5, 0.25]


def test_relative_balance_resumes_where_it_was(tmp_path):
    """Plain weights in the first step after a restart would be another run."""
    module, copy = balance(), balance()
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        module.update(torch.rand(3, generator=draw) * torch.tensor([1.0, 30.0, 0.1]))
    assert not list(module.parameters())
    torch.save(module.state_dict(), tmp_path / "state.pt")
    copy.load_state_dict(torch.load(tmp_path / "state.pt"))
    weights, values = torch.tensor([1.0, 0.5, 3.0]), torch.rand(3, generator=draw)
    assert torch.equal(copy(weights), module(weights))
    for one in (module, copy):
        one.update(values)
    assert torch.equal(copy(weights), module(weights))


def test_update_takes_values_with_a_graph():
    """A graph kept in a buffer holds the activations of every step so far."""
    module = balance()
    values = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    module.update(values * 1.0)
    assert not module.averages.requires_grad
    assert not module(torch.ones(3)).requires_grad


def test_weights_of_another_precision():
    """The factors of the objective are float32, a schedule's may be float64."""
    module = balance()
    assert module(torch.ones(3, dtype=torch.float16)).dtype == torch.float32
    module.update(VALUES)
    assert module.averages.dtype == torch.float32
    assert module(torch.ones(3)).dtype == torch.float32
