"""A search space against the configuration: which values there are, where they go, and what is wrong with them.

A *point* gives values to the parameters that count, by path. The configuration of a trial is the
one that was written, with the values of its point put in and validated as a whole.
"""

import copy
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raydistill.config.load import parse_config
from raydistill.config.root import DistillConfig
from raydistill.config.settings import set_value
from raydistill.config.tuning import (
    ChoiceParameter,
    GridParameter,
    IntegerParameter,
    LogUniformParameter,
    Parameter,
    SubsetsParameter,
    TuningSection,
    UniformParameter,
)
from raydistill.errors import Fault

__all__ = [
    "Point",
    "counts",
    "in_sequence",
    "label_of",
    "point_of",
    "settings_of",
    "trial_config",
    "values_of",
    "variants",
    "written_faults",
]

Point = Mapping[str, Any]
_SHOWN = 60
_WHOLE = 1e15  # larger ones have no exact places behind the point anyway
_ROUNDING = 1e-8
_TEACHER_FREE = ("label_map", "missing_labels")
_DATA_FREE = ("train", "unlabelled", "shuffle_rows")
_HELD = ("num_workers", "cpus_per_worker", "gpus_per_worker", "max_restarts")


def settings_of(config: DistillConfig) -> dict[str, Any]:
    """What was written, without the search, as plain settings."""
    settings = config.model_dump(mode="json", exclude_unset=True)
    settings.pop("tuning", None)
    return settings


def label_of(value: Any) -> str:
    """A value in one line, the same for equal values."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def values_of(parameter: Parameter, teachers: Sequence[str]) -> list[Any]:
    """All values, if there are only so many; else the two ends.

    Args:
        parameter: Of the space.
        teachers: Names of all teachers.
    """
    if isinstance(parameter, ChoiceParameter | GridParameter):
        return list(parameter.values)
    if isinstance(parameter, SubsetsParameter):
        most = min(parameter.max or len(teachers), len(teachers))
        sizes = range(parameter.min, most + 1)
        return [list(some) for size in sizes for some in itertools.combinations(teachers, size)]
    return [parameter.low, parameter.high]


def _holds(wanted: Any, value: Any) -> bool:
    options = wanted if isinstance(wanted, list) else [wanted]
    return any(label_of(option) == label_of(value) for option in options)


def counts(parameter: Parameter, point: Point) -> bool:
    """Whether a parameter's conditions hold, given the values of those before it."""
    return all(
        path in point and _holds(wanted, point[path]) for path, wanted in parameter.when.items()
    )


def in_sequence(tuning: TuningSection) -> list[str]:
    """The paths, each after those it depends on; what depends on itself is left out."""
    done: list[str] = []
    left = dict(tuning.space)
    while ready := [p for p, one in left.items() if all(q in done or q not in tuning.space for q in one.when)]:  # fmt: skip
        for path in ready:
            done.append(path)
            del left[path]
    return done


def with_values(settings: Mapping[str, Any], point: Point) -> tuple[dict[str, Any], list[Fault]]:
    """Settings with the values of a point; whole sections first, so that what is inside them comes after."""
    changed, faults = copy.deepcopy(dict(settings)), []
    for path in sorted(point, key=lambda path: path.count(".")):
        value = copy.deepcopy(point[path])
        if path == "teachers" and isinstance(value, list):
            _keep_teachers(changed, value)
        elif trouble := set_value(changed, path, value):
            faults.append(Fault(path, trouble))
    return changed, faults


def _keep_teachers(settings: dict[str, Any], names: Sequence[str]) -> None:
    """Take out all teachers but some, with what is said of them elsewhere."""
    ensemble = settings.get("ensemble") or {}
    maps = [settings.get("teachers"), ensemble.get("weights"), ensemble.get("temperatures")]
    maps.append((ensemble.get("weighting") or {}).get("scores"))
    maps += [loss.get("layers") for loss in settings.get("losses", ())]
    for one in maps:
        if isinstance(one, dict):
            for name in [name for name in one if name not in names]:
                del one[name]


