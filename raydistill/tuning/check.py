"""Everything of a search that can be checked before anything starts."""

from dataclasses import dataclass

from raydistill.checks import check
from raydistill.config import DistillConfig
from raydistill.config.faults import in_order
from raydistill.config.space_rules import written_faults
from raydistill.config.tuning import PbtSection
from raydistill.data import any_label
from raydistill.errors import ConfigError, Fault
from raydistill.prepare import (
    Prepared,
    Resources,
    changed_settings,
    flatten,
)
from raydistill.storing import cached_faults
from raydistill.tracking import server_faults
from raydistill.tuning.asking import (
    asking_points,
    prepared_variants,
    union_of,
    unknown_answers,
)
from raydistill.tuning.outcome import objective_faults, objectives_of
from raydistill.tuning.population_rules import population_faults
from raydistill.tuning.records import SearchFolder
from raydistill.tuning.room import room_for

__all__ = ["Checked", "check_search"]

_FREE = {"trials", "concurrent", "budget", "answers", "max_failures", "final"}
"""May be others when a search is resumed: how long and how fast it goes, not what it finds."""


@dataclass(frozen=True)
class Checked:
    """A search that can start.

    Attributes:
        config: As written.
        base: The run as written.
        union: The same run, whose teachers answer what any trial may ask.
        concurrent: How many trials at the same time.
        filled: Whether teachers answer before the first trial and leave; else they stay.
        known: Whether all that trials ask is known beforehand.
        notes: What should be known.
    """

    config: DistillConfig
    base: Prepared
    union: Prepared
    concurrent: int
    filled: bool
    known: bool
    notes: tuple[str, ...] = ()

    @property
    def manifest(self) -> dict[str, object]:
        """What the search is made of."""
        tuning = self.config.tuning
        assert tuning is not None
        tree = {"tuning": tuning.model_dump(mode="json", exclude=_FREE)}
        return {**self.base.manifest, **flatten(tree)}


def check_search(config: DistillConfig, have: Resources, *, resume: bool) -> Checked:
    """Check all that can be checked; nothing is started or written.

    Args:
        config: With a section ``tuning``.
        have: What this machine has, or the cluster.
        resume: Whether a search is gone on with.

    Raises:
        ConfigError: With every fault.
    """
    tuning = config.tuning
    if tuning is None:
        raise ConfigError.of(
            "tuning", "is missing: it says what varies, and how trials are chosen."
        )
    faults = written_faults(config)
    try:
        base = check(config, output=False, machines=False)
    except ConfigError as error:
        raise ConfigError([*error.faults, *faults]) from None
    split = base.splits.get("validation")
    validated = split is not None and any_label(split.table)
    faults += objective_faults(config, validated=validated)
    if isinstance(tuning.stopper, PbtSection) and not faults:
        faults += population_faults(config, base.steps.total, base.steps.evaluate_every)
    points = asking_points(config) if not faults else []
    unknown = ""
    if not faults:
        unknown = unknown_answers(config, stream=base.stream is not None, points=points)
    if tuning.answers == "filled" and unknown:
        faults.append(Fault("tuning.answers", f"is filled, but {unknown}. Set served."))
    faults += _setting_faults(config)
    folder = SearchFolder.of(config)
    faults += folder.faults(resume=resume)
    if faults:
        raise ConfigError(faults)
    filled = _filled(config, unknown)
    concurrent, wrong = room_for(config, have, filled=filled)
    faults += wrong
    asked, wrong = prepared_variants(config, base)
    faults += wrong
    union = union_of(base, asked, points or ())
    faults += [] if unknown else cached_faults(union)
    if config.tracking.enabled:  # records of many runs are not kept for later
        faults += server_faults(config.tracking.uri, required=True)
    notes = _notes(config, concurrent, unknown)
    checked = Checked(config, base, union, concurrent, filled, not unknown, notes)
    before = folder.read_manifest() if resume else None
    if before is not None:
        faults += changed_settings(before, checked.manifest)
    if faults:
        raise ConfigError(in_order(dict.fromkeys(faults)))
    return checked


def _setting_faults(config: DistillConfig) -> list[Fault]:
    tuning, faults = config.tuning, []
    assert tuning is not None
    if config.teachers and not config.store.enabled:
        faults.append(Fault("store.enabled", "must be true for a search: its trials share the teachers' answers there."))  # fmt: skip
    if tuning.final is not None and tuning.final.register_model:
        if config.tracking.registered_model is None:
            faults.append(Fault("tracking.registered_model", "is needed to register the winner. Name it, or set tuning.final.register_model: false."))  # fmt: skip
        elif not config.tracking.enabled:
            faults.append(Fault("tracking.enabled", "must be true to register the winner. Or set tuning.final.register_model: false."))  # fmt: skip
    if tuning.final is not None:
        faults += _final_faults(config)
    prices = tuning.budget.cpu_hour, tuning.budget.gpu_hour
    if tuning.budget.cost is not None and not any(prices):
        faults.append(Fault("tuning.budget.cost", "has no effect: tuning.budget.cpu_hour and gpu_hour are 0."))  # fmt: skip
    return faults


def _final_faults(config: DistillConfig) -> list[Fault]:
    """What the last runs would not measure, but are compared and chosen by."""
    metric = objectives_of(config)[0].metric
    if metric.startswith("validation/") and "validation" not in config.evaluation.splits:
        return [Fault("evaluation.splits", f"must hold validation with tuning.final, whose best run is chosen by {metric}.")]  # fmt: skip
    if "latency" in metric and not config.evaluation.latency:
        return [Fault("evaluation.latency", f"must be true with tuning.final, whose runs are compared by {metric}.")]  # fmt: skip
    return []


def _filled(config: DistillConfig, unknown: str) -> bool:
    """Whether teachers answer beforehand."""
    assert config.tuning is not None
    wanted = config.tuning.answers
    return wanted == "filled" or (wanted == "auto" and not unknown and config.store.max_bytes is None)  # fmt: skip


def _notes(config: DistillConfig, concurrent: int, unknown: str) -> tuple[str, ...]:
    assert config.tuning is not None
    notes = []
    if config.tuning.answers == "auto" and unknown and config.teachers:
        notes.append(f"the teachers stay and answer what is asked (tuning.answers: served): {unknown}")  # fmt: skip
    timed = [o.metric for o in objectives_of(config) if "latency" in o.metric]
    if timed and concurrent > 1:
        notes.append(
            f"{timed[0]} is measured while {concurrent - 1} other trials train, which disturbs it; "
            "tuning.concurrent: 1 does not."
        )
    return tuple(notes)
