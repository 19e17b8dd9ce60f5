"""Weights and temperatures that change over a run: values, gradients, settings that are refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from raydistill.config.schedules import (
    BalancingSection,
    CosineTemperature,
    CurriculumTemperature,
    LinearTemperature,
    StepTemperature,
    TemperatureSetting,
    WeightSchedule,
)
from raydistill.errors import SignalError
from raydistill.losses import forward_kl
from raydistill.schedules import (
    LearnedTemperature,
    cwsm_temperature,
    flsw_temperature,
    reversal_strength,
    reverse_gradient,
    scheduled_temperature,
    weight_factor,
)

WEIGHTS = TypeAdapter(WeightSchedule)
TEMPERATURES = TypeAdapter(TemperatureSetting)
BALANCES = TypeAdapter(BalancingSection)
LEARNED = {"start": 4.0, "minimum": 1.0, "maximum": 21.0, "strength": 1.0, "rise_fraction": 0.5}


def logits(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


# ---- weights

ROOT_HALF = 0.5**0.5
COURSES = {
    "constant": ({}, [1, 1, 1, 1, 1]),
    "linear_decay": ({}, [1, 0.75, 0.5, 0.25, 0]),
    "linear_growth": ({}, [0, 0.25, 0.5, 0.75, 1]),
    "cosine": ({}, [1, (1 + ROOT_HALF) / 2, 0.5, (1 - ROOT_HALF) / 2, 0]),
    "cosine rising": ({"rising": True}, [0, (1 - ROOT_HALF) / 2, 0.5, (1 + ROOT_HALF) / 2, 1]),
    "warmup": ({"fraction": 0.5}, [0, 0.5, 1, 1, 1]),
    "warmup throughout": ({"fraction": 1.0}, [0, 0.25, 0.5, 0.75, 1]),
    "step": ({"at": [0.5, 0.75], "factors": [0.1, 3.0]}, [1, 1, 0.1, 3, 3]),
}


@pytest.mark.parametrize("name", COURSES)
def test_weight_factor_at_start_middle_and_end(name):
    """A schedule that is off by a step or upside down trains another student."""
    options, expected = COURSES[name]
    schedule = WEIGHTS.validate_python({"kind": name.split()[0], **options})
    found = [weight_factor(schedule, x) for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(expected, abs=1e-15)
    assert all(type(factor) is float for factor in found)


def test_weight_factor_jumps_at_the_very_step():
    """A share of the steps that is a whole number of them must not be missed by rounding."""
    for total in (10, 30, 70, 1000):
        schedule = WEIGHTS.validate_python({"kind": "step", "at": [0.3, 0.7], "factors": [0.5, 0]})
        course = [weight_factor(schedule, step / total) for step in range(total)]
        first, second = 3 * total // 10, 7 * total // 10
        assert course == [1.0] * first + [0.5] * (second - first) + [0.0] * (total - second)


def test_weight_factor_forgets_nothing():
    """TextBrewer assigns the schedule's value to the weight: 7 is 7 in the first step only."""
    schedule = WEIGHTS.validate_python({"kind": "linear_decay"})
    weights = [7.0 * weight_factor(schedule, step / 4) for step in range(4)]
    assert weights == [7.0, 5.25, 3.5, 1.75]


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan"), float("inf")])
def test_progress_that_is_none_is_refused(progress):
    """Steps in place of their share would end every schedule at its second step."""
    for kind in ("constant", "linear_decay"):
        with pytest.raises(ValueError, match="progress must lie between 0 and 1"):
            weight_factor(WEIGHTS.validate_python({"kind": kind}), progress)
    with pytest.raises(ValueError, match="progress must lie between 0 and 1"):
        scheduled_temperature(4.0, progress)
    with pytest.raises(ValueError, match="progress must lie between 0 and 1"):
        LearnedTemperature(**LEARNED)(progress)


# ---- temperatures by steps


