"""Which figures belong to which kind of task."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from raydistill.config.task import RANKED, TaskKind
from raydistill.evaluation.metrics import (
    ClassMetrics,
    agreement_metrics,
    classification_metrics,
    per_class,
)
from raydistill.evaluation.multi_label import (
    multi_label_agreement,
    multi_label_metrics,
    per_label,
)
from raydistill.evaluation.numbers import (
    TargetMetrics,
    number_agreement,
    number_metrics,
    per_target,
)
from raydistill.evaluation.ranking import ranking_agreement, ranking_metrics
from raydistill.evaluation.tagging import per_type, tagging_agreement, tagging_metrics
from raydistill.tasks import QueryGroups

__all__ = ["agree", "measure", "measure_each"]

_Measure = Callable[..., dict[str, float]]
_MEASURES: Mapping[TaskKind, _Measure] = {
    "text_classification": classification_metrics,
    "multi_label_classification": multi_label_metrics,
    "regression": number_metrics,
    "tagging": tagging_metrics,
}
_EACH: Mapping[TaskKind, Callable[..., Sequence[ClassMetrics | TargetMetrics]]] = {
    "text_classification": per_class,
    "multi_label_classification": per_label,
    "regression": per_target,
    "tagging": per_type,
}
_AGREEMENTS: Mapping[TaskKind, _Measure] = {
    "text_classification": agreement_metrics,
    "multi_label_classification": multi_label_agreement,
    "regression": number_agreement,
    "tagging": tagging_agreement,
}


def measure(
    kind: TaskKind,
    logits: Tensor,
    labels: Tensor,
    *,
    label_names: Sequence[str],
    queries: QueryGroups | None = None,
    sentences: Tensor | None = None,
) -> dict[str, float]:
    """Figures against labels, see :data:`raydistill.config.task.METRICS`; those that exist.

    Args:
        kind: Of the task.
        logits: ``[N, C]``.
        labels: As the task has them.
        label_names: Of the C outputs.
        queries: Which rows are candidates of the same query.
        sentences: The row of each label, where a row has several.
    """
    if queries is not None:
        return ranking_metrics(logits[:, 0], labels[:, 0], queries)
    rows = {} if sentences is None else {"sentences": sentences}
    return _MEASURES[kind](logits, labels, label_names=label_names, **rows)


def measure_each(
    kind: TaskKind,
    logits: Tensor,
    labels: Tensor,
    *,
    label_names: Sequence[str],
    sentences: Tensor | None = None,
) -> Sequence[ClassMetrics | TargetMetrics]:
    """The same for each output alone; nothing of scores."""
    if kind in RANKED:
        return ()
    rows = {} if sentences is None else {"sentences": sentences}
    return _EACH[kind](logits, labels, label_names=label_names, **rows)


def agree(
    kind: TaskKind, student: Tensor, teacher: Tensor, *, queries: QueryGroups | None = None
) -> dict[str, float]:
    """How much a student answers as a teacher does."""
    if queries is not None:
        return ranking_agreement(student[:, 0], teacher[:, 0], queries)
    return _AGREEMENTS[kind](student, teacher)
