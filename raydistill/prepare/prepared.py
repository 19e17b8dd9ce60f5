"""A run that can start: what was read and checked, and what follows from that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.task import HEADS, Head
from raydistill.data import Split, Stream
from raydistill.models import EmbedderSpec, ModelSource, ModelTraits
from raydistill.objective import ObjectivePlan
from raydistill.prepare.augmentation import Augmented
from raydistill.prepare.operations import Operations
from raydistill.training.schedule import Steps
from raydistill.training.student import StudentPlan

__all__ = ["Prepared", "head_of", "train_rows"]


@dataclass(frozen=True)
class Prepared:
    """A run that can start.

    Attributes:
        config: As written.
        splits: Rows by split.
        labels: Names of the classes.
        sources: Where each teacher is loaded from.
        traits: Shape of each teacher.
        student: How the student is made.
        student_traits: Its shape.
        objective: What is minimised.
        steps: When what happens.
        weights: Fingerprint of each teacher's files, and of the ``student``'s unless it is new.
        manifest: What the run is made of.
        notes: What may be meant but should be known.
        operations: What changes texts.
        augmented: Training rows that are made from others; None without any.
        counted: Of the rows, for metrics.json: words or units that tokenizers do not see, windows.
        embedders: Of teachers that embed texts, what follows their encoders.
    """

    config: DistillConfig
    splits: Mapping[str, Split]
    labels: tuple[str, ...]
    sources: Mapping[str, ModelSource]
    traits: Mapping[str, ModelTraits]
    student: StudentPlan
    student_traits: ModelTraits
    objective: ObjectivePlan
    steps: Steps
    weights: Mapping[str, str]
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]
    operations: Operations = field(default_factory=Operations)
    augmented: Augmented | None = None
    counted: Mapping[str, float] = field(default_factory=dict)
    embedders: Mapping[str, EmbedderSpec] = field(default_factory=dict)

    def head_of(self, name: str) -> Head:
        """What a teacher gives outputs for."""
        return head_of(self.config, self.embedders.get(name))

    @property
    def num_train_rows(self) -> int | None:
        """Rows of an epoch: labelled, unlabelled, and made from those; None: a stream."""
        return train_rows(self.splits, self.augmented)

    @property
    def stream(self) -> Stream | None:
        """What is trained on, if its rows are read while they are used."""
        parts = [self.splits[n].stream for n in ("train", "unlabelled") if n in self.splits]
        streams = [stream for stream in parts if stream is not None]
        return Stream.joined(streams) if streams else None

    @property
    def model_folders(self) -> dict[str, Path]:
        """Folders that models are loaded from, by configuration path; hub ids are not among them."""
        named = {f"teachers.{name}.model": source for name, source in self.sources.items()}
        if self.student.words is None:
            named["student"] = self.student.source
        named |= {f"{path}.model": model.source for path, model in self.operations.models.items()}
        return {n: Path(s.location) for n, s in named.items() if Path(s.location).is_dir()}

    @property
    def files_everywhere(self) -> dict[str, Path]:
        """What every machine must see: folders of models, and files of a stream."""
        files = self.stream.files if self.stream else []
        return {**self.model_folders, **{f"data.train ({file})": file for file in files}}

    def row_bytes(self, name: str) -> int:
        """Most bytes of a teacher's answer to one row."""
        ask, traits = self.objective.asks[name], self.traits[name]
        size = 4 if ask.dtype == "float32" else 2
        tokens = self.teacher_max_tokens(name)
        vectors = {"all": tokens, "first": 1, "mean": 1, "words": tokens, "units": tokens}
        widths = {"hidden": traits.width}
        if isinstance(traits.inside, Mapping):
            widths |= traits.inside
        hidden = sum(
            tokens * tokens if h.pooling == "gram" else vectors[h.pooling] * widths[h.states]
            for h in ask.hidden
        )
        heads = sum(traits.num_heads if a.heads == "all" else 1 for a in ask.attention)
        maps = heads * tokens * tokens
        if name in self.embedders:  # which travel, whatever is asked for
            return size * 2 * traits.width
        logits = len(traits.labels)
        if ask.logits != "texts":  # and what is mapped: of words at all, of units in three ways
            logits = tokens * (logits + (1 if ask.logits == "words" else 3))
        return size * (logits + hidden + maps)

    def teacher_max_tokens(self, name: str) -> int:
        """Where a teacher cuts long rows."""
        return self.config.teachers[name].max_tokens or self.config.student.max_tokens


def head_of(config: DistillConfig, embedder: EmbedderSpec | None) -> Head:
    """What a teacher gives outputs for: of retrieval pairs, or texts that it embeds."""
    head = HEADS[config.task.kind]
    return "texts" if head == "embeddings" and embedder is None else head


def train_rows(splits: Mapping[str, Split], augmented: Augmented | None) -> int | None:
    """Rows of an epoch: labelled, unlabelled, and made from those; None: a stream."""
    counts = [splits[name].num_rows for name in ("train", "unlabelled") if name in splits]
    known = [count for count in counts if count is not None]
    new = augmented.num_rows if augmented is not None else 0
    return sum(known) + new if len(known) == len(counts) else None
