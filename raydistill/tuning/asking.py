"""What trials may ask of the teachers beside what the run as written asks: of which rows, and which layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.augmentation import MaskOperation
from raydistill.config.ensemble import RoutingWeighting
from raydistill.config.rules import needs_inside
from raydistill.config.space import in_sequence, label_of, trial_config, values_of, variants
from raydistill.config.tuning import (
    IntegerParameter,
    LogUniformParameter,
    Parameter,
    TuningSection,
    UniformParameter,
)
from raydistill.data import Split
from raydistill.errors import Fault
from raydistill.prepare import Prepared, load_data, prepare
from raydistill.prepare.objective import plan_objective
from raydistill.signals import Ask
from raydistill.signals.ask import SIDES
from raydistill.tuning.outcome import measured_in_trials, objectives_of
from raydistill.tuning.points import combinations

__all__ = ["asking_points", "prepared_variants", "union_of", "unknown_answers"]

_MOST = 256  # combinations of what decides the layers of one loss
_EPOCHS = ("epochs", "max_steps", "batch_rows", "group_rows")
_TOKENIZER = ("model", "tokenizer")
_SIZES = ("dropout", "pooling", "normalize", "prompts")
"""Settings of the student that leave its tokens as they are."""

Points = Sequence[Mapping[str, Any]]
Asks = Mapping[str, Ask]


def unknown_answers(config: DistillConfig, *, stream: bool, points: Points | None) -> str:
    """Why nobody knows beforehand all that trials will ask, or nothing.

    Args:
        config: The search.
        stream: Whether it trains on a stream.
        points: As of :func:`asking_points`.
    """
    assert config.tuning is not None
    if stream:
        return "with data.streaming nobody knows beforehand what will be asked"
    if rows := [p for p in config.tuning.space if p.split(".")[0] in ("data", "augmentation")]:
        return f"tuning.space.{rows[0]} lets trials ask about rows of their own"
    if config.task.kind == "question_answering":
        cutting = [path for path in config.tuning.space if _cuts(path)]
        if cutting:
            return f"tuning.space.{cutting[0]} decides where contexts are cut into windows, which fit all models of a run"  # fmt: skip
    if points is None:
        return f"of the values that decide what a loss asks there are more than {_MOST} combinations"  # fmt: skip
    return _new_rows(config)


def _cuts(path: str) -> bool:
    """Whether a setting decides which tokenizers see a text, or how much of it they take at once."""
    if path in ("teachers", "student", "student.from_teacher.teacher"):
        return True
    section, *rest = path.split(".")
    if section != "student":
        return False
    return (len(rest) == 1 and rest[0] not in _SIZES) or rest[:2] == ["network", "embeddings"]


def _new_rows(config: DistillConfig) -> str:
    """Why trials may make other new rows than the run as written, or nothing."""
    tuning, section = config.tuning, config.augmentation
    assert tuning is not None
    if section is None:
        return ""
    varied = [(path, *path.split(".")) for path in tuning.space]
    runs = max(tuning.seeds_per_trial, tuning.final.seeds if tuning.final is not None else 1)
    if section.seed is None and runs > 1:
        return "augmentation.seed is that of the run, and runs of other seeds make rows of their own"  # fmt: skip
    epochs = [p for p, first, *rest in varied if first == "training" and rest[0] in _EPOCHS]
    if section.when == "every_epoch" and epochs:
        return f"tuning.space.{epochs[0]} decides how many epochs have new rows"
    masked = any(isinstance(one, MaskOperation) and one.token is None for one in section.operations)
    models = [p for p, first, *rest in varied if first == "student" and (not rest or rest[0] in _TOKENIZER)]  # fmt: skip
    if masked and models:
        return f"tuning.space.{models[0]} decides which token masks words of new rows"
    return ""


def asking_points(config: DistillConfig) -> list[dict[str, Any]] | None:
    """Points whose runs together ask all layers that any trial may ask; None: too many.

    A run asks what each of its losses asks, and that follows from the loss' own settings and the
    student's: so of each loss all combinations of these, and no combinations of two losses.
    """
    tuning = config.tuning
    assert tuning is not None
    parts = {path: path.split(".") for path in tuning.space}
    common = [p for p, one in parts.items() if p == "losses" or one[0] == "student"]
    numbers = dict.fromkeys(one[1] for one in parts.values() if one[0] == "losses" and one[1:])
    groups = [[p for p, one in parts.items() if one[:2] == ["losses", n]] for n in numbers]
    found: list[dict[str, Any]] = []
    for own in groups or [[]]:
        paths = _with_conditions(tuning, [*common, *own])
        points = _combined(config, tuning, paths)
        if points is None:
            return None
        found += points
    return [point for i, point in enumerate(found) if point and point not in found[:i]]


def _combined(
    config: DistillConfig, tuning: TuningSection, paths: Sequence[str]
) -> list[dict[str, Any]] | None:
    def values(parameter: Parameter) -> Sequence[Any]:
        if isinstance(parameter, UniformParameter | LogUniformParameter):
            return [parameter.low]  # no number with places behind the point decides a layer
        if isinstance(parameter, IntegerParameter):
            return range(parameter.low, parameter.high + 1)
        return values_of(parameter, list(config.teachers))

    return combinations(tuning, paths, values, most=_MOST)


def _with_conditions(tuning: TuningSection, paths: Sequence[str]) -> list[str]:
    """Some parameters and those that they depend on, each after these."""
    found, left = set[str](), list(paths)
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += tuning.space[path].when
    return [path for path in in_sequence(tuning) if path in found]


def prepared_variants(config: DistillConfig, base: Prepared) -> tuple[list[Prepared], list[Fault]]:
    """Runs with one value changed each, as far as models and rows have a say in it.

    A value is at fault if it is with all values that its conditions allow.
    """
    assert config.tuning is not None
    found, faults = [], []
    splits = load_data(config)
    for path, value, points in variants(config):
        parameter = config.tuning.space[path]
        numeric = parameter.kind in ("uniform", "loguniform", "randint")
        section = path.split(".")[0]
        if section == "training" or (numeric and section not in ("student", "data")):
            continue
        tried = [_prepared(config, point, splits) for point in points]
        found += [prepared for prepared, _ in tried if prepared is not None]
        if all(wrong for _, wrong in tried):
            text = label_of(value)
            text = text if len(text) < 60 else f"{text[:59]}…"  # noqa: PLR2004
            wrongs = tried[0][1]
            faults += [Fault(f"tuning.space.{path}", f"with {text}: {fault}") for fault in wrongs]
    return [base, *found], list(dict.fromkeys(faults))


def _prepared(
    config: DistillConfig, point: Mapping[str, Any], splits: Mapping[str, Split]
) -> tuple[Prepared | None, list[Fault]]:
    """The run of a point; none and no fault if its values break a rule of the configuration together."""
    variant, wrong = trial_config(config, point)
    if variant is None or wrong:
        return None, []
    same = (variant.data, variant.task, variant.ensemble) == (config.data, config.task, config.ensemble)  # fmt: skip
    routed = isinstance(variant.ensemble.weighting, RoutingWeighting)
    if routed and list(variant.teachers) != list(config.teachers):
        same = False  # a row's route is a place among them
    return prepare(variant, splits=splits if same else None)


def union_of(base: Prepared, others: Sequence[Prepared], points: Points) -> Prepared:
    """The run as written, whose teachers are asked all that any of some runs asks, and no more.

    Trials measure no teacher; the last runs do, on the last of ``evaluation.splits``.

    Args:
        base: The run as written.
        others: Runs.
        points: More of them, of which some may not be possible.
    """
    splits = None
    every: list[Asks] = [one.objective.asks for one in others]
    for point in points:
        variant, wrong = trial_config(base.config, point)
        if variant is None or wrong:
            continue
        if _same_models(base.config, variant):
            every.append(_planned(variant, base))
            continue
        splits = load_data(base.config) if splits is None else splits
        prepared, _ = _prepared(base.config, point, splits)
        if prepared is not None:
            every.append(prepared.objective.asks)
    weighing = next((one.config.ensemble for one in others if one.config.measures_teachers), None)
    config = base.config
    assert config.tuning is not None
    last_runs = config.tuning.final is not None
    if weighing is not None:
        config = config.model_copy(update={"ensemble": weighing})
    if not last_runs:
        measured = config.evaluation.model_copy(update=measured_in_trials(objectives_of(config)))
        config = config.model_copy(update={"evaluation": measured})
    asks = {
        name: _joined(ask, [one[name] for one in every if name in one])
        for name, ask in base.objective.asks.items()
    }
    return replace(base, config=config, objective=replace(base.objective, asks=asks))


def _same_models(config: DistillConfig, variant: DistillConfig) -> bool:
    """Whether two runs differ in no model, nor in what must be known of it."""
    same = (variant.student, variant.teachers, variant.task) == (config.student, config.teachers, config.task)  # fmt: skip
    return same and needs_inside(variant) <= needs_inside(config)


def _planned(variant: DistillConfig, base: Prepared) -> Asks:
    """What a run asks that has the models of another; nothing if it is at fault."""
    plan, wrong = plan_objective(
        variant,
        student=base.student_traits,
        teachers=base.traits,
        labels=base.labels,
        embedder=base.student.embedder,
        embedders=base.embedders,
    )
    return {} if wrong else plan.asks


def _joined(ask: Ask, others: Iterable[Ask]) -> Ask:
    """One that asks what all of some ask."""
    every = [ask, *others]
    return replace(
        ask,
        hidden=tuple(sorted({part for one in every for part in one.hidden})),
        attention=tuple(sorted({part for one in every for part in one.attention})),
        embeddings=tuple(side for side in SIDES if any(side in one.embeddings for one in every)),
    )
