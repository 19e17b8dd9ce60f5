"""Everything a run needs, checked as a whole before anything starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raydistill.alignment import label_columns
from raydistill.config import DistillConfig
from raydistill.config.losses import CrossEntropyLoss
from raydistill.data import Split, find_splits, load_splits
from raydistill.data.sources import SPLIT_NAMES
from raydistill.errors import ConfigError, Fault
from raydistill.models import ModelSource, ModelTraits, read_traits
from raydistill.models.describe import quiet_transformers, traits_of_config
from raydistill.objective import ObjectivePlan
from raydistill.prepare.manifest import manifest_of
from raydistill.prepare.objective import plan_objective
from raydistill.prepare.sources import resolve_source, weights_fingerprint
from raydistill.training.schedule import Steps, plan_steps
from raydistill.training.student import StudentPlan

__all__ = ["Prepared", "load_data", "prepare"]

T = TypeVar("T")


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
        manifest: What the run is made of.
        notes: What may be meant but should be known.
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
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def num_train_rows(self) -> int:
        """Labelled and unlabelled rows of an epoch."""
        return sum(self.splits[n].num_rows for n in ("train", "unlabelled") if n in self.splits)

    def row_bytes(self, name: str) -> int:
        """Most bytes of a teacher's answer to one row."""
        ask, traits = self.objective.asks[name], self.traits[name]
        size = 4 if ask.dtype == "float32" else 2
        tokens = self.teacher_max_tokens(name)
        hidden = sum((tokens if h.pooling == "all" else 1) * traits.width for h in ask.hidden)
        maps = len(ask.attention) * traits.num_heads * tokens * tokens
        return size * (len(traits.labels) + hidden + maps)

    def teacher_max_tokens(self, name: str) -> int:
        """Where a teacher cuts long rows."""
        return self.config.teachers[name].max_tokens or self.config.student.max_tokens


