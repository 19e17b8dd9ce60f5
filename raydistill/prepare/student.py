"""From the student section to a StudentPlan and the student's shape, or faults."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raydistill.alignment import Merged, output_columns
from raydistill.config import DistillConfig
from raydistill.config.faults import nearest
from raydistill.config.models import FromTeacher
from raydistill.config.presets import PRESETS
from raydistill.config.ranking import RetrievalTask
from raydistill.config.rules import needs_inside
from raydistill.config.task import HEADS, PROBLEM_TYPES, Head
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.models import EmbedderSpec, ModelSource, ModelTraits, read_traits
from raydistill.models.describe import quiet_transformers
from raydistill.prepare.embedders import student_embedder
from raydistill.prepare.network import plan_network
from raydistill.prepare.planned import PlannedStudent, reason_of, shape_of, tokenizer_of
from raydistill.prepare.sources import resolve_source, weights_fingerprint
from raydistill.schedules import frozen_names
from raydistill.training.student import StudentPlan, parameter_names

__all__ = ["frozen_faults", "plan_student", "start_of"]


def plan_student(
    config: DistillConfig,
    *,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    splits: Mapping[str, Split] | None,
    labels: tuple[str, ...] | None,
    like: PlannedStudent | None = None,
    embedders: Mapping[str, EmbedderSpec] | None = None,
) -> PlannedStudent | None:
    """How the student is made, and its shape.

    Args:
        config: Whose student.
        sources: Of teachers, by name.
        traits: Shapes of those teachers that could be read.
        splits: Rows; None if they could not be read.
        labels: Of the task; None if unknown.
        like: Another task's, whose encoder it has.
        embedders: Of teachers that embed texts.

    Returns:
        None if it comes from nothing, or from a teacher or rows that could not be read, which is a
        fault elsewhere.

    Raises:
        ConfigError: It cannot be made.
    """
    if like is not None:
        return _with_new_head(like, config, labels)
    found = _plan(config, sources, traits, splits, labels)
    if found is None or not isinstance(config.task, RetrievalTask):
        return found
    section = config.student
    lender = section.from_teacher.teacher if section.from_teacher is not None else ""
    spec, notes = student_embedder(
        config,
        found.plan.source if section.model is not None else None,
        (embedders or {}).get(lender),
    )
    plan = replace(found.plan, embedder=spec)
    return replace(found, plan=plan, notes=(*found.notes, *notes))


def _plan(
    config: DistillConfig,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    splits: Mapping[str, Split] | None,
    labels: tuple[str, ...] | None,
) -> PlannedStudent | None:
    section = config.student
    common: dict[str, Any] = {
        "labels": labels or (),
        "max_tokens": section.max_tokens,
        "dropout": section.dropout,
        "problem_type": PROBLEM_TYPES[config.task.kind],
        "head": HEADS[config.task.kind],
    }
    if section.from_teacher is not None:
        return _of_teacher(config, section.from_teacher, sources, traits, common)
    if section.from_config is not None:
        return _random(config, section.from_config, traits, common)
    if section.network is not None:
        return plan_network(
            config, section.network, sources=sources, traits=traits, splits=splits, common=common
        )
    if section.model is None:
        return None
    source = resolve_source(
        "student.model",
        section.model,
        tracking_uri=config.tracking.uri,
        tokenizer=section.tokenizer,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    shape = read_traits("student.model", source, inside=needs_inside(config))
    columns = _head_columns(config, shape, labels, None)
    return PlannedStudent(StudentPlan(source=source, head_columns=columns, **common), shape)


def _with_new_head(
    student: PlannedStudent, config: DistillConfig, labels: tuple[str, ...] | None
) -> PlannedStudent:
    plan = replace(
        student.plan,
        labels=labels or (),
        head_columns=None,
        problem_type=PROBLEM_TYPES[config.task.kind],
        embeddings=None,
        head=HEADS[config.task.kind],
    )
    return PlannedStudent(plan, replace(student.traits, labels=labels or ()))


def _of_teacher(
    config: DistillConfig,
    section: FromTeacher,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
    common: dict[str, Any],
) -> PlannedStudent | None:
    name = section.teacher
    if name not in traits:
        return None
    shape, labels = traits[name], common["labels"]
    if shape.num_heads == 0:
        raise ConfigError.of(
            "student.from_teacher.teacher",
            f"must be a transformer, whose layers can be taken one by one, but teachers.{name} has recurrent layers or none. "
            "Name its folder as student.model to start from all of it.",
        )
    wrong = [str(i) for i in section.layers if i >= shape.num_layers]
    if wrong:
        raise ConfigError.of(
            "student.from_teacher.layers",
            f"must be blocks of teachers.{name}, 0 to {shape.num_layers - 1}, got {', '.join(wrong)}.",
        )
    _require_sizes(config, shape, len(section.layers), name)
    columns = _head_columns(config, shape, labels or None, config.teachers[name].label_map)
    layers = tuple(section.layers)
    plan = StudentPlan(source=sources[name], layers=layers, head_columns=columns, **common)
    return PlannedStudent(plan, replace(shape, num_layers=len(layers), labels=labels))


def _require_sizes(config: DistillConfig, shape: ModelTraits, num_layers: int, name: str) -> None:
    """Blocks of a teacher under the name of a preset must be that preset."""
    preset = config.student.preset
    if preset is None or preset not in PRESETS:
        return
    wanted, rests_on = PRESETS[preset], ("student.preset", f"teachers.{name}.model")
    faults = []
    if num_layers != wanted.layers:
        path = "student.from_teacher.layers"
        message = f"must be {wanted.layers} for student.preset: {preset}, got {num_layers}."
        faults.append(Fault(path, message, rests_on=(path, "student.preset")))
    if shape.width != wanted.width:
        message = (
            f"is {preset}, {wanted.width} wide, but the layers of teachers.{name} are {shape.width} wide. "
            "Leave the preset out, or start it from random weights."
        )
        faults.append(Fault("student.preset", message, rests_on=rests_on))
    if faults:
        raise ConfigError(faults)


def _head_columns(
    config: DistillConfig,
    source: ModelTraits,
    labels: tuple[str, ...] | None,
    label_map: Mapping[str, str | None] | None,
) -> tuple[int, ...] | None:
    """Rows of an existing head for the task's labels; None where a new head is needed."""
    kind = config.task.kind
    if HEADS[kind] == "embeddings":
        return None
    if labels is None or source.problem_type not in (None, PROBLEM_TYPES[kind]):
        return None
    try:
        columns = output_columns(kind, source.labels, labels, label_map)
    except ValueError:
        return None
    # No single row of a head gives the sum of several probabilities.
    return None if any(isinstance(one, Merged) for one in columns) else columns


