"""Which of the teacher's columns is which of the student's, where labels do not exclude each other.

A yes or no for each label, or a number for each target, can be compared alone: unlike classes of one
softmax, labels that only one side has change nothing about the others.
"""

from collections.abc import Mapping, Sequence

from raydistill.alignment.labels import doubled, fold, is_generic, label_columns, rename, show
from raydistill.alignment.scores import score_columns
from raydistill.alignment.tags import tag_columns
from raydistill.config.task import EXCLUSIVE, RANKED, TaskKind

__all__ = ["independent_columns", "output_columns"]

_ALONE = "labels that do not exclude each other have no sum that says whether one of them is true"


def output_columns(
    kind: TaskKind,
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str | None] | None = None,
    *,
    partial: bool = False,
) -> tuple[int, ...]:
    """For every output of the student the teacher's column, as the kind of task has it.

    Args:
        kind: Of the task.
        teacher_labels: Names of the teacher's outputs, in order.
        student_labels: Names of the student's, in order.
        label_map: Teacher's label to student's label, where they differ; None where the student has none.
        partial: Whether the teacher may know only some of the student's labels.

    Raises:
        ValueError: they do not fit; with both lists and the way out.
    """
    if kind == "tagging":
        return tag_columns(teacher_labels, student_labels, label_map, partial=partial)
    if kind == "question_answering":
        return _of_places(teacher_labels)
    if kind in EXCLUSIVE:
        return label_columns(teacher_labels, student_labels, label_map, partial=partial)
    if kind in RANKED:
        return score_columns(teacher_labels, student_labels, label_map)
    one = kind == "regression"
    return independent_columns(
        teacher_labels, student_labels, label_map, partial=partial, one_is_one=one
    )


def _of_places(teacher_labels: Sequence[str]) -> tuple[int, ...]:
    """Start and end, whatever they are called: their order is the same everywhere."""
    if len(teacher_labels) == 2:  # noqa: PLR2004 - start and end
        return (0, 1)
    raise ValueError(
        f"It has {len(teacher_labels)} outputs, where a model for answers has two, start and end."
    )


def independent_columns(
    teacher_labels: Sequence[str],
    student_labels: Sequence[str],
    label_map: Mapping[str, str | None] | None = None,
    *,
    partial: bool = False,
    one_is_one: bool = False,
) -> tuple[int, ...]:
    """For every label of the student, the teacher's column.

    By the same names, but for upper and lower case; by position, if the teacher never named its
    labels (``LABEL_0 … LABEL_{n-1}``) and has as many. Labels that only the teacher has are left out.

    Args:
        teacher_labels: Names of the teacher's outputs, in order.
        student_labels: Names of the student's, in order.
        label_map: Teacher's label to student's label, where they differ, one-to-one; None leaves it out.
        partial: Whether the teacher may know only some of the student's labels.
        one_is_one: Whether a single output of both sides is the same whatever it is called, as the one
            number of a regression is.

    Returns:
        A column for each of the student's labels; with ``partial``, -1 for those that the teacher does not
        know.

    Raises:
        ValueError: the teacher lacks labels, or knows none of them, a name is there twice, or the map
            does not fit; with both lists and the way out.

    Example:
        >>> independent_columns(["Joy", "anger", "fear"], ["fear", "joy"])
        (2, 0)
        >>> independent_columns(["joy"], ["fear", "joy"], partial=True)
        (-1, 0)
        >>> independent_columns(["score"], ["stars"], one_is_one=True)
        (0,)
    """
    both = f"Teacher: {show(teacher_labels)}. Student: {show(student_labels)}."
    for side, labels in (("teacher", teacher_labels), ("student", student_labels)):
        if name := doubled(labels):
            raise ValueError(f"The {side}'s labels must differ, got {name!r} twice. {both}")
    after = rename(teacher_labels, student_labels, label_map or {}, both, one_to_one=_ALONE)
    # What is left out has a name that nothing has.
    renamed = ["" if label is None else label for label in after]
    columns = _by_name(renamed, student_labels)
    if max(columns) < 0:
        columns = _by_name(fold(renamed), fold(student_labels))
    elif min(columns) < 0:
        folded = _by_name(fold(renamed), fold(student_labels))
        columns = tuple(a if a >= 0 else b for a, b in zip(columns, folded, strict=True))
    same_number = len(teacher_labels) == len(student_labels)
    by_place = is_generic(teacher_labels) or (one_is_one and len(teacher_labels) == 1)
    if max(columns) < 0 and same_number and by_place and not label_map:
        return tuple(range(len(teacher_labels)))
    missing = [name for name, column in zip(student_labels, columns, strict=True) if column < 0]
    if max(columns) < 0:
        raise ValueError(f"The teacher knows none of the student's labels. {both} Set label_map.")
    if missing and not partial:
        raise ValueError(
            f"The teacher does not know {show(missing)}. {both} Set label_map for those that it calls "
            "otherwise, or missing_labels: abstain."
        )
    return columns


def _by_name(teacher_labels: Sequence[str], student_labels: Sequence[str]) -> tuple[int, ...]:
    column_of = {label: column for column, label in reversed(list(enumerate(teacher_labels)))}
    return tuple(column_of.get(label, -1) for label in student_labels)
