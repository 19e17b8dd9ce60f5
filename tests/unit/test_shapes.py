"""Passes: every row once, no row wider than it must be, no row's shape decided by its company."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydistill.signals import Ask, AttentionAsk, HiddenAsk, Request, TeacherSignal, pack_signal
from raydistill.signals.signal import select_rows
from raydistill.teachers.shapes import plan_full_passes, plan_passes, row_width
from raydistill.teachers.steadiness import Probe, is_steady, plan_probes
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
        assert (len(one.rows) + one.fill) * one.width <= max(batch_rows, 4) * 50


@given(
    st.lists(st.integers(1, 50), max_size=60),
    st.integers(1, 20),
    st.sampled_from([0, 64, 1024]),
)
def test_full_passes_hold_every_row_once_and_no_more_than_fit(
    lengths: list[int], batch_rows: int, padding: int
) -> None:
    """A user with 2 rows on a small GPU runs out of memory with 4."""
    passes = plan_full_passes(lengths, batch_rows=batch_rows, max_tokens=50, padding=padding)
    assert sorted(row for one in passes for row in one.rows) == list(range(len(lengths)))
    for one in passes:
        longest = max(lengths[row] for row in one.rows)
        assert longest <= one.width <= min(longest + 3, 50)
        assert len(one.rows) * one.width <= batch_rows * 50
        assert one.fill == 0
        if len(one.rows) > 1:
            assert sum(one.width - lengths[row] for row in one.rows) <= max(padding, 3 * 60)


def test_full_passes_are_few_without_much_padding() -> None:
    """A GPU waits for its kernels to be launched as long as for a thousand tokens."""
    lengths = [*range(1, 51)] * 4
    few = plan_full_passes(lengths, batch_rows=64, max_tokens=50, padding=1024)
    assert len(few) == 3
    assert len(plan_passes(lengths, batch_rows=64, max_tokens=50)) == 13
    lonely = plan_full_passes([512] + [10] * 200, batch_rows=64, max_tokens=512, padding=1024)
    assert [(len(one.rows), one.width) for one in lonely] == [(3, 512), (198, 12)]


@pytest.mark.parametrize("max_tokens", [8, 50, 128, 256, 512, 1024])
@pytest.mark.parametrize("num_parameters", [1_000, 110_000_000, 340_000_000])
def test_probes_are_of_the_shapes_in_use_and_cost_little(
    max_tokens: int, num_parameters: int
) -> None:
    """A shape that nobody tried may be the one whose bits differ; a start of minutes is too long."""
    batch_rows = max(4, -(-4096 // max_tokens))
    probes = plan_probes(
        batch_rows=batch_rows, max_tokens=max_tokens, num_parameters=num_parameters
    )
    cost = 0
    for probe in probes:
        width = row_width(probe.length, max_tokens)
        lengths = [probe.length] * probe.rows
        (one,) = plan_passes(lengths, batch_rows=batch_rows, max_tokens=max_tokens)
        assert (one.width, one.fill) == (width, 0)
        cost += (probe.rows + 4) * width
    assert cost <= 3.25 * batch_rows * max_tokens
    assert cost * 2 * num_parameters <= 2e12
    if num_parameters == 1_000 and max_tokens <= 512:
        assert Probe(max_tokens, batch_rows // 4 * 4) in probes
        assert max_tokens < 66 or Probe(65, 8) in probes


@pytest.mark.parametrize("length", [50, 9])
def test_a_shape_that_is_not_steady_is_found(length: int) -> None:
    """Short rows in small passes may be the same everywhere, and long or many ones not."""
    probes = plan_probes(batch_rows=64, max_tokens=50, num_parameters=1)
    sizes = {probe.length: probe.rows for probe in probes}
    assert sizes == {50: 64, 9: 264}

    def answer(wrong: int, request: Request, cut: int) -> TeacherSignal:
        off = float(cut == length and request.num_rows >= wrong)
        values = torch.tensor([[len(text) + off] for text in request.texts[0]])
        return pack_signal(
            "wide", request.row_ids, [1] * len(values), {"logits": values}, "float32"
        )

    assert is_steady(partial(answer, 1000), Ask(), probes)
    assert not is_steady(partial(answer, sizes[length]), Ask(), probes)


def test_few_rows_in_memory_are_honoured(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled up to four, a pass takes twice the memory that the user said there is."""
    teacher = make_teacher(tiny["wide"], batch_rows=2, max_tokens=12)
    shapes = []
    honest = teacher._forward
    monkeypatch.setattr(
        teacher, "_forward", lambda r, e, one: shapes.append(one) or honest(r, e, one)
    )
    assert not teacher.describe().steady
    texts = tuple(row["text"] for row in make_rows(60, seed=3))
    teacher.answer(Request(tuple(range(60)), (texts,), Ask()))
    assert max((len(one.rows) + one.fill) * one.width for one in shapes) <= 2 * 12


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
    whole = Request(
        tuple(range(60)),
        (texts,),
        Ask(
            (HiddenAsk(1), HiddenAsk(2, "gram"), HiddenAsk(3, "mean")),
            (AttentionAsk(2), AttentionAsk(2, "mean")),
        ),
    )
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
    monkeypatch.setattr("raydistill.teachers.teacher._STEADY", {})
    monkeypatch.setattr(teacher, "_is_steady", lambda: teacher._fixed_passes and honest())
    assert teacher.describe().steady
    assert teacher._fixed_passes
    alike = make_teacher(tiny["wide"])
    monkeypatch.setattr(alike, "_is_steady", lambda: pytest.fail("it was tried already"))
    assert alike.describe().steady
    assert alike._fixed_passes
    monkeypatch.setattr("raydistill.teachers.teacher._STEADY", {})
    monkeypatch.setattr(teacher, "_is_steady", lambda: False)
    assert not teacher.describe().steady
    assert not teacher._fixed_passes
    passes = plan_passes([3] * 9, batch_rows=64, max_tokens=50, fixed=True)
    assert [len(one.rows) + one.fill for one in passes] == [4, 4, 4]
