"""Final figures of student, teachers and their ensemble, over whole splits. No Ray here."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from raydistill.alignment import known_labels
from raydistill.config.task import EXCLUSIVE, TaskKind
from raydistill.ensemble import combine_log_p, fixed_weights, routed
from raydistill.evaluation.measures import measure
from raydistill.evaluation.tagging import seen_words
from raydistill.losses import IGNORED_LABEL
from raydistill.models.spans import span_table
from raydistill.signals import Ask, Request, TeacherSignal
from raydistill.signals.ask import SignalDtype
from raydistill.tasks import TextRows, TextTask
from raydistill.teachers.protocol import Teacher
from raydistill.teachers.source import Source
from raydistill.terms import yes_no

__all__ = [
    "LATENCY_ROWS",
    "REQUEST_PASSES",
    "median_ms",
    "metrics_of",
    "predict",
    "predict_by_sources",
    "predict_ensemble",
    "timing_requests",
]

_AHEAD = 4  # requests of one teacher on their way while measuring
REQUEST_PASSES = 4  # forward passes of a request, so that rows of like length can share one
LATENCY_ROWS = (1, 32)
"""Batch sizes whose latency is measured."""


def predict(
    model: Teacher,
    task: TextRows,
    batch_rows: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Logits of all rows in order, ``[N, C]``, float32, in the model's own order of classes.

    Of rows of words those of all words, ``[U, C]``, -inf throughout for words that the model does not see. Of windows
    those of all places, ``[P, 2]``, see :func:`raydistill.models.spans.span_table`.
    """
    return torch.cat(
        [_logits(model.answer(request)) for request in _requests(task, batch_rows, on_rows)]
    )


def predict_by_sources(
    sources: Mapping[str, Source],
    task: TextRows,
    batch_rows: int,
    dtypes: Mapping[str, SignalDtype],
) -> dict[str, Tensor]:
    """As `predict`, of several teachers at once, each asked a few requests ahead.

    Args:
        sources: Where each teacher's answers come from.
        task: The rows.
        batch_rows: Of a forward pass.
        dtypes: What each teacher's logits travel in.
    """
    asked: dict[str, list[Any]] = {name: [] for name in sources}
    logits: dict[str, list[Tensor]] = {name: [] for name in sources}

    def collect(name: str) -> None:
        logits[name].append(_logits(sources[name].collect(asked[name].pop(0))))

    for plain in _requests(task, batch_rows, lambda _: None):
        for name, source in sources.items():
            asked[name].append(
                source.ask(replace(plain, ask=Ask(dtype=dtypes[name], logits=task.head)))
            )
            if len(asked[name]) >= _AHEAD:
                collect(name)
    for name, waiting in asked.items():
        while waiting:
            collect(name)
    return {name: torch.cat(parts) for name, parts in logits.items()}


def predict_ensemble(
    logits: Mapping[str, Tensor],
    weights: Mapping[str, float],
    combine: str,
    route: Tensor | None = None,
    *,
    kind: TaskKind = "text_classification",
    columns: Mapping[str, Sequence[int]] | None = None,
) -> Tensor:
    """The teachers' common log-probabilities at temperature 1, ``[N, C]``; or log-odds, or numbers.

    Args:
        logits: Of each teacher, in the student's order of classes.
        weights: Summing to 1.
        combine: As in `ensemble.combine`; summed losses pull towards the mean of probabilities, and so
            does the best teacher of each row, whose weights are those of training.
        route: Place of the one teacher of each row, ``[N]``, -1: all; None: all about every row.
        kind: Of the task.
        columns: Of each teacher, where labels do not exclude each other: it says nothing about those with -1.
    """
    if kind not in EXCLUSIVE:
        return _each_label(logits, weights, combine, kind, _there(logits, columns or {}, route))
    geometric = combine in ("logits", "log_probabilities")
    space: Literal["logits", "probabilities"] = "logits" if geometric else "probabilities"
    base: Sequence[float] | Tensor = [weights[name] for name in logits]
    if kind == "tagging":
        there = torch.stack([seen_words(of_words) for of_words in logits.values()])
        if route is not None:
            there = there & routed(route, len(base))
        base = fixed_weights(base, there)
        log_p = combine_log_p(list(logits.values()), base, temperature=1.0, space=space)
        return log_p.masked_fill(~there.any(0).unsqueeze(1), -torch.inf)
    if route is not None:
        base = fixed_weights(base, routed(route, len(base)))
    return combine_log_p(list(logits.values()), base, temperature=1.0, space=space)


