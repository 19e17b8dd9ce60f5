"""The names of the classes, and how the cells of a label column become their numbers.

Why a number is sometimes a name: with the names ``["1", "2", "3"]`` (stars) a cell ``1`` means the
name "1", not the second class. So numbers count as class numbers only where no name looks like a
number, or the names are just "0", "1", … and both readings agree.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.data.checks import did_you_mean, named_few, row_place
from raydistill.errors import ConfigError, Fault

__all__ = [
    "NO_LABEL",
    "derive_labels",
    "encode_labels",
    "hidden_places",
    "integer_in",
    "label_numbers",
    "lacks_class",
    "missing_labels",
    "odd_names",
    "unknown_labels",
]

NO_LABEL = -100
_UNKNOWN = -101
_HIDDEN = -1
_INTEGER = re.compile(r"([+-]?\d+)(?:\.0+)?")
_MAX_LABELS_NAMED = 12


def derive_labels(
    cells: pa.ChunkedArray, *, path_in_config: str = "task.labels"
) -> tuple[str, ...]:
    """The names of the classes from the training rows: sorted, or "0", "1", … for numbers.

    Raises:
        ConfigError: There is no label at all, numbers have a gap, or names and numbers are mixed.
    """
    distinct = {
        value for value in pc.unique(cells).to_pylist() if value is not None and value.strip()
    }
    numbers = {value: integer_in(value) for value in distinct}
    ids = {number for number in numbers.values() if number is not None and number != NO_LABEL}
    names = sorted(value for value, number in numbers.items() if number is None)
    if not ids and not names:
        raise ConfigError.of(
            path_in_config, "must be given: no training row has a label to take names from."
        )
    if ids and names:
        raise ConfigError.of(
            path_in_config,
            f"must be given when labels are names and numbers mixed, got {_listed(names)} beside "
            f"{_listed([str(number) for number in sorted(ids)])}.",
        )
    if ids and ids != set(range(len(ids))):
        shown = [str(number) for number in sorted(ids)]
        quoted = json.dumps(shown) if len(shown) <= _MAX_LABELS_NAMED else 'as ["1", "2", …]'
        raise ConfigError.of(
            path_in_config,
            "must be given when class numbers are not 0 to n - 1 without a gap, got "
            f"{_listed(shown)}. "
            f"Name them: {quoted}.",
        )
    return tuple(str(number) for number in sorted(ids)) if ids else tuple(names)


def odd_names(names: Sequence[str]) -> list[str]:
    """Names of marks alone beside others that have a letter or digit: SNLI writes `-` where there is no label."""
    marks = [name for name in names if _is_mark(name)]
    return marks if len(marks) < len(names) else []


def lacks_class(cells: pa.ChunkedArray, names: Sequence[str] | None) -> NDArray[np.bool_]:
    """Which cells hold no class, marks that are no name among them.

    Args:
        cells: As of :func:`encode_labels`.
        names: In the order of their numbers; None: the cells themselves will say them, so that marks and -1
            may be names.
    """
    encoded = pc.dictionary_encode(cells).combine_chunks()
    values: list[str] = encoded.dictionary.to_pylist()
    lacks = [not value.strip() or integer_in(value) == NO_LABEL for value in values]
    if names is not None:
        hidden = hidden_places(values, names)
        lacks = [
            place in hidden or (value not in names and (lack or _is_mark(value)))
            for place, (value, lack) in enumerate(zip(values, lacks, strict=True))
        ]
    places = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    found: NDArray[np.bool_] = np.array([*lacks, True])[places]
    return found


def _is_mark(name: str) -> bool:
    return bool(name) and name.isascii() and not any(map(str.isalnum, name))


def encode_labels(
    cells: pa.ChunkedArray,
    names: Sequence[str],
    *,
    required: bool,
    path_in_config: str,
    file_name: str,
    place: Callable[[int], str] = row_place,
) -> tuple[NDArray[np.int32], list[Fault]]:
    """Class numbers of the cells of one file; only distinct values are looked at in Python.

    Args:
        cells: Names or numbers as text; null, blank, -100 and, unless a name spells it, -1 are no label.
        names: In the order of their numbers.
        required: Whether a row without a label is a fault.
        path_in_config: The subject of faults.
        file_name: Named in faults.
        place: How a row is named in faults, by its number from 0.

    Returns:
        Class numbers, ``[rows]``, -100 where there is no label; and the faults.
    """
    encoded = pc.dictionary_encode(cells).combine_chunks()
    values: list[str] = encoded.dictionary.to_pylist()
    table = np.append(label_numbers(values, names), np.int32(NO_LABEL))
    hidden = hidden_places(values, names)
    table[hidden] = NO_LABEL
    ids = table[pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)]
    faults = []
    unknown = np.flatnonzero(ids == _UNKNOWN)
    if len(unknown):
        got = [values[encoded.indices[int(row)].as_py()] for row in unknown[:3]]
        shown = [
            f"{value!r} in {place(int(row))}" for value, row in zip(got, unknown[:3], strict=True)
        ]
        fault = unknown_labels(
            got[0],
            named_few(shown, len(unknown)),
            names,
            path_in_config=path_in_config,
            file_name=file_name,
        )
        if _is_mark(got[0]):
            hint = "data.incomplete_rows: drop reads such a mark as no label."
            fault = replace(fault, message=f"{fault.message} {hint}")
        faults.append(fault)
    missing = np.flatnonzero(ids == NO_LABEL)
    if required and len(missing):

        def named(row: int) -> str:
            of_hidden = encoded.indices[row].as_py() in hidden
            return place(row) + (" ('-1', which counts as none)" if of_hidden else "")

        faults.append(missing_labels(missing, path_in_config, file_name, named))
    return ids, faults


def hidden_places(values: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where -1 stands among distinct cells, as benchmarks write labels that they keep to themselves.

    Args:
        values: Names or numbers as text.
        names: Of the classes; one that spells -1 makes it a class.
    """
    if any(integer_in(name) == _HIDDEN for name in names):
        return []
    return [place for place, value in enumerate(values) if integer_in(value) == _HIDDEN]