def test_scheduled_temperature_at_start_middle_and_end():
    """A temperature that starts where it should end shows the decisions before the doubts."""
    at = (0.0, 0.25, 0.5, 1.0)
    linear = LinearTemperature(kind="linear", start=8, end=2)
    cosine = CosineTemperature(kind="cosine", start=8, end=2)
    rising = CosineTemperature(kind="cosine", start=2, end=8)
    assert [scheduled_temperature(linear, x) for x in at] == [8, 6.5, 5, 2]
    quarter = 3 * ROOT_HALF
    assert [scheduled_temperature(cosine, x) for x in at] == pytest.approx([8, 5 + quarter, 5, 2])
    assert [scheduled_temperature(rising, x) for x in at] == pytest.approx([2, 5 - quarter, 5, 8])
    assert [scheduled_temperature(3, x) for x in at] == [3.0] * 4
    jumps = StepTemperature(kind="step", start=8, at=[0.25, 0.5], temperatures=[4, 2])
    assert [scheduled_temperature(jumps, x) for x in (0.0, 0.2, *at[1:])] == [8, 8, 4, 2, 2]
    with pytest.raises(ValueError, match="one temperature for each of at, 2"):
        StepTemperature(kind="step", start=8, at=[0.25, 0.5], temperatures=[4])


# ---- temperatures from row to row


def numpy_flsw(student, teacher, *, base, beta, gamma, minimum):
    s = student / (np.linalg.norm(student, axis=-1, keepdims=True) + 1e-4)
    t = teacher / (np.linalg.norm(teacher, axis=-1, keepdims=True) + 1e-4)
    w = (1 - np.einsum("...v,...v->...", s, t)) ** gamma
    return np.maximum(base + beta * (w.mean() - w), minimum)


def numpy_cwsm(student, *, base, beta, minimum):
    p = np.exp(student - student.max(-1, keepdims=True))
    w = 1 / (p.max(-1) / p.sum(-1) + 1e-3)
    return np.maximum(base + beta * (w.mean() - w), minimum)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4), (1, 6), (6,)])
