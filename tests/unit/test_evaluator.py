"""Final figures: whole splits, in order, by any way of asking."""

from typing import Any

import pyarrow as pa
import pytest
import torch

from raydistill.alignment import in_classes
from raydistill.ensemble import combine_log_p
from raydistill.evaluation.evaluator import (
    median_ms,
    metrics_of,
    predict,
    predict_by_sources,
    predict_ensemble,
    timing_requests,
)
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.tasks import TextClassification
from raydistill.teachers import TeacherDescription
from tests.conftest import make_rows

LABELS = ("negative", "positive")


def make_task(num_rows: int = 11) -> TextClassification:
    rows = make_rows(num_rows, seed=8)
    table = pa.table(
        {
            "text": [row["text"] for row in rows],
            "label": [LABELS.index(row["label"]) for row in rows],
            "row_id": list(range(100, 100 + num_rows)),
        }
    )
    return TextClassification(table, LABELS)


class Counting:
    """Answers each row's id; as a teacher and as a pool."""

    name = "counting"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.most_ahead = self.collected = 0

    def describe(self) -> TeacherDescription:
        raise AssertionError("nobody asks what it is")

    def answer(self, request: Request) -> TeacherSignal:
        self.requests.append(request)
        values = torch.tensor([[float(row), -float(row)] for row in request.row_ids])
        return pack_signal("a", request.row_ids, [1] * len(values), {"logits": values}, "float16")

    def ask(self, request: Request) -> TeacherSignal:
        signal = self.answer(request)
        self.most_ahead = max(self.most_ahead, len(self.requests) - self.collected)
        return signal

    def collect(self, ticket: TeacherSignal) -> TeacherSignal:
        self.collected += 1
        return ticket


@pytest.mark.parametrize("batch_rows", [1, 4, 11, 64])
def test_predictions_are_of_all_rows_in_order(batch_rows: int) -> None:
    """A split measured against shifted labels shows any model as chance."""
    done: list[int] = []
    model = Counting()
    expected = torch.arange(100.0, 111.0)
    found = predict(model, make_task(), batch_rows, done.append)
    assert found.dtype == torch.float32
    assert torch.equal(found[:, 0], expected)
    assert sum(done) == 11
    pool: Any = Counting()
    both = predict_by_sources(
        {"a": pool, "b": Counting()}, make_task(), batch_rows, dict.fromkeys("ab", "float32")
    )
    assert torch.equal(both["a"], found)
    assert torch.equal(both["b"], found)
    assert pool.most_ahead == min(4, len(pool.requests))
    # A request holds four forward passes, among which rows of like length are sorted.
    assert all(r.num_rows <= 4 * batch_rows for r in pool.requests)


def test_metrics_stand_under_their_split() -> None:
    """Figures of two splits under one name overwrite each other."""
    task = make_task()
    perfect = torch.nn.functional.one_hot(task.hard_labels(), 2).float() * 9
    metrics = metrics_of(perfect, task, "test")
    assert metrics["test/accuracy"] == 1.0
    assert metrics_of(-perfect, task, "test")["test/accuracy"] == 0.0
    assert all(name.startswith("test/") for name in metrics)


@pytest.mark.parametrize(
    ("combine", "space"),
    [("probabilities", "probabilities"), ("logits", "logits"), ("losses", "probabilities")],
)
def test_the_ensemble_is_combined_as_it_taught(combine: str, space: Any) -> None:
    """The report would compare the student with an ensemble that it never saw."""
    logits = {"a": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([[0.0, 9.0]])}
    found = predict_ensemble(logits, {"b": 0.2, "a": 0.8}, combine)
    expected = combine_log_p([logits["a"], logits["b"]], [0.8, 0.2], temperature=1.0, space=space)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("combine", ["probabilities", "logits", "losses"])
def test_the_ensemble_is_routed_as_it_taught(combine: str) -> None:
    """Specialists asked outside their field make an ensemble look worse than what taught the student."""
    draw = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(3, 2, generator=draw) for name in ("a", "b")}
    weights = {"b": 0.2, "a": 0.8}
    found = predict_ensemble(logits, weights, combine, torch.tensor([1, -1, 0]))
    together = predict_ensemble(logits, weights, combine)
    assert torch.equal(found[1], together[1])
    torch.testing.assert_close(found[0], logits["b"][0].log_softmax(-1))
    torch.testing.assert_close(found[2], logits["a"][2].log_softmax(-1))


@pytest.mark.parametrize("rows", [1, 32])
def test_timing_uses_full_batches_even_of_a_small_split(rows: int) -> None:
    """A short batch is faster, and the figure would flatter."""
    requests = timing_requests(make_task(5), rows)
    assert [request.num_rows for request in requests] == [rows] * 12
    assert median_ms([100.0, 100.0, *[0.001] * 9, 50.0]) == 1.0


def test_a_teacher_is_measured_on_what_it_knows():
    """A column that is not there, read as the last one, gives it answers that it never gave."""
    labels = ("negative", "neutral", "positive")
    table = pa.table({
        "text": ["a", "b", "c", "d"],
        "label": pa.array([0, 1, 2, 2], pa.int32()),
        "row_id": pa.array(range(4), pa.int64()),
    })  # fmt: skip
    task = TextClassification(table, labels)
    columns = (1, -1, 0)  # it knows positive and negative
    answers = torch.tensor([[0.0, 3.0], [5.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    logits = in_classes(answers, columns, missing=-1e4)
    assert logits.argmax(-1).tolist() == [0, 2, 2, 0]
    metrics = metrics_of(logits, task, "test", columns)
    assert metrics["test/accuracy"] == pytest.approx(2 / 3)
    expected = -torch.tensor([3.0, 3.0, 0.0]) + torch.tensor(3.0).exp().add(1).log()
    assert metrics["test/nll"] == pytest.approx(expected.mean().item(), rel=1e-5)