def _there(
    logits: Mapping[str, Tensor], columns: Mapping[str, Sequence[int]], route: Tensor | None
) -> Tensor:
    """Which teachers say something about which labels of which rows, ``[M, N, C]`` bool."""
    num_rows, width = next(iter(logits.values())).shape
    known = torch.tensor([
        [column >= 0 for column in columns.get(name, [0] * width)] for name in logits
    ])  # fmt: skip
    there = known.unsqueeze(1).expand(len(logits), num_rows, width)
    return there if route is None else there & routed(route, len(logits)).unsqueeze(-1)


def _each_label(
    logits: Mapping[str, Tensor],
    weights: Mapping[str, float],
    combine: str,
    kind: TaskKind,
    there: Tensor,
) -> Tensor:
    """Label by label: log-odds of the mean probability, or the mean of logits or numbers."""
    stacked = torch.stack(list(logits.values()))  # [M, N, C]
    base = torch.tensor([weights[name] for name in logits], dtype=torch.float32)
    each = fixed_weights(base, there)
    if kind == "regression" or combine in ("logits", "log_probabilities"):
        return torch.where(each == 0, 0.0, each * stacked).sum(0)
    log_p = combine_log_p(yes_no(stacked), each)
    return log_p[..., 1] - log_p[..., 0]


def metrics_of(
    logits: Tensor, task: TextTask, prefix: str, columns: Sequence[int] = ()
) -> dict[str, float]:
    """Metrics of a split under ``prefix/``.

    Args:
        logits: ``[N, C]``.
        task: The rows.
        prefix: Of the names.
        columns: Of a teacher: what it does not know is left out: rows with such a label, or such labels
            in all rows.
    """
    labels, names = task.hard_labels(), task.labels
    questions = task.questions()
    if questions is not None:
        columns = ()  # start and end are known to all
    if columns and labels.dim() > 1:
        known = [place for place, column in enumerate(columns) if column >= 0]
        logits, labels = logits[:, known], labels[:, known]
        names = tuple(names[place] for place in known)
    elif columns:
        labels = labels.where(known_labels(labels, columns), IGNORED_LABEL)
    values = measure(
        task.kind,
        logits,
        labels,
        label_names=names,
        queries=task.queries(),
        questions=questions,
        sentences=task.sentences(),
    )
    return {f"{prefix}/{name}": value for name, value in values.items()}


def timing_requests(task: TextRows, rows: int, wanted: int = 12) -> list[Request]:
    """Batches of a task to time a model with: two to warm up, the others count."""
    batches = []
    for begin in range(0, wanted * rows, rows):
        ids, texts = task.texts([i % task.num_rows for i in range(begin, begin + rows)])
        batches.append(Request(ids, texts, Ask(logits=task.head)))
    return batches


def median_ms(seconds: Sequence[float]) -> float:
    """Of timed answers, the first two left out; milliseconds."""
    return statistics.median(seconds[2:]) * 1000


def _requests(
    task: TextRows,
    batch_rows: int,
    on_rows: Callable[[int], None],
) -> Any:
    size = REQUEST_PASSES * batch_rows
    for begin in range(0, task.num_rows, size):
        ids, texts = task.texts(range(begin, min(begin + size, task.num_rows)))
        yield Request(ids, texts, Ask(logits=task.head))
        on_rows(len(ids))


def _logits(signal: TeacherSignal) -> Tensor:
    logits, mapped, rest = signal.logits.float().clone(), signal.mapped, signal.rest
    if rest is not None and mapped is not None:
        return span_table(logits, rest.float(), mapped[:, :2], signal.lengths.tolist())
    return logits if mapped is None else logits.masked_fill(~mapped.unsqueeze(1), -torch.inf)