@pytest.mark.parametrize("minimum", [1e-6, 3.9])
def test_row_temperatures_are_their_formula(shape, minimum):
    """A norm over the wrong axis is a temperature too."""
    student, teacher = logits(1, *shape), logits(2, *shape)
    options = {"base": 4.0, "beta": 0.7, "minimum": minimum}
    found = flsw_temperature(student, teacher, gamma=1.5, **options)
    expected = numpy_flsw(student.numpy(), teacher.numpy(), gamma=1.5, **options)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    found = cwsm_temperature(student, **options)
    np.testing.assert_allclose(found.numpy(), numpy_cwsm(student.numpy(), **options), rtol=1e-12)
    assert found.shape == shape[:-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_temperatures_are_textbrewers(dtype):
    """Parity without the clamp: a tiny minimum leaves TextBrewer's positive temperatures alone."""
    theirs = pytest.importorskip("textbrewer.schedulers")
    student, teacher = logits(3, 4, 6, 9, dtype=dtype), logits(4, 4, 6, 9, dtype=dtype)
    for base, beta, gamma in ((4.0, 1.0, 1.0), (8.0, 2.5, 2.0), (3.0, 0.5, 0.5)):
        scheduler = theirs.flsw_temperature_scheduler_builder(beta, gamma)
        expected = scheduler(student, teacher, base)
        found = flsw_temperature(student, teacher, base=base, beta=beta, gamma=gamma, minimum=1e-6)
        assert expected.min() > 1e-6
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        scheduler = theirs.cwsm_temperature_scheduler_builder(beta / 2)
        expected = scheduler(student, teacher, base)
        found = cwsm_temperature(student, base=base, beta=beta / 2, minimum=1e-6)
        assert expected.min() > 1e-6
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_clamp_acts_where_textbrewers_temperature_is_negative():
    """A negative temperature teaches the teacher's ranking upside down."""
    student = torch.zeros(2, 8)
    student[1, 0] = 100.0
    found = cwsm_temperature(student, base=1.0, beta=1.0, minimum=0.1)
    assert found.tolist() == pytest.approx([0.1, 1 + (1 / 0.126 - 1 / 1.001) / 2], abs=1e-5)
    theirs = pytest.importorskip("textbrewer.schedulers").cwsm_temperature_scheduler_builder(1.0)
    assert theirs(student, student, 1.0)[0].item() == pytest.approx(-2.47, abs=0.005)


def test_lower_bound_holds_for_any_row():
    """One row at 0 is a division by zero in the loss."""
    student, teacher = logits(5, 200, 8), -logits(5, 200, 8)
    teacher[::2] = student[::2]
    for beta in (1.0, 100.0):
        options = {"base": 2.0, "beta": beta, "minimum": 0.25}
        flsw = flsw_temperature(student, teacher, gamma=2.0, **options)
        cwsm = cwsm_temperature(student, **options)
        assert min(flsw.min(), cwsm.min()) >= 0.25
        assert torch.isfinite(torch.stack([flsw, cwsm])).all()
        assert (flsw == 0.25).any()
        assert forward_kl(student, teacher, temperature=flsw).isfinite().all()


def test_rows_that_agree_are_softer():
    """With the sign turned round the easy rows are sharpened and the hard ones blurred."""
    student, teacher = logits(6, 3, 5), logits(7, 3, 5)
    teacher[0], teacher[2] = student[0], -student[2]
    same, other, opposite = flsw_temperature(
        student, teacher, base=4.0, beta=1.0, gamma=1.0, minimum=0.1
    )
    assert same > other > opposite
    sure, unsure = cwsm_temperature(
        torch.tensor([[9.0, 0, 0], [0.1, 0, 0]]), base=4.0, beta=1.0, minimum=0.1
    )
    assert sure > 4 > unsure


def test_agreeing_rows_of_great_length_are_no_nan():
    """1 - cos is below 0 by rounding where the 1e-4 is lost: to a broken power that is NaN."""
    student = 1e6 * logits(8, 50, 30, dtype=torch.float32)
    options = {"base": 4.0, "beta": 1.0, "gamma": 0.5, "minimum": 0.1}
    found = flsw_temperature(student, student.clone(), **options)
    torch.testing.assert_close(found, torch.full((50,), 4.0), rtol=0, atol=1e-3)


def test_row_temperatures_are_relative_to_the_rows_seen():
    """What the docstring warns of: a row alone has the base, in company it has not."""
    student, teacher = logits(9, 4, 5), logits(10, 4, 5)
    options = {"base": 4.0, "beta": 1.0, "minimum": 0.1}
    whole = flsw_temperature(student, teacher, gamma=1.0, **options)
    alone = flsw_temperature(student[:1], teacher[:1], gamma=1.0, **options)
    assert alone.item() == 4.0
    assert abs(whole[0].item() - 4.0) > 0.01
    assert whole.mean().item() == pytest.approx(4.0)
    assert cwsm_temperature(student[:1], **options).item() == 4.0
    assert flsw_temperature(student[:0], teacher[:0], gamma=1.0, **options).shape == (0,)
    assert cwsm_temperature(student[:0], **options).shape == (0,)


def test_row_temperatures_have_no_gradient():
    """A student that can raise its own temperature lowers its loss without learning."""
    student, teacher = logits(11, 3, 5).requires_grad_(), logits(12, 3, 5).requires_grad_()
    options = {"base": 4.0, "beta": 1.0, "minimum": 0.1}
    assert not flsw_temperature(student, teacher, gamma=1.0, **options).requires_grad
    assert not cwsm_temperature(student, **options).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """A norm of 300 states of 200 each is beyond float16."""
    student, teacher = (100 * logits(seed, 4, 300).to(dtype) for seed in (13, 14))
    options = {"base": 4.0, "beta": 1.0, "minimum": 0.1}
    flsw = flsw_temperature(student, teacher, gamma=1.0, **options)
    cwsm = cwsm_temperature(student, **options)
    assert flsw.dtype == cwsm.dtype == torch.float32
    wide = flsw_temperature(student.float(), teacher.float(), gamma=1.0, **options)
    torch.testing.assert_close(flsw, wide, rtol=0, atol=0)
    assert torch.isfinite(flsw).all()
    torch.testing.assert_close(cwsm, cwsm_temperature(student.float(), **options), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("base", 0.0), ("base", float("nan")), ("minimum", 0.0), ("minimum", -1.0),
     ("beta", -1.0), ("beta", float("inf")), ("gamma", -0.5)],
)  # fmt: skip
def test_row_temperatures_refuse_an_option_by_its_name(option, value):
    """A negative exponent of 0 is infinity in one row and the mean of all."""
    options = {"base": 4.0, "beta": 1.0, "gamma": 1.0, "minimum": 0.1, option: value}
    with pytest.raises(ValueError, match=f"{option} must be"):
        flsw_temperature(torch.ones(2, 3), torch.ones(2, 3), **options)
    if option != "gamma":
        del options["gamma"]
        with pytest.raises(ValueError, match=f"{option} must be"):
            cwsm_temperature(torch.ones(2, 3), **options)


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (2, 4), (3,)])
def test_flsw_refuses_shapes_that_differ(shape):
    """A broadcast pair is a plausible temperature of nothing."""
    with pytest.raises(SignalError, match=r"same shape, got \[2, 3\]"):
        flsw_temperature(
            torch.ones(2, 3), torch.ones(shape), base=4.0, beta=1.0, gamma=1.0, minimum=0.1
        )


