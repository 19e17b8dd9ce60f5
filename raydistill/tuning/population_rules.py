"""When members of a population are compared, and what keeps a search from being one."""

from collections.abc import Iterator
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.space import label_of, trial_config
from raydistill.config.tuning import LogUniformParameter, PbtSection, UniformParameter
from raydistill.errors import Fault
from raydistill.tuning.records import TrialRecord
from raydistill.tuning.specs import written_values

__all__ = ["marks_of", "population_faults"]


def marks_of(total: int, rounds: int, evaluate_every: int) -> list[int]:
    """The steps after which members are compared: evaluations, as evenly as they can lie; the end not among them."""
    every = max(1, round(total / rounds / evaluate_every)) * evaluate_every
    return list(range(every, total, every))[: rounds - 1]


def population_faults(config: DistillConfig, total: int, evaluate_every: int) -> list[Fault]:
    """What keeps a space from being changed while members train."""
    tuning = config.tuning
    assert tuning is not None
    pbt, faults = tuning.stopper, []
    if not isinstance(pbt, PbtSection):
        return []
    for path, parameter in tuning.space.items():
        section, *rest = path.split(".")
        fits = section == "losses" and rest[1:] in (["temperature"], ["weight"])
        if (
            not fits
            or not isinstance(parameter, UniformParameter | LogUniformParameter)
            or parameter.when
        ):
            faults.append(Fault(f"tuning.space.{path}", "cannot change while members train: kind pbt takes losses.N.temperature and losses.N.weight, uniform or loguniform, without conditions."))  # fmt: skip
        elif rest[1] == "weight" and parameter.low <= 0:
            faults.append(Fault(f"tuning.space.{path}.low", f"must be positive with kind pbt, got {parameter.low:g}."))  # fmt: skip
        elif rest[1] == "weight" and _has_course(config, int(rest[0])):
            faults.append(Fault(f"losses.{rest[0]}.schedule", "must be constant: kind pbt writes the course of the weight itself."))  # fmt: skip
    rules = {
        "tuning.seeds_per_trial": (tuning.seeds_per_trial == 1, "must be 1 with kind pbt."),
        "tuning.budget": (tuning.budget.seconds is None and tuning.budget.cost is None, "has no effect with kind pbt: all members train to the end. Remove it."),
        "tuning.trials": (tuning.trials >= 3, f"must be 3 or more with kind pbt, got {tuning.trials}: the recipe as it was written stays as it is, and the others exchange."),  # noqa: PLR2004
        "stages": (not config.stages, "must be left out with kind pbt."),
        "training.early_stopping": (config.training.early_stopping is None, "must be null with kind pbt."),
    }  # fmt: skip
    faults += [Fault(path, why) for path, (holds, why) in rules.items() if not holds]
    marks = marks_of(total, pbt.rounds, evaluate_every)
    if marks and not faults:
        faults += _exchange_faults(config, total, marks[0])
    if not marks:
        faults.append(Fault("training.evaluate_every_steps", f"must be less than the run's {total} steps with kind pbt, which compares members at evaluations, got {evaluate_every}."))  # fmt: skip
    return faults


def _exchange_faults(config: DistillConfig, total: int, mark: int) -> Iterator[Fault]:
    """What one exchange of each parameter would break on, tried on the configuration alone."""
    assert config.tuning is not None
    space: dict[str, Any] = dict(config.tuning.space)
    for path, value in written_values(config, list(space)).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield Fault(path, f"must be a plain number with kind pbt, which multiplies it, got {label_of(value)}.")  # fmt: skip
            continue
        if path.endswith(".weight") and value <= 0:
            yield Fault(path, f"must be positive with kind pbt, which multiplies it, got {value:g}.")  # fmt: skip
            continue
        low, high = {path: space[path].low}, {path: space[path].high}
        course = TrialRecord(1, {}, changes=((0, None, low), (mark, 0, high)))
        _, found = trial_config(config, course.recipe(total))
        if found:
            yield Fault(f"tuning.space.{path}", f"cannot change while members train; as a schedule of kind step, {found[0]}")  # fmt: skip


def _has_course(config: DistillConfig, index: int) -> bool:
    schedule = config.losses[index].schedule
    return schedule is not None and schedule.kind != "constant"
