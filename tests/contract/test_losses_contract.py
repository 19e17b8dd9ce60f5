"""Every loss of the catalog × every property a loss may have.

A row says how to make a case, which properties hold, and the formula once more in NumPy. Adding a
loss without a row fails ``test_catalog_and_table_name_the_same_losses``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses import CATALOG, build_loss, masked_sum, select_counted

V = 5  # classes, or hidden width


def log_softmax(z):
    """In NumPy, without a look at torch's."""
    return (
        z
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - z.max(-1, keepdims=True)
    )


def softmax(z):
    return np.exp(log_softmax(z))


@dataclass(frozen=True)
class Row:
    """One loss, or one loss with options."""

    name: str
    numpy: Callable[[np.ndarray, np.ndarray], np.ndarray]
    options: dict[str, object]
    equal_is: str | None
    """What the value is where both sides agree: ``zero``, ``entropy``, or None: no such case."""
    shift_invariant: bool
    """A constant added to all of the student's values at a position changes nothing."""
    softened: bool = False
    """Has a temperature."""
    with_labels: bool = False

    def target(self, shape: tuple[int, ...], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.with_labels:
            return torch.randint(0, V, shape, generator=generator)
        return 2 * torch.randn(*shape, V, generator=generator, dtype=torch.float64)

    def per_position(self, student: Tensor, target: Tensor, **options) -> Tensor:
        return CATALOG[self.name].function(student, target, **{**self.options, **options})

    def build(self, **options):
        return build_loss(self.name, **{**self.options, **options})


LOSSES = [
    Row(
        "cross_entropy",
        lambda s, y: -np.take_along_axis(log_softmax(s), y[..., None], -1)[..., 0],
        {},
        equal_is=None,
        shift_invariant=True,
        with_labels=True,
    ),
    Row(
        "forward_kl",
        lambda s, t: 9 * (softmax(t / 3) * (log_softmax(t / 3) - log_softmax(s / 3))).sum(-1),
        {"temperature": 3.0},
        equal_is="zero",
        shift_invariant=True,
        softened=True,
    ),
    Row(
        "hidden_mse",
        lambda s, t: ((s - t) ** 2).sum(-1) / V,
        {},
        equal_is="zero",
        shift_invariant=False,
    ),
    Row(
        "soft_cross_entropy",
        lambda s, t: -9 * (softmax(t / 3) * log_softmax(s / 3)).sum(-1),
        {"temperature": 3.0},
        equal_is="entropy",
        shift_invariant=True,
        softened=True,
    ),
    Row(
        "soft_cross_entropy",
        lambda s, t: -(softmax(t / 3) * log_softmax(s / 3)).sum(-1),
        {"temperature": 3.0, "scale_by_temperature_squared": False},
        equal_is=None,
        shift_invariant=True,
    ),
]


def rows(*, where=lambda row: True):
    chosen = [row for row in LOSSES if where(row)]
    assert chosen
    ids = [f"{row.name}-{'-'.join(map(str, row.options.values()))}".strip("-") for row in chosen]
    return pytest.mark.parametrize("row", chosen, ids=ids)


def student_of(shape: tuple[int, ...], seed: int = 0, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(*shape, V, generator=generator, dtype=torch.float64)
    return z.to(dtype).requires_grad_()


def test_catalog_and_table_name_the_same_losses():
    """A loss without a row is a loss without a test."""
    assert {row.name for row in LOSSES} == set(CATALOG)
    assert all(name == entry.name for name, entry in CATALOG.items())


def test_catalog_needs_speak_of_what_the_table_has():
    """The objective asks teachers by `needs`; a wrong word asks for the wrong tensor."""
    for row in LOSSES:
        (need,) = CATALOG[row.name].needs
        assert need in {"logits", "labels", "hidden"}
        assert row.with_labels == (need == "labels")
        assert (CATALOG[row.name].from_log_p is not None) == (need == "logits")


@rows()
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 2)], ids=str)
def test_loss_is_the_formula(row, shape):
    """A slip in the formula trains a student, only not the one that was asked for."""
    student, target = student_of(shape), row.target(shape, 1)
    values = row.per_position(student, target)
    assert values.shape == shape
    expected = row.numpy(student.detach().numpy(), target.numpy())
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    scalar = row.build()(student, target)
    assert scalar.shape == ()
    np.testing.assert_allclose(scalar.item(), expected.mean(), rtol=1e-10)


