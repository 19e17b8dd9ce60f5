"""Labels that are not one class a row: which columns hold them, and their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.data.cells import LabelCells, has_hidden, labels_in
from raydistill.data.checks import blank_cells, named_few, row_place
from raydistill.data.labels import derive_labels, missing_labels
from raydistill.data.matrix import NOT_KNOWN, Matrix, as_lists, known_entries
from raydistill.data.readers import Cells, Columns
from raydistill.errors import ConfigError, Fault

__all__ = ["Read", "Targets"]


@dataclass(frozen=True)
class Read:
    """The labels of one split.

    Attributes:
        names: Of the labels, in order.
        column: A list of fixed size for each row.
        faults: What is wrong.
        notes: What may be meant but should be known.
    """

    names: tuple[str, ...]
    column: pa.Array
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Targets:
    """Which columns hold the labels, and what they hold.

    Attributes:
        kind: ``classes``: each there or not. ``numbers``.
        label: The one column; None: there is one for each of ``labels``.
        labels: Names of classes, or columns of numbers; None: not written.
        separator: Between classes in a text; None: JSON.
    """

    kind: Literal["classes", "numbers"]
    label: str | None
    labels: tuple[str, ...] | None = None
    separator: str | None = None

    @property
    def in_one_column(self) -> bool:
        """Whether rows hold lists."""
        return self.kind == "classes" and self.label is not None

    @property
    def cells(self) -> Cells:
        """What a column holds."""
        if self.kind == "numbers":
            return "number"
        return "list" if self.in_one_column else "class"

    @property
    def columns(self) -> dict[str, str]:
        """Role to column."""
        if self.label is not None and (self.in_one_column or self.labels is None):
            return {"label": self.label}
        return {f"labels.{number}": name for number, name in enumerate(self.labels or ())}

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the outputs, as far as the configuration says."""
        if self.kind == "numbers" and self.labels is None and self.label is not None:
            return (self.label,)
        return self.labels

    def nothing(self, num_rows: int, names: Sequence[str]) -> pa.Array:
        """The column of rows without labels."""
        shape = num_rows, len(names)
        if self.kind == "classes":
            return as_lists(np.full(shape, NOT_KNOWN, np.int8))
        return as_lists(np.full(shape, np.nan))

    def read(
        self,
        parts: Sequence[tuple[str, Columns]],
        names: Sequence[str] | None,
        *,
        split: str,
        path_in_config: str,
        places: Sequence[Callable[[int], str]] | None = None,
    ) -> Read:
        """The labels in the cells of all files of a split.

        Args:
            parts: File names and columns.
            places: How rows of each are named in faults, by their number from 0; None: by that.
            names: Of the labels in order; None takes them from the rows.
            split: In ``train`` every row must have one.
            path_in_config: The subject of faults.
        """
        faults: list[Fault] = []
        notes: list[str] = []
        named = places or [row_place] * len(parts)
        if names is None:
            for (file, columns), place in zip(parts, named, strict=True):
                cells = self._cells(columns, path_in_config, file, place)
                cells.check_lists(self.separator)
                faults += cells.faults
            try:
                names = () if faults else self._derived(parts)
            except ConfigError as error:
                faults += error.faults
        if faults or names is None:
            num_rows = sum(len(columns["text"]) for _, columns in parts)
            return Read((), self.nothing(num_rows, ()), tuple(faults))
        matrices: list[Any] = []
        for (file, columns), place in zip(parts, named, strict=True):
            matrix, wrong, more = self.matrix(
                columns,
                names,
                required=split == "train",
                path_in_config=path_in_config,
                file_name=file,
                place=place,
            )
            faults += wrong
            notes += more
            matrices.append(matrix)
        whole: Matrix = np.concatenate(matrices)
        if self.kind == "classes" and not self.in_one_column:
            faults += self._signs(parts, whole, path_in_config)
        if not faults:
            notes += _notes(split, whole, names)
        return Read(tuple(names), as_lists(whole), tuple(faults), tuple(notes))

    def matrix(
        self,
        columns: Columns,
        names: Sequence[str],
        *,
        required: bool,
        path_in_config: str,
        file_name: str,
        place: Callable[[int], str] = row_place,
    ) -> tuple[Matrix, list[Fault], list[str]]:
        """The labels of some rows of one file, ``[rows, labels]``; what is wrong, and what should be known.

        Args:
            columns: By role.
            names: Of the labels in order.
            required: Whether a row without a label is a fault.
            path_in_config: The subject of faults.
            file_name: Named in faults.
            place: How a row is named in faults, by its number from 0.
        """
        cells = self._cells(columns, path_in_config, file_name, place)
        matrix = self._matrix(cells, names)
        faults = list(cells.faults)
        without = np.flatnonzero(~known_entries(matrix).any(1))
        if required and len(without) and not faults:
            faults.append(missing_labels(without, path_in_config, file_name, place))
        return matrix, faults, cells.notes

    def lacking(self, columns: Columns) -> NDArray[np.bool_]:
        """Which rows have no label at all, ``[rows]``: of lists a null, of numbers and of a yes or no all cells.

        Args:
            columns: By role.
        """
        found: NDArray[np.bool_]
        if self.in_one_column:
            found = columns["label"].is_null().to_numpy()
        elif self.kind == "numbers":
            found = np.all([blank_cells(columns[role]).to_numpy() for role in self.columns], axis=0)
        else:
            cells = self._cells(columns, "", "")
            found = np.all([cells.lacks(role) for role in self.columns], axis=0)
        return found

    def _signs(
        self, parts: Sequence[tuple[str, Columns]], whole: Matrix, path_in_config: str
    ) -> list[Fault]:
        """One for each column that seems to mean no by -1, which is read as not known."""
        faults = []
        for (role, column), entries in zip(self.columns.items(), whole.T, strict=True):
            hidden = any(has_hidden(columns[role]) for _, columns in parts)
            if hidden and (entries == 1).any() and not (entries == 0).any():
                message = (
                    f"must hold 0 or 1 (-1 or empty: not known) in column {column!r} (task.{role}), "
                    "got 1 and -1, but 0 in no row. Write 0 where the label is not there, and leave "
                    "cells empty where nobody knows."
                )
                faults.append(Fault(path_in_config, message))
        return faults

    def _cells(
        self,
        columns: Columns,
        path_in_config: str,
        file_name: str,
        place: Callable[[int], str] = row_place,
    ) -> LabelCells:
        return LabelCells(
            columns, self.columns, path_in_config=path_in_config, file_name=file_name, place=place
        )

    def _matrix(self, cells: LabelCells, names: Sequence[str]) -> Matrix:
        if self.in_one_column:
            return cells.lists(names, self.separator)
        if self.kind == "classes":
            found = np.stack([cells.yes_no(role) for role in self.columns], axis=1)
            cells.note_hidden()
            return found
        return np.stack([cells.numbers(role) for role in self.columns], axis=1)

    def _derived(self, parts: Sequence[tuple[str, Columns]]) -> tuple[str, ...]:
        found = {
            label for _, columns in parts for label in labels_in(columns["label"], self.separator)
        }
        return derive_labels(pa.chunked_array([pa.array(sorted(found), pa.large_string())]))


