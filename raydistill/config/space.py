"""A search space against the configuration: which values there are, and where they go.

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
    "options",
    "point_of",
    "settings_of",
    "trial_config",
    "values_of",
    "variants",
]

Point = Mapping[str, Any]
_WHOLE = 1e15  # larger ones have no exact places behind the point anyway
_ROUNDING = 1e-8
_WAYS = 64  # to meet a parameter's conditions, that are tried


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


def options(parameter: Parameter, wanted: Any) -> list[Any]:
    """The values that a condition names of a parameter: one, or those of a list; a subset is a list itself."""
    if not isinstance(wanted, list):
        return [wanted]
    if isinstance(parameter, SubsetsParameter) and not any(isinstance(o, list) for o in wanted):
        return [wanted]
    return wanted


def counts(tuning: TuningSection, path: str, point: Point) -> bool:
    """Whether a parameter's conditions hold, given the values of those before it."""
    return all(
        other in point
        and any(label_of(o) == label_of(point[other]) for o in options(tuning.space[other], wanted))
        for other, wanted in tuning.space[path].when.items()
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
    alone: list[int] = []
    for path in sorted(point, key=lambda path: path.count(".")):
        value = copy.deepcopy(point[path])
        if path == "teachers" and isinstance(value, list):
            alone = _keep_teachers(changed, value)
        elif trouble := set_value(changed, path, value):
            faults.append(Fault(path, trouble))
    _drop_losses(changed, alone)
    return changed, faults


def _keep_teachers(settings: dict[str, Any], names: Sequence[str]) -> list[int]:
    """Take out all teachers but some, with what is said of them elsewhere; losses without layers then."""
    ensemble, losses = settings.get("ensemble") or {}, settings.get("losses", ())
    weighting = ensemble.get("weighting") or {}
    layers = [loss.get("layers") for loss in losses]
    maps = [settings.get("teachers"), ensemble.get("weights"), ensemble.get("temperatures")]
    maps += [weighting.get("scores"), *layers]
    before = [bool(one) for one in layers]
    for one in maps:
        if isinstance(one, dict):
            for name in [name for name in one if name not in names]:
                del one[name]
    if routes := weighting.get("routes"):
        weighting["routes"] = {cell: name for cell, name in routes.items() if name in names}
    return [place for place, one in enumerate(layers) if one == {} and before[place]]


def _drop_losses(settings: dict[str, Any], places: Sequence[int]) -> None:
    """Leave out losses whose layers were of teachers that are left out, unless the point gave others.

    What names a loss by its place names the same one then. One that others are scaled to stays, and is
    at fault.
    """
    losses, balancing = settings["losses"] if places else [], settings.get("balancing") or {}
    main = balancing.get("main", 0) if balancing.get("kind") == "relative" else None
    kept = [p for p, loss in enumerate(losses) if p not in places or p == main or loss.get("layers") != {}]  # fmt: skip
    if len(kept) == len(losses):
        return
    settings["losses"] = [losses[place] for place in kept]
    for stage in settings.get("stages", ()):
        stage["losses"] = [kept.index(place) for place in stage["losses"] if place in kept]
    if main in kept:
        balancing["main"] = kept.index(main)


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
        if not counts(tuning, path, point):
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


def variants(config: DistillConfig) -> Iterator[tuple[str, Any, list[dict[str, Any]]]]:
    """Each value of each parameter by itself, ends of ranges too: path, value, and points with it.

    There is a point for each way to meet its conditions, and one at least.
    """
    assert config.tuning is not None
    tuning, names = config.tuning, list(config.teachers)
    needed: dict[str, list[dict[str, Any]]] = {}
    for path in in_sequence(tuning):
        ways: list[dict[str, Any]] = [{}]
        for other, wanted in tuning.space[path].when.items():
            met = [{**way, other: o} for o in options(tuning.space[other], wanted) for way in needed[other]]  # fmt: skip
            ways = [{**a, **b} for a in ways for b in met if all(label_of(a[p]) == label_of(b[p]) for p in a.keys() & b.keys())]  # fmt: skip
        needed[path] = ways[:_WAYS]
        for value in values_of(tuning.space[path], names):
            yield path, value, [{**way, path: value} for way in needed[path]]
