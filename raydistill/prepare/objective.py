"""From losses and ensemble to an ObjectivePlan: layers, widths, tokenizers and labels fit, or faults."""

from collections.abc import Mapping
from dataclasses import replace

from raydistill.alignment import output_columns
from raydistill.config import DistillConfig
from raydistill.config.adversarial import VATSection
from raydistill.config.ensemble import ValidationWeighting
from raydistill.config.ranking import RetrievalTask
from raydistill.config.task import HEADS, LABEL_LOSSES, LOGIT_LOSSES
from raydistill.ensemble import normalise_weights, validation_weights
from raydistill.errors import Fault
from raydistill.losses import CATALOG
from raydistill.models import EmbedderSpec, ModelTraits
from raydistill.objective import ObjectivePlan
from raydistill.prepare.embedders import scorer_of, scorers_of
from raydistill.prepare.terms import plan_term
from raydistill.signals.ask import Units
from raydistill.terms import AdversarialMatch, HardMatch, SoftMatch, asked_of

__all__ = ["plan_objective"]


def plan_objective(
    config: DistillConfig,
    *,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
    labels: tuple[str, ...] | None,
    embedder: EmbedderSpec | None = None,
    embedders: Mapping[str, EmbedderSpec] | None = None,
) -> tuple[ObjectivePlan, list[Fault]]:
    """The objective, and what does not fit.

    Args:
        config: Valid by itself.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
        labels: Of the task; None if unknown.
        embedder: Of a student that embeds texts.
        embedders: Of teachers that do.
    """
    columns, faults = _columns(config, teachers, labels, embedders or {})
    scorers = scorers_of(config.task, embedders or {})
    found = [
        plan_term(config, index, student=student, teachers=teachers, scorers=scorers)
        for index in range(len(config.losses))
    ]
    for one in found:
        faults += one.faults
    matches = [one.term.match for one in found]
    head = HEADS[config.task.kind]
    unit: Units = "texts" if head == "embeddings" else head  # a pair has one score
    plan = ObjectivePlan(
        terms=tuple(one.term for one in found),
        combine=config.ensemble.combine,
        weights=_weights(config),
        columns=columns,
        asks={
            name: asked_of(name, matches, section.signal_dtype, unit)
            for name, section in config.teachers.items()
        },
        temperatures=config.ensemble.temperatures,
        weighting=config.ensemble.weighting,
        balancing=config.balancing,
        projections=tuple(spec for one in found for spec in one.projections),
        group_rows=config.training.group_rows,
        seed=config.run.seed,
        task=config.task.kind,
        adversarial=_adversarial(config),
        scorers=scorers,
    )
    if embedder is not None and isinstance(config.task, RetrievalTask):
        plan = replace(plan, scorer=scorer_of(config.task, embedder))
    return plan, faults


def _adversarial(config: DistillConfig) -> AdversarialMatch | None:
    """The term on adversarial examples: the usual loss of the task."""
    section = config.adversarial
    if section is None:
        return None
    if not isinstance(section, VATSection) and section.against == "labels":
        return AdversarialMatch(section, HardMatch(CATALOG[LABEL_LOSSES[config.task.kind]]))
    # Candidates are moved each by itself, so their scores are compared each by itself.
    alone = config.task.kind == "reranking"
    entry = CATALOG["logit_mse" if alone else LOGIT_LOSSES[config.task.kind][0]]
    return AdversarialMatch(section, SoftMatch(entry, temperature=section.temperature))


def _columns(
    config: DistillConfig,
    teachers: Mapping[str, ModelTraits],
    labels: tuple[str, ...] | None,
    embedders: Mapping[str, EmbedderSpec],
) -> tuple[dict[str, tuple[int, ...]], list[Fault]]:
    """Of each teacher the column of each class."""
    columns, faults = {}, []
    for name, traits in teachers.items():
        columns[name] = tuple(range(len(traits.labels)))
        if labels is None:
            continue
        section = config.teachers[name]
        if name in embedders and section.label_map is not None:
            path = f"teachers.{name}.label_map"
            message = "has no effect: the teacher embeds texts, and has no labels. Remove it."
            faults.append(Fault(path, message, rests_on=(path, f"teachers.{name}.model")))
            continue
        try:
            columns[name] = output_columns(
                config.task.kind,
                traits.labels,
                labels,
                section.label_map,
                partial=section.missing_labels == "abstain",
            )
        except ValueError as error:
            faults.append(_labels_fault(config, name, str(error)))
    return columns, faults


def _weights(config: DistillConfig) -> dict[str, float]:
    """Of all teachers, summing to 1; where scores are still to be measured, all the same."""
    if not config.teachers:
        return {}
    weighting = config.ensemble.weighting
    if isinstance(weighting, ValidationWeighting) and weighting.scores is not None:
        known = {n: s for n, s in weighting.scores.items() if n in config.teachers}
        if len(known) == len(config.teachers):
            found = validation_weights(
                {name: known[name] for name in config.teachers},
                sharpness=weighting.sharpness,
                greater_is_better=weighting.greater_is_better,
            )
            return dict(found)
    given = {n: w for n, w in config.ensemble.weights.items() if n in config.teachers}
    return normalise_weights(list(config.teachers), given)


def _labels_fault(config: DistillConfig, name: str, reason: str) -> Fault:
    model, label_map = f"teachers.{name}.model", f"teachers.{name}.label_map"
    basis = (model, label_map, "task.labels", "task.label")
    if config.teachers[name].label_map is None:
        return Fault(model, f"has other labels than the task. {reason}", rests_on=basis)
    return Fault(label_map, f"does not fit. {reason}", rests_on=basis)
