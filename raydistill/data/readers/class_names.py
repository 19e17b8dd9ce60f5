"""Names of classes that `datasets` keeps with a column, in place of the numbers in its cells.

A number in such a column is a place among the column's own names. Names may be numbers themselves (stars: "1" to
"5" at the places 0 to 4), and a configuration may list them in another order: so cells become names wherever the
configuration knows these names, and only of classes that it calls otherwise do the numbers stay, as places in its list.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.readers.cells import TEXT, Columns, is_list
from raydistill.data.readers.reading import Cells, Wanted
from raydistill.errors import ConfigError, Fault

__all__ = ["ClassReading", "feature_names", "renames", "with_class_names"]

_NAMED = ("label", "tags")


@dataclass(frozen=True)
class ClassReading:
    """Whose cells become names.

    Attributes:
        name: Of the file or split.
        wanted: Role to column.
        cells: What columns of labels hold.
        labels: Names that the configuration has; None: the column's own.
        path_in_config: The subject of faults.
    """

    name: str
    wanted: Wanted
    cells: Cells
    labels: Sequence[str] | None
    path_in_config: str


def feature_names(feature: Any) -> tuple[str, ...] | None:
    """The names of the classes of a column of `datasets`, or of the items of its lists; None: it has none."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names else None


def renames(names: Sequence[str] | None, labels: Sequence[str] | None) -> bool:
    """Whether a configuration gives the classes other names than the column's own.

    Args:
        names: The column's.
        labels: The configuration's; None: it leaves them as they are.
    """
    return bool(names and labels) and not set(names or ()) <= set(labels or ())


def with_class_names(
    columns: Columns,
    table: pa.Table,
    names_of: Callable[[str], Sequence[str] | None],
    reading: ClassReading,
) -> Columns:
    """The columns of labels and tags with names, where the table holds numbers of classes that have some.

    Negative numbers, which `datasets` writes where there is no class, are null; in lists they stay.

    Args:
        columns: As text, by role.
        table: The same, as it was read.
        names_of: The names of a column's classes.
        reading: What is wanted, and of what.

    Raises:
        ConfigError: A number stands behind the last name.
    """
    if reading.cells not in ("class", "list"):
        return columns
    found, faults = dict(columns), []
    for role in _NAMED:
        name = reading.wanted.get(role)
        if name is None:
            continue
        column, lists = table[name], is_list(table[name].type)
        numbers = pc.list_flatten(column) if lists else column
        names = names_of(name) if pa.types.is_integer(numbers.type) else None
        if names is None:
            continue
        most, renamed = pc.max(numbers).as_py(), renames(names, reading.labels)
        if most is not None and most >= len(names):
            message = f"must hold numbers of its {len(names)} classes in column {name!r}, got {most} in {reading.name}."
            faults.append(Fault(reading.path_in_config, message))
        elif lists:
            found[role] = _lists(column, range(len(names)) if renamed else names)
        else:
            found[role] = _single(column, None if renamed else names)
    if faults:
        raise ConfigError(faults)
    return found


def _single(column: pa.ChunkedArray, names: Sequence[str] | None) -> pa.ChunkedArray:
    """Names, or numbers where there are none."""
    numbers = column.cast(pa.int64())
    numbers = pc.if_else(pc.less(numbers, 0), None, numbers)
    if names is None:
        return numbers.cast(TEXT)
    known = pa.array(names, TEXT)
    return pa.chunked_array([known.take(chunk) for chunk in numbers.chunks], type=TEXT)


def _lists(column: pa.ChunkedArray, names: Sequence[str | int]) -> pa.ChunkedArray:
    """Lists as JSON."""
    texts = [
        None if row is None else json.dumps([names[i] if i is not None and i >= 0 else i for i in row])
        for row in column.to_pylist()
    ]  # fmt: skip
    return pa.chunked_array([pa.array(texts, TEXT)], type=TEXT)
