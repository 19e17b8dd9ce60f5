"""What must hold of rows, and how it is said when it does not.

Faults name the first rows and count the others; notes are things that may be meant but should be
known.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.data.sources import Split

__all__ = [
    "HALF_PAIR",
    "RowFaults",
    "blank_cells",
    "column_list",
    "did_you_mean",
    "has_half_pair",
    "named_few",
    "overlap_notes",
    "require_text",
    "row_place",
    "setting_of",
    "text_notes",
    "unseen_label_notes",
]

HALF_PAIR = "half of a surrogate pair (\\ud800 … \\udfff)"
"""What a text of JSON may hold and no file of UTF-8, in faults."""
_HALF = re.compile("[\ud800-\udfff]")
_MAX_NAMED = 3
_MAX_COLUMNS_NAMED = 20


def named_few(items: Sequence[str], total: int) -> str:
    """The first three of many, and how many more there are.

    Example:
        >>> named_few(["row 1", "row 4", "row 6", "row 9"], total=12)
        'row 1, row 4, row 6 and 9 more'
    """
    named, more = ", ".join(items[:_MAX_NAMED]), total - min(len(items), _MAX_NAMED)
    return f"{named} and {more} more" if more > 0 else named


def has_half_pair(text: str) -> bool:
    r"""Whether a text cannot be encoded.

    Example:
        >>> has_half_pair("\ud83d")
        True
    """
    return not text.isascii() and _HALF.search(text) is not None


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name, with a space before it, or nothing."""
    by_fold = {name.strip().casefold(): name for name in reversed(list(known))}
    near = get_close_matches(wrong.strip().casefold(), list(by_fold), n=1, cutoff=0.6)
    return f" Did you mean {by_fold[near[0]]!r}?" if near else ""


def column_list(columns: Sequence[str]) -> str:
    """The names of columns for a message, shortened when there are very many."""
    listed = ", ".join(columns[:_MAX_COLUMNS_NAMED]) or "none"
    more = len(columns) - _MAX_COLUMNS_NAMED
    return f"{listed} and {more} more" if more > 0 else listed


def setting_of(role: str) -> str:
    """Where a column is named in the configuration."""
    if role == "route":
        return "ensemble.weighting.column"
    return f"task.{role.partition(':')[2] or role}"


class RowFaults:
    """Gathers the same fault in many rows into one line.

    Args:
        path_in_config: The subject of every fault.
        file_name: Named behind the rows.
    """

    def __init__(self, path_in_config: str, file_name: str) -> None:
        self._path_in_config, self._file_name = path_in_config, file_name
        self._seen: dict[tuple[str, str, str], tuple[list[str], int]] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def add(self, rule: str, got: str, where: str, way_out: str = "", *, count: int = 1) -> None:
        """Remembers that a row breaks ``rule``, which continues "data.train must "."""
        places, total = self._seen.get((rule, got, way_out), ([], 0))
        if len(places) < _MAX_NAMED:
            places.append(where)
        self._seen[rule, got, way_out] = (places, total + count)

    def faults(self) -> list[Fault]:
        """One fault a rule, in the order in which they were first met."""
        return [
            Fault(
                self._path_in_config,
                f"must {rule}, got {got} in {self._file_name}, {named_few(places, total)}. "
                f"{way_out}".rstrip(),
            )
            for (rule, got, way_out), (places, total) in self._seen.items()
        ]


def row_place(row: int) -> str:
    """How a row of a file is named, by its number from 0."""
    return f"row {row + 1}"