def _notes(split: str, matrix: Matrix, names: Sequence[str]) -> list[str]:
    """What may be meant but should be known."""
    known, notes = known_entries(matrix), []
    missing = int((~known.any(1)).sum())
    if missing:
        notes.append(f"{split}: {missing} of {len(matrix)} rows have no label; figures that need one leave them out.")  # fmt: skip
    if split != "train":
        return notes + (_constant(split, matrix, names) if matrix.dtype == np.float64 else [])
    if matrix.dtype == np.float64:
        columns = [column[~np.isnan(column)] for column in matrix.T]
        same = [name for name, column in zip(names, columns, strict=True) if len(np.unique(column)) < 2]  # noqa: PLR2004  # fmt: skip
        what = "the same number in every row"
    else:
        same = [name for name, column in zip(names, matrix.T, strict=True) if not (column == 1).any()]  # fmt: skip
        what = "in no row"
    if same:
        listed = named_few([repr(name) for name in same], len(same))
        verb = "is" if len(same) == 1 else "are"
        notes.append(f"train: {listed} {verb} {what}; there is nothing to learn from.")
    return notes


def _constant(split: str, matrix: Matrix, names: Sequence[str]) -> list[str]:
    """A note, if measured rows seem to have something in place of numbers that are not given."""
    columns = [column[~np.isnan(column)] for column in matrix.T]
    same = [
        f"{name!r} ({column[0]:g})"
        for name, column in zip(names, columns, strict=True)
        if len(column) > 1 and (column == column[0]).all()
    ]
    if not same:
        return []
    return [
        f"{split}: the same number is in every row of {named_few(same, len(same))}; figures on it mean little. "
        "If it stands for no label, leave these cells empty."
    ]
