"""Final figures of student, teachers and their ensemble, over whole splits. No Ray here."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from raydistill.ensemble import combine_log_p
from raydistill.evaluation.metrics import classification_metrics
from raydistill.signals import Ask, Request
from raydistill.signals.ask import SignalDtype
from raydistill.tasks import TextClassification
from raydistill.teachers.sources import Source
from raydistill.teachers.teacher import Teacher

__all__ = [
    "LATENCY_ROWS",
    "REQUEST_PASSES",
    "median_ms",
    "metrics_of",
    "predict",
    "predict_by_source",
    "predict_ensemble",
    "timing_requests",
]

_AHEAD = 4  # requests of one teacher on their way while measuring
REQUEST_PASSES = 4  # forward passes of a request, so that rows of like length can share one
LATENCY_ROWS = (1, 32)
"""Batch sizes whose latency is measured."""


def predict(
    model: Teacher,
    task: TextClassification,
    batch_rows: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Logits of all rows in order, ``[N, C]``, float32, in the model's own order of classes."""
    return torch.cat(
        [_logits(model.answer(request)) for request in _requests(task, batch_rows, on_rows)]
    )


def predict_by_source(
    source: Source, task: TextClassification, batch_rows: int, dtype: SignalDtype = "float32"
) -> Tensor:
    """As `predict`, from wherever a teacher's answers come, a few requests ahead."""
    tickets, logits = [], []
    for request in _requests(task, batch_rows, lambda _: None, Ask(dtype=dtype)):
        tickets.append(source.ask(request))
        if len(tickets) >= _AHEAD:
            logits.append(_logits(source.collect(tickets.pop(0))))
    logits += [_logits(source.collect(ticket)) for ticket in tickets]
    return torch.cat(logits)


def predict_ensemble(
    logits: Mapping[str, Tensor], weights: Mapping[str, float], combine: str
) -> Tensor:
    """The teachers' common log-probabilities at temperature 1, ``[N, C]``.

    Args:
        logits: Of each teacher, in the student's order of classes.
        weights: Summing to 1.
        combine: As in `ensemble.combine`; summed losses pull towards the mean of probabilities.
    """
    space: Literal["logits", "probabilities"] = "logits" if combine == "logits" else "probabilities"
    return combine_log_p(
        list(logits.values()), [weights[name] for name in logits], temperature=1.0, space=space
    )


def metrics_of(logits: Tensor, task: TextClassification, prefix: str) -> dict[str, float]:
    """Metrics of a split under ``prefix/``."""
    values = classification_metrics(logits, task.hard_labels(), label_names=task.labels)
    return {f"{prefix}/{name}": value for name, value in values.items()}


def timing_requests(task: TextClassification, rows: int) -> list[Request]:
    """Batches of a task to time a model with: two to warm up and ten that count."""
    wanted = 12
    batches = []
    for begin in range(0, wanted * rows, rows):
        ids, texts = task.texts([i % task.num_rows for i in range(begin, begin + rows)])
        batches.append(Request(ids, texts, Ask()))
    return batches


def median_ms(seconds: Sequence[float]) -> float:
    """Of timed answers, the first two left out; milliseconds."""
    return statistics.median(seconds[2:]) * 1000


def _requests(
    task: TextClassification,
    batch_rows: int,
    on_rows: Callable[[int], None],
    ask: Ask = Ask(),  # noqa: B008 - frozen
) -> Any:
    size = REQUEST_PASSES * batch_rows
    for begin in range(0, task.num_rows, size):
        ids, texts = task.texts(range(begin, min(begin + size, task.num_rows)))
        yield Request(ids, texts, ask)
        on_rows(len(ids))


def _logits(signal: Any) -> Tensor:
    return signal.logits.float().clone()  # type: ignore[no-any-return]
