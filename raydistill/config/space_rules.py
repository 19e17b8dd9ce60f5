"""What is wrong with a search space, by the configuration alone."""

from raydistill.config.root import DistillConfig
from raydistill.config.space import (
    in_sequence,
    label_of,
    options,
    trial_config,
    values_of,
    variants,
)
from raydistill.config.tuning import (
    ChoiceParameter,
    GridParameter,
    LogUniformParameter,
    Parameter,
    SubsetsParameter,
    UniformParameter,
)
from raydistill.errors import Fault

__all__ = ["written_faults"]

_SHOWN = 60
_ROUNDING = 1e-9
_TEACHER_FREE = ("label_map", "missing_labels")
_DATA_FREE = ("train", "unlabelled", "shuffle_rows")
_HELD = ("num_workers", "cpus_per_worker", "gpus_per_worker", "max_restarts")


def written_faults(config: DistillConfig) -> list[Fault]:
    """What is wrong with a space that needs nothing but the configuration itself."""
    assert config.tuning is not None
    faults = [
        fault
        for path, parameter in config.tuning.space.items()
        for fault in (
            *_place_faults(config, path, parameter),
            *_value_faults(config, path, parameter),
            *_condition_faults(config, path, parameter),
        )
    ]
    lost = set(config.tuning.space) - set(in_sequence(config.tuning))
    faults += [Fault(f"tuning.space.{path}.when", "must not depend on itself.") for path in lost]
    return faults or _variant_faults(config)


def _place_faults(config: DistillConfig, path: str, parameter: Parameter) -> list[Fault]:
    """Settings that must be the same in all trials."""
    section, *rest = path.split(".")
    subject, why = f"tuning.space.{path}", ""
    if section in ("run", "store", "tracking", "evaluation", "tuning", "pipeline"):
        why = "decides where a run goes or what is measured, which must be the same in all trials."
        if path == "run.seed":
            why = "must not vary: a better seed is no better recipe. Use tuning.seeds_per_trial."
    elif section == "task" or (section == "data" and rest[:1] and rest[0] not in _DATA_FREE) or path == "data":  # fmt: skip
        why = "would have trials measured on other rows or another task, which cannot be compared."
    elif section == "training" and (not rest or rest[0] in _HELD):
        why = "must be the same in all trials: they share the machines."
    elif path == "teachers" and not isinstance(parameter, SubsetsParameter):
        why = "can only vary by kind: subsets; all trials share the teachers that are written."
    elif section == "teachers" and rest and rest[0] not in config.teachers:
        why = f"names no teacher. Known: {', '.join(config.teachers) or 'none'}."
    elif section == "teachers" and rest and (len(rest) == 1 or rest[1] not in _TEACHER_FREE):
        why = (
            f"would change what teachers.{rest[0]} answers, or how, but all trials share its answers. Write "
            "the other as a teacher of its own, and choose with teachers: {kind: subsets}."
        )
    elif path == "student.max_tokens" and any(
        t.max_tokens is None for t in config.teachers.values()
    ):
        name = next(name for name, t in config.teachers.items() if t.max_tokens is None)
        why = f"would change where teachers.{name} cuts texts. Write teachers.{name}.max_tokens."
    elif isinstance(parameter, SubsetsParameter) and path != "teachers":
        why = "must not be of kind subsets, which is for the path teachers."
    return [Fault(subject, why)] if why else []


def _value_faults(config: DistillConfig, path: str, parameter: Parameter) -> list[Fault]:
    assert config.tuning is not None
    subject, kind = f"tuning.space.{path}", config.tuning.search.kind
    faults = []
    if isinstance(parameter, ChoiceParameter | GridParameter):
        least = 2 if isinstance(parameter, ChoiceParameter) else 1
        labels = [label_of(value) for value in parameter.values]
        if len(labels) < least:
            what = "two values or more" if least > 1 else "a value"
            faults.append(
                Fault(f"{subject}.values", f"must hold {what}, got {len(labels) or 'none'}.")
            )
        twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
        if twice is not None:
            faults.append(Fault(f"{subject}.values", f"hold {_short(twice)} twice."))
    elif isinstance(parameter, SubsetsParameter):
        if len(values_of(parameter, list(config.teachers))) < 2:  # noqa: PLR2004 - nothing to choose
            faults.append(
                Fault(subject, f"leaves nothing to choose among {len(config.teachers)} teachers.")
            )
    elif parameter.low >= parameter.high:
        faults.append(Fault(f"{subject}.low", f"must be less than high = {parameter.high:g}, got {parameter.low:g}."))  # fmt: skip
    elif isinstance(parameter, UniformParameter) and _too_wide(parameter):
        faults.append(Fault(f"{subject}.step", f"must be at most high - low = {parameter.high - parameter.low:g}, got {parameter.step:g}: there would be no value but low."))  # fmt: skip
    elif isinstance(parameter, LogUniformParameter) and parameter.low <= 0:
        faults.append(Fault(f"{subject}.low", f"must be positive for loguniform, got {parameter.low:g}."))  # fmt: skip
    if kind == "grid" and parameter.kind not in ("choice", "grid", "subsets"):
        faults.append(Fault(f"{subject}.kind", f"is {parameter.kind}, which has no end; a search of kind grid needs choice, grid or subsets."))  # fmt: skip
    if kind == "tpe" and parameter.kind == "grid":
        faults.append(Fault(f"{subject}.kind", "is grid, which tpe does not go through. Write choice, or search: {kind: random}."))  # fmt: skip
    return faults


def _too_wide(parameter: UniformParameter) -> bool:
    """Whether a step leads beyond the range; .1 to .3 is a step of .2, whatever floats make of it."""
    width = parameter.high - parameter.low
    return parameter.step is not None and parameter.step > width * (1 + _ROUNDING)


def _condition_faults(config: DistillConfig, path: str, parameter: Parameter) -> list[Fault]:
    assert config.tuning is not None
    space, faults = config.tuning.space, []
    for other, wanted in parameter.when.items():
        subject = f"tuning.space.{path}.when.{other}"
        if other not in space:
            known = ", ".join(one for one in space if one != path)
            faults.append(Fault(subject, f"names no parameter of the space. Known: {known}."))
            continue
        if space[other].kind not in ("choice", "grid", "subsets"):
            faults.append(Fault(subject, f"names a parameter of kind {space[other].kind}; a condition needs choice, grid or subsets."))  # fmt: skip
            continue
        values = values_of(space[other], list(config.teachers))
        named = options(space[other], wanted)
        if not named:
            faults.append(Fault(subject, "is an empty list, so the parameter would never count."))
        faults += [
            Fault(subject, f"is {_short(label_of(option))}, which is none of its values.")
            for option in named
            if not any(label_of(option) == label_of(value) for value in values)
        ]
    return faults


def _variant_faults(config: DistillConfig) -> list[Fault]:
    """Each value put in by itself."""
    faults: list[Fault] = []
    for path, value, points in variants(config):
        tried = [trial_config(config, point)[1] for point in points]
        if not points:
            faults.append(Fault(f"tuning.space.{path}.when", "can never hold: its conditions exclude each other."))  # fmt: skip
        for fault in tried[0] if tried and all(tried) else ():
            unknown = fault.path == path and ("not known" in fault.message or "leads nowhere" in fault.message)  # fmt: skip
            message = fault.message if unknown else f"with {_short(label_of(value))}: {fault}"
            faults.append(Fault(f"tuning.space.{path}", message))
    return list(dict.fromkeys(faults))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
