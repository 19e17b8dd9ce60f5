"""Passes: every row once, no row wider than it must be, no row's shape decided by its company."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.signals import Ask, HiddenAsk, Request
from raydistill.signals.signal import select_rows
from raydistill.teachers.shapes import plan_passes, row_width
from tests.conftest import make_rows
from tests.unit.test_teacher import make_teacher


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 20))
def test_every_row_once_in_a_shape_of_its_own(lengths: list[int], batch_rows: int) -> None:
    """A row left out would be answered by another's numbers."""
    passes = plan_passes(lengths, batch_rows=batch_rows, max_tokens=50)
    assert sorted(row for one in passes for row in one.rows) == list(range(len(lengths)))
    for one in passes:
        assert {row_width(lengths[row], 50) for row in one.rows} == {one.width}
        assert (len(one.rows) + one.fill) % 4 == 0
        assert one.fill < 4
        assert (len(one.rows) + one.fill - 4) * one.width <= batch_rows * 50


@pytest.mark.parametrize(
    ("length", "most", "width"),
    [
        (1, 50, 4), (4, 50, 4), (5, 50, 8), (47, 50, 48), (49, 50, 50), (50, 50, 50),
        (64, 512, 64), (65, 512, 72), (129, 512, 144), (255, 256, 256), (257, 512, 288),
    ],
)  # fmt: skip
def test_width_is_a_multiple_of_a_step_within_the_model(length: int, most: int, width: int) -> None:
    """Beyond max_tokens there may be no position embedding."""
    assert row_width(length, most) == width


def test_an_answer_does_not_depend_on_its_company(tiny: dict[str, Path]) -> None:
    """Else a store that is half filled, or a request that is merged, changes the student."""
    teacher = make_teacher(tiny["wide"])
    texts = tuple(row["text"] for row in make_rows(60, seed=3))
    whole = Request(tuple(range(60)), (texts,), Ask((HiddenAsk(1), HiddenAsk(3, "mean")), (2,)))
    together = teacher.answer(whole)
    order = np.random.default_rng(0).permutation(60)
    for some in (order[:1], order[1:6], order[6:23], order[23:]):
        few = teacher.answer(whole.select(some.tolist()))
        for place, row in enumerate(some.tolist()):
            alone, beside = (
                select_rows(few, place, place + 1),
                select_rows(together, row, row + 1),
            )
            assert np.array_equal(alone.buffer, beside.buffer)
    assert teacher.describe().steady


def test_where_company_matters_passes_have_four_rows(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor whose products depend on the number of rows must not make the store inexact."""
    teacher = make_teacher(tiny["wide"])
    honest = teacher._is_steady
    monkeypatch.setattr(
        teacher, "_is_steady", lambda layers: teacher._fixed_passes and honest(layers)
    )
    assert teacher.describe().steady
    assert teacher._fixed_passes
    monkeypatch.setattr(teacher, "_is_steady", lambda _: False)
    assert not teacher.describe().steady
    assert not teacher._fixed_passes
    passes = plan_passes([3] * 9, batch_rows=64, max_tokens=50, fixed=True)
    assert [len(one.rows) + one.fill for one in passes] == [4, 4, 4]
