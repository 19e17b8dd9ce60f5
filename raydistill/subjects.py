"""Models beside each other on the rows of a split, in this process: found, checked, asked, timed. No Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.alignment import in_outputs, known_labels, output_columns
from raydistill.config import DistillConfig
from raydistill.config.ranking import SCORE, RetrievalTask
from raydistill.config.task import EXCLUSIVE, HEADS, QuestionAnsweringTask, TaskKind
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.calibration import calibration_error
from raydistill.evaluation.cost import Latency, count_flops, latency_of
from raydistill.evaluation.evaluator import LATENCY_ROWS, metrics_of, predict, timing_requests
from raydistill.evaluation.tagging import seen_words
from raydistill.final import as_teacher, found_in
from raydistill.losses import IGNORED_LABEL, PairScorer
from raydistill.models import EmbedderSpec, ModelSource, load_tokenizer, read_traits
from raydistill.models.embedding_files import read_embedder
from raydistill.models.exported import is_exported, read_export
from raydistill.prepare.embedders import embeds, scorer_of, teacher_embedder
from raydistill.prepare.prepare import load_data
from raydistill.prepare.sides import Side
from raydistill.prepare.sources import (
    head_faults,
    meaning_faults,
    package_faults,
    resolve_source,
)
from raydistill.prepare.windows import windows_for
from raydistill.signals import Ask, Request
from raydistill.tasks import TextTask, task_of
from raydistill.teachers.exported import open_frozen
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.teacher import LocalTeacher

__all__ = [
    "Asked",
    "Figures",
    "Rows",
    "Subject",
    "ask",
    "figures_of",
    "find_model",
    "find_teacher",
    "fitted",
    "metrics_on",
    "open_subject",
    "rows_of",
]

Role = Literal["model", "teacher", "ensemble"]
_NEVER = -1e4  # a logit of probability 0 that can be measured, as an infinite one cannot
_PASSES: Mapping[int, int] = {1: 202, 32: 52}  # two of them to warm up
_BUDGET_S = 10.0  # of the passes of one size
_LENGTHS = 2048  # rows that tokens are counted of at a time


@dataclass(frozen=True)
class Rows:
    """What models are measured on.

    Attributes:
        config: Whose task, data and cut of long texts are used.
        name: Of the split.
        splits: All of the configuration.
        labels: Names of the outputs.
    """

    config: DistillConfig
    name: str
    splits: Mapping[str, Split]
    labels: tuple[str, ...]

    @property
    def kind(self) -> TaskKind:
        """Of the task."""
        return self.config.task.kind

    @property
    def split(self) -> Split:
        """The rows."""
        return self.splits[self.name]

    def task(self, table: pa.Table | None = None) -> TextTask:
        """The rows, or other ones, as a task."""
        return task_of(self.kind, self.split.table if table is None else table, self.labels)


@dataclass(frozen=True)
class Subject:
    """A model that can be measured; nothing of it is loaded yet.

    Attributes:
        role: In the table.
        name: As the user wrote it.
        settings: How it is loaded.
        columns: For each label of the task the model's output, -1: it does not know it.
        scorer: Of one that embeds texts, what makes scores of pairs of them.
    """

    role: Role
    name: str
    settings: TeacherSettings
    columns: tuple[int, ...]
    scorer: PairScorer | None = None

    @property
    def source(self) -> ModelSource:
        """Where it is loaded from."""
        return self.settings.source

    @property
    def known(self) -> list[int]:
        """Places of the labels that it knows."""
        return [place for place, column in enumerate(self.columns) if column >= 0]


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


def rows_of(config: DistillConfig, split: str) -> Rows:
    """The rows of a split.

    Raises:
        ConfigError: There are none, or they are streamed.
    """
    splits = load_data(config)
    if split not in splits:
        raise ConfigError.of("--split", f"must be one of {', '.join(splits)}, got '{split}'.")
    if splits[split].stream is not None:
        raise ConfigError.of(
            "--split", f"must be a split that is read as a whole, {split} is streamed."
        )
    return Rows(config, split, splits, splits["train"].labels)


def fitted(rows: Rows, subjects: Sequence[Subject]) -> Rows:
    """The same rows, so that each model reads all of them: long contexts in windows that fit them all.

    Raises:
        ConfigError: There are no such windows.
    """
    task = rows.config.task
    if not isinstance(task, QuestionAnsweringTask):
        return rows
    sides = [
        Side(
            one.name,
            "--model" if one.role == "model" else f"teachers.{one.name}.model",
            one.settings.max_tokens,
            "student.max_tokens",
            load_tokenizer(one.source),
        )
        for one in subjects
    ]
    names = [name for name in (rows.name, "validation") if name in rows.splits]
    windows = {name: windows_for(rows.splits[name], sides, task.overlap) for name in names}
    return replace(rows, splits={**rows.splits, **windows})


def find_model(rows: Rows, model: str, path: str = "--model") -> Subject:
    """A model as a user names it: folder, export, Hugging Face id, registry URI.

    Raises:
        ConfigError: It is not there, or does not fit the task.
    """
    config, kind = rows.config, rows.kind
    source = resolve_source(path, model, tracking_uri=config.tracking.uri)
    exported = is_exported(source.location)
    if exported and (lacking := package_faults(path, "onnx")):
        raise ConfigError(lacking)
    if exported:
        read_export(path, Path(source.location))
    traits = read_traits(path, source, weights=not exported)
    embedder = _embedder_of(config, source, path)
    head = HEADS[kind] if kind != "retrieval" or embedder is not None else "texts"
    if wrong := head_faults(path, source, head) or meaning_faults(path, traits, kind):
        raise ConfigError(wrong)
    said = (SCORE,) if embedder is not None else traits.labels
    try:
        columns = output_columns(kind, said, rows.labels, partial=kind not in EXCLUSIVE)
    except ValueError as error:
        raise ConfigError.of(path, str(error)) from None
    settings = TeacherSettings(
        name=model,
        source=source,
        dtype="float32",
        max_tokens=config.student.max_tokens,
        batch_rows=config.evaluation.batch_rows,
        num_threads=torch.get_num_threads(),
        use_gpu=torch.cuda.is_available(),
        head=head,
        embedder=embedder,
    )
    return Subject("model", model, settings, columns, _scorer(config, embedder))


def _embedder_of(config: DistillConfig, source: ModelSource, path: str) -> EmbedderSpec | None:
    """What follows the encoder of a model that embeds texts, as its folder says; None of all others.

    Raises:
        ConfigError: It embeds in a way that is not known.
    """
    if not isinstance(config.task, RetrievalTask) or not embeds(source):
        return None
    try:
        return read_embedder(source)[0]
    except ValueError as error:
        raise ConfigError.of(path, f"{error}.") from None


def _scorer(config: DistillConfig, embedder: EmbedderSpec | None) -> PairScorer | None:
    if embedder is None or not isinstance(config.task, RetrievalTask):
        return None
    return scorer_of(config.task, embedder)


def find_teacher(rows: Rows, name: str) -> Subject:
    """A teacher of the configuration, computed as it teaches.

    Raises:
        ConfigError: It is not there, or does not fit the task.
    """
    config, section = rows.config, rows.config.teachers[name]
    path = f"teachers.{name}.model"
    source = resolve_source(
        path,
        section.model,
        tracking_uri=config.tracking.uri,
        tokenizer=section.tokenizer,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    traits = read_traits(path, source)
    embedder = teacher_embedder(config, name, source)[0] if rows.kind == "retrieval" else None
    head = HEADS[rows.kind] if rows.kind != "retrieval" or embedder is not None else "texts"
    wrong = [
        *package_faults(f"teachers.{name}.backend", section.backend),
        *head_faults(path, source, head),
        *meaning_faults(path, traits, rows.kind),
    ]
    if wrong:
        raise ConfigError(wrong)
    said = (SCORE,) if embedder is not None else traits.labels
    try:
        partial = section.missing_labels == "abstain"
        columns = output_columns(rows.kind, said, rows.labels, section.label_map, partial=partial)
    except ValueError as error:
        place = path if section.label_map is None else f"teachers.{name}.label_map"
        raise ConfigError([Fault(place, f"does not fit. {error}")]) from None
    settings = TeacherSettings(
        name=name,
        source=source,
        dtype=section.dtype,
        max_tokens=section.max_tokens or config.student.max_tokens,
        batch_rows=config.evaluation.batch_rows,
        num_threads=torch.get_num_threads(),
        use_gpu=torch.cuda.is_available() and section.backend == "torch",
        backend=section.backend,
        head=head,
        embedder=embedder,
    )
    return Subject("teacher", name, settings, columns, _scorer(config, embedder))


def open_subject(subject: Subject) -> LocalTeacher:
    """Load it."""
    return open_frozen(subject.settings)


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
