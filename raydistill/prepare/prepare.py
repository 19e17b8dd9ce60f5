"""Everything a run needs, checked as a whole before anything starts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from raydistill.config import DistillConfig, parse_config
from raydistill.config.faults import in_order, without_echoes
from raydistill.config.task import HEADS, RANKED
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.models import ModelSource, ModelTraits
from raydistill.prepare.augmentation import Augmented, plan_augmented
from raydistill.prepare.data import load_data, targets_of
from raydistill.prepare.manifest import manifest_of
from raydistill.prepare.objective import plan_objective
from raydistill.prepare.operations import plan_operations
from raydistill.prepare.planned import PlannedStudent
from raydistill.prepare.prepared import Prepared, train_rows
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
from raydistill.prepare.sources import weights_fingerprint
from raydistill.prepare.student import frozen_faults, plan_student, start_of
from raydistill.prepare.teachers import T, read_teachers
from raydistill.prepare.windows import map_windows
from raydistill.prepare.words import map_words
from raydistill.schedules import plan_stages
from raydistill.training.schedule import Steps, plan_steps
from raydistill.training.student import StudentPlan, make_tokenizer

__all__ = ["prepare"]


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
    teachers = read_teachers(config, tried, faults)
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


def _weights(sources: Mapping[str, ModelSource], plan: StudentPlan) -> dict[str, str]:
    """Fingerprints of all weights that the run begins with."""
    found = {name: weights_fingerprint(source) for name, source in sources.items()}
    start = start_of(plan)
    return found if start is None else found | {"student": start}


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
        return train_rows(splits, augmented)
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
