"""From one item of ``losses`` to what is computed: layers, widths and tokenizers fit, or faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raydistill.alignment import ProjectionSpec, projection_key
from raydistill.config import DistillConfig
from raydistill.config.losses import (
    AttentionLoss,
    CustomLoss,
    GroupLoss,
    HardLoss,
    LayerAttentionLoss,
    LossSection,
)
from raydistill.config.projection import ProjectionSection
from raydistill.config.task import HEADS, Head
from raydistill.errors import Fault
from raydistill.losses import CATALOG, LossEntry
from raydistill.models import ModelTraits
from raydistill.prepare.custom import custom_entry
from raydistill.prepare.fit import fit_faults
from raydistill.prepare.layers import LayerChoice, states_of
from raydistill.signals.ask import Pooling
from raydistill.terms import FeatureMatch, GroupMatch, HardMatch, LayerPair, SoftMatch, Term

__all__ = ["TermPlan", "plan_term"]

_MEANS_OF_HEADS = {"attention_ce_mean"}
_PARTS: Mapping[Head, Pooling] = {"words": "words", "spans": "units"}
"""What states are compared by, where rows are no texts."""


@dataclass
class TermPlan:
    """One term and what it brings along."""

    term: Term
    projections: list[ProjectionSpec] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def plan_term(
    config: DistillConfig,
    index: int,
    *,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
) -> TermPlan:
    """One item of ``losses``.

    Args:
        config: Valid by itself.
        index: Its place.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
    """
    loss = config.losses[index]
    name = f"{index}.{loss.kind}"

    def term(match: HardMatch | SoftMatch | FeatureMatch | GroupMatch) -> Term:
        return Term(name, match, loss.weight, loss.schedule)

    faults: list[Fault] = []
    entry = (
        custom_entry(loss, index, faults) if isinstance(loss, CustomLoss) else CATALOG[loss.kind]
    )
    options = loss.options if isinstance(loss, CustomLoss) else _options(loss, entry)
    if isinstance(loss, HardLoss):
        return TermPlan(term(HardMatch(entry, options)))
    if isinstance(loss, GroupLoss):
        options.pop("temperature", None)
        tau: Any = getattr(loss, "temperature", 1.0)
        return TermPlan(term(GroupMatch(entry, options, tau, loss.against)))
    if "logits" in entry.needs:
        soft = SoftMatch(
            entry,
            options,
            getattr(loss, "temperature", 1.0),
            getattr(loss, "standardize", False),
            getattr(loss, "probability_shift", False),
        )
        return TermPlan(term(soft), faults=faults)
    positions: Any = "gram" if loss.kind == "nst" else getattr(loss, "positions", "all")
    positions = _PARTS.get(HEADS[config.task.kind], positions)
    projection: ProjectionSection | None = getattr(loss, "projection", None)
    plan = TermPlan(term(HardMatch(entry)), faults=faults)
    pairs: list[LayerPair] = []
    if student is not None:
        for teacher, traits in teachers.items():
            found = LayerChoice(index, loss, teacher, student, traits, faults).resolved()
            if isinstance(loss, LayerAttentionLoss) or _names(loss, teacher):
                faults += fit_faults(config, index, teacher, student=student, teacher=traits)
            for own, theirs in found:
                pairs.append(
                    _pair(
                        index, teacher, own, theirs, projection, student, traits, plan.projections
                    )
                )
    match = FeatureMatch(
        name,
        entry,
        tuple(pairs),
        options,
        positions,
        ("mean" if loss.kind in _MEANS_OF_HEADS else "all")
        if isinstance(loss, AttentionLoss)
        else None,
        projection.side if projection is not None else "student",
        states_of(loss),
    )
    plan.term = term(match)
    return plan


def _options(loss: LossSection, entry: LossEntry) -> dict[str, Any]:
    """Of the entry's function, as configured."""
    given = {name: getattr(loss, name) for name in entry.options if hasattr(loss, name)}
    if "logits" in entry.needs:
        given.pop("temperature", None)
    return given


def _names(loss: Any, teacher: str) -> bool:
    """Whether a term says anything about a teacher."""
    return loss.written_for(teacher) is not None


def _pair(  # noqa: PLR0917 - plain facts
    index: int,
    teacher: str,
    own: tuple[int, ...],
    theirs: tuple[int, ...],
    projection: ProjectionSection | None,
    student: ModelTraits,
    traits: ModelTraits,
    projections: list[ProjectionSpec],
) -> LayerPair:
    if projection is None:
        return LayerPair(teacher, own, theirs, None, student.width)
    widths = student.width, traits.width
    ends = widths if projection.side == "student" else widths[::-1]
    key = projection_key(index, teacher, "_".join(map(str, own)), "_".join(map(str, theirs)))
    projections.append(
        ProjectionSpec(
            key,
            projection.kind,
            *ends,
            hidden_width=projection.hidden_width,
            learning_rate=projection.learning_rate,
            weight_decay=projection.weight_decay,
        )
    )
    return LayerPair(teacher, own, theirs, key, ends[1])
