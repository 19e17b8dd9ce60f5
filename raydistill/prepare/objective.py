"""From losses and ensemble to an ObjectivePlan: layers, widths, tokenizers and labels fit, or faults."""

from collections.abc import Mapping

from raydistill.alignment import output_columns
from raydistill.config import DistillConfig
from raydistill.config.adversarial import VATSection
from raydistill.config.ensemble import ValidationWeighting
from raydistill.config.task import HEADS, LABEL_LOSSES, LOGIT_LOSSES
from raydistill.ensemble import normalise_weights, validation_weights
from raydistill.errors import Fault
from raydistill.losses import CATALOG
from raydistill.models import ModelTraits
from raydistill.objective import ObjectivePlan
from raydistill.prepare.terms import plan_term
from raydistill.terms import AdversarialMatch, HardMatch, SoftMatch, asked_of

__all__ = ["plan_objective"]


def plan_objective(
    config: DistillConfig,
    *,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
    labels: tuple[str, ...] | None,
) -> tuple[ObjectivePlan, list[Fault]]:
    """The objective, and what does not fit.

    Args:
        config: Valid by itself.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
        labels: Of the task; None if unknown.
    """
    columns, faults = _columns(config, teachers, labels)
    found = [
        plan_term(config, index, student=student, teachers=teachers)
        for index in range(len(config.losses))
    ]
    for one in found:
        faults += one.faults
    matches = [one.term.match for one in found]
    plan = ObjectivePlan(
        terms=tuple(one.term for one in found),
        combine=config.ensemble.combine,
        weights=_weights(config),
        columns=columns,
        asks={
            name: asked_of(name, matches, section.signal_dtype, HEADS[config.task.kind])
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
    )
    return plan, faults


def _adversarial(config: DistillConfig) -> AdversarialMatch | None:
    """The term on adversarial examples: the usual loss of the task."""
    section = config.adversarial
    if section is None:
        return None
    if not isinstance(section, VATSection) and section.against == "labels":
        return AdversarialMatch(section, HardMatch(CATALOG[LABEL_LOSSES[config.task.kind]]))
    entry = CATALOG[LOGIT_LOSSES[config.task.kind][0]]
    return AdversarialMatch(section, SoftMatch(entry, temperature=section.temperature))


def _columns(
    config: DistillConfig, teachers: Mapping[str, ModelTraits], labels: tuple[str, ...] | None
) -> tuple[dict[str, tuple[int, ...]], list[Fault]]:
    """Of each teacher the column of each class."""
    columns, faults = {}, []
    for name, traits in teachers.items():
        columns[name] = tuple(range(len(traits.labels)))
        if labels is None:
            continue
        section = config.teachers[name]
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
