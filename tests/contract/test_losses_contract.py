"""Every loss of the catalog × every property a loss may have.

A row says how to make a case, which properties hold, and the formula once more in NumPy. Adding a
loss without a row fails ``test_catalog_and_table_name_the_same_losses``.
"""

import numpy as np
import pytest
import torch

from raydistill.errors import SignalError
from raydistill.losses import ALIASES, CATALOG
from tests.contract.table import Row, arrays, learning, positions
from tests.contract.table_features import FEATURES
from tests.contract.table_logits import LOGITS
from tests.contract.table_ranking import RANKING

LOSSES = [*LOGITS, *FEATURES, *RANKING]
NEEDS = {"logits", "labels", "hidden", "layers", "attention", "scores", "embeddings"}


def rows(*, where=lambda row: True):
    chosen = [row for row in LOSSES if where(row)]
    assert chosen
    ids = [f"{row.name}-{'-'.join(map(str, row.options.values()))}".strip("-") for row in chosen]
    return pytest.mark.parametrize("row", chosen, ids=ids)


def over(*words):
    return lambda row: row.entry.over in words


def gradients(row: Row, student, target, labels=None, mask=None, **extra):
    """The scalar and the gradients at the student."""
    value = row.scalar(student, target, labels, mask, **extra)
    return value, torch.autograd.grad(value, student)


def test_catalog_and_table_name_the_same_losses():
    """A loss without a row is a loss without a test."""
    assert {row.name for row in LOSSES} == set(CATALOG)
    assert all(name == entry.name for name, entry in CATALOG.items())
    assert not set(ALIASES) & set(CATALOG)
    assert len(ALIASES) == sum(len(entry.aliases) for entry in CATALOG.values())


@rows()
def test_entry_speaks_of_what_there_is(row):
    """The objective asks teachers by `needs`; a wrong word asks for the wrong tensor."""
    assert row.entry.needs <= NEEDS
    assert row.entry.needs - {"labels"} or row.with_labels
    assert (row.entry.units is not None) == (row.entry.over == "sequences")


@rows()
def test_loss_is_the_formula(row):
    """A slip in the formula trains a student, only not the one that was asked for."""
    shapes = (
        [(), (4,), (2, 3), (2, 3, 2)]
        if row.entry.over == "positions" and row.entry.tail
        else [None]
    )
    for shape in shapes:
        student, target, labels = row.inputs(0) if shape is None else row.inputs(0, shape)
        values = row.values(student, target, labels)
        expected = row.numpy(
            arrays(student), arrays(target), None if labels is None else labels.numpy()
        )
        assert values.shape == expected.shape
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-9, atol=1e-11)
        scalar = row.scalar(student, target, labels)
        assert scalar.shape == ()
        np.testing.assert_allclose(scalar.item(), expected.mean(), rtol=1e-9)


@rows(where=lambda row: row.equal_is is not None)
def test_loss_is_zero_or_what_is_said_at_equality(row):
    """A 'KL' that is a cross-entropy reports the teacher's entropy as loss."""
    _, target, labels = row.inputs(3)
    student = learning(target)
    values = row.values(student, target, labels)
    expected = 0.0 if row.equal_is == "zero" else row.equal_is(arrays(target))
    np.testing.assert_allclose(
        values.detach().numpy(), np.broadcast_to(expected, values.shape), atol=1e-9
    )
    for gradient in torch.autograd.grad(values.sum(), student):
        assert gradient.abs().max() < 1e-6, "both agree: nothing to learn"


@rows(where=lambda row: row.never_negative)
def test_loss_is_never_negative(row):
    """A loss below zero can be lowered without getting closer."""
    for seed in range(30):
        student, target, labels = row.inputs(seed)
        narrow = [x.float() for x in student]
        wide = [x.float() if x.is_floating_point() else x for x in target]
        assert row.values(narrow, wide, labels).min() >= -1e-5
        if (
            not row.with_labels and row.equal_is is not None
        ):  # near equality, where rounding is largest
            near = [x + 1e-4 * y.abs().clamp(max=1.0) for x, y in zip(wide, narrow, strict=True)]
            assert row.values(near, wide, labels).min() >= -1e-5


@rows(where=lambda row: not row.with_labels)
def test_loss_gives_no_gradient_to_the_teacher(row):
    """A teacher that is trained by its student's loss comes to meet it half way."""
    student, target, labels = row.inputs(1)
    student, target = learning(student), learning(target)
    row.values(student, target, labels).sum().backward()
    assert all(x.grad is None for x in target)
    assert sum(x.grad.abs().sum() for x in student) > 0


@rows()
def test_loss_gradient_is_that_of_its_value(row):
    """A detach in the wrong place gives the right value and the wrong direction."""
    student, target, labels = row.inputs(1)
    student = learning(student)
    assert torch.autograd.gradcheck(lambda *s: row.values(list(s), target, labels), student)
    mask = mask_of(row, student)
    assert torch.autograd.gradcheck(lambda *s: row.scalar(list(s), target, labels, mask), student)