def label_numbers(values: Sequence[str], names: Sequence[str]) -> NDArray[np.int32]:
    """Class numbers of distinct cells: -100 for no label, -101 for one that is not known.

    Args:
        values: Names or numbers as text.
        names: In the order of their numbers.
    """
    by_name = {name: number for number, name in enumerate(names)}
    are_ids = _numbers_are_ids(names)
    return np.array([_number(value, by_name, are_ids) for value in values], np.int32)


def unknown_labels(
    first: str, shown: str, names: Sequence[str], *, path_in_config: str, file_name: str
) -> Fault:
    """The fault of labels that are not known.

    Args:
        first: One of them.
        shown: The first few, and where.
        names: Those that are known.
        path_in_config: The subject.
        file_name: Named in it.
    """
    are_ids = _numbers_are_ids(names)
    numeric = integer_in(first) is not None and are_ids
    span = f" or a number from 0 to {len(names) - 1}" if are_ids else ""
    return Fault(
        path_in_config,
        f"must have labels out of {_listed(names)}{span} (task.labels), got in {file_name} {shown}."
        + ("" if numeric else did_you_mean(first, names)),
    )


def missing_labels(
    rows: NDArray[np.intp],
    path_in_config: str,
    file_name: str,
    place: Callable[[int], str] = row_place,
) -> Fault:
    """The fault of rows without a label where each must have one."""
    shown = named_few([place(int(row)) for row in rows[:3]], len(rows))
    return Fault(
        path_in_config,
        f"must have a label in every row, got none in {file_name}, {shown}. "
        "Put rows without a label under data.unlabelled, or leave them out (data.incomplete_rows: drop).",
    )


def _numbers_are_ids(names: Sequence[str]) -> bool:
    """Whether a number that is no name counts into the names."""
    return all(integer_in(name) is None for name in names) or all(
        name == str(number) for number, name in enumerate(names)
    )


def _number(value: str, by_name: dict[str, int], numbers_are_ids: bool) -> int:
    number = integer_in(value)
    if value in by_name:
        return by_name[value]
    if not value.strip() or number == NO_LABEL:
        return NO_LABEL
    if number is None:
        return _UNKNOWN
    if numbers_are_ids:
        return number if 0 <= number < len(by_name) else _UNKNOWN
    return by_name.get(str(number), _UNKNOWN)


def integer_in(value: str) -> int | None:
    """The number that a cell spells; pandas writes "1.0" when other cells are empty."""
    match = _INTEGER.fullmatch(value.strip())
    return int(match[1]) if match and match[1].isascii() else None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LABELS_NAMED
    return ", ".join(names[:_MAX_LABELS_NAMED]) + (f", … ({more} more)" if more > 0 else "")