def blank_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether a cell is null, empty or only white space."""
    blank = pc.or_(pc.equal(pc.binary_length(column), 0), pc.utf8_is_space(column))
    return pc.fill_null(blank, True)


def require_text(
    column: pa.ChunkedArray,
    *,
    named: str,
    path_in_config: str,
    file_name: str,
    place: Callable[[int], str] = row_place,
) -> list[Fault]:
    """A fault when cells are null, empty or only white space; no Python object per row."""
    if not len(column):  # pyarrow 25 dies of indices_nonzero without chunks
        return []
    rows = pc.indices_nonzero(blank_cells(column))
    if not len(rows):
        return []
    few = named_few([place(row) for row in rows[:_MAX_NAMED].to_pylist()], len(rows))
    return [
        Fault(
            path_in_config,
            f"must have text in {named} of every row, got none in {file_name}, {few}. "
            "Fill these rows or remove them; data.incomplete_rows: drop leaves them out.",
        )
    ]


def text_notes(column: pa.ChunkedArray, *, file_name: str) -> list[str]:
    """A note when a tab-separated file looks as if its writer had put texts in quotes."""
    quoted = pc.match_substring_regex(column, r'(?s)^".*""(?:.*[^"])?"$|^"[^"]*"$')
    count = pc.sum(quoted).as_py() or 0
    if not count:
        return []
    return [
        f"{file_name}: {count} text{'s' if count > 1 else ''} begin and end with a quotation "
        "mark. Tab-separated "
        "files are read without quoting; if the marks are not part of the text, write .csv or "
        ".jsonl."
    ]


def overlap_notes(splits: "Iterable[Split]") -> tuple[str, ...]:
    """Notes on texts of validation or test that also occur, exactly, in train or unlabelled.

    A student is then measured on rows it, or its teachers, were shown. For pairs both texts must be
    the same.
    """
    by_name = {split.name: split for split in splits}
    notes = []
    for seen in ("train", "unlabelled"):
        for measured in ("validation", "test"):
            if seen in by_name and measured in by_name:
                rows = _rows_in(by_name[measured].table, by_name[seen].table)
                if len(rows):
                    named = named_few(
                        [f"row {row + 1}" for row in rows[:_MAX_NAMED].to_pylist()], len(rows)
                    )
                    notes.append(
                        f"{len(rows)} of {by_name[measured].table.num_rows} texts of {measured} also "
                        f"occur in {seen} "
                        f"({named} of {measured}): figures on {measured} may be too good."
                    )
    return tuple(notes)


def unseen_label_notes(splits: "Iterable[Split]") -> tuple[str, ...]:
    """Notes on labels of validation or test that no training row has."""
    by_name: Mapping[str, Split] = {split.name: split for split in splits}
    if "train" not in by_name or not by_name["train"].labels:
        return ()
    if pa.types.is_fixed_size_list(by_name["train"].table["label"].type):
        return ()  # of several labels at once a note of the training rows says it
    known = _labels_in(by_name["train"].table)
    notes = []
    for name in ("validation", "test"):
        if name in by_name:
            present = _labels_in(by_name[name].table)
            if unseen := sorted(present - known):
                labels = by_name[name].labels
                notes.append(
                    f"{name} has labels that never occur in train: "
                    f"{named_few([repr(labels[label]) for label in unseen], len(unseen))}."
                )
    return tuple(notes)


def _rows_in(measured: pa.Table, seen: pa.Table) -> pa.Array:
    """Row numbers of ``measured`` whose text is in ``seen``; hashes the smaller side."""
    left, right = _keys(measured), _keys(seen)
    common = right.filter(pc.is_in(right, value_set=left))
    return pc.indices_nonzero(pc.is_in(left, value_set=common))


def _labels_in(table: pa.Table) -> set[int]:
    """Those of rows, or of words, that occur."""
    column = table["label"]
    if pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    return set(pc.unique(column).to_pylist()) - {-100}


def _keys(table: pa.Table) -> pa.ChunkedArray:
    if "words" in table.column_names:
        return pc.binary_join(table["words"], pa.scalar("\x1f", pa.large_string()))
    if "text_pair" not in table.column_names:
        return table["text"]
    separator = pa.scalar("\x1f", pa.large_string())
    return pc.binary_join_element_wise(table["text"], table["text_pair"], separator)