def trial_config(config: DistillConfig, point: Point) -> tuple[DistillConfig | None, list[Fault]]:
    """The run of a trial, and what is wrong with it.

    Args:
        config: As written.
        point: Of the trial; empty: as written.
    """
    settings, faults = with_values(settings_of(config), point)
    if faults:
        return None, faults
    return parse_config(settings)


def point_of(config: DistillConfig, tuning: TuningSection) -> dict[str, Any] | None:
    """The point that stands for the configuration as it was written, if it lies in the space."""
    point: dict[str, Any] = {}
    whole = config.model_dump(mode="json")
    for path in in_sequence(tuning):
        parameter = tuning.space[path]
        if not counts(parameter, point):
            continue
        value = (
            list(config.teachers) if isinstance(parameter, SubsetsParameter) else _at(whole, path)
        )
        if not _lies_in(parameter, value, list(config.teachers)):
            return None
        point[path] = value
    return point


def _at(settings: Any, path: str) -> Any:
    for part in path.split("."):
        try:
            settings = settings[int(part)] if isinstance(settings, list) else settings[part]
        except (LookupError, TypeError, ValueError):
            return None
    return settings


def _lies_in(parameter: Parameter, value: Any, teachers: Sequence[str]) -> bool:
    if isinstance(parameter, UniformParameter | LogUniformParameter | IntegerParameter):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and parameter.low <= value <= parameter.high and _on_step(parameter, value)
    return any(label_of(value) == label_of(one) for one in values_of(parameter, teachers))


def _on_step(
    parameter: UniformParameter | LogUniformParameter | IntegerParameter, value: float
) -> bool:
    """Whether a number is one that may be drawn; Optuna takes no other, and rounds as here."""
    if isinstance(parameter, IntegerParameter):
        return float(value).is_integer()
    step = parameter.step if isinstance(parameter, UniformParameter) else None
    if step is None:
        return True
    steps = (value - parameter.low) / step
    return abs(steps - round(steps)) < _ROUNDING


def variants(config: DistillConfig) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each value of each parameter by itself, ends of ranges too: path, value, and a point with it.

    Its conditions are met in the point by their first values.
    """
    assert config.tuning is not None
    tuning, names = config.tuning, list(config.teachers)
    needed: dict[str, dict[str, Any]] = {}
    for path in in_sequence(tuning):
        parameter = tuning.space[path]
        before: dict[str, Any] = {}
        for other, wanted in parameter.when.items():
            before |= needed.get(other, {})
            before[other] = wanted[0] if isinstance(wanted, list) and wanted else wanted
        needed[path] = before
        for value in values_of(parameter, names):
            yield path, value, {**before, path: value}


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
    elif isinstance(parameter, LogUniformParameter) and parameter.low <= 0:
        faults.append(Fault(f"{subject}.low", f"must be positive for loguniform, got {parameter.low:g}."))  # fmt: skip
    if kind == "grid" and parameter.kind not in ("choice", "grid", "subsets"):
        faults.append(Fault(f"{subject}.kind", f"is {parameter.kind}, which has no end; a search of kind grid needs choice, grid or subsets."))  # fmt: skip
    if kind == "tpe" and parameter.kind == "grid":
        faults.append(Fault(f"{subject}.kind", "is grid, which tpe does not go through. Write choice, or search: {kind: random}."))  # fmt: skip
    return faults


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
        options = (
            wanted if isinstance(wanted, list) and space[other].kind != "subsets" else [wanted]
        )
        faults += [
            Fault(subject, f"is {_short(label_of(option))}, which is none of its values.")
            for option in options
            if not any(label_of(option) == label_of(value) for value in values)
        ]
    return faults


def _variant_faults(config: DistillConfig) -> list[Fault]:
    """Each value put in by itself."""
    faults: list[Fault] = []
    for path, value, point in variants(config):
        _, found = trial_config(config, point)
        for fault in found:
            unknown = fault.path == path and ("not known" in fault.message or "leads nowhere" in fault.message)  # fmt: skip
            message = fault.message if unknown else f"with {_short(label_of(value))}: {fault}"
            faults.append(Fault(f"tuning.space.{path}", message))
    return list(dict.fromkeys(faults))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