def _random(
    config: DistillConfig,
    settings: Mapping[str, Any],
    traits: Mapping[str, ModelTraits],
    common: dict[str, Any],
) -> PlannedStudent | None:
    from raydistill.models.auto import AutoConfig

    faults = _config_faults(settings, common["head"])
    found = None
    try:
        found = tokenizer_of(config, traits)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults)
    if found is None:
        return None
    source, tokenizer = found.source, found.tokenizer
    words = settings.get("vocab_size", len(tokenizer))
    if words < len(tokenizer):
        raise ConfigError.of(
            "student.from_config.vocab_size",
            f"must be at least the {len(tokenizer)} tokens of student.tokenizer, got {words}. Leave it out to take as many.",
        )
    plan = StudentPlan(source=source, random_config=dict(settings), **common)
    shape = shape_of(AutoConfig.for_model(**settings), tokenizer, inside=needs_inside(config))
    return PlannedStudent(plan, shape, found.notes)


def _config_faults(settings: Mapping[str, Any], head: Head) -> list[Fault]:
    """Whether a Hugging Face configuration makes a classifier; tried without allocating weights."""
    import torch

    from raydistill.models.auto import MODELS, AutoConfig

    path = "student.from_config"
    if "model_type" not in settings:
        return [Fault(f"{path}.model_type", "is missing, e.g. bert.")]
    try:
        default = AutoConfig.for_model(settings["model_type"])
    except (ValueError, TypeError):
        message = f"'{settings['model_type']}' is not known to transformers; write e.g. bert."
        return [Fault(f"{path}.model_type", message)]
    # transformers takes any name and ignores those it does not know.
    known = {*default.to_dict(), *default.attribute_map, "num_labels", "attn_implementation"}
    faults = [
        Fault(f"{path}.{name}", f"is not known. {nearest(name, sorted(known))}")
        for name in settings
        if name not in known
    ]
    if faults:
        return faults
    try:
        with quiet_transformers(), torch.device("meta"):
            MODELS[head].from_config(AutoConfig.for_model(**settings))
    except Exception as error:  # whatever the values make transformers raise
        return [Fault(path, f"does not make a classifier: {reason_of(error)}")]
    return []


def start_of(plan: StudentPlan) -> str | None:
    """Fingerprint of what the student's first weights are taken from; None if all are random."""
    if plan.embeddings is not None:
        source = plan.embeddings.source
        return plan.embeddings.fingerprint() if source is None else weights_fingerprint(source)
    return None if plan.random_config is not None else weights_fingerprint(plan.source)


def frozen_faults(config: DistillConfig, plan: StudentPlan) -> list[Fault]:
    """Patterns of parameters to freeze that match none of the student's, or all of them."""
    if not any(stage.freeze for stage in config.stages):
        return []
    names, faults = parameter_names(plan), []
    for i, stage in enumerate(config.stages):
        faults += [
            Fault(
                f"stages.{i}.freeze.{j}",
                f"matches no parameter of the student, got '{pattern}'. They are named like "
                f"{names[0]}, {names[len(names) // 2]}, {names[-1]}.",
            )
            for j, pattern in enumerate(stage.freeze)
            if not frozen_names(names, [pattern])
        ]
        if len(frozen_names(names, stage.freeze)) == len(names):
            faults.append(
                Fault(f"stages.{i}.freeze", "leaves no parameter of the student to be trained.")
            )
    return faults
