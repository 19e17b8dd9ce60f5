"""Models that are to be measured on the rows of a split: found and checked. No Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch

from raydistill.alignment import output_columns
from raydistill.config import DistillConfig
from raydistill.config.ranking import SCORE, RetrievalTask
from raydistill.config.task import EXCLUSIVE, QuestionAnsweringTask, TaskKind
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.losses import PairScorer
from raydistill.models import EmbedderSpec, ModelSource, load_tokenizer, read_traits
from raydistill.models.embedding_files import read_embedder
from raydistill.models.exported import is_exported, read_export
from raydistill.prepare.data import load_data
from raydistill.prepare.embedders import embeds, scorer_of, teacher_embedder
from raydistill.prepare.prepared import head_of
from raydistill.prepare.sides import Side
from raydistill.prepare.sources import (
    head_faults,
    meaning_faults,
    package_faults,
    resolve_source,
    teacher_source,
)
from raydistill.prepare.windows import windows_for
from raydistill.tasks import TextTask, task_of
from raydistill.teachers.exported import open_frozen
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.teacher import LocalTeacher

__all__ = [
    "Role",
    "Rows",
    "Subject",
    "find_model",
    "find_teacher",
    "fitted",
    "open_subject",
    "rows_of",
]

Role = Literal["model", "teacher", "ensemble"]


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
    head = head_of(config, embedder)
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
    source = teacher_source(config, name)
    traits = read_traits(path, source)
    embedder = teacher_embedder(config, name, source)[0] if rows.kind == "retrieval" else None
    head = head_of(config, embedder)
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
