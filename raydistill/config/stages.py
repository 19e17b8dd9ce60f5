"""A run in several stages, one after the other."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from raydistill.config.base import Fraction, Positive, Section, WholeNonNegative
from raydistill.config.schedules import RelativeBalancing
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["StageSection", "stage_faults"]

_TOLERANCE = 1e-6


class StageSection(Section):
    """A part of the run with its own terms: features first, then logits, for example.

    Each stage has an optimizer of its own, with warm-up and schedule over the stage's steps. The best
    student is chosen, and training stops early, in the last stage only.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """For messages and records."""
    share: Fraction
    """Of the run's steps; the shares of all stages sum to 1."""
    losses: Annotated[list[WholeNonNegative], Field(min_length=1)]
    """Places under `losses`, from 0: the terms of this stage. The others are neither computed nor asked for."""
    freeze: list[str] = []
    """Parameters of the student that stay as they are, by patterns of their names: `*.embeddings.*`,
    `*.layer.0.*`, `classifier.*`."""
    learning_rate: Positive | None = None
    """Null: training.learning_rate."""


def stage_faults(config: "DistillConfig") -> list[Fault]:
    """Rules between stages and losses."""
    stages, faults = config.stages, []
    if not stages:
        return []
    total = sum(stage.share for stage in stages)
    if abs(total - 1) > _TOLERANCE or any(stage.share == 0 for stage in stages):
        shares = ", ".join(f"{stage.share:g}" for stage in stages)
        faults.append(Fault("stages", f"must have shares above 0 that sum to 1, got {shares}."))
    names = [stage.name for stage in stages]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        faults.append(Fault("stages", f"must have different names, got '{twice}' twice."))
    number = len(config.losses)
    for i, stage in enumerate(stages):
        faults += [
            Fault(
                f"stages.{i}.losses",
                f"must be places of terms, 0 to {number - 1}, got {place}.",
                rests_on=(f"stages.{i}.losses", "losses"),
            )
            for place in stage.losses
            if place >= number
        ]
        if all(config.losses[place].weight == 0 for place in stage.losses if place < number):
            faults.append(
                Fault(f"stages.{i}.losses", "have weight 0 throughout: nothing would be trained.")
            )
    if isinstance(config.balancing, RelativeBalancing):
        faults += [
            Fault(
                f"stages.{i}.losses",
                f"must hold balancing.main = {config.balancing.main}, to which the others are scaled.",
                rests_on=(f"stages.{i}.losses", "balancing.main"),
            )
            for i, stage in enumerate(stages)
            if config.balancing.main not in stage.losses
        ]
    used = {place for stage in stages for place in stage.losses}
    faults += [
        Fault(f"losses.{place}", "belongs to no stage. Name it in one, or remove it.")
        for place in range(number)
        if place not in used
    ]
    return faults