# ---- learned


def test_reversal_rises_by_half_a_wave():
    """At full strength from the first step the temperature runs off before the student can follow."""
    at = (0.0, 0.01, 0.02, 0.03, 0.04, 0.5, 1.0)
    found = [reversal_strength(x, strength=2.0, rise_fraction=0.04) for x in at]
    low, high = 1 - ROOT_HALF, 1 + ROOT_HALF
    assert found == pytest.approx([0, low, 1, high, 2, 2, 2], abs=1e-12)
    assert found == sorted(found)
    assert reversal_strength(0.0, strength=2.0, rise_fraction=0.0) == 2.0


def test_reversal_is_the_papers_at_its_epochs():
    """CTKD: -(cos(π n/10) + 1)/2 + 1 at epoch n of 240, from 0 to 1 over the first 10."""
    for epoch in range(1, 241):
        theirs = 1 - (np.cos(np.pi * min(epoch, 10) / 10) + 1) / 2
        ours = reversal_strength(epoch / 240, strength=1.0, rise_fraction=10 / 240)
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_reverse_gradient_is_the_identity_with_the_other_sign():
    """Without the reversal the temperature makes the loss small instead of the student good."""
    x = logits(15, 4).requires_grad_()
    weights = logits(16, 4)
    for strength in (1.0, 0.3, 0.0, -1.0):
        y = reverse_gradient(x, strength)
        assert torch.equal(y, x)
        (slope,) = torch.autograd.grad((weights * y**2).sum(), x)
        torch.testing.assert_close(slope, -strength * 2 * weights * x.detach())
    assert torch.autograd.gradcheck(lambda z: reverse_gradient(z, -1.0).sin(), (x,))


def test_learned_temperature_starts_where_it_is_told():
    """The logit of a wrong share starts a run at another temperature, in silence."""
    for start in (1.01, 4.0, 15.62, 20.99):
        module = LearnedTemperature(**{**LEARNED, "start": start})
        tau = module(0.7)
        assert tau.shape == ()
        assert tau.dtype == torch.float32
        assert tau.item() == pytest.approx(start, rel=1e-5)
    # The paper's range and first value: 1 + 20 σ(1).
    setting = CurriculumTemperature(kind="learned")
    module = LearnedTemperature(
        start=setting.start, minimum=setting.minimum, maximum=setting.maximum,
        strength=setting.reverse, rise_fraction=setting.rise_fraction,
    )  # fmt: skip
    assert module.theta.item() == pytest.approx(1.0, abs=1e-3)


def test_learned_temperature_stays_inside_its_bounds():
    """However far it is driven, the loss must get a temperature that it takes."""
    module = LearnedTemperature(**LEARNED)
    for theta in (-1e4, -20.0, 20.0, 1e4):
        with torch.no_grad():
            module.theta.fill_(theta)
        tau = module(0.7)
        assert 1.0 <= tau.item() <= 21.0
        assert forward_kl(torch.ones(2, 3), torch.zeros(2, 3), temperature=tau).isfinite().all()


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.9])
def test_learned_temperature_climbs_the_loss(progress):
    """The sign is the method: descending, the temperature goes where the loss says least."""
    module = LearnedTemperature(**LEARNED).double()
    student, teacher = logits(17, 6, 5).requires_grad_(), logits(18, 6, 5)
    forward_kl(student, teacher, temperature=module(progress)).mean().backward()

    theta = module.theta.detach().clone().requires_grad_()
    tau = 1 + 20 * torch.sigmoid(theta).squeeze(0)
    plain = student.detach().clone().requires_grad_()
    forward_kl(plain, teacher, temperature=tau).mean().backward()

    strength = reversal_strength(progress, strength=1.0, rise_fraction=0.5)
    torch.testing.assert_close(module.theta.grad, -strength * theta.grad)
    torch.testing.assert_close(student.grad, plain.grad)  # the student's own is not reversed
    assert theta.grad.abs() > 1e-4


def test_learned_temperature_has_the_gradient_of_its_formula():
    """With the reversal undone it is an ordinary function of theta."""

    def tau(theta: torch.Tensor) -> torch.Tensor:
        module = LearnedTemperature(**{**LEARNED, "strength": -1.0})
        return torch.func.functional_call(module, {"theta": theta}, (0.9,))

    theta = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tau, (theta,))
    assert tau(theta).item() == pytest.approx(1 + 20 / (1 + np.exp(-0.3)))