@rows(where=lambda row: row.equal_is is not None)
def test_loss_is_zero_or_the_entropy_at_equality(row):
    """A 'KL' that is a cross-entropy reports the teacher's entropy as loss."""
    target = row.target((7,), 3)
    values = row.per_position(target.clone(), target)
    p = softmax(target.numpy() / 3)
    entropy = -9 * (p * np.log(p)).sum(-1)
    expected = entropy if row.equal_is == "entropy" else np.zeros(7)
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-12)
    student = target.clone().requires_grad_()
    row.per_position(student, target).sum().backward()
    assert student.grad.abs().max() < 1e-12, "both agree: nothing to learn"


@rows()
def test_loss_is_never_negative(row):
    """A loss below zero can be lowered without getting closer."""
    for seed in range(50):
        student = student_of((20,), seed).detach().float()
        assert row.per_position(student, row.target((20,), seed + 1)).min() >= -1e-6
        if not row.with_labels:  # near equality, where rounding is largest
            near = row.target((20,), seed).float()
            assert row.per_position(near + 1e-4 * student, near).min() >= -1e-5


@rows(where=lambda row: not row.with_labels)
def test_loss_gives_no_gradient_to_the_teacher(row):
    """A teacher that is trained by its student's loss comes to meet it half way."""
    student, teacher = student_of((4,)), row.target((4,), 1).requires_grad_()
    row.per_position(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    if from_log_p := CATALOG[row.name].from_log_p:
        log_p = teacher.log_softmax(-1).detach().requires_grad_()
        from_log_p(student, log_p).sum().backward()
        assert log_p.grad is None


@rows()
def test_loss_gradient_is_that_of_its_value(row):
    """A detach in the wrong place gives the right value and the wrong direction."""
    student, target = student_of((3, 2)), row.target((3, 2), 1)
    assert torch.autograd.gradcheck(lambda s: row.per_position(s, target), (student,))
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert torch.autograd.gradcheck(lambda s: row.build()(s, target, mask), (student,))


@rows()
def test_mask_is_slicing_even_with_nan_under_it(row):
    """Padding holds anything; NaN in it must not end a run, and numbers in it not steer one."""
    mask = torch.tensor([[True, True, False], [True, False, False]])
    student, target = student_of((2, 3)), row.target((2, 3), 1)
    sliced = student.detach()[mask].requires_grad_()
    expected = row.build()(sliced, target[mask])
    expected.backward()

    dirty = student.detach().clone()
    dirty[~mask] = torch.nan
    dirty.requires_grad_()
    dirty_target = target.clone()
    dirty_target[~mask] = 10**6 if row.with_labels else torch.nan
    value = row.build()(dirty, dirty_target, mask)
    value.backward()
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(dirty.grad[mask], sliced.grad, rtol=0, atol=0)
    assert dirty.grad[~mask].abs().sum() == 0


@rows()
def test_loss_is_zero_with_zero_gradient_when_nothing_counts(row):
    """A worker whose batch is all padding must still take part in the exchange of gradients."""
    student, target = student_of((2, 3)), row.target((2, 3), 1)
    value = row.build()(student, target, torch.zeros(2, 3, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert student.grad.abs().sum() == 0


@rows(where=lambda row: row.shift_invariant)
def test_loss_does_not_see_a_shift_of_logits(row):
    """Logits are known up to a constant; a loss that sees it punishes nothing real."""
    student, target = student_of((6,)).detach(), row.target((6,), 1)
    shift = torch.linspace(-50, 50, 6, dtype=torch.float64).unsqueeze(-1)
    plain = row.per_position(student, target)
    torch.testing.assert_close(row.per_position(student + shift, target), plain)
    if not row.with_labels:
        torch.testing.assert_close(row.per_position(student, target + shift), plain)


@rows(where=lambda row: not row.shift_invariant)
def test_loss_does_see_a_shift_of_states(row):
    """A row in the wrong half of the table would pass by not being looked at."""
    student, target = student_of((6,)).detach(), row.target((6,), 1)
    changed = row.per_position(student + 1, target) - row.per_position(student, target)
    assert changed.abs().min() > 1e-3


@rows()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_in_is_float32_inside(row, dtype):
    """Computed in half precision, squares over 65504 are infinite and small terms are gone."""
    student, target = 200 * student_of((50,)).detach(), 200 * row.target((50,), 1)
    target = target // 200 if row.with_labels else target.to(dtype)
    student = student.to(dtype).requires_grad_()
    values = row.per_position(student, target)
    assert values.dtype == torch.float32
    wide = target if row.with_labels else target.double()
    expected = row.numpy(student.detach().double().numpy(), wide.numpy())
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-4, atol=1e-3)
    row.build()(student, target).backward()
    assert student.grad.isfinite().all()


@rows()
def test_float64_stays_and_float32_stays(row):
    """Gradients checked in float64 that is secretly float32 check nothing."""
    target = row.target((3,), 1)
    assert row.per_position(student_of((3,)), target).dtype == torch.float64
    narrow = target if row.with_labels else target.float()
    assert row.per_position(student_of((3,), dtype=torch.float32), narrow).dtype == torch.float32


@rows()
def test_extreme_values_are_finite(row):
    """One confident teacher, softmax overflowed, and the whole step is NaN."""
    student = torch.tensor([[1e4, -1e4, 0, 0, 0], [-1e4, 1e4, 0, 0, 0]], requires_grad=True)
    target = student.detach().flip(0)
    target = torch.tensor([1, 0]) if row.with_labels else target
    value = row.build()(student, target)
    value.backward()
    assert value.isfinite()
    assert value > 0
    assert student.grad.isfinite().all()


@rows(where=lambda row: row.softened)
def test_gradient_keeps_its_size_when_temperature_grows(row):
    """Without the factor the term vanishes as 1/τ², and tuning τ tunes the weight in secret."""

    def norm(temperature, scale):
        student, target = student_of((8,)), row.target((8,), 1)
        options = {"temperature": temperature, "scale_by_temperature_squared": scale}
        row.per_position(student, target, **options).sum().backward()
        return student.grad.norm().item()

    assert norm(1000.0, True) == pytest.approx(norm(30.0, True), rel=0.1)
    assert norm(1000.0, True) == pytest.approx(norm(10.0, True), rel=0.3)
    assert norm(1000.0, False) == pytest.approx(norm(1000.0, True) / 1e6, rel=1e-6)


@rows()
@pytest.mark.parametrize("cuts", [(8,), (3, 5), (1, 2, 5), (4, 4)], ids=str)
def test_micro_batches_with_a_global_count_are_the_whole_batch(row, cuts):
    """A mean of means weighs a position by how empty its micro-batch is."""
    mask = torch.rand(8, 6, generator=torch.Generator().manual_seed(5)) < 0.5
    mask[:3] = False  # one part has nothing
    student, target = student_of((8, 6)), row.target((8, 6), 1)
    whole = row.build()(student, target, mask)
    (expected,) = torch.autograd.grad(whole, student)
    parts = list(zip(student.split(cuts), target.split(cuts), mask.split(cuts), strict=True))
    total = 0.0
    for part in parts:
        pair = select_counted(part[2], *part[:2])
        share = masked_sum(row.per_position(*pair)) / mask.sum()
        total += share.item()
        share.backward(retain_graph=True)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(student.grad, expected)
    shares = [row.build()(*part, count=int(mask.sum())) for part in parts]
    assert sum(shares).item() == pytest.approx(whole.item(), rel=1e-12)


@rows(where=lambda row: row.name != "cross_entropy")
def test_loss_refuses_shapes_that_would_broadcast(row):
    """A teacher of one row broadcast against a batch teaches every row the same."""
    with pytest.raises(SignalError, match=r"\[4, 5\] and \[1, 5\]"):
        row.per_position(student_of((4,)), row.target((1,), 1))
