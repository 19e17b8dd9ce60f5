"""Which of the teacher's columns is which of the student's classes.

Two models of the same task need not number its classes alike: MNLI has "entailment" at 0 in one
checkpoint and at 2 in another. Distilled by position, the student learns the wrong classes with a
loss that looks healthy.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = [
    "Merged",
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


class Merged(int):
    """Several columns of a teacher that are one class of the student; as a number, the first of them.

    So it counts as known wherever columns are asked only whether they are (-1: not known). What it stands for is the
    logarithm of the sum of their exponentials: the softmax then gives the class the sum of what it gave them.

    Args:
        columns: Two or more.

    Attributes:
        columns: The same.
    """

    columns: tuple[int, ...]

    def __new__(cls, columns: Sequence[int]) -> "Merged":
        """The first, and all."""
        merged = super().__new__(cls, columns[0])
        merged.columns = tuple(columns)
        return merged

    def __getnewargs__(self) -> tuple[tuple[int, ...]]:  # type: ignore[override]
        """Of pickle: what it is made of again."""
        return (self.columns,)

    def __repr__(self) -> str:
        return f"Merged({self.columns})"


def label_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str | None] | None = None,
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
        label_map: Teacher's label to student's label, where they differ. Several may become one, with the sum
            of their probabilities; None leaves one out, so that the others' probabilities are those given that
            it is none of these.
        partial: Whether the teacher may know only some of the student's classes.

    Returns:
        ``columns`` such that ``teacher_logits[:, columns]`` has the student's classes in order, where none is
        :class:`Merged`; with ``partial``, -1 for those that the teacher does not know.

    Raises:
        ValueError: the number or the names differ, a name is there twice, or the map speaks of
            labels that do not exist; with both lists and the way out.

    Example:
        >>> label_columns(["entailment", "neutral"], ["Neutral", "Entailment"])
        (1, 0)
        >>> label_columns(["LABEL_0", "LABEL_1"], ["negative", "positive"])
        (0, 1)
        >>> label_columns(["neg", "pos"], ["positive", "neg"], {"pos": "positive"})
        (1, 0)
        >>> label_columns(["pos", "neg"], ["neg", "neutral", "pos"], partial=True)
        (1, -1, 0)
        >>> label_columns(
        ...     ["sad", "fine", "glad"], ["neg", "pos"], {"sad": "neg", "fine": None, "glad": "pos"}
        ... )
        (0, 2)
        >>> label_columns(["sad", "cross", "glad"], ["glad", "neg"], {"sad": "neg", "cross": "neg"})
        (2, Merged((0, 1)))
    """
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    for side, labels in (("teacher", teacher_labels), ("student", student_labels)):
        if double := doubled(labels):
            raise ValueError(f"The {side}'s labels must differ, got {double!r} twice. {both}")
    places: dict[str, list[int]] = {}
    for place, label in enumerate(rename(teacher_labels, student_labels, label_map or {}, both)):
        if label is not None:
            places.setdefault(label, []).append(place)
    found = _label_places(
        teacher_labels, list(places), student_labels, both, mapped=bool(label_map), partial=partial
    )
    of = list(places.values())
    return tuple(
        place if place < 0 else of[place][0] if len(of[place]) == 1 else Merged(of[place])
        for place in found
    )


def _label_places(
    teacher_labels: Sequence[str],
    renamed: Sequence[str],
    student_labels: Sequence[str],
    both: str,
    *,
    mapped: bool,
    partial: bool,
) -> tuple[int, ...]:
    """For every class of the student its place among the teacher's as the map has them, each there once."""
    few = partial and 1 < len(renamed) < len(student_labels)
    if len(renamed) != len(student_labels) and not few:
        after = " after label_map" if len(renamed) != len(teacher_labels) else ""
        if len(renamed) > len(student_labels):
            way = "Leave out what the student has not, label_map: {teacher's label: null}, or let several become one."
        elif partial:
            way = "It must know two of them (label_map renames its own)."
        else:
            way = "Set missing_labels: abstain, and it teaches what it knows (label_map renames its labels)."
        raise ValueError(
            f"The teacher answers {len(renamed)} classes{after}, the student has {len(student_labels)}. Distillation "
            f"of logits needs the same classes. {way} {both}"
        )
    if few:
        return _match_some(fold(renamed), fold(student_labels), both)
    columns = _match(renamed, student_labels)
    if columns is None:
        columns = _match(fold(renamed), fold(student_labels))
    if columns is None and not mapped and is_generic(teacher_labels):
        columns = tuple(range(len(teacher_labels)))
    if columns is None:
        unmatched = sorted(set(student_labels) - set(renamed))
        raise ValueError(
            f"No label of the teacher belongs to {show(unmatched)} of the student"
            f"{' after label_map' if mapped else ''}. {both} "
            "Set label_map: {teacher's label: student's label} for those that differ, null for one that the "
            "student has not, and missing_labels: abstain if the teacher knows fewer."
        )
    return columns


def in_classes(logits: Tensor, columns: Sequence[int], missing: float = -torch.inf) -> Tensor:
    """A teacher's logits in the student's order of classes.

    Args:
        logits: ``[N, C_T]``.
        columns: Of :func:`label_columns`, one for each of the student's classes. Merged ones become the
            logarithm of the sum of their exponentials.
        missing: What stands for classes that the teacher does not know.

    Returns:
        ``[N, C]``, the same dtype.

    Example:
        >>> in_classes(torch.tensor([[1.0, 2.0]]), (1, -1, 0))
        tensor([[2., -inf, 1.]])
        >>> in_classes(torch.tensor([[0.0, 0.0, 1.0]]), (2, Merged((0, 1))))
        tensor([[1.0000, 0.6931]])
    """
    merged = [column for column in columns if isinstance(column, Merged)]
    if merged:
        number = logits.shape[1]
        sums = [logits[:, list(one.columns)].logsumexp(1, keepdim=True) for one in merged]
        logits = torch.cat([logits, *sums], dim=1)
        behind = iter(range(number, number + len(merged)))
        columns = [next(behind) if isinstance(one, Merged) else one for one in columns]
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
    label_map: Mapping[str, str | None],
    both: str,
    *,
    one_to_one: str = "",
) -> list[str | None]:
    """The teacher's labels after the map, which must be between existing labels; None: left out.

    Args:
        teacher_labels: Its own.
        student_labels: What they may become.
        label_map: Old name to new.
        both: Both lists, for messages.
        one_to_one: Why no two may become one; empty: they may.
    """
    for key, value in label_map.items():
        if key not in teacher_labels:
            raise ValueError(f"label_map names {key!r}, which is no label of the teacher. {both}")
        if value is not None and value not in student_labels:
            raise ValueError(
                f"label_map maps {key!r} to {value!r}, which is no label of the student. {both}"
            )
    renamed = [label_map.get(label, label) for label in teacher_labels]
    kept = [label for label in renamed if label is not None]
    if one_to_one and (double := doubled(kept)):
        sources = [old for old, new in zip(teacher_labels, renamed, strict=True) if new == double]
        raise ValueError(
            f"label_map must be one-to-one, but {show(sources)} of the teacher all become "
            f"{double!r}: {one_to_one}. {both}"
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
            "label_map, or leave them out: {label: null}."
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
