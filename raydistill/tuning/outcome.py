"""What a search found: objectives, the front, the winner, and how it compares; arithmetic only."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raydistill.config import DistillConfig
from raydistill.config.task import METRICS
from raydistill.errors import Fault
from raydistill.evaluation.metrics import greater_is_better
from raydistill.tuning.records import TrialRecord

__all__ = [
    "OF_STUDENT",
    "Objective",
    "comparison_sentence",
    "front_of",
    "measured_in_trials",
    "objective_faults",
    "objectives_of",
    "winner_of",
]

OF_STUDENT: Mapping[str, str] = {
    "student/parameters": "parameters",
    "student/disk_bytes": "disk_bytes",
    "student/latency_ms": "latency_ms_batch1",
    "student/latency_ms_32": "latency_ms_batch32",
}
"""Metrics of the student itself, to their names in summary.json."""


@dataclass(frozen=True)
class Objective:
    """What a trial is judged by.

    Attributes:
        metric: Its name.
        maximize: Whether more is better.
        limit: What the winner keeps to; None: nothing.
    """

    metric: str
    maximize: bool
    limit: float | None = None

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.maximize else "minimize"

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than another."""
        return one > other if self.maximize else one < other

    def keeps(self, value: float) -> bool:
        """Whether a value keeps to the limit."""
        return self.limit is None or not self.better(self.limit, value)


def objectives_of(config: DistillConfig) -> list[Objective]:
    """The objectives of a search, everything written out."""
    assert config.tuning is not None
    found = []
    for section in config.tuning.objectives:
        metric = section.metric or config.training.select_by
        natural = metric not in OF_STUDENT and greater_is_better(metric)
        maximize = natural if section.goal == "auto" else section.goal == "max"
        found.append(Objective(metric, maximize, section.limit))
    return found


def measured_in_trials(objectives: Iterable[Objective]) -> dict[str, Any]:
    """Settings of `evaluation` that a trial has in place of the written ones: validation rows, and no teachers."""
    timed = any("latency" in objective.metric for objective in objectives)
    return {"splits": ["validation"], "teachers": False, "latency": timed, "perturbations": {}}


def objective_faults(config: DistillConfig, *, validated: bool) -> list[Fault]:
    """Objectives that no trial produces, and stoppers without one that they can see.

    Args:
        config: The search.
        validated: Whether there are validation rows.
    """
    tuning = config.tuning
    assert tuning is not None
    known = [f"validation/{name}" for name in METRICS[config.task.kind]]
    objectives, faults = objectives_of(config), []
    for index, objective in enumerate(objectives):
        path, metric = f"tuning.objectives.{index}.metric", objective.metric
        if metric.startswith("test/"):
            faults.append(Fault(path, f"is {metric}: what is chosen by the test rows cannot be measured on them. Use one of {', '.join(known)}."))  # fmt: skip
        elif metric not in known and metric not in OF_STUDENT:
            faults.append(Fault(path, f"is {metric}, which is not produced. Known: {', '.join([*known, *OF_STUDENT])}."))  # fmt: skip
        elif metric in known and not validated:
            faults.append(Fault(path, f"is {metric}, but there is no data.validation with labels."))
    names = [objective.metric for objective in objectives]
    faults += [Fault(f"tuning.objectives.{i}.metric", f"is {name} twice.") for i, name in enumerate(names) if name in names[:i]]  # fmt: skip
    stopper = tuning.stopper
    if stopper is not None and names[0] in OF_STUDENT:
        faults.append(Fault("tuning.stopper", f"looks at the first objective while a trial trains, but that is {names[0]}. Put one of the validation rows first."))  # fmt: skip
    return faults


def front_of(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Finished trials that no other is at least as good as in all objectives and better in one."""
    done = [
        record for record in records if record.state == "finished" and _whole(record, objectives)
    ]
    return [one for one in done if not any(_dominates(other, one, objectives) for other in done)]


def _whole(record: TrialRecord, objectives: Sequence[Objective]) -> bool:
    return all(math.isfinite(record.values.get(o.metric, math.nan)) for o in objectives)


def _dominates(one: TrialRecord, other: TrialRecord, objectives: Sequence[Objective]) -> bool:
    pairs = [(o, one.values[o.metric], other.values[o.metric]) for o in objectives]
    return any(o.better(a, b) for o, a, b in pairs) and not any(o.better(b, a) for o, a, b in pairs)


def winner_of(
    records: Iterable[TrialRecord], objectives: Sequence[Objective]
) -> TrialRecord | None:
    """Of the front within all limits, the best in the first objective; of equal ones the earliest."""
    first = objectives[0]
    within = [
        record
        for record in records
        if record.state == "finished"
        and _whole(record, objectives)
        and all(o.keeps(record.values[o.metric]) for o in objectives)
    ]
    best: TrialRecord | None = None
    for record in front_of(within, objectives):
        if best is None or first.better(record.values[first.metric], best.values[first.metric]):
            best = record
    return best


def comparison_sentence(
    metric: str, winner: Sequence[float], default: Sequence[float], *, maximize: bool
) -> str:
    """Whether the winner beats the recipe as it was written, by runs over the same seeds."""
    mine, theirs = statistics.mean(winner), statistics.mean(default)
    gain = mine - theirs if maximize else theirs - mine
    spread = _spread([a - b for a, b in zip(winner, default, strict=True)])
    over = f" over {len(winner)} seeds" if len(winner) > 1 else ""
    figures = f"{metric} {mine:.4f} against {theirs:.4f}{over}"
    if gain <= 0:
        return f"The winner does not beat the recipe as it was written: {figures}."
    if len(winner) == 1:
        return f"The winner beats the recipe as it was written: {figures}, one seed each."
    if gain <= 2 * spread:
        return (
            f"The winner is better than the recipe as it was written, but not by more than chance may do: {figures}, "
            f"difference {gain:.4f} with a standard error of {spread:.4f}."
        )
    return (
        f"The winner beats the recipe as it was written: {figures}, difference {gain:.4f} with a standard "
        f"error of {spread:.4f}."
    )


def _spread(differences: Sequence[float]) -> float:
    """Standard error of a mean."""
    if len(differences) < 2:  # noqa: PLR2004 - no spread of one
        return 0.0
    return statistics.stdev(differences) / math.sqrt(len(differences))
