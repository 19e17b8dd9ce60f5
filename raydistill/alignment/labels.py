"""Which of the teacher's columns is which of the student's classes.

Two models of the same task need not number its classes alike: MNLI has "entailment" at 0 in one
checkpoint and at 2 in another. Distilled by position, the student learns the wrong classes with a
loss that looks healthy.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = [
    "doubled",
    "fold",
    "in_classes",
    "is_generic",
    "known_labels",
    "label_columns",
    "rename",
    "show",
]

_MAX_SHOWN = 10


def label_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    *,
    partial: bool = False,
) -> tuple[int, ...]:
    """For every class of the student, the teacher's column.

    Tried in this order: the same names; the same names but for upper and lower case; a teacher
    that never named its classes (``LABEL_0 … LABEL_{n-1}``, the default of Hugging Face), by
    position. With ``label_map`` the teacher's labels are renamed first, and positions never count.

    Args:
        teacher_labels: Names of the teacher's classes, in the order of its logits.
        student_labels: Names of the student's classes, in the order of its logits.
        label_map: Teacher's label to student's label, where they differ. It renames: it can neither
            merge classes nor leave one out.
        partial: Whether the teacher may know only some of the student's classes.

    Returns:
        ``columns`` such that ``teacher_logits[:, columns]`` has the student's classes in order; with
        ``partial``, -1 for those that the teacher does not know.

    Raises:
        ValueError: the number or the names differ, a name is there twice, or the map speaks of
            labels that do not exist, or is not one-to-one; with both lists and the way out.

    Example:
        >>> label_columns(["entailment", "neutral"], ["Neutral", "Entailment"])
        (1, 0)
        >>> label_columns(["LABEL_0", "LABEL_1"], ["negative", "positive"])
        (0, 1)
        >>> label_columns(["neg", "pos"], ["positive", "neg"], {"pos": "positive"})
        (1, 0)
        >>> label_columns(["pos", "neg"], ["neg", "neutral", "pos"], partial=True)
        (1, -1, 0)
    """
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    for side, labels in (("teacher", teacher_labels), ("student", student_labels)):
        if double := doubled(labels):
            raise ValueError(f"The {side}'s labels must differ, got {double!r} twice. {both}")
    few = partial and 1 < len(teacher_labels) < len(student_labels)
    if len(teacher_labels) != len(student_labels) and not few:
        raise ValueError(
            f"The teacher answers {len(teacher_labels)} classes, the student has "
            f"{len(student_labels)}. Distillation of logits needs the same classes; use a "
            f"hidden-state loss (label_map renames classes, it cannot merge or drop them). {both}"
        )
    renamed = rename(teacher_labels, student_labels, label_map or {}, both)
    if few:
        return _match_some(fold(renamed), fold(student_labels), both)
    columns = _match(renamed, student_labels)
    if columns is None:
        columns = _match(fold(renamed), fold(student_labels))
    if columns is None and not label_map and is_generic(teacher_labels):
        columns = tuple(range(len(teacher_labels)))
    if columns is None:
        unmatched = sorted(set(student_labels) - set(renamed))
        raise ValueError(
            f"No label of the teacher belongs to {show(unmatched)} of the student"
            f"{' after label_map' if label_map else ''}. {both} "
            "Set label_map: {teacher's label: student's label} for those that differ."
        )
    return columns


def in_classes(logits: Tensor, columns: Sequence[int], missing: float = -torch.inf) -> Tensor:
    """A teacher's logits in the student's order of classes.

    Args:
        logits: ``[N, C_T]``.
        columns: Of :func:`label_columns`, one for each of the student's classes.
        missing: What stands for classes that the teacher does not know.

    Returns:
        ``[N, C]``, the same dtype.

    Example:
        >>> in_classes(torch.tensor([[1.0, 2.0]]), (1, -1, 0))
        tensor([[2., -inf, 1.]])
    """
    if min(columns) < 0:
        logits = torch.cat([logits, torch.full_like(logits[:, :1], missing)], dim=1)
    return logits[:, list(columns)]  # -1 is the last


def known_labels(labels: Tensor, columns: Sequence[int]) -> Tensor:
    """Rows about which a teacher has something to say: without a label, or with one that it knows.

    Args:
        labels: Hard labels, ``[N]``, negative where there is none.
        columns: Of :func:`label_columns`.

    Returns:
        Bool, ``[N]``.

    Example:
        >>> known_labels(torch.tensor([0, 1, -100]), (1, -1, 0)).tolist()
        [True, False, True]
    """
    knows = torch.tensor([column >= 0 for column in columns], device=labels.device)
    return knows[labels.clamp(min=0)] | (labels < 0)


def rename(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str],
    both: str,
) -> list[str]:
    """The teacher's labels after the map, which must be one-to-one between existing labels.

    Args:
        teacher_labels: Its own.
        student_labels: What they may become.
        label_map: Old name to new.
        both: Both lists, for messages.
    """
    for key, value in label_map.items():
        if key not in teacher_labels:
            raise ValueError(f"label_map names {key!r}, which is no label of the teacher. {both}")
        if value not in student_labels:
            raise ValueError(
                f"label_map maps {key!r} to {value!r}, which is no label of the student. {both}"
            )
    renamed = [label_map.get(label, label) for label in teacher_labels]
    if double := doubled(renamed):
        sources = [old for old, new in zip(teacher_labels, renamed, strict=True) if new == double]
        raise ValueError(
            f"label_map must be one-to-one, but {show(sources)} of the teacher all become "
            f"{double!r}. {both}"
        )
    return renamed


def _match(teacher_labels: Sequence[str], student_labels: Sequence[str]) -> tuple[int, ...] | None:
    """Columns by name, or None unless every name stands once on each side."""
    column_of = {label: column for column, label in enumerate(teacher_labels)}
    if len(column_of) < len(teacher_labels) or column_of.keys() != set(student_labels):
        return None
    return tuple(column_of[label] for label in student_labels)


def _match_some(
    teacher_labels: Sequence[str], student_labels: Sequence[str], both: str
) -> tuple[int, ...]:
    """Columns by name, -1 for classes that the teacher does not know; it must know no other ones."""
    column_of = {label: column for column, label in enumerate(teacher_labels)}
    if unknown := [label for label in teacher_labels if label not in student_labels]:
        raise ValueError(
            f"{show(unknown)} of the teacher are none of the student's labels. {both} Rename them with "
            "label_map."
        )
    return tuple(column_of.get(label, -1) for label in student_labels)


def is_generic(labels: Sequence[str]) -> bool:
    """Whether nobody ever named them."""
    return list(labels) == [f"LABEL_{column}" for column in range(len(labels))]


def fold(labels: Sequence[str]) -> list[str]:
    """Without upper and lower case."""
    return [label.casefold() for label in labels]


def doubled(labels: Sequence[str]) -> str | None:
    """A label that stands there twice."""
    return next((label for i, label in enumerate(labels) if label in labels[:i]), None)


def show(labels: Sequence[str]) -> str:
    """The first few, for a message."""
    more = len(labels) - _MAX_SHOWN
    shown = ", ".join(repr(label) for label in labels[:_MAX_SHOWN])
    return f"[{shown}]" if more <= 0 else f"[{shown}, … and {more} more]"
