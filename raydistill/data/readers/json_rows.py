"""JSON: one object a line, or one array of objects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

from raydistill.data.checks import HALF_PAIR, has_half_pair, setting_of
from raydistill.data.readers.cells import (
    TEXT,
    Building,
    Columns,
    as_texts,
    spelled,
    with_larger_blocks,
)
from raydistill.data.readers.reading import (
    BOM,
    Cells,
    NotPlainError,
    Reading,
    Skip,
    cells_of,
    is_name,
)
from raydistill.errors import ConfigError

__all__ = ["PEEK_ROWS", "json_careful", "json_fast", "json_lines"]

PEEK_ROWS = 1000
_MALFORMED = object()
_TOO_DEEP = "lists or objects that are nested too deeply"
_HOLD: Mapping[Cells, str] = {
    "class": "a name or a number",
    "list": "a list of names or numbers, or text",
    "texts": "a list of texts, or text",
    "number": "a number",
    "record": "an object or a list of objects, or text",
}
_KINDS: Mapping[Cells, tuple[type, ...]] = {
    "class": (bool, int, float),
    "list": (list,),
    "texts": (list,),
    "number": (int, float),
    "record": (dict, list),
}
_REFUSED: Mapping[Cells, set[type]] = {
    "class": set(),
    "list": {int, bool, float},
    "texts": {int, bool, float},
    "number": {bool},
    "record": {int, bool, float},
}


def json_fast(reading: Reading) -> Columns:
    """By Arrow.

    Raises:
        NotPlainError: It would misread the file.
        pyarrow.ArrowInvalid: It refuses the file.
    """
    keys, kinds = _json_peek(reading)
    types = {**dict.fromkeys(reading.wanted.values(), TEXT), **kinds}
    options = pa_json.ParseOptions(
        explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
    )
    table = with_larger_blocks(
        lambda block: pa_json.read_json(
            reading.file.path,
            read_options=pa_json.ReadOptions(block_size=block),
            parse_options=options,
        )
    )
    table.validate(full=True)  # the reader does not check UTF-8
    if table.num_rows:
        unseen = {name for name in table.column_names if table[name].null_count == table.num_rows}
        reading.require_columns(sorted(keys | (set(table.column_names) - unseen)))
    return as_texts(table, reading.wanted, reading.cells)


def _json_peek(reading: Reading) -> tuple[set[str], dict[str, pa.DataType]]:
    """Keys, and the type of each column of names, in the first rows; raises when they are not plain JSON."""
    keys: set[str] = set()
    texts = {column for role, column in reading.wanted.items() if not is_name(role)}
    cells = {
        column: cells_of(role, reading.cells)
        for role, column in reading.wanted.items()
        if column not in texts
    }
    seen: dict[str, list[Any]] = {column: [] for column in cells}
    with reading.file.open() as lines:
        for number, line in enumerate(lines):
            if number == PEEK_ROWS:
                break
            if not line.removeprefix(BOM).strip():
                continue
            try:
                row = json.loads(line.removeprefix(BOM))
            except (ValueError, RecursionError) as error:
                raise NotPlainError from error
            if not isinstance(row, dict):
                raise NotPlainError
            keys |= row.keys()
            for column, values in seen.items():
                values.append(row.get(column))
    return keys, {column: _json_type(values, cells[column]) for column, values in seen.items()}


def _json_type(values: Sequence[Any], cells: Cells) -> pa.DataType:
    """Of a column's first values; raises when they are of several kinds, or of one not expected."""
    kinds = {type(value) for value in values} - {type(None)}
    types = {str: TEXT, int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    if cells in ("list", "texts") and kinds == {list}:
        items = {type(item) for value in values for item in value or ()}
        if len(items) <= 1 and items <= {str, int}:
            return pa.list_(types[items.pop()] if items else TEXT)
        raise NotPlainError
    if not kinds:
        return TEXT
    if kinds == {int, float}:
        return pa.float64()
    if len(kinds) > 1 or not kinds <= types.keys() - _REFUSED[cells]:
        raise NotPlainError
    return types[kinds.pop()]


def json_careful(reading: Reading) -> Columns:
    """Row by row; faulty rows are added to the problems."""
    keys: dict[str, None] = {}
    columns = Building(reading)
    for where, row in _json_array(reading) if _is_array(reading) else _json_rows(reading):
        if row is _MALFORMED:
            continue
        if not isinstance(row, dict):
            reading.problems.add("hold one JSON object a row", f"{_kind(row)}", where)
            continue
        keys.update(dict.fromkeys(row))
        columns.add(_json_cells(reading, row, where))
    try:
        if keys:
            reading.require_columns(list(keys))
    except ConfigError as error:
        raise ConfigError([*reading.problems.faults(), *error.faults]) from None
    return columns.done()


def json_lines(reading: Reading, skip: Skip) -> Iterator[tuple[str, list[str | None]]]:
    """Row by row, with the place to name; the first faulty one raises."""
    if _is_array(reading):
        raise reading.refuse(
            f"must hold one JSON object a line to be streamed, got an array in {reading.file.name}. "
            "Write it as .jsonl or .parquet, or set data.streaming: false."
        )
    first = True
    for where, row in _json_rows(reading, skip):
        reading.raise_problems()
        if not isinstance(row, dict):
            reading.problems.add("hold one JSON object a row", f"{_kind(row)}", where)
            reading.raise_problems()
        if first:
            reading.require_columns(list(row))
            first = False
        cells = _json_cells(reading, row, where)
        reading.raise_problems()
        yield where, cells


def _json_cells(reading: Reading, row: dict[str, Any], where: str) -> list[str | None]:
    return [
        _json_cell(reading, role, row.get(name), where) for role, name in reading.wanted.items()
    ]


def _json_cell(reading: Reading, role: str, value: Any, where: str) -> str | None:
    if value is None:
        return None
    cells, kind = cells_of(role, reading.cells), type(value)
    named = f"in column {reading.wanted[role]!r} ({setting_of(role)})"
    if isinstance(value, str):
        if not has_half_pair(value):
            return value
        rule = f"hold text {named}"
        reading.problems.add(rule, HALF_PAIR, where)
    elif is_name(role) and kind in _KINDS[cells]:
        try:
            return spelled(value, cells)
        except RecursionError:
            reading.problems.add(f"hold {_HOLD[cells]} {named}", _TOO_DEEP, where)
    else:
        rule = f"hold {_HOLD[cells] if is_name(role) else 'text'} {named}"
        reading.problems.add(rule, _kind(value), where)
    return None


def _is_array(reading: Reading) -> bool:
    with reading.file.open() as file:
        return file.read(4096).removeprefix(BOM).lstrip().startswith(b"[")


def _json_rows(reading: Reading, skip: Skip | None = None) -> Iterator[tuple[str, Any]]:
    """Rows of lines with the place to name; malformed ones are added to the problems."""
    with reading.file.open() as lines:
        for number, line in enumerate(lines, start=1):
            text = (line.removeprefix(BOM) if number == 1 else line).strip()
            if not text or (skip is not None and skip.of(1)):
                continue
            try:
                row = json.loads(text)
            except UnicodeDecodeError:
                row = _MALFORMED
                reading.problems.add("be UTF-8", "other bytes", f"line {number}")
            except (ValueError, RecursionError) as error:
                reading.problems.add(
                    "hold one JSON object a line, or one array of objects",
                    _TOO_DEEP if isinstance(error, RecursionError) else "malformed JSON",
                    _at(number, error),
                )
                row = _MALFORMED
            yield f"line {number}", row


def _at(line: int, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {line} ({error.msg} at column {error.colno})"
    return f"line {line}"


def _json_array(reading: Reading) -> Iterator[tuple[str, Any]]:
    """Objects of one array, decoded one by one: only the text of the file is held as a whole."""
    with reading.open_text() as file:
        text = file.read()
    decoder, row, at = json.JSONDecoder(), 0, _skip_space(text, 0) + 1
    try:
        at = _skip_space(text, at)
        while not (row == 0 and text.startswith("]", at)):
            value, at = decoder.raw_decode(text, at)
            row += 1
            yield f"row {row}", value
            at = _skip_space(text, at)
            if text.startswith("]", at):
                break
            if not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)  # noqa: TRY301
            at = _skip_space(text, at + 1)
        at = _skip_space(text, at + 1)
        if at < len(text):
            raise json.JSONDecodeError("Extra data behind the array", text, at)  # noqa: TRY301
    except json.JSONDecodeError as error:
        reading.problems.add(
            "hold a JSON array of objects", "malformed JSON", _at(error.lineno, error)
        )
    except RecursionError:
        line = text.count("\n", 0, at) + 1
        reading.problems.add("hold a JSON array of objects", _TOO_DEEP, f"line {line}")


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _kind(value: object) -> str:
    if isinstance(value, (bool, int, float)):
        return "a truth value" if isinstance(value, bool) else "a number"
    if isinstance(value, dict):
        return "an object"
    return "null" if value is None else "an array" if isinstance(value, list) else "a string"
