"""How relevant a teacher says a passage is, whether it has one output or two."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raydistill.alignment.labels import in_classes, rename, show
from raydistill.config.task import RANKED, TaskKind

__all__ = ["in_outputs", "score_columns"]

_TWO = 2


def score_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str | None] | None = None,
) -> tuple[int, ...]:
    """The column of the output that means relevant.

    Args:
        teacher_labels: Names of the teacher's outputs.
        student_labels: The name of the student's one.
        label_map: Which of two means that.

    Raises:
        ValueError: there are more than two, or two and nobody says which.

    Example:
        >>> score_columns(["LABEL_0"], ["score"])
        (0,)
        >>> score_columns(["no", "yes"], ["score"], {"yes": "score"})
        (1,)
    """
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    if len(teacher_labels) == 1:
        return (0,)
    if len(teacher_labels) != _TWO:
        raise ValueError(
            f"It has {len(teacher_labels)} outputs, where a reranker has one, or two of which one means relevant."
        )
    renamed = rename(
        teacher_labels,
        student_labels,
        label_map or {},
        both,
        one_to_one="one of them means relevant",
    )
    if student_labels[0] not in renamed:
        raise ValueError(
            f"It has two outputs, {show(teacher_labels)}. Say which means relevant: "
            f'label_map: {{"{teacher_labels[1]}": {student_labels[0]}}}.'
        )
    return (renamed.index(student_labels[0]),)


def in_outputs(
    kind: TaskKind, logits: Tensor, columns: Sequence[int], missing: float = -torch.inf
) -> Tensor:
    """A teacher's logits as the outputs of the student.

    Args:
        kind: Of the task.
        logits: ``[N, C_T]``.
        columns: For each output of the student the teacher's column.
        missing: What stands for labels that the teacher does not know.

    Returns:
        ``[N, C]``. Of a reranker with two outputs the log-odds of the one that means relevant.

    Example:
        >>> in_outputs("reranking", torch.tensor([[1.0, 4.0]]), (1,))
        tensor([[3.]])
    """
    if kind in RANKED and logits.shape[1] == _TWO:
        chosen = columns[0]
        return logits[:, [chosen]] - logits[:, [1 - chosen]]
    return in_classes(logits, columns, missing)
