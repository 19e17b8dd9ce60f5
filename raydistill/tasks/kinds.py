"""A task by the name of its kind."""

from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.config.task import TaskKind
from raydistill.models import EmbedderSpec
from raydistill.tasks.multi_label import MultiLabelClassification
from raydistill.tasks.question_answering import QuestionAnswering
from raydistill.tasks.regression import Regression
from raydistill.tasks.reranking import Reranking
from raydistill.tasks.retrieval import Retrieval
from raydistill.tasks.tagging import Tagging
from raydistill.tasks.task import TextTask
from raydistill.tasks.text_classification import TextClassification

__all__ = ["task_of"]

_TASKS: Mapping[TaskKind, type[TextTask]] = {
    one.kind: one
    for one in (
        TextClassification,
        MultiLabelClassification,
        Regression,
        Tagging,
        Reranking,
        QuestionAnswering,
        Retrieval,
    )
}


def task_of(
    kind: TaskKind,
    table: Any,
    labels: Sequence[str],
    teachers: Sequence[str] = (),
    embedder: EmbedderSpec | None = None,
) -> TextTask:
    """The rows of a table as a task of this kind.

    Args:
        kind: As in the configuration.
        table: Of a split.
        labels: Names of the outputs in order.
        teachers: Names of all, in order, where batches say which of them see which words or units.
        embedder: Of a student that embeds texts; needed for batches only.
    """
    if kind == "tagging":
        return Tagging(table, labels, teachers)
    if kind == "question_answering":
        return QuestionAnswering(table, labels, teachers)
    if kind == "retrieval":
        return Retrieval(table, labels, embedder)
    return _TASKS[kind](table, labels)