def test_learned_temperature_does_not_see_how_a_batch_is_cut():
    """Micro-batches save memory and change nothing else."""
    student, teacher = logits(19, 6, 5), logits(20, 6, 5)
    slopes = []
    for parts in ([slice(0, 6)], [slice(0, 1), slice(1, 4), slice(4, 6)]):
        module = LearnedTemperature(**LEARNED).double()
        for part in parts:
            values = forward_kl(student[part], teacher[part], temperature=module(0.5))
            (values.sum() / 6).backward()
        slopes.append(module.theta.grad)
    torch.testing.assert_close(*slopes)


def test_learned_temperature_is_in_state_and_optimizer():
    """A run that resumes at the first temperature is another run."""
    module = LearnedTemperature(**LEARNED)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    forward_kl(
        logits(21, 4, 3).requires_grad_(), logits(22, 4, 3), temperature=module(0.5)
    ).sum().backward()
    optimizer.step()
    copy = LearnedTemperature(**LEARNED)
    assert copy(0.5).item() != module(0.5).item()
    copy.load_state_dict(module.state_dict())
    assert copy(0.5).item() == module(0.5).item()
    assert module.theta.dim() == 1  # FSDP2 refuses scalars


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_learned_temperature_of_a_module_in_half_precision(dtype):
    """A temperature in steps of 1/16 does not learn."""
    tau = LearnedTemperature(**LEARNED).to(dtype)(0.5)
    assert tau.dtype == torch.float32
    assert tau.item() == pytest.approx(4.0, rel=1e-2)


@pytest.mark.parametrize(
    ("start", "minimum", "maximum"),
    [(4, 0, 8), (4, -1, 8), (1, 1, 8), (8, 1, 8), (9, 1, 8), (4, 8, 1), (float("nan"), 1, 8), (4, 1, float("inf"))],
)  # fmt: skip
def test_learned_temperature_refuses_bounds_that_do_not_hold_its_start(start, minimum, maximum):
    """The logit of a share outside of 0 and 1 is NaN or infinite."""
    with pytest.raises(ValueError, match="order 0 < minimum < start < maximum"):
        LearnedTemperature(**{**LEARNED, "start": start, "minimum": minimum, "maximum": maximum})


# ---- settings


def complaints(adapter: TypeAdapter, value: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value)
    return [
        (".".join(str(part) for part in error["loc"]), error["msg"].removeprefix("Value error, "))
        for error in caught.value.errors()
    ]


BAD_WEIGHTS = [
    ({"kind": "warmup", "fraction": 0}, "warmup.fraction", "must be above 0"),
    ({"kind": "warmup", "fraction": 1.5}, "warmup.fraction", "must lie between 0 and 1"),
    ({"kind": "step", "at": [0.5]}, "step.factors", "Field required"),
    ({"kind": "step", "at": [], "factors": [1]}, "step.at", "List should have at least 1 item after validation, not 0"),
    ({"kind": "step", "at": [0.5, 0.5], "factors": [1, 2]}, "step.at", "must be in rising order"),
    ({"kind": "step", "at": [0.8, 0.5], "factors": [1, 2]}, "step.at", "must be in rising order"),
    ({"kind": "step", "at": [0.0], "factors": [1]}, "step.at.0", "must be above 0"),
    ({"kind": "step", "at": [0.5, 1], "factors": [1, 2]}, "step.at.1", "must be below 1"),
    ({"kind": "step", "at": [100], "factors": [1]}, "step.at.0", "must lie between 0 and 1"),
    ({"kind": "step", "at": [0.5, 0.8], "factors": [1]}, "step.factors", "must hold one factor for each of at, 2"),
    ({"kind": "step", "at": [0.5], "factors": [-1]}, "step.factors.0", "must be a finite number, zero or more"),
    ({"kind": "constant", "rising": True}, "constant.rising", "Extra inputs are not permitted"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "path", "words"), BAD_WEIGHTS, ids=str)
def test_weight_schedule_that_cannot_be_is_refused_by_its_field(value, path, words):
    """A list one short would stay at its last factor but one."""
    assert complaints(WEIGHTS, value) == [(path, words)]