def mask_of(row: Row, student, seed: int = 5) -> torch.Tensor:
    """Of its positions, or of tokens: some of each row; of one row but one, where there are three."""
    if row.entry.over == "sequences":
        lengths = (
            student[0].shape[0],
            student[0].shape[-1] if row.slice.__name__ == "keep_last_two" else student[0].shape[1],
        )
    else:
        lengths = student[0].shape[: student[0].dim() - row.entry.tail]
    mask = torch.rand(lengths, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask.reshape(-1)[0] = True
    mask.reshape(-1)[-1] = False
    return mask


@rows(where=over("positions", "rows"))
def test_mask_is_slicing_even_with_nan_under_it(row):
    """Padding holds anything; NaN in it must not end a run, and numbers in it not steer one."""
    student, target, labels = row.inputs(1)
    mask = mask_of(row, student)
    sliced = learning([x[mask] for x in student])
    expected, gradient = gradients(
        row, sliced, [x[mask] for x in target], None if labels is None else labels[mask]
    )
    dirty = learning([nan_under(x, mask) for x in student])
    dirty_target = [nan_under(x, mask) for x in target]
    dirty_labels = None if labels is None else nan_under(labels, mask)
    value, whole = gradients(row, dirty, dirty_target, dirty_labels, mask)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    for got, wanted in zip(whole, gradient, strict=True):
        torch.testing.assert_close(got[mask], wanted, rtol=0, atol=0)
        assert got[~mask].abs().sum() == 0


@rows(where=over("sequences"))
def test_mask_is_slicing_of_each_row_even_with_nan_under_it(row):
    """As above, for losses that see tokens beside each other."""
    student, target, labels = row.inputs(1)
    mask = mask_of(row, student)
    mask[-1] = False  # a row of nothing but padding
    total, units, wanted = 0.0, 0, []
    for i, keep in enumerate(mask):
        mine = learning([row.slice(x[i], keep).unsqueeze(0) for x in student])
        others = [row.slice(x[i], keep).unsqueeze(0) for x in target]
        values = row.values(mine, others, None)
        total, units = total + values.sum(), units + values.numel()
        wanted.append(torch.autograd.grad(values.sum(), mine))
    assert int(row.entry.units(mask)) == units
    dirty = learning([nan_outside(row, x, mask) for x in student])
    dirty_target = [nan_outside(row, x, mask) for x in target]
    value, got = gradients(row, dirty, dirty_target, labels, mask)
    torch.testing.assert_close(value, total / max(1, units), rtol=1e-9, atol=1e-12)
    for side, gradient in enumerate(got):
        for i, keep in enumerate(mask):
            mine = row.slice(gradient[i], keep)
            torch.testing.assert_close(mine * units, wanted[i][side][0], rtol=1e-8, atol=1e-10)
            assert gradient[i].abs().sum().item() == pytest.approx(mine.abs().sum().item())


def nan_under(x, mask):
    x = x.clone()
    x[~mask] = torch.nan if x.is_floating_point() else 10**6
    return x


def nan_outside(row, x, mask):
    """NaN wherever no slice reaches."""
    out = torch.full_like(x, torch.nan)
    for i, keep in enumerate(mask):
        if row.slice.__name__ == "keep_last_two":
            inner = keep.unsqueeze(1) & keep.unsqueeze(0)
            out[i] = torch.where(inner, x[i], torch.nan)
        else:
            out[i][keep] = x[i][keep]
    return out


@rows()
def test_loss_is_zero_with_zero_gradient_when_nothing_counts(row):
    """A worker whose batch is all padding must still take part in the exchange of gradients."""
    student, target, labels = row.inputs(1)
    student = learning([torch.full_like(x, torch.nan) for x in student])
    mask = torch.zeros_like(mask_of(row, student))
    value, gradient = gradients(row, student, target, labels, mask)
    assert value.item() == 0
    assert all(x.abs().sum() == 0 for x in gradient)


@rows(where=lambda row: row.shift_invariant is True)
def test_loss_does_not_see_a_shift_of_logits(row):
    """Logits are known up to a constant; a loss that sees it punishes nothing real."""
    student, target, labels = row.inputs(1)
    shift = torch.linspace(-50, 50, student[0][..., 0].numel(), dtype=torch.float64)
    shift = shift.view(student[0].shape[:-1]).unsqueeze(-1)
    plain = row.values(student, target, labels)
    torch.testing.assert_close(row.values([x + shift for x in student], target, labels), plain)
    if not row.with_labels:
        torch.testing.assert_close(row.values(student, [x + shift for x in target], labels), plain)


@rows(where=lambda row: row.shift_invariant is False)
def test_loss_does_see_a_shift_of_states(row):
    """A row in the wrong half of the table would pass by not being looked at."""
    student, target, labels = row.inputs(1)
    plain = row.values(student, target, labels)
    assert (row.values([x + 1 for x in student], target, labels) - plain).abs().max() > 1e-3


@rows()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_in_is_float32_inside(row, dtype):
    """Computed in half precision, squares over 65504 are infinite and small terms are gone."""
    student, target, labels = row.inputs(1)
    student = learning([row.half * x for x in student], dtype)
    target = target if row.with_labels else [(row.half * x).to(dtype) for x in target]
    values = row.values(student, target, labels)
    assert values.dtype == torch.float32
    expected = row.numpy(
        arrays(student), arrays(target), None if labels is None else labels.numpy()
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        values.detach().numpy(), expected, rtol=2e-4, atol=1e-3 + 1e-5 * scale
    )
    _, gradient = gradients(row, student, target, labels)
    assert all(x.isfinite().all() for x in gradient)


@rows()
def test_float64_stays_and_float32_stays(row):
    """Gradients checked in float64 that is secretly float32 check nothing."""
    student, target, labels = row.inputs(1)
    assert row.values(student, target, labels).dtype == torch.float64
    narrow = target if row.with_labels else [x.float() for x in target]
    assert row.values([x.float() for x in student], narrow, labels).dtype == torch.float32


@rows(where=lambda row: row.extreme)
def test_extreme_values_are_finite(row):
    """One confident teacher, softmax overflowed, and the whole step is NaN."""
    student, target, labels = row.inputs(1)
    student = learning([1e4 * x.sign() for x in student], torch.float32)
    target = target if row.with_labels else [-1e4 * x.detach().roll(1, -1) for x in student]
    for gradient in (gradients(row, student, target, labels),):
        value, slopes = gradient
        assert value.isfinite()
        assert all(x.isfinite().all() for x in slopes)


@rows(where=lambda row: row.softened is not None)
def test_gradient_keeps_its_size_when_temperature_grows(row):
    """Without the factor the term vanishes with the temperature, and tuning it tunes the weight in secret."""

    def norm(temperature, scale):
        student, target, labels = row.inputs(1)
        student = learning(student)
        options = {"temperature": temperature, row.softened: scale}
        row.values(student, target, labels, **options).sum().backward()
        return student[0].grad.norm().item()

    power = 2 if row.softened.endswith("squared") else 1
    assert norm(1000.0, True) == pytest.approx(norm(30.0, True), rel=0.1)
    assert norm(1000.0, True) == pytest.approx(norm(10.0, True), rel=0.3)
    assert norm(1000.0, False) == pytest.approx(norm(1000.0, True) / 1000**power, rel=1e-6)


@rows(where=over("positions", "sequences"))
@pytest.mark.parametrize("cuts", [(8,), (3, 5), (1, 2, 5), (4, 4)], ids=str)
def test_micro_batches_with_a_global_count_are_the_whole_batch(row, cuts):
    """A mean of means weighs a position by how empty its micro-batch is."""
    student, target, labels = row.inputs(1, (8, 6))
    mask = mask_of(row, student)
    mask[:3] = False  # one part has nothing
    student = learning(student)
    whole, expected = gradients(row, student, target, labels, mask)
    count = int(row.entry.units(mask) if row.entry.units else mask.sum())
    total = 0.0
    for part in torch.arange(8).split(cuts):
        mine = None if labels is None else labels[part]
        share = row.scalar(
            [x[part] for x in student], [x[part] for x in target], mine, mask[part], count=count
        )
        total = total + share
    assert total.item() == pytest.approx(whole.item(), rel=1e-10)
    for got, wanted in zip(torch.autograd.grad(total, student), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@rows(where=lambda row: row.entry.over == "rows")
def test_rows_see_each_other_and_not_their_order(row):
    """A loss across rows that could be cut anywhere would not be across rows."""
    student, target, labels = row.inputs(1, (8,))
    values = row.values(student, target, labels)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    mine = None if labels is None else labels[order]
    shuffled = row.values([x[order] for x in student], [x[order] for x in target], mine)
    torch.testing.assert_close(shuffled, values[order])
    halves = [
        row.values(
            [x[part] for x in student],
            [x[part] for x in target],
            None if labels is None else labels[part],
        )
        for part in torch.arange(8).split(4)
    ]
    assert (torch.cat(halves) - values).abs().max() > 1e-6
    for few in (0, 1):
        alone = learning([x[:few] for x in student])
        value = row.scalar(
            alone, [x[:few] for x in target], None if labels is None else labels[:few]
        )
        value.backward()
        assert value.isfinite()
        assert alone[0].grad.isfinite().all()


@rows(
    where=lambda row: (
        row.entry.over == "positions" and not row.with_labels and row.inputs is positions
    )
)
def test_loss_refuses_shapes_that_would_broadcast(row):
    """A teacher of one row broadcast against a batch teaches every row the same."""
    student, _, labels = row.inputs(1, (4,))
    _, target, _ = row.inputs(1, (1,))
    with pytest.raises(SignalError, match=r"\[4, 5\] and \[1, 5\]"):
        row.values(student, target, labels)
