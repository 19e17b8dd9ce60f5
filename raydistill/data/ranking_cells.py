"""Columns of files about queries and passages, cell by cell."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from itertools import islice
from typing import Any, TextIO

import pyarrow.parquet as pq

from raydistill.data.checks import HALF_PAIR, has_half_pair
from raydistill.data.hub import DatasetSplit
from raydistill.data.parts import Part
from raydistill.data.readers import Cells, Columns, Wanted, read_columns
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS

__all__ = [
    "file_columns",
    "grade_of",
    "ids_of",
    "is_below_zero",
    "named_columns",
    "passages_of",
    "ranking_rows",
    "titled",
]

_PEEK_ROWS = 1000
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BELOW_ZERO = re.compile(r"-0*[1-9]\d*(\.0*)?")
_MOST = 1e6
_TEXTS = frozenset({"query", "passage", "title", "text"})
"""Columns that hold text; the others may hold numbers, too."""
_BEIR = {
    "doc_id": ("corpus-id", "_id"),
    "query_id": ("query-id", "_id"),
    "query": ("text",),
    "relevance": ("score",),
}
"""What the files of BEIR's data sets have in place of the names that are usual here."""
_OF_TEXTS = frozenset({"positives", "negatives"})
_OF_IDS = frozenset({"positive_ids", "negative_ids", "candidates"})


def named_columns(
    columns: Mapping[str, str], there: Sequence[str], names: Sequence[str]
) -> dict[str, str]:
    """What columns are called in one file: as written, or as BEIR calls them if that is not there.

    Args:
        columns: Names of columns, by what they hold.
        there: Those of the file.
        names: Whose names are wanted.

    Example:
        >>> named_columns({"doc_id": "doc_id", "text": "text"}, ["_id", "text"], ["doc_id", "text"])
        {'doc_id': '_id', 'text': 'text'}
    """
    found = {}
    for name in names:
        tried = (columns[name], *_BEIR.get(name, ()))
        found[name] = next((one for one in tried if one in there), columns[name])
    return found


def file_columns(file: Part) -> list[str]:
    """Names of the columns, as far as the first rows tell; none of a file that cannot be read."""
    if isinstance(file, DatasetSplit):
        return list(file.features)
    try:
        if file.suffix == ".parquet":
            with file.open_anywhere() as content:
                return list(pq.read_schema(content).names)
        with TextIOWrapper(file.open(), encoding="utf-8-sig", newline="") as lines:
            if file.suffix in (".csv", ".tsv"):
                mark = "," if file.suffix == ".csv" else "\t"
                return next((row for row in csv.reader(lines, delimiter=mark) if row), [])
            return _json_columns(lines)
    except (*PLACE_ERRORS, ValueError, RecursionError, csv.Error):
        return []


def _json_columns(lines: TextIO) -> list[str]:
    """Keys of the first objects; what else stands there is named where rows are read."""
    found: dict[str, None] = {}
    text = lines.readline()
    while text and not text.strip():
        text = lines.readline()
    if text.lstrip().startswith("["):
        rows = json.loads(text + lines.read())[:_PEEK_ROWS]
    else:
        rows = [_json_or_none(line) for line in (text, *islice(lines, _PEEK_ROWS))]
    for row in rows:
        found.update(dict.fromkeys(row) if isinstance(row, dict) else {})
    return list(found)


