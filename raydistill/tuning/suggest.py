"""Which point comes next: Optuna, behind two calls.

What comes as number n follows from the seed, n and what was told before, and from nothing else: a
search that is resumed tells the same again and goes on as if it had not been interrupted.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from raydistill.config.space import Point, counts, in_sequence, label_of, values_of
from raydistill.config.tuning import (
    IntegerParameter,
    LogUniformParameter,
    Parameter,
    TuningSection,
    UniformParameter,
)
from raydistill.tuning.outcome import Objective
from raydistill.tuning.points import combinations
from raydistill.tuning.records import TrialRecord

__all__ = ["Suggester", "grid_points", "importances"]

_TRIES = 100  # for a point that there was not yet
_ALIKE = 10  # of these, before they are made otherwise: by chance, and elsewhere in the grid
_MOST = 10_000  # points that are listed
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}


class Suggester:
    """Gives points and learns from trials.

    Args:
        tuning: The section.
        teachers: Names of all.
        objectives: What is told.
        default: The point of the configuration as it was written, which is trial 0; None: it is
            outside the space.
    """

    def __init__(
        self,
        tuning: TuningSection,
        teachers: Sequence[str],
        objectives: Sequence[Objective],
        default: Point | None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._tuning, self._teachers, self._objectives = tuning, teachers, objectives
        self._study = _study(objectives)
        self._seen = set() if default is None else {_key(default)}
        grids = [path for path in in_sequence(tuning) if tuning.space[path].kind == "grid"]
        if tuning.search.kind == "grid":
            grids = in_sequence(tuning)
        self._grid = list(grid_points(tuning, teachers, grids))
        if len(grids) == len(in_sequence(tuning)):
            self._grid = [point for point in self._grid if _key(point) not in self._seen]
        self._asked: dict[int, Any] = {}

    def ask(self, number: int) -> dict[str, Any] | None:
        """The point of a trial; None: there is none that was not tried.

        Args:
            number: Of the trial, from 1.
        """
        if self._tuning.search.kind == "grid":
            return dict(self._grid[number - 1]) if number <= len(self._grid) else None
        for attempt in range(_TRIES + len(self._grid)):
            point = self._draw(number, attempt)
            if _key(point) not in self._seen:
                self._seen.add(_key(point))
                return point
            self.refuse(number)
        return self._left_over(number)

    def refuse(self, number: int) -> None:
        """The point that was asked last is of no use."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            self._study.tell(asked, state=TrialState.FAIL)

    def _draw(self, number: int, attempt: int) -> dict[str, Any]:
        tuning, more = self._tuning, max(0, attempt + 1 - _ALIKE)
        self._study.sampler = _sampler(tuning, self._seed(number, attempt), by_chance=more > 0)
        asked = self._asked[number] = self._study.ask()
        fixed = self._grid[(number - 1 + more) % len(self._grid)] if self._grid else {}
        point: dict[str, Any] = {}
        for path in in_sequence(tuning):
            if not counts(tuning, path, point):
                continue
            if path in fixed:
                point[path] = fixed[path]
                continue
            point[path] = _drawn(asked, path, tuning.space[path], self._teachers)
        return point

    def _seed(self, number: int, attempt: int) -> int:
        return ((self._tuning.search.seed * 1_000_003 + number) * _TRIES + attempt) % 2**32

    def _left_over(self, number: int) -> dict[str, Any] | None:
        """A point that nothing drew, of a space with so few that they can be listed; None: there is none."""
        tuning, values = self._tuning, partial(_every_value, teachers=self._teachers)
        if any(not values(parameter) for parameter in tuning.space.values()):
            return None
        points = combinations(tuning, in_sequence(tuning), values, most=_MOST) or []
        # All of them, so that what was refused before decides nothing.
        Random(self._seed(number, 0)).shuffle(points)
        for point in points:
            if _key(point) not in self._seen:
                self._seen.add(_key(point))
                return point
        return None

    def hold(self, record: TrialRecord) -> None:
        """A trial of an earlier sitting that has not ended: its point is not drawn again."""
        self._seen.add(_key(record.point))

    def tell(self, record: TrialRecord) -> None:
        """What a trial found, asked here or in an earlier sitting."""
        self._seen.add(_key(record.point))
        asked = self._asked.pop(record.number, None)
        if asked is not None:
            # One way for both: what was asked here is forgotten, and the record added.
            self._study.tell(asked, state=TrialState.FAIL)
        trial = _trial(record, self._tuning, self._teachers, self._objectives)
        if trial is not None:
            self._study.add_trial(trial)


