"""Models beside each other on the rows of a split, in this process: asked, measured, timed. No Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.alignment import in_outputs, known_labels
from raydistill.evaluation.calibration import calibration_error
from raydistill.evaluation.cost import Latency, count_flops, latency_of
from raydistill.evaluation.evaluator import LATENCY_ROWS, metrics_of, predict, timing_requests
from raydistill.evaluation.tagging import seen_words
from raydistill.final import as_teacher, found_in
from raydistill.losses import IGNORED_LABEL
from raydistill.models import ModelSource
from raydistill.models.exported import is_exported
from raydistill.signals import Ask, Request
from raydistill.subjects import Role, Rows, Subject
from raydistill.tasks import TextTask
from raydistill.teachers.teacher import LocalTeacher

__all__ = ["Asked", "Figures", "ask", "figures_of", "metrics_on"]

_NEVER = -1e4  # a logit of probability 0 that can be measured, as an infinite one cannot
_PASSES: Mapping[int, int] = {1: 202, 32: 52}  # two of them to warm up
_BUDGET_S = 10.0  # of the passes of one size
_LENGTHS = 2048  # rows that tokens are counted of at a time


@dataclass(frozen=True)
class Asked:
    """What a model said.

    Attributes:
        subject: The model.
        logits: In the order of the task's labels, ``[N, C]``.
        figures: Of it.
        changed: Logits of changed copies of the rows, by their names.
    """

    subject: Subject
    logits: Tensor
    figures: "Figures"
    changed: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Figures:
    """What was measured of a model.

    Attributes:
        role: In the table.
        name: As the user wrote it.
        metrics: Of the task, and ``ece`` where it gives probabilities.
        perturbed: The same on changed copies of the rows, by their names.
        agreement: With teachers, by their names.
        latency: By rows of a batch.
        parameters: Of the model.
        disk_bytes: Of its weights in files; of an id of the hub, in memory.
        flops_per_row: Of a row of ``tokens_per_row`` tokens; None of an export, whose kernels are not counted.
        tokens_per_row: The mean over the split, rounded.
    """

    role: Role
    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    perturbed: dict[str, dict[str, float]] = field(default_factory=dict)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    latency: dict[int, Latency] = field(default_factory=dict)
    parameters: int | None = None
    disk_bytes: int | None = None
    flops_per_row: int | None = None
    tokens_per_row: int | None = None


def ask(
    subject: Subject, model: LocalTeacher, rows: Rows, *, table: pa.Table | None = None
) -> Tensor:
    """What it says about the rows, or about other ones, in the order of the task's labels, ``[N, C]``."""
    asked = as_teacher(model, subject.scorer)
    logits = predict(asked, rows.task(table), rows.config.evaluation.batch_rows)
    seen = seen_words(logits)
    found = in_outputs(rows.kind, logits, subject.columns, missing=_NEVER)
    return found.masked_fill(~seen.unsqueeze(1), -torch.inf)


def metrics_on(
    rows: Rows, logits: Tensor, columns: Sequence[int] = (), table: pa.Table | None = None
) -> dict[str, float]:
    """Figures of the task, and the calibration error where it is none of them.

    Args:
        rows: What was asked about.
        logits: What was said.
        columns: Of what does not know all labels.
        table: Asked about instead.
    """
    task = rows.task(table)
    partial = columns if columns and min(columns) < 0 else ()
    found = metrics_of(logits, task, "own", partial)
    named = {name.removeprefix("own/"): value for name, value in found.items()}
    if named and "ece" not in named:
        labels = task.hard_labels()
        if partial and labels.dim() > 1:
            known = [place for place, column in enumerate(partial) if column >= 0]
            logits, labels = logits[:, known], labels[:, known]
        elif partial:
            labels = labels.where(known_labels(labels, partial), IGNORED_LABEL)
        error = calibration_error(rows.kind, logits, labels)
        named |= {} if error is None else {"ece": error}
    return named


def figures_of(
    subject: Subject,
    model: LocalTeacher,
    rows: Rows,
    *,
    latency: bool = True,
    copies: Mapping[str, pa.Table] | None = None,
) -> Asked:
    """Measure a model.

    Args:
        subject: The model.
        model: The same, loaded.
        rows: What it is asked about.
        latency: Whether to time it.
        copies: Changed copies of the rows, by name.
    """
    logits = ask(subject, model, rows)
    said = model.facts
    found = Figures(
        subject.role,
        subject.name,
        metrics=metrics_on(rows, logits, subject.columns),
        parameters=said.num_parameters,
        disk_bytes=_disk_bytes(subject.source) or said.num_bytes,
    )
    corpus = rows.split.corpus
    if corpus is not None:
        asked = as_teacher(model, subject.scorer)
        of_corpus = found_in(corpus.to_pylist(), asked, rows.task(), "own")
        found.metrics |= {n.removeprefix("own/"): value for n, value in of_corpus.items()}
    changed: dict[str, Tensor] = {}
    for name, table in (copies or {}).items():
        changed[name] = ask(subject, model, rows, table=table)
        found.perturbed[name] = metrics_on(rows, changed[name], subject.columns, table)
    task = rows.task()
    found.tokens_per_row, longest = _mean_tokens(model, task)
    if subject.settings.backend == "torch" and not is_exported(subject.source.location):
        tokens = found.tokens_per_row
        found.flops_per_row = count_flops(lambda: model.run_plainly(longest, tokens))
    if latency:
        found.latency = {
            size: latency_of(
                model.run_plainly, timing_requests(task, size, _PASSES[size]), budget_s=_BUDGET_S
            )
            for size in LATENCY_ROWS
        }
    return Asked(subject, logits, found, changed)


def _mean_tokens(model: LocalTeacher, task: TextTask) -> tuple[int, Request]:
    """Tokens of a row, the mean rounded, and the longest row: cut there it has as many."""
    counts: list[int] = []
    for begin in range(0, task.num_rows, _LENGTHS):
        rows = range(begin, min(begin + _LENGTHS, task.num_rows))
        counts += model.reader.token_counts(_request(task, rows))
    longest = max(range(len(counts)), key=counts.__getitem__)
    return round(sum(counts) / len(counts)), _request(task, [longest])


def _request(task: TextTask, rows: Sequence[int]) -> Request:
    ids, texts = task.texts(rows)
    return Request(ids, texts, replace(Ask(), logits=task.head))


def _disk_bytes(source: ModelSource) -> int:
    """Of a folder's weights."""
    folder = Path(source.location)
    if not folder.is_dir():
        return 0
    pattern = "*.onnx*" if is_exported(source.location) else "*.safetensors"
    return sum(file.stat().st_size for file in folder.glob(pattern))