def _json_or_none(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def ranking_rows(
    file: Part, columns: Mapping[str, str], *, path_in_config: str
) -> list[dict[str, str | None]]:
    """The cells of a file as text, row by row; a list is JSON.

    Args:
        file: What is read.
        columns: What is wanted, to its name there.
        path_in_config: The subject of faults.

    Raises:
        ConfigError: Every fault of the file.
    """
    found: dict[str, list[str | None]] = {}
    faults: list[Fault] = []
    of_kinds: list[tuple[Cells, list[str]]] = [
        ("class", [name for name in columns if _plain(name) not in _OF_TEXTS | _OF_IDS]),
        ("list", [name for name in columns if name in _OF_IDS]),
        ("texts", [name for name in columns if _plain(name) in _OF_TEXTS]),
    ]
    for cells, names in of_kinds:
        roles = {n: f"{'text' if n in _TEXTS else 'label'}:columns.{n}" for n in names}
        if not roles:
            continue
        try:
            read = _read(
                file, {roles[name]: columns[name] for name in names}, path_in_config, cells
            )
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
            continue
        found |= {name: read[roles[name]].to_pylist() for name in names}
    if faults:
        raise ConfigError(faults)
    each = zip(*(found[name] for name in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in each]


def _plain(role: str) -> str:
    """Of one column of several, what they hold."""
    return role.partition(".")[0]


def _read(file: Part, wanted: Wanted, path_in_config: str, cells: Cells) -> Columns:
    """Some columns, all of whose roles have cells of one kind."""
    if isinstance(file, DatasetSplit):
        return file.read(wanted, labels=None, path_in_config=path_in_config, cells=cells)
    return read_columns(file, wanted, path_in_config=path_in_config, cells=cells)


def ids_of(cell: str | None) -> tuple[list[str], str | None]:
    """Ids in a cell, and what else stands among them; a text that is no list is one id.

    Example:
        >>> ids_of('["a", 2]'), ids_of("a"), ids_of("[null]")
        ((['a', '2'], None), (['a'], None), ([], 'null'))
    """
    items = _items(cell)
    sound = [str(i) for i in items if isinstance(i, str | int | float) and not isinstance(i, bool)]
    odd = [item for item in items if isinstance(item, bool | list | dict) or item is None]
    return sound, _named(odd[0]) if odd else None


def passages_of(
    cell: str | None, *, title: str = "title", text: str = "text"
) -> tuple[list[str], str | None]:
    """Texts in a cell, and what else stands among them; a text that is no list of JSON is one passage.

    Args:
        cell: A list of texts, or of objects; or a text.
        title: In an object: stands before the text, where there is one.
        text: In an object: the text.

    Example:
        >>> (
        ...     passages_of('["a", {"title": "b", "text": "c"}]'),
        ...     passages_of("[1] a"),
        ...     passages_of("[1]"),
        ... )
        ((['a', 'b c'], None), (['[1] a'], None), ([], 'a number'))
    """
    sound: list[str] = []
    for item in _items(cell):
        parts = [item]
        if isinstance(item, dict):
            if not isinstance(item.get(text), str):
                return sound, f"an object without a text {text!r}"
            parts = [item.get(title) or "", item[text]]
        for part in parts:
            if not isinstance(part, str):
                return sound, _named(part)
            if has_half_pair(part):
                return sound, HALF_PAIR
        sound.append(parts[0] if len(parts) == 1 else titled(*parts))
    return sound, None


def titled(title: str | None, text: str | None) -> str:
    """A passage as it is read: its title, where there is one, before its text."""
    return " ".join(part.strip() for part in (title, text) if part).strip()


def _items(cell: str | None) -> list[Any]:
    if cell is None or not cell.strip():
        return []
    if cell.lstrip().startswith("["):
        try:
            items: list[Any] = json.loads(cell)
        except ValueError:
            return [cell]
        except RecursionError:
            return [[]]
        return items
    return [cell]


def _named(item: object) -> str:
    kinds: dict[type, str] = {
        type(None): "null",
        bool: "a truth value",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(item), "a number")


def grade_of(cell: str | None) -> float | None:
    """How relevant: a number of 0 or more, NaN where nothing is written, None for what is neither.

    Example:
        >>> grade_of("2"), grade_of("-1"), grade_of("yes")
        (2.0, None, None)
    """
    if cell is None or not cell.strip():
        return math.nan
    text = {"true": "1", "false": "0"}.get(cell.strip().casefold(), cell.strip())
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if 0 <= value <= _MOST else None


def is_below_zero(cell: str | None) -> bool:
    """Whether a judgement is a whole number below 0, which TREC has for spam and for what nobody looked at.

    Example:
        >>> is_below_zero("-2"), is_below_zero("-0.5"), is_below_zero("0")
        (True, False, False)
    """
    return bool(_BELOW_ZERO.fullmatch((cell or "").strip()))
