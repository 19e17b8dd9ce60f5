"""What settings, rows and models of a run must be to each other, and what of them should be known."""

from collections.abc import Mapping

from raydistill.alignment import in_other_scheme, output_columns
from raydistill.config import DistillConfig
from raydistill.config.task import EXCLUSIVE, METRICS, RANKED
from raydistill.data import Split, any_label, labels_seen
from raydistill.errors import Fault
from raydistill.models import ModelTraits
from raydistill.objective import ObjectivePlan
from raydistill.prepare.manifest import flatten
from raydistill.prepare.sources import is_registry_uri
from raydistill.tracking import is_held, server_faults
from raydistill.training.schedule import Steps

__all__ = [
    "idle_settings",
    "length_faults",
    "registry_faults",
    "scoring_faults",
    "selection_faults",
    "teacher_notes",
]


def length_faults(path: str, max_tokens: int, traits: ModelTraits) -> list[Fault]:
    """Texts must not be cut behind the last position of a model."""
    if traits.max_positions is None or max_tokens <= traits.max_positions:
        return []
    return [
        Fault(
            path,
            f"must not exceed the model's {traits.max_positions} positions, got {max_tokens}.",
            rests_on=(path, "student.max_tokens"),
        )
    ]


def registry_faults(config: DistillConfig) -> list[Fault]:
    """Of the tracking server: it must be there if a model must be asked of it, or if the user says so."""
    settings = flatten(config.model_dump(mode="json")).values()
    has_models = any(
        isinstance(value, str) and is_registry_uri(value) and not is_held(value)
        for value in settings
    )
    tracking = config.tracking
    if not (tracking.enabled or has_models):
        return []
    return server_faults(
        tracking.uri, required=has_models or (tracking.enabled and tracking.required)
    )


def selection_faults(config: DistillConfig, splits: Mapping[str, Split] | None) -> list[Fault]:
    """Metrics that choose must be measured."""
    faults = []
    named = {"training.select_by": config.training.select_by}
    if config.tracking.registered_model is not None:
        own = config.tracking.promotion.metric
        named["tracking.promotion.metric" if own else "tracking.champion_metric"] = (
            config.tracking.promoted_by
        )
    for path, metric in named.items():
        split, _, _ = metric.partition("/")
        metrics = METRICS[config.task.kind]
        known = [f"{s}/{m}" for s in ("validation", "test") for m in metrics]
        allowed = known[: len(metrics)] if path.startswith("training") else known
        if metric not in allowed:
            faults.append(
                Fault(
                    path,
                    f"must be one of {', '.join(allowed)}, got '{metric}'.",
                    rests_on=(path, "task.kind"),
                )
            )
        elif path.startswith("tracking") and split not in config.evaluation.splits:
            faults.append(Fault(path, f"is {metric}, but evaluation.splits leaves {split} out."))
        elif (
            path.startswith("tracking")
            and splits is not None
            and split in splits
            and not any_label(splits[split].table)
        ):
            faults.append(Fault(path, f"is {metric}, but no row of data.{split} has a label."))
        elif path.startswith("tracking") and splits is not None and split not in splits:
            faults.append(
                Fault(
                    path,
                    f"is {metric}, but there is no data.{split}.",
                    rests_on=(path, f"data.{split}", "data.folder"),
                )
            )
    if (
        config.training.early_stopping is not None
        and splits is not None
        and "validation" not in splits
    ):
        faults.append(
            Fault(
                "training.early_stopping",
                "needs data.validation, which is missing.",
                rests_on=("training.early_stopping", "data.validation", "data.folder"),
            )
        )
    return faults


def teacher_notes(
    config: DistillConfig, traits: Mapping[str, ModelTraits], labels: tuple[str, ...]
) -> list[str]:
    """What is taken for granted of teachers' outputs, and what of them is left out."""
    kind, notes = config.task.kind, []
    if kind == "tagging":
        return [
            f"teachers.{name}.model writes spans as {other}, …; its tags become B- and I- with the sums of their "
            "probabilities."
            for name, shape in traits.items()
            if (other := in_other_scheme(shape.labels))
        ]
    if kind in EXCLUSIVE or kind in RANKED:
        return []
    for name, shape in traits.items():
        model = f"teachers.{name}.model"
        if shape.problem_type is None:
            notes.append(
                f"{model} does not say what its outputs are (problem_type); they are read as those of {kind}."
            )
        extra = len(shape.labels) - sum(
            column >= 0
            for column in output_columns(
                kind, shape.labels, labels, config.teachers[name].label_map, partial=True
            )
        )
        if extra > 0:
            notes.append(f"{model} has {extra} labels that the task has not; they are left out.")
    return notes


def scoring_faults(
    config: DistillConfig, splits: Mapping[str, Split] | None, objective: ObjectivePlan
) -> list[Fault]:
    """What keeps teachers from being scored on the validation rows."""
    if not config.measures_teachers or splits is None:
        return []
    path, way_out = "ensemble.weighting.scores", "Write scores, or choose another weighting."
    basis = (path, "data.validation", "data.folder")
    if "validation" not in splits:
        why = f"are to be measured, but there is no data.validation. {way_out}"
        return [Fault(path, why, rests_on=basis)]
    there = labels_seen(splits["validation"].table)
    if not there:
        why = f"are to be measured, but no row of data.validation has a label. {way_out}"
        return [Fault(path, why, rests_on=basis)]
    return [
        Fault(
            path,
            f"are to be measured, but teachers.{name} knows the label of no row of data.validation. {way_out}",
            rests_on=(*basis, f"teachers.{name}"),
        )
        for name, columns in objective.columns.items()
        if not any(columns[label] >= 0 for label in there if label < len(columns))
    ]


def idle_settings(config: DistillConfig, objective: ObjectivePlan, steps: Steps) -> list[str]:
    """Settings that were written and change nothing."""
    training, notes = config.training, []
    if training.max_steps is not None and training.max_steps > steps.total:
        notes.append(
            f"training.max_steps = {training.max_steps} has no effect: training.epochs = "
            f"{training.epochs} ends after {steps.total} steps."
        )
    if training.projection_learning_rate is not None and not objective.projections:
        notes.append("training.projection_learning_rate has no effect: there is no projection.")
    return notes