BAD_TEMPERATURES = [
    (0, "number", "must be a positive finite number"),
    (True, "number", "must be a number"),
    ({"kind": "linear", "start": 4, "end": 0}, "linear.end", "must be a positive finite number"),
    ({"kind": "linear", "start": 4}, "linear.end", "Field required"),
    ({"kind": "cosine", "start": -1, "end": 1}, "cosine.start", "must be a positive finite number"),
    ({"kind": "flsw", "base": 4, "beta": -1}, "flsw.beta", "must be a finite number, zero or more"),
    ({"kind": "flsw", "base": 4, "minimum": 0}, "flsw.minimum", "must be a positive finite number"),
    ({"kind": "flsw", "base": 4, "minimum": 5}, "flsw.minimum", "must not exceed base = 4"),
    ({"kind": "cwsm", "base": 0.05}, "cwsm.minimum", "must not exceed base = 0.05"),
    ({"kind": "cwsm", "base": 4, "gamma": 1}, "cwsm.gamma", "Extra inputs are not permitted"),
    ({"kind": "learned", "minimum": 30, "start": 40}, "learned.maximum", "must be greater than minimum = 30"),
    ({"kind": "learned", "start": 1}, "learned.start", "must lie between minimum = 1 and maximum = 21, both excluded"),
    ({"kind": "learned", "maximum": 9}, "learned.start", "must lie between minimum = 1 and maximum = 9, both excluded"),
    ({"kind": "learned", "reverse": 0}, "learned.reverse", "must be a positive finite number"),
    ({"kind": "learned", "rise_fraction": 2}, "learned.rise_fraction", "must lie between 0 and 1"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "path", "words"), BAD_TEMPERATURES, ids=str)
def test_temperature_that_cannot_be_is_refused_by_its_field(value, path, words):
    """One complaint, not one for each way in which a temperature may be written."""
    assert complaints(TEMPERATURES, value) == [(path, words)]


@pytest.mark.parametrize("value", ["hot", None, [4]])
def test_temperature_that_is_neither_number_nor_section_is_refused(value):
    """YAML's 4.0.0 is text."""
    ((path, words),) = complaints(TEMPERATURES, value)
    assert (path, words.split(",")[0]) == ("number", "Input should be a valid number")


@pytest.mark.parametrize("value", [{"kind": "liner", "start": 1}, {"start": 4, "end": 1}])
def test_temperature_of_an_unknown_kind_is_refused(value):
    """Silence would be a constant temperature."""
    with pytest.raises(ValidationError, match="union_tag"):
        TEMPERATURES.validate_python(value)


BAD_BALANCES = [
    ({"kind": "relative", "main": -1}, "relative.main"),
    ({"kind": "relative", "main": True}, "relative.main"),
    ({"kind": "relative", "max_factor": 0}, "relative.max_factor"),
    ({"kind": "relative", "momentum": 1}, "relative.momentum"),
    ({"kind": "relative", "momentum": -0.1}, "relative.momentum"),
    ({"kind": "uncertainty", "main": 0}, "uncertainty.main"),
    ({"kind": "none", "momentum": 0.5}, "none.momentum"),
]


@pytest.mark.parametrize(("value", "path"), BAD_BALANCES, ids=str)
def test_balancing_that_cannot_be_is_refused_by_its_field(value, path):
    """A momentum of 1 never learns the terms' sizes."""
    assert [where for where, _ in complaints(BALANCES, value)] == [path]


@pytest.mark.parametrize(
    "value",
    [4, 2.5, {"kind": "linear", "start": 8, "end": 1}, {"kind": "cosine", "start": 1, "end": 8},
     {"kind": "flsw", "base": 4}, {"kind": "cwsm", "base": 4, "beta": 0.5}, {"kind": "learned"}],
)  # fmt: skip
def test_temperature_survives_being_written_down(value):
    """The resolved configuration is saved and read again when a run resumes."""
    setting = TEMPERATURES.validate_python(value)
    assert isinstance(setting, float) == isinstance(value, int | float)
    again = TEMPERATURES.validate_json(TEMPERATURES.dump_json(setting))
    assert again == setting
    assert TEMPERATURES.validate_python(setting) == setting


def test_settings_are_documented_and_need_no_torch():
    """Editors show what stands under a field; checking a file must not take a second."""
    for adapter in (WEIGHTS, TEMPERATURES, BALANCES):
        for name, section in adapter.json_schema()["$defs"].items():
            assert section["description"], name
            for field, schema in section["properties"].items():
                assert schema.get("description"), f"{name}.{field}"
    program = "import sys, raydistill.config.schedules; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
