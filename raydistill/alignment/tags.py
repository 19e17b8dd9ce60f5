"""Which of the teacher's columns is which of the student's tags, where tags are spans of types.

A teacher may write spans as BIOES: what begins and ends in a word is a beginning, what ends is inside. Its tags become
those of IOB2, each with the sum of what the teacher gives the tags that it stands for.
"""

from collections.abc import Mapping, Sequence

from raydistill.alignment.labels import label_columns, show
from raydistill.data.schemes import IOB2_PREFIXES, OUTSIDE

__all__ = ["in_other_scheme", "tag_columns"]


def tag_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str | None] | None = None,
    *,
    partial: bool = False,
) -> tuple[int, ...]:
    """For every tag of the student the teacher's column, as of classes; a map may rename types.

    Args:
        teacher_labels: The teacher's tags, in the order of its logits.
        student_labels: The student's tags in IOB2, in order.
        label_map: Teacher's tag or type to student's, where they differ: ``{PER: person}`` renames B-PER
            and I-PER. Several may become one, with the sum of their probabilities; None is O.
        partial: Whether the teacher may know only some of the student's types. Whole ones, and O.

    Returns:
        A column for each tag, :class:`~raydistill.alignment.labels.Merged` where it is several; with ``partial``, -1 for those that the teacher does not know.

    Raises:
        ValueError: they do not fit; with both lists and the way out.

    Example:
        >>> tag_columns(["O", "B-PER", "I-PER"], ["B-person", "I-person", "O"], {"PER": "person"})
        (1, 2, 0)
        >>> tag_columns(["O", "B-x", "I-x"], ["O", "B-x", "I-x", "B-y", "I-y"], partial=True)
        (0, 1, 2, -1, -1)
        >>> tag_columns(["O", "B-x", "I-x", "B-y", "I-y"], ["O", "B-x", "I-x"], {"y": None})
        (Merged((0, 3, 4)), 1, 2)
        >>> tag_columns(["O", "B-x", "I-x", "E-x", "S-x"], ["O", "B-x", "I-x"])
        (0, Merged((1, 4)), Merged((2, 3)))
    """
    renamed: dict[str, str | None] = {}
    if in_other_scheme(teacher_labels):
        names = {name.casefold(): name for name in student_labels} | {n: n for n in student_labels}
        for tag in teacher_labels:
            prefix, _, kind = tag.partition("-")
            if kind and prefix in IOB2_PREFIXES:
                iob2 = f"{IOB2_PREFIXES[prefix]}-{kind}"
                name = names.get(iob2, names.get(iob2.casefold()))
                renamed |= {} if name is None else {tag: name}
    for old, new in (label_map or {}).items():
        tags = [prefix for prefix in IOB2_PREFIXES if f"{prefix}-{old}" in teacher_labels]
        if old in teacher_labels or not tags:
            renamed[old] = OUTSIDE if new is None else new
        else:
            renamed |= {
                f"{prefix}-{old}": OUTSIDE if new is None else f"{IOB2_PREFIXES[prefix]}-{new}"
                for prefix in tags
            }
    columns = label_columns(teacher_labels, student_labels, renamed or None, partial=partial)
    if min(columns) >= 0:
        return columns
    known = {tag for tag, column in zip(student_labels, columns, strict=True) if column >= 0}
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    if OUTSIDE not in known:
        raise ValueError(f"The teacher does not know {OUTSIDE}, the tag outside of spans. {both}")
    types = {tag.partition("-")[2] for tag in known} - {""}
    half = [tag for tag in student_labels if tag.partition("-")[2] in types and tag not in known]
    if half:
        raise ValueError(f"The teacher knows types by half, it lacks {show(half)}. {both}")
    return columns


def in_other_scheme(labels: Sequence[str]) -> str | None:
    """A tag of a scheme other than IOB, as BIOES; None if there is none.

    Args:
        labels: A model's.

    Example:
        >>> in_other_scheme(["O", "B-x", "I-x", "E-x", "S-x"])
        'E-x'
    """
    parts = [(label, *label.partition("-")) for label in labels]
    return next((one for one, p, _, kind in parts if kind and IOB2_PREFIXES.get(p, p) != p), None)
