"""Everything a run needs, checked as a whole before anything starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from raydistill.config import DistillConfig, parse_config
from raydistill.config.faults import in_order, without_echoes
from raydistill.config.ranking import SCORE
from raydistill.config.rules import needs_inside
from raydistill.config.task import HEADS, RANKED, Head
from raydistill.data import Split, Stream
from raydistill.errors import ConfigError, Fault
from raydistill.models import EmbedderSpec, ModelSource, ModelTraits, read_traits
from raydistill.objective import ObjectivePlan
from raydistill.prepare.augmentation import Augmented, plan_augmented
from raydistill.prepare.data import load_data, targets_of
from raydistill.prepare.embedders import teacher_embedder
from raydistill.prepare.manifest import manifest_of
from raydistill.prepare.objective import plan_objective
from raydistill.prepare.operations import Operations, plan_operations
from raydistill.prepare.planned import PlannedStudent
from raydistill.prepare.ranking import choice_faults, choice_notes
from raydistill.prepare.rules import (
    idle_settings,
    length_faults,
    registry_faults,
    scoring_faults,
    selection_faults,
    teacher_notes,
)
from raydistill.prepare.sides import Mapped
from raydistill.prepare.sources import (
    head_faults,
    meaning_faults,
    package_faults,
    resolve_source,
    weights_fingerprint,
)
from raydistill.prepare.student import frozen_faults, plan_student, start_of
from raydistill.prepare.windows import map_windows
from raydistill.prepare.words import map_words
from raydistill.schedules import plan_stages
from raydistill.training.schedule import Steps, plan_steps
from raydistill.training.student import StudentPlan, make_tokenizer

__all__ = ["Prepared", "load_data", "prepare"]

T = TypeVar("T")


class _Tried(Protocol):
    """Does something; None if that ended in faults, which are kept."""

    def __call__(self, work: Callable[[], T], /) -> T | None: ...


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
        return _head_of(self.config, self.embedders.get(name))

    @property
    def num_train_rows(self) -> int | None:
        """Rows of an epoch: labelled, unlabelled, and made from those; None: a stream."""
        return _train_rows(self.splits, self.augmented)

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


def prepare(
    config: DistillConfig,
    *,
    like: Prepared | None = None,
    splits: Mapping[str, Split] | None = None,
) -> tuple[Prepared | None, list[Fault]]:
    """Read data and models' configurations, and check all that can be checked.

    Args:
        config: The run.
        like: Another task's, whose student's encoder this one has.
        splits: Its rows, as `load_data` gave them; None: read them.

    Returns:
        What a run needs, None if there are faults; and the faults.
    """
    # Made in Python or by model_copy it may break rules that load_config would have applied.
    sound, faults = parse_config(config.model_dump())
    if sound is None:
        return None, faults
    config = sound

    def tried(work: Callable[[], T], /) -> T | None:
        try:
            return work()
        except ConfigError as error:
            faults.extend(error.faults)
            return None

    # Of several tasks, and of the trials of a search, the server is asked once.
    away = registry_faults(config) if like is None and splits is None else []
    splits = splits if splits is not None else tried(lambda: load_data(config))
    labels = _labels(config, splits)
    teachers = _read_teachers(config, tried, faults)
    sources, traits, embedders = teachers.sources, teachers.traits, teachers.embedders
    known = PlannedStudent(like.student, like.student_traits) if like is not None else None
    student = tried(
        lambda: plan_student(
            config,
            sources=sources,
            traits=traits,
            splits=splits,
            labels=labels,
            like=known,
            embedders=embedders,
        )
    )
    if student is not None:
        faults += length_faults("student.max_tokens", config.student.max_tokens, student.traits)
    objective, wrong = plan_objective(
        config,
        student=student.traits if student else None,
        teachers=traits,
        labels=labels,
        embedder=student.plan.embedder if student else None,
        embedders=embedders,
    )
    faults += wrong
    operations = tried(lambda: plan_operations(config, partial(_mask_token, student)))
    faults += selection_faults(config, splits)
    faults += choice_faults(config, splits)
    faults += scoring_faults(config, splits, objective)
    faults = [*away, *without_echoes(faults, away)]
    if faults or splits is None or student is None or labels is None or operations is None:
        return None, in_order(faults)
    plan = student.plan
    mapped = _map_rows(config, splits, student, sources, traits)
    weights = _weights(sources, plan)
    augmented = tried(lambda: plan_augmented(config, splits, operations))
    if faults := [*faults, *mapped.faults]:
        return None, faults
    steps = _steps(config, mapped.splits, augmented)
    try:
        stages = plan_stages(config.stages, steps.total, len(config.losses))
    except ValueError as error:
        return None, [Fault("stages", f"are more than the run has steps: {error}.")]
    objective = replace(objective, stages=stages)
    if wrong := frozen_faults(config, plan):
        return None, wrong
    notes = [
        *(f"data.{s.name}: {note}" for s in splits.values() for note in s.notes),
        *choice_notes(config, splits),
        *teachers.notes,
        *teacher_notes(config, traits, labels),
        *mapped.notes,
        *student.notes,
        *idle_settings(config, objective, steps),
    ]
    return (
        Prepared(
            config=config,
            splits=mapped.splits,
            labels=labels,
            sources=sources,
            traits=traits,
            student=plan,
            student_traits=student.traits,
            objective=objective,
            steps=steps,
            weights=weights,
            manifest=manifest_of(config, splits, weights, augmented),
            notes=tuple(notes),
            operations=operations,
            augmented=augmented,
            counted=mapped.counted,
            embedders=embedders,
        ),
        [],
    )


def _map_rows(
    config: DistillConfig,
    splits: Mapping[str, Split],
    student: PlannedStudent,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
) -> Mapped:
    """The rows as the tokenizers of the run see them: of texts as they are."""
    head = HEADS[config.task.kind]
    if head in ("texts", "embeddings"):
        return Mapped(dict(splits), {}, [], [])
    work = map_words if head == "words" else map_windows
    return work(config, splits, student=student, sources=sources, traits=traits)


@dataclass
class _Teachers:
    """What could be read of them, by name.

    Attributes:
        sources: Where they are loaded from.
        traits: Their shapes.
        embedders: Of those that embed texts, what follows their encoders.
        notes: What should be known.
    """

    sources: dict[str, ModelSource] = field(default_factory=dict)
    traits: dict[str, ModelTraits] = field(default_factory=dict)
    embedders: dict[str, EmbedderSpec] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _read_teachers(config: DistillConfig, tried: _Tried, faults: list[Fault]) -> _Teachers:
    """Configurations and tokenizers of all teachers.

    Args:
        config: The run.
        tried: Does something that may end in faults, and keeps them.
        faults: Takes what is wrong.
    """
    found, inside = _Teachers(), needs_inside(config)
    for name, section in config.teachers.items():
        path = f"teachers.{name}.model"
        faults += package_faults(f"teachers.{name}.backend", section.backend)
        faults += package_faults(f"teachers.{name}.transport", section.transport)
        source = tried(
            partial(
                resolve_source,
                path,
                section.model,
                tracking_uri=config.tracking.uri,
                tokenizer=section.tokenizer,
                revision=section.revision,
                trust_remote_code=section.trust_remote_code,
            )
        )
        if source is None:
            continue
        found.sources[name] = source
        traits = tried(partial(read_traits, path, source, inside=inside))
        if traits is None:
            continue
        found.traits[name] = traits
        if config.task.kind == "retrieval":
            spec, notes = tried(partial(teacher_embedder, config, name, source)) or (None, [])
            found.notes += notes
            if spec is not None:
                found.embedders[name] = spec
                found.traits[name] = replace(traits, labels=(SCORE,))
        faults += head_faults(path, source, _head_of(config, found.embedders.get(name)))
        faults += meaning_faults(path, traits, config.task.kind)
        most = section.max_tokens or config.student.max_tokens
        faults += length_faults(f"teachers.{name}.max_tokens", most, traits)
    return found


def _head_of(config: DistillConfig, embedder: EmbedderSpec | None) -> Head:
    """What a teacher gives outputs for: of retrieval pairs, or texts that it embeds."""
    head = HEADS[config.task.kind]
    return "texts" if head == "embeddings" and embedder is None else head


def _weights(sources: Mapping[str, ModelSource], plan: StudentPlan) -> dict[str, str]:
    """Fingerprints of all weights that the run begins with."""
    found = {name: weights_fingerprint(source) for name, source in sources.items()}
    start = start_of(plan)
    return found if start is None else found | {"student": start}


def _train_rows(splits: Mapping[str, Split], augmented: Augmented | None) -> int | None:
    counts = [splits[name].num_rows for name in ("train", "unlabelled") if name in splits]
    known = [count for count in counts if count is not None]
    new = augmented.num_rows if augmented is not None else 0
    return sum(known) + new if len(known) == len(counts) else None


def _steps(
    config: DistillConfig, splits: Mapping[str, Split], augmented: Augmented | None
) -> Steps:
    """Over all rows; new ones are made for as many epochs."""
    steps = plan_steps(config.training, _epoch_rows(config, splits, augmented))
    if augmented is not None:
        augmented.cover(steps.total, steps.per_epoch)
    return steps


def _mask_token(student: PlannedStudent | None) -> str | None:
    """Of the student's tokenizer."""
    if student is None:
        raise ConfigError(())  # said elsewhere
    token: str | None = make_tokenizer(student.plan).mask_token
    return token


def _epoch_rows(
    config: DistillConfig, splits: Mapping[str, Split], augmented: Augmented | None
) -> int | None:
    """Rows that an epoch trains on; of queries a group each, as if all were of full size. None: a stream."""
    if config.task.kind not in RANKED:
        return _train_rows(splits, augmented)
    tables = [splits[name].table for name in ("train", "unlabelled") if name in splits]
    return config.training.group_rows * sum(len(table["group"].unique()) for table in tables)


def _labels(config: DistillConfig, splits: Mapping[str, Split] | None) -> tuple[str, ...] | None:
    if splits is not None:
        return splits["train"].labels
    targets = targets_of(config.task)
    if targets is not None and not targets.in_one_column:
        return targets.names
    written = config.task.labels
    if written is None or getattr(config.task, "scheme", "iob2") != "iob2":
        return None  # tags of another scheme become others
    return tuple(written)