def grid_points(
    tuning: TuningSection, teachers: Sequence[str], paths: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """All combinations of some parameters with so many values; the first varies slowest."""
    points = combinations(tuning, paths, lambda parameter: values_of(parameter, teachers))
    yield from (points or ()) if paths else ()


def importances(
    records: Sequence[TrialRecord],
    tuning: TuningSection,
    teachers: Sequence[str],
    objective: Objective,
) -> dict[str, float]:
    """How much of the first objective's variation each parameter explains (fANOVA), the largest first.

    Of parameters that count in all trials that have finished; empty where there are too few.
    """
    study = _study([objective])
    for record in records:
        trial = _trial(record, tuning, teachers, [objective])
        if trial is not None and trial.state == TrialState.COMPLETE:
            study.add_trial(trial)
    values = {
        record.values.get(objective.metric) for record in records if record.state == "finished"
    }
    if len(study.trials) < 4 or len(values) < 2:  # noqa: PLR2004 - nothing to explain
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: float(share) for path, share in found.items()}


def _study(objectives: Sequence[Objective]) -> optuna.Study:
    return optuna.create_study(directions=[objective.direction for objective in objectives])


def _sampler(tuning: TuningSection, seed: int, *, by_chance: bool) -> optuna.samplers.BaseSampler:
    """Of the search; by chance if what it draws was there: TPE would draw the same values again and again."""
    by_chance = by_chance or (tuning.stopper is not None and tuning.stopper.kind == "pbt")
    if by_chance or tuning.search.kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that are called experimental
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=tuning.search.startup_trials, constant_liar=True
        )


def _distribution(parameter: Parameter, teachers: Sequence[str]) -> BaseDistribution:
    if isinstance(parameter, UniformParameter):
        return _floats(parameter)
    if isinstance(parameter, LogUniformParameter):
        return FloatDistribution(parameter.low, parameter.high, log=True)
    if isinstance(parameter, IntegerParameter):
        return IntDistribution(parameter.low, parameter.high)
    return CategoricalDistribution([label_of(value) for value in values_of(parameter, teachers)])


def _floats(parameter: UniformParameter) -> FloatDistribution:
    """With the last value there is for `high`, where a step does not lead to it, as Optuna would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FloatDistribution(parameter.low, parameter.high, step=parameter.step)


def _every_value(parameter: Parameter, teachers: Sequence[str]) -> Sequence[Any]:
    """All values that may be drawn; empty: they have no end, or one too far away."""
    if isinstance(parameter, IntegerParameter):
        return range(parameter.low, parameter.high + 1)
    if isinstance(parameter, UniformParameter):
        floats = _floats(parameter)
        steps = round((floats.high - floats.low) / floats.step) if floats.step else _MOST
        if steps >= _MOST or floats.step is None:
            return []
        places = range(steps + 1)
        return [min(place * floats.step + floats.low, floats.high) for place in places]
    if isinstance(parameter, LogUniformParameter):
        return []
    return values_of(parameter, teachers)


def _drawn(asked: optuna.Trial, path: str, parameter: Parameter, teachers: Sequence[str]) -> Any:
    """What the configuration gets for what Optuna draws."""
    if isinstance(parameter, UniformParameter):
        floats = _floats(parameter)
        return asked.suggest_float(path, floats.low, floats.high, step=floats.step)
    if isinstance(parameter, LogUniformParameter):
        return asked.suggest_float(path, parameter.low, parameter.high, log=True)
    if isinstance(parameter, IntegerParameter):
        return asked.suggest_int(path, parameter.low, parameter.high)
    values = {label_of(value): value for value in values_of(parameter, teachers)}
    return values[str(asked.suggest_categorical(path, list(values)))]


def _trial(
    record: TrialRecord,
    tuning: TuningSection,
    teachers: Sequence[str],
    objectives: Sequence[Objective],
) -> Any:
    """A record as Optuna's; None: it teaches nothing."""
    state = _STATES.get(record.state)
    several = len(objectives) > 1
    if state is None or (several and state == TrialState.PRUNED):
        return None
    params, distributions = {}, {}
    for path, value in record.point.items():
        distributions[path] = _distribution(tuning.space[path], teachers)
        numeric = not isinstance(distributions[path], CategoricalDistribution)
        params[path] = value if numeric else label_of(value)
    if record.number == 0 and not record.point:
        return None  # outside the space
    reports: Mapping[int, float] = {step: value for step, _, value in record.reports}
    values = [record.values[objective.metric] for objective in objectives]
    return create_trial(
        state=state,
        params=params,
        distributions=distributions,
        values=values if state == TrialState.COMPLETE else None,
        intermediate_values={} if several else dict(reports),
    )


def _key(point: Point) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((path, label_of(value)) for path, value in point.items()))
