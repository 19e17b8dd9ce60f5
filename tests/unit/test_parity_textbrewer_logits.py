"""Losses on logits against TextBrewer itself, where it is installed."""

import pytest
import torch

from raydistill.losses import build_loss

pytest.importorskip("textbrewer")

from textbrewer.distiller_utils import probability_shift_, select_logits_with_mask
from textbrewer.losses import kd_ce_loss, kd_mse_loss

SHAPES = [(6, 5), (3, 4, 5)]
PAIRS = [("soft_cross_entropy", kd_ce_loss), ("logit_mse", kd_mse_loss)]
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
pairs = pytest.mark.parametrize(("name", "theirs"), PAIRS, ids=[name for name, _ in PAIRS])


def two(shape, dtype=torch.float64):
    """Logits of both sides, the student's with a gradient."""
    student, teacher = 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return student.to(dtype).requires_grad_(), teacher.to(dtype)


def temperatures(shape):
    """One a position."""
    return 0.5 + 8 * torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()


def assert_same(ours, theirs, student):
    """In value and in the gradient."""
    torch.testing.assert_close(ours, theirs)
    (mine,) = torch.autograd.grad(ours, student)
    (yours,) = torch.autograd.grad(theirs, student)
    torch.testing.assert_close(mine, yours)


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tau", [1, 1.0, 4.0, 8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_loss_is_textbrewers(name, theirs, shape, tau, dtype):
    """Weights that were tuned there must mean the same here."""
    student, teacher = two(shape, dtype)
    ours = build_loss(name, parity="textbrewer", temperature=tau)
    assert_same(ours(student, teacher), theirs(student, teacher, tau), student)


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_with_temperatures_is_textbrewers(name, theirs, shape):
    """Their schedulers give one temperature a position."""
    student, teacher = two(shape)
    for taus in (temperatures(shape[:-1]), torch.tensor(3.0)):
        ours = build_loss(name, parity="textbrewer", temperature=taus)
        assert_same(ours(student, teacher), theirs(student, teacher, taus), student)


@pairs
@pytest.mark.parametrize("kind", ["number", "position", "selected"])
def test_loss_under_a_mask_is_textbrewers(name, theirs, kind):
    """The mean is over all tokens of the batch that count, not over sentences."""
    student, teacher = two((3, 4, 5))
    counted = MASK.bool()
    everywhere = temperatures((3, 4))
    tau = {"number": 4.0, "position": everywhere, "selected": everywhere[counted]}[kind]
    for_theirs = 4.0 if kind == "number" else everywhere[counted]
    [picked], [other] = (select_logits_with_mask([z], [MASK]) for z in (student, teacher))
    ours = build_loss(name, parity="textbrewer", temperature=tau)
    found = ours(student, teacher, counted)
    assert_same(found, theirs(picked, other, for_theirs), student)


@pairs
def test_sums_of_several_logits_are_textbrewers(name, theirs):
    """Start and end of an answer are two losses, added."""
    (start, other_start), (end, other_end) = two((6, 5)), two((6, 5))
    ours = build_loss(name, parity="textbrewer", temperature=8.0)
    found = ours(start, other_start) + ours(end * 2, other_end)
    wanted = theirs(start, other_start, 8.0) + theirs(end * 2, other_end, 8.0)
    torch.testing.assert_close(found, wanted)


@pairs
def test_mask_of_rows_counts_where_textbrewers_does_nothing(name, theirs):
    """The one difference that is meant: there a mask has no effect on 2-D logits."""
    student, teacher = two((6, 5))
    mask = torch.tensor([True, True, False, True, False, False])
    [picked] = select_logits_with_mask([student], [mask])
    assert picked is student
    ours = build_loss(name, parity="textbrewer", temperature=4.0)
    torch.testing.assert_close(
        ours(student, teacher, mask), theirs(student[mask], teacher[mask], 4.0)
    )


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probability_shift_is_textbrewers(name, theirs, shape):
    """Theirs works on its argument; ours leaves it."""
    student, teacher = two(shape)
    labels = torch.randint(0, 5, shape[:-1], generator=torch.Generator().manual_seed(2))
    if len(shape) == 3:  # for 2-D logits theirs takes -100 for an index
        labels[:, -1] = -100
    ours = build_loss(name, parity="textbrewer", temperature=4.0, probability_shift=True)
    found = ours(student, teacher, labels=labels)
    moved = probability_shift_(teacher.clone(), labels)
    assert_same(found, theirs(student, moved, 4.0), student)


def test_plain_loss_is_textbrewers_times_the_squared_temperature():
    """The default differs by a stated factor, not by an unknown one."""
    student, teacher = two((3, 4, 5))
    found = build_loss("ce", temperature=8.0)(student, teacher)
    torch.testing.assert_close(found, 64 * kd_ce_loss(student, teacher, 8.0))
    found = build_loss("kd_mse", temperature=8.0)(student, teacher)
    torch.testing.assert_close(found, 64 * kd_mse_loss(student, teacher, 8.0))
