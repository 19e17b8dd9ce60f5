"""Which of the teacher's columns is which of the student's tags, where tags are spans of types."""

from collections.abc import Mapping, Sequence

from raydistill.alignment.labels import label_columns, show

__all__ = ["tag_columns"]

_OUTSIDE = "O"


def tag_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    *,
    partial: bool = False,
) -> tuple[int, ...]:
    """For every tag of the student the teacher's column, as of classes; a map may rename types.

    Args:
        teacher_labels: The teacher's tags, in the order of its logits.
        student_labels: The student's tags in IOB2, in order.
        label_map: Teacher's tag or type to student's, where they differ: ``{PER: person}`` renames B-PER
            and I-PER.
        partial: Whether the teacher may know only some of the student's types. Whole ones, and O.

    Returns:
        A column for each tag; with ``partial``, -1 for those that the teacher does not know.

    Raises:
        ValueError: they do not fit; with both lists and the way out.

    Example:
        >>> tag_columns(["O", "B-PER", "I-PER"], ["B-person", "I-person", "O"], {"PER": "person"})
        (1, 2, 0)
        >>> tag_columns(["O", "B-x", "I-x"], ["O", "B-x", "I-x", "B-y", "I-y"], partial=True)
        (0, 1, 2, -1, -1)
    """
    renamed: dict[str, str] = {}
    for old, new in (label_map or {}).items():
        tags = [prefix for prefix in ("B", "I") if f"{prefix}-{old}" in teacher_labels]
        if old in teacher_labels or not tags:
            renamed[old] = new
        else:
            renamed |= {f"{prefix}-{old}": f"{prefix}-{new}" for prefix in tags}
    columns = label_columns(teacher_labels, student_labels, renamed or None, partial=partial)
    if min(columns) >= 0:
        return columns
    known = {tag for tag, column in zip(student_labels, columns, strict=True) if column >= 0}
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    if _OUTSIDE not in known:
        raise ValueError(f"The teacher does not know {_OUTSIDE}, the tag outside of spans. {both}")
    types = {tag.partition("-")[2] for tag in known} - {""}
    half = [tag for tag in student_labels if tag.partition("-")[2] in types and tag not in known]
    if half:
        raise ValueError(f"The teacher knows types by half, it lacks {show(half)}. {both}")
    return columns