def prepare(config: DistillConfig) -> tuple[Prepared | None, list[Fault]]:
    """Read data and models' configurations, and check all that can be checked.

    Returns:
        What a run needs, None if there are faults; and the faults.
    """
    faults: list[Fault] = []

    def tried(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except ConfigError as error:
            faults.extend(error.faults)
            return None

    splits = tried(lambda: load_data(config))
    labels = _labels(config, splits)
    sources: dict[str, ModelSource] = {}
    traits: dict[str, ModelTraits] = {}
    for name, section in config.teachers.items():
        path = f"teachers.{name}.model"
        source = tried(
            lambda path=path, section=section: resolve_source(  # type: ignore[misc]
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
        sources[name] = source
        found = tried(lambda path=path, source=source: read_traits(path, source))  # type: ignore[misc]
        if found is not None:
            traits[name] = found
            faults += _too_long(
                f"teachers.{name}.max_tokens",
                section.max_tokens or config.student.max_tokens,
                found,
            )
    student = tried(lambda: _student(config, sources, traits, labels))
    if student is not None:
        faults += _too_long("student.max_tokens", config.student.max_tokens, student[1])
    objective, wrong = plan_objective(
        config, student=student[1] if student else None, teachers=traits, labels=labels
    )
    faults += wrong
    faults += _selection_faults(config, splits)
    if faults or splits is None or student is None or labels is None:
        return None, faults
    plan, student_traits = student
    weights = {name: weights_fingerprint(source) for name, source in sources.items()}
    if config.student.from_config is None:
        weights["student"] = weights_fingerprint(plan.source)
    rows = sum(splits[n].num_rows for n in ("train", "unlabelled") if n in splits)
    notes = [f"data.{s.name}: {note}" for s in splits.values() for note in s.notes]
    return (
        Prepared(
            config=config,
            splits=splits,
            labels=labels,
            sources=sources,
            traits=traits,
            student=plan,
            student_traits=student_traits,
            objective=objective,
            steps=plan_steps(config.training, rows),
            manifest=manifest_of(config, splits, weights),
            notes=tuple(notes),
        ),
        [],
    )


def load_data(config: DistillConfig) -> dict[str, Split]:
    """The splits that a configuration names, checked."""
    data, task = config.data, config.task
    files: dict[str, list[Path]] = {}
    if data.folder is not None:
        found = find_splits(Path(data.folder).expanduser(), path_in_config="data.folder")
        files = {name: [path] for name, path in found.items()}
        if all(isinstance(loss, CrossEntropyLoss) for loss in config.losses):
            files.pop("unlabelled", None)  # nothing would be learnt from it
    for name in SPLIT_NAMES:
        written = getattr(data, name)
        if written is not None:
            paths = [written] if isinstance(written, str) else written
            files[name] = [Path(path).expanduser() for path in paths]
    if "train" not in files:
        raise ConfigError.of(
            "data.train",
            f"is missing: {data.folder} holds no file named train."
            if data.folder
            else "is missing.",
        )
    return load_splits(
        files, text=task.text, text_pair=task.text_pair, label=task.label, labels=task.labels
    )


def _labels(config: DistillConfig, splits: Mapping[str, Split] | None) -> tuple[str, ...] | None:
    if splits is not None:
        return splits["train"].labels
    return tuple(config.task.labels) if config.task.labels is not None else None


def _student(
    config: DistillConfig,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    labels: tuple[str, ...] | None,
) -> tuple[StudentPlan, ModelTraits] | None:
    """How the student is made and its shape; None if a teacher it comes from could not be read."""
    section = config.student
    common: dict[str, Any] = {
        "labels": labels or (),
        "max_tokens": section.max_tokens,
        "dropout": section.dropout,
    }
    if section.from_teacher is not None:
        name = section.from_teacher.teacher
        if name not in traits:
            return None
        shape, source = traits[name], sources[name]
        wrong = [i for i in section.from_teacher.layers if not 0 <= i < shape.num_layers]
        if wrong:
            raise ConfigError.of(
                "student.from_teacher.layers",
                f"must be blocks of teachers.{name}, 0 to {shape.num_layers - 1}, got {', '.join(map(str, wrong))}.",
            )
        columns = _head_columns(shape.labels, labels, config.teachers[name].label_map)
        layers = tuple(section.from_teacher.layers)
        shape = ModelTraits(
            len(layers),
            shape.width,
            shape.num_heads,
            labels or (),
            shape.max_positions,
            shape.tokenizer,
        )
        return StudentPlan(source=source, layers=layers, head_columns=columns, **common), shape
    if section.from_config is not None:
        return _random_student(config, common)
    source = resolve_source(
        "student.model",
        section.model or "",
        tracking_uri=config.tracking.uri,
        tokenizer=section.tokenizer,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    shape = read_traits("student.model", source)
    return StudentPlan(
        source=source, head_columns=_head_columns(shape.labels, labels, None), **common
    ), shape


def _head_columns(
    own: tuple[str, ...], labels: tuple[str, ...] | None, label_map: Mapping[str, str] | None
) -> tuple[int, ...] | None:
    """Rows of an existing head for the task's labels; None where a new head is needed."""
    if labels is None:
        return None
    try:
        return label_columns(own, labels, label_map)
    except ValueError:
        return None


def _random_student(
    config: DistillConfig, common: dict[str, Any]
) -> tuple[StudentPlan, ModelTraits]:
    from transformers import AutoConfig, AutoTokenizer

    section = config.student
    settings = dict(section.from_config or {})
    source = resolve_source(
        "student.tokenizer", section.tokenizer or "", tracking_uri=config.tracking.uri
    )
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source.location)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError.of(
            "student.tokenizer", f"'{source.name}' cannot be loaded: {first}"
        ) from error
    if "model_type" not in settings:
        raise ConfigError.of("student.from_config.model_type", "is missing, e.g. bert.")
    try:
        built = AutoConfig.for_model(settings.pop("model_type"), **settings)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError.of(
            "student.from_config", f"does not make a model: {str(error).splitlines()[0]}"
        ) from error
    traits = traits_of_config(built, tokenizer)
    return StudentPlan(
        source=source, random_config=dict(section.from_config or {}), **common
    ), traits


def _too_long(path: str, max_tokens: int, traits: ModelTraits) -> list[Fault]:
    if traits.max_positions is None or max_tokens <= traits.max_positions:
        return []
    return [
        Fault(
            path, f"must not exceed the model's {traits.max_positions} positions, got {max_tokens}."
        )
    ]


_METRICS = ("accuracy", "macro_f1", "nll", "ece")


def _selection_faults(config: DistillConfig, splits: Mapping[str, Split] | None) -> list[Fault]:
    """Metrics that choose must be measured."""
    faults = []
    named = {"training.select_by": config.training.select_by}
    if config.tracking.registered_model is not None:
        named["tracking.champion_metric"] = config.tracking.champion_metric
    for path, metric in named.items():
        split, _, _ = metric.partition("/")
        known = [f"{s}/{m}" for s in ("validation", "test") for m in _METRICS]
        allowed = known[: len(_METRICS)] if path.startswith("training") else known
        if metric not in allowed:
            faults.append(Fault(path, f"must be one of {', '.join(allowed)}, got '{metric}'."))
        elif path.startswith("tracking") and splits is not None and split not in splits:
            faults.append(Fault(path, f"is {metric}, but there is no data.{split}."))
    if (
        config.training.early_stopping is not None
        and splits is not None
        and "validation" not in splits
    ):
        faults.append(Fault("training.early_stopping", "needs data.validation, which is missing."))
    return faults
