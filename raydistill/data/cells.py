"""The cells of columns of labels: lists of classes, a yes or no, numbers; and what else may stand there."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.data.checks import named_few, row_place
from raydistill.data.labels import label_numbers, unknown_labels
from raydistill.data.matrix import NOT_KNOWN
from raydistill.data.readers import Columns
from raydistill.errors import Fault

__all__ = ["LabelCells", "has_hidden", "labels_in"]

_HIDDEN = ("-1", "-1.0")  # as benchmarks write labels that they keep to themselves
_YES_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0} | dict.fromkeys(
    (*_HIDDEN, "-100", "-100.0"), NOT_KNOWN
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SEEMS_YES_NO = ", which seems to be a yes or no for each label"
_ONE_OF_TWO = {("0", "1"), ("1", "0")}  # as numbers of labels: both labels in every row
_NAME_THEM = "Name the labels that a row has, or write a column for each label (task.label: null)."
_MOST = float(np.finfo(np.float32).max)  # what a model computes with


class LabelCells:
    """The cells of one file, and what is wrong with them.

    Args:
        columns: By role.
        roles: Role to the column's name, of the labels.
        path_in_config: The subject of faults.
        file_name: Named in them.
        place: How a row is named in faults, by its number from 0.

    Attributes:
        faults: Found so far.
        notes: What may be meant but should be known.
        hidden: By column of a yes or no, how many cells are -1.
    """

    def __init__(
        self,
        columns: Columns,
        roles: Mapping[str, str],
        *,
        path_in_config: str,
        file_name: str,
        place: Callable[[int], str] = row_place,
    ) -> None:
        self._columns, self._roles = columns, roles
        self._path, self._file, self._place = path_in_config, file_name, place
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.hidden: dict[str, int] = {}

    def check_lists(self, separator: str | None) -> None:
        """A fault, if there are cells that hold no list of labels."""
        values, indices = _distinct(self._columns["label"])
        found = [_listed(text, separator) for text in values]
        wrong = {place: one for place, one in enumerate(found) if isinstance(one, _NoList)}
        rows = np.flatnonzero(np.isin(indices, list(wrong)))
        if not len(rows):
            return
        first = wrong[int(indices[rows[0]])]
        shown = named_few([self._place(int(row)) for row in rows[:3]], len(rows))
        self.faults.append(
            Fault(
                self._path,
                f"must hold lists of labels in column {self._roles['label']!r} (task.label), got "
                f"{first.got} in {self._file}, {shown}. {first.way_out}",
            )
        )

    def lists(self, names: Sequence[str], separator: str | None) -> NDArray[np.int8]:
        """Which labels are there, ``[rows, labels]``."""
        self.check_lists(separator)
        values, indices = _distinct(self._columns["label"])
        table = np.full((len(values) + 1, len(names)), NOT_KNOWN, np.int8)  # the last: null
        unknown: dict[int, str] = {}
        blank = np.zeros(len(values) + 1, bool)
        found: set[tuple[str, ...]] = set()
        for place, text in enumerate(values):
            blank[place] = not text.strip()
            items = _listed(text, separator)
            if isinstance(items, _NoList):
                continue
            found.add(tuple(items))
            numbers = label_numbers(items, names)
            strange = [one for one, number in zip(items, numbers, strict=True) if number < 0]
            if strange:
                unknown[place] = strange[0]
                continue
            table[place] = 0
            table[place, numbers] = 1
        if len(names) == len(_ONE_OF_TWO) and found == _ONE_OF_TWO:
            message = (
                f"must hold lists of labels in column {self._roles['label']!r} (task.label), got [0, 1] or "
                f"[1, 0] in every row of {self._file}{_SEEMS_YES_NO}. {_NAME_THEM}"
            )
            self.faults.append(Fault(self._path, message))
        rows = np.flatnonzero(np.isin(indices, list(unknown)))
        if len(rows):
            got = [unknown[int(indices[row])] for row in rows[:3]]
            shown = [
                f"{one!r} in {self._place(int(row))}" for one, row in zip(got, rows, strict=False)
            ]
            named = named_few(shown, len(rows))
            self.faults.append(
                unknown_labels(
                    got[0], named, names, path_in_config=self._path, file_name=self._file
                )
            )
        if empty := int(blank[indices].sum()):
            self.notes.append(
                f"{self._file}: {empty} of {len(indices)} rows have an empty text in column "
                f"{self._roles['label']!r} and are read as having none of the labels. Rows whose labels are "
                "not known belong under data.unlabelled."
            )
        return table[indices]

    def yes_no(self, role: str) -> NDArray[np.int8]:
        """Whether the label of a column is there, ``[rows]``."""
        values, indices = _distinct(self._columns[role])
        found = [
            _YES_NO.get(text.strip().casefold()) if text.strip() else NOT_KNOWN for text in values
        ]
        self._odd(role, "hold 0 or 1 (empty: not known)", found, (values, indices))
        hidden = [place for place, text in enumerate(values) if text.strip() in _HIDDEN]
        if count := int(np.isin(indices, hidden).sum()):
            self.hidden[self._roles[role]] = count
        return np.array([*(one or 0 for one in found), NOT_KNOWN], np.int8)[indices]

    def note_hidden(self) -> None:
        """A note, if there are cells of -1."""
        if self.hidden:
            named = [repr(column) for column in self.hidden]
            self.notes.append(
                f"{self._file}: {sum(self.hidden.values())} cells of -1 in "
                f"{named_few(named, len(named))} are read as not known."
            )

    def lacks(self, role: str) -> NDArray[np.bool_]:
        """Which cells of a column say nothing, ``[rows]``; what is odd says something."""
        values, indices = _distinct(self._columns[role])
        lacks = [not text.strip() or _YES_NO.get(text.strip()) == NOT_KNOWN for text in values]
        return np.array([*lacks, True])[indices]

    def numbers(self, role: str) -> NDArray[np.float64]:
        """The numbers of a column, ``[rows]``."""
        values, indices = _distinct(self._columns[role])
        found = [_number(text) for text in values]
        self._odd(role, "hold finite numbers (empty: no label)", found, (values, indices))
        return np.array([*(np.nan if one is None else one for one in found), np.nan])[indices]

    def _odd(
        self,
        role: str,
        rule: str,
        found: Sequence[float | None],
        cells: tuple[list[str], NDArray[np.int64]],
    ) -> None:
        """A fault, if there are cells that nothing was found in."""
        values, indices = cells
        odd = [place for place, one in enumerate(found) if one is None]
        rows = np.flatnonzero(np.isin(indices, odd))
        if len(rows):
            shown = [
                f"{_short(values[indices[row]])} in {self._place(int(row))}" for row in rows[:3]
            ]
            self.faults.append(
                Fault(
                    self._path,
                    f"must {rule} in column {self._roles[role]!r} (task.{role}), got in {self._file} "
                    f"{named_few(shown, len(rows))}.",
                )
            )


@dataclass(frozen=True)
class _NoList:
    """A cell that holds something else."""

    got: str
    way_out: str


def has_hidden(cells: pa.ChunkedArray) -> bool:
    """Whether a cell of a column of a yes or no is -1."""
    return any(text.strip() in _HIDDEN for text in _distinct(cells)[0])


def labels_in(cells: pa.ChunkedArray, separator: str | None) -> set[str]:
    """All labels that lists name."""
    found = (_listed(text, separator) for text in _distinct(cells)[0])
    return {item for items in found if isinstance(items, list) for item in items}


def _listed(text: str, separator: str | None) -> list[str] | _NoList:
    """The labels in a cell."""
    stripped = text.strip()
    if not stripped:
        return []
    try:
        content = json.loads(stripped) if stripped.startswith("[") else None
    except (ValueError, RecursionError):
        content = None
    shown = _short(stripped)
    if content is None and _printed(stripped, separator):
        return _NoList(
            f"{shown}, which seems to be a list as Python prints it",
            "Write lists as JSON has them (json.dumps).",
        )
    if content is None and separator is not None:
        return [part.strip() for part in stripped.split(separator) if part.strip()]
    if content is None:
        return _NoList(
            shown,
            "Say what stands between labels (task.separator), or write lists as JSON has them.",
        )
    return _items(content, shown)


def _items(content: list[Any], shown: str) -> list[str] | _NoList:
    """The labels that a list of JSON names."""
    items = [str(item) for item in content if _names_a_label(item)]
    if len(items) < len(content):
        return _NoList(shown, "A list holds names or numbers of labels.")
    several = len(items) > 1 and set(items) <= {"0", "1", "0.0", "1.0"}
    if several and (len(set(items)) < len(items) or all(isinstance(one, float) for one in content)):
        return _NoList(f"{shown}{_SEEMS_YES_NO}", _NAME_THEM)
    return items


def _printed(text: str, separator: str | None) -> bool:
    """Whether a text is a list that Python, or a library of it, printed; `[a];b` holds the labels `[a]` and `b`."""
    if re.match(r"\[\s*['\"]", text):
        return True
    if separator is None or not (text.startswith("[") and text.endswith("]")):
        return False
    first, *others = text.split(separator)
    return bool(others) and "]" not in first


def _names_a_label(item: object) -> bool:
    if isinstance(item, str):
        return not any("\ud800" <= mark <= "\udfff" for mark in item)  # half of a pair
    return isinstance(item, int | float) and not isinstance(item, bool)


def _number(text: str) -> float | None:
    """A finite number, NaN where nothing is written, None for what is neither."""
    text = text.strip()
    if not text:
        return np.nan
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) <= _MOST else None


def _distinct(cells: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Values that occur, and for each row which; nulls have the number behind the last."""
    encoded = pc.dictionary_encode(cells).combine_chunks()
    values: list[str] = encoded.dictionary.to_pylist()
    indices = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    return values, indices.astype(np.int64)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"  # noqa: PLR2004
