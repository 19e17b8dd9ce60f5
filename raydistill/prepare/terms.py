"""From one item of ``losses`` to what is computed: layers, widths and tokenizers fit, or faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raydistill.alignment import ProjectionSpec, projection_key
from raydistill.config import DistillConfig
from raydistill.config.losses import (
    AttentionLoss,
    CustomLoss,
    EmbeddingLoss,
    GroupLoss,
    HardLoss,
    LayerAttentionLoss,
    LossSection,
)
from raydistill.config.projection import ProjectionSection
from raydistill.config.rules import block_queries
from raydistill.config.task import HEADS, Head
from raydistill.errors import Fault
from raydistill.losses import CATALOG, LossEntry, PairScorer
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
    scorers: Mapping[str, PairScorer] | None = None,
) -> TermPlan:
    """One item of ``losses``.

    Args:
        config: Valid by itself.
        index: Its place.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
        scorers: Of teachers that embed texts.
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
        if loss.kind != "in_batch_cross_entropy":
            options.pop("temperature", None)
        tau: Any = getattr(loss, "temperature", 1.0)
        embeds = HEADS[config.task.kind] == "embeddings"
        if not embeds or getattr(loss, "among", "candidates") == "candidates":
            return TermPlan(term(GroupMatch(entry, options, tau, loss.against)))
        known = (scorers or {}) if loss.against == "teachers" else {}
        if loss.against == "teachers" and len(teachers) == len(config.teachers) > 0 and not known:
            faults.append(_needs_embedder(index, f"{index}.among", "is block", teachers))
        in_block = GroupMatch(
            entry, options, tau, loss.against, "block", block_queries(config), known
        )
        return TermPlan(term(in_block), faults=faults)
    if HEADS[config.task.kind] == "embeddings" and isinstance(loss, EmbeddingLoss):
        return _embedding_term(config, index, student, teachers, scorers or {})
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


def _embedding_term(
    config: DistillConfig,
    index: int,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
    scorers: Mapping[str, PairScorer],
) -> TermPlan:
    """A term that compares the embeddings of texts with those of all teachers that embed."""
    loss: Any = config.losses[index]
    name, projection = f"{index}.{loss.kind}", loss.projection
    entry = CATALOG[loss.kind]
    plan = TermPlan(Term(name, HardMatch(entry), loss.weight, loss.schedule))
    pairs: list[LayerPair] = []
    for teacher, traits in teachers.items() if student is not None else ():
        if teacher not in scorers:
            continue
        assert student is not None, "whose shape is known"
        if student.width != traits.width and projection is None:
            plan.faults.append(
                Fault(
                    f"losses.{index}.projection",
                    f"is needed: embeddings of the student are {student.width} wide, those of "
                    f"teachers.{teacher} {traits.width}. Write projection: linear.",
                    rests_on=(f"losses.{index}.projection", f"teachers.{teacher}.model"),
                )
            )
            continue
        pairs.append(_pair(index, teacher, (0,), (0,), projection, student, traits, plan.projections))  # fmt: skip
    if len(teachers) == len(config.teachers) > 0 and not scorers:
        plan.faults.append(_needs_embedder(index, f"{index}.kind", f"is {loss.kind}", teachers))
    match = FeatureMatch(
        name,
        entry,
        tuple(pairs),
        positions=loss.texts,
        projected=projection.side if projection is not None else "student",
        states="embedding",
    )
    plan.term = Term(name, match, loss.weight, loss.schedule)
    return plan


def _needs_embedder(index: int, path: str, said: str, teachers: Mapping[str, Any]) -> Fault:
    models = [f"teachers.{name}.model" for name in teachers]
    return Fault(
        f"losses.{path}",
        f"{said}, which needs a teacher that embeds texts, but {' and '.join(f'teachers.{n}' for n in teachers)} "
        "reads pairs. Use score_kl, or add an embedder.",
        rests_on=(f"losses.{index}", *models),
    )


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
