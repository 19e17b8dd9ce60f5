"""The order of a stream: a pure function of seed and rows, whatever the workers and the breaks."""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.data.files import DataFile
from raydistill.data.routes import Routes
from raydistill.data.sources import stream_split
from raydistill.data.stream import Stream, StreamPart
from raydistill.data.targets import Targets
from raydistill.errors import ConfigError
from raydistill.models import load_tokenizer
from raydistill.pipeline import StreamedRows, plan_micro_batches, table_steps
from raydistill.tasks import TextClassification
from tests.conftest import make_rows

LABELS = ("negative", "positive")


def stream_of(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    part = StreamPart(DataFile(str(path)), (("text", "text"), ("label", "label")), "data.train")
    return Stream((part,), LABELS)


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A stream of so many rows."""
    folder, made = tmp_path_factory.mktemp("streams"), {}

    def stream(num_rows):
        if num_rows not in made:
            made[num_rows] = stream_of(folder / f"{num_rows}.jsonl", make_rows(num_rows, 1))
        return made[num_rows]

    return stream


def steps_of(stream, *, first=0, total=9, batch_rows=4, window_rows=6, seed=3):
    rows = StreamedRows(
        stream,
        kind="text_classification",
        batch_rows=batch_rows,
        window_rows=window_rows,
        seed=seed,
    )
    return [(s.step, s.epoch, s.rows.tolist()) for s in rows.steps(first, total)]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(num_rows=st.integers(1, 30), batch_rows=st.integers(1, 12), window_rows=st.integers(1, 40))
def test_every_row_is_used_once_an_epoch_and_resuming_gives_the_rest(
    streams, num_rows, batch_rows, window_rows
):
    """Rows left out or used twice change what is minimised, depending on when a run was interrupted."""
    cut = {"batch_rows": batch_rows, "window_rows": window_rows}
    per_epoch = -(-num_rows // batch_rows)
    total = 2 * per_epoch + 1
    whole = steps_of(streams(num_rows), total=total, **cut)
    used = Counter((epoch, row) for step, epoch, rows in whole if step < total - 1 for row in rows)
    assert used == Counter((epoch, row) for epoch in (0, 1) for row in range(num_rows))
    assert [step for step, _, _ in whole] == list(range(total))
    assert {epoch for _, epoch, _ in whole[-1:]} == {2}
    for first in {1, per_epoch - 1, per_epoch, per_epoch + 1, total - 1} - {0}:
        assert steps_of(streams(num_rows), first=first, total=total, **cut) == whole[first:]


def test_rows_of_a_window_are_mixed_and_of_others_not(streams):
    """In the order of a sorted file a student forgets the first class with the last."""
    steps = steps_of(streams(30), batch_rows=5, window_rows=10, total=12)
    firsts = [row for step, _, rows in steps if step < 6 for row in rows]
    again = [row for step, _, rows in steps if step >= 6 for row in rows]
    for window in range(3):
        mixed = firsts[10 * window : 10 * window + 10]
        assert sorted(mixed) == list(range(10 * window, 10 * window + 10)) != mixed
        assert mixed != again[10 * window : 10 * window + 10]
    assert [row - 10 for row in firsts[10:20]] != firsts[:10], "each window has an order of its own"
    assert steps_of(streams(30), batch_rows=5, window_rows=10, total=12, seed=4) != steps


def test_a_stream_of_one_window_is_a_table(streams):
    """Streaming must cost the order of rows, not the recipe."""
    table = table_steps(30, batch_rows=7, seed=3, first_step=0, total_steps=12)
    expected = [(s.step, s.epoch, s.rows.tolist()) for s in table]
    assert steps_of(streams(30), batch_rows=7, window_rows=30, total=12) == expected


def test_micro_batches_are_those_of_the_table(streams, tiny):
    """Texts, labels and lengths must be those of the rows that the plan names."""
    stream, tokenizer = streams(30), load_tokenizer_of(tiny)
    whole = TextClassification(next(stream.tables(30)), LABELS)

    def plan(rank, steps, data, lengths):
        return [
            (m.step, m.last, m.batch.row_ids, m.batch.texts, m.batch.labels.tolist(), m.batch.counts.tolist())
            for m in plan_micro_batches(
                steps, micro_batch_rows=2, rank=rank, world=3, count=lambda b: b.counts.sum(),
                make_batch=lambda rows, filler: data.batch(rows, tokenizer, 16, filler=filler),
                lengths=lengths,
            )
        ]  # fmt: skip

    for rank in range(3):
        rows = StreamedRows(
            stream, kind="text_classification", batch_rows=8, window_rows=99, seed=5
        )
        table = table_steps(30, batch_rows=8, seed=5, first_step=0, total_steps=9)
        lengths = whole.lengths().__getitem__
        assert plan(rank, rows.steps(0, 9), rows, rows.lengths) == plan(rank, table, whole, lengths)


def test_labels_are_those_of_the_task(tmp_path, tiny):
    """Several labels a row, and the teacher that a row goes to, must reach the student from a stream."""
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"t{n}", "labels": ["x"][: n % 2], "lang": "ab"[n % 2]} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    split = stream_split("train", [path], text="text", labels=("x", "y"), path_in_config="data.train",
        targets=Targets("classes", "labels"), routes=Routes("lang", ("a", "b"), {}))  # fmt: skip
    kind = "multi_label_classification"
    streamed = StreamedRows(split.stream, kind=kind, batch_rows=6, window_rows=6, seed=5)
    (step,) = streamed.steps(0, 1)
    batch = streamed.batch(step.rows.tolist(), load_tokenizer_of(tiny), 16)
    assert batch.labels.tolist() == [[float(row % 2), 0.0] for row in step.rows]
    assert batch.route.tolist() == [row % 2 for row in step.rows]


def load_tokenizer_of(tiny):
    from raydistill.models import ModelSource

    return load_tokenizer(ModelSource("student", str(tiny["student"]), str(tiny["student"])))


def test_a_bad_row_ends_the_steps(tmp_path):
    """What is read ahead in a thread must not fail in silence."""
    stream = stream_of(tmp_path / "rows.jsonl", [*make_rows(20, 1), {"text": "", "label": 0}])
    with pytest.raises(ConfigError, match=r"rows\.jsonl, line 21"):
        steps_of(stream, total=9)


def test_a_stream_that_became_empty_is_no_endless_loop(tmp_path):
    """Somebody writes the file anew."""
    stream = stream_of(tmp_path / "rows.jsonl", [])
    for first in (0, 5):
        with pytest.raises(ConfigError, match="at least one row"):
            steps_of(stream, first=first)
