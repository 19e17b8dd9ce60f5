"""From a file to columns of text, exactly as they stand in the file.

Why two readers for a format: Arrow's reader is fast and keeps a file of gigabytes out of Python
objects, but it says "JSON parse error: Missing a comma in row 0 of some block", and it refuses some
files that are fine (an array, labels of mixed kinds, a row longer than a block). So the fast reader
is asked first; where it refuses, the careful one reads line by line and either succeeds or names
every faulty line. Types are never guessed: "123", "null", "NA" and "2020-01-01" are texts.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from raydistill.data.checks import RowFaults, column_list, did_you_mean, setting_of
from raydistill.errors import ConfigError, Fault

__all__ = ["SUFFIXES", "Cells", "Columns", "read_columns", "require_utf8"]

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".tsv")

_TEXT = pa.large_string()
_BOM = b"\xef\xbb\xbf"
_PEEK_ROWS = 1000
_CHUNK_ROWS = 65_536
_BLOCK_BYTES = (1 << 24, 1 << 30)  # the second for rows that are longer than a block
_END_OF_LINE = ("\n", "\r")

Wanted = dict[
    str, str
]  # role (text, text_pair, label, labels.0, route, words, tags) -> name of its column
Cells = Literal["class", "list", "number"]
"""What a column of labels holds: one class (or a yes or no), a list of classes, a number."""
_HOLD: dict[Cells, str] = {
    "class": "a name or a number",
    "list": "a list of names or numbers, or text",
    "number": "a number",
}
Columns = dict[str, pa.ChunkedArray]  # role -> large_string


@dataclass(frozen=True)
class _Source:
    """One file, what is wanted of it, and how to complain about it."""

    path: Path
    wanted: Wanted
    path_in_config: str
    cells: Cells = "class"
    problems: RowFaults = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", RowFaults(self.path_in_config, self.path.name))

    def refuse(self, message: str) -> ConfigError:
        return ConfigError.of(self.path_in_config, message)

    def require_columns(self, there: Sequence[str], hint: str = "") -> None:
        """Raises for each wanted column that is missing or that two columns are called by."""
        faults = []
        for role, column in self.wanted.items():
            if there.count(column) > 1:
                faults.append(
                    Fault(
                        self.path_in_config,
                        f"must hold one column {column!r} ({setting_of(role)}), got "
                        f"{there.count(column)} of that name "
                        f"in {self.path.name}. Rename the others.",
                    )
                )
            elif column not in there:
                faults.append(
                    Fault(
                        self.path_in_config,
                        f"must hold a column {column!r} ({setting_of(role)}), got the columns "
                        f"{column_list(there)} in "
                        f"{self.path.name}.{did_you_mean(column, there)}{hint}",
                    )
                )
        if faults:
            raise ConfigError(faults)


def read_columns(
    path: Path, wanted: Wanted, *, path_in_config: str, cells: Cells = "class"
) -> Columns:
    """The wanted columns of one file as text.

    Args:
        path: An existing file with one of :data:`SUFFIXES`.
        wanted: Role (``text``, ``text_pair``, ``label``, ``route``, or ``labels.0`` and so on) to the
            column's name.
        path_in_config: The subject of faults.
        cells: What columns of labels hold.

    Returns:
        By role, ``large_string``. Numbers of labels and routes are spelled out, true and false are
        "1" and "0", a list is JSON; null where a format knows null, and for NaN unless numbers are wanted.

    Raises:
        ConfigError: Every fault that the careful reader could find in the file.
    """
    source = _Source(path, wanted, path_in_config, cells)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(source)
    try:
        return _csv_fast(source) if suffix in {".csv", ".tsv"} else _json_fast(source)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, _NotPlainError):
        pass
    _require_utf8(source)
    columns = _csv_careful(source) if suffix in {".csv", ".tsv"} else _json_careful(source)
    if source.problems:
        raise ConfigError(source.problems.faults())
    return columns


class _NotPlainError(Exception):
    """The fast reader would refuse or misread this file."""


# JSON ---------------------------------------------------------------------------------------------


def _json_fast(source: _Source) -> Columns:
    keys, kinds = _json_peek(source)
    types = {**dict.fromkeys(source.wanted.values(), _TEXT), **kinds}
    options = pa_json.ParseOptions(
        explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
    )
    table = _with_larger_blocks(
        lambda block: pa_json.read_json(
            source.path, read_options=pa_json.ReadOptions(block_size=block), parse_options=options
        )
    )
    table.validate(full=True)  # the reader does not check UTF-8
    if table.num_rows:
        unseen = {name for name in table.column_names if table[name].null_count == table.num_rows}
        source.require_columns(sorted(keys | (set(table.column_names) - unseen)))
    return {
        role: _as_text(table[name], _cells_of(role, source)) for role, name in source.wanted.items()
    }


def _json_peek(source: _Source) -> tuple[set[str], dict[str, pa.DataType]]:
    """Keys, and the type of each column of names, in the first rows; raises when they are not plain JSON."""
    keys: set[str] = set()
    texts = _texts(source.wanted)
    seen: dict[str, list[Any]] = {
        name: [] for role, name in source.wanted.items() if _is_name(role) and name not in texts
    }
    cells = {name: _cells_of(role, source) for role, name in source.wanted.items()}
    with source.path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number == _PEEK_ROWS:
                break
            if not line.removeprefix(_BOM).strip():
                continue
            try:
                row = json.loads(line.removeprefix(_BOM))
            except ValueError as error:
                raise _NotPlainError from error
            if not isinstance(row, dict):
                raise _NotPlainError
            keys |= row.keys()
            for name, values in seen.items():
                values.append(row.get(name))
    return keys, {name: _json_type(values, cells[name]) for name, values in seen.items()}


def _json_type(values: Sequence[Any], cells: Cells) -> pa.DataType:
    """Of a column's first values; raises when they are of several kinds, or of one not expected."""
    kinds = {type(value) for value in values} - {type(None)}
    types = {str: _TEXT, int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    if cells == "list" and kinds == {list}:
        items = {type(item) for value in values for item in value or ()}
        if len(items) <= 1 and items <= {str, int}:
            return pa.list_(types[items.pop()] if items else _TEXT)
        raise _NotPlainError
    if not kinds:
        return _TEXT
    if kinds == {int, float}:
        return pa.float64()
    refused: dict[Cells, set[type]] = {"class": set(), "list": {int, bool, float}, "number": {bool}}
    if len(kinds) > 1 or not kinds <= types.keys() - refused[cells]:
        raise _NotPlainError
    return types[kinds.pop()]


def _json_careful(source: _Source) -> Columns:
    keys: dict[str, None] = {}
    columns = _Building(source)
    for where, row in _json_rows(source):
        if not isinstance(row, dict):
            source.problems.add("hold one JSON object a row", f"{_kind(row)}", where)
            continue
        keys.update(dict.fromkeys(row))
        columns.add(
            [_json_cell(source, role, row.get(name), where) for role, name in source.wanted.items()]
        )
    try:
        if keys:
            source.require_columns(list(keys))
    except ConfigError as error:
        raise ConfigError([*source.problems.faults(), *error.faults]) from None
    return columns.done()


def _json_cell(source: _Source, role: str, value: Any, where: str) -> str | None:
    cells = _cells_of(role, source)
    rule = f"hold {_HOLD[cells] if _is_name(role) else 'text'} in column {source.wanted[role]!r} ({setting_of(role)})"
    if value is None:
        return None
    if isinstance(value, str):
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return value
        rule = f"hold text in column {source.wanted[role]!r} ({setting_of(role)})"
        source.problems.add(rule, "half of a surrogate pair (\\ud800 … \\udfff)", where)
    elif (
        _is_name(role)
        and isinstance(value, _json_kinds(cells))
        and (cells != "number" or not isinstance(value, bool))
    ):
        return _spelled(value, cells)
    else:
        source.problems.add(rule, _kind(value), where)
    return None


def _json_kinds(cells: Cells) -> tuple[type, ...]:
    return (list,) if cells == "list" else (bool, int, float)


def _spelled(value: Any, cells: Cells) -> str | None:
    """A label as text."""
    if isinstance(value, list):
        return json.dumps(value)
    if value != value and cells != "number":  # NaN  # noqa: PLR0124
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _json_rows(source: _Source) -> Iterator[tuple[str, Any]]:
    """Rows with the place to name; malformed ones are added to the problems."""
    with source.path.open("rb") as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()
    if start.startswith(b"["):
        yield from _json_array(source)
        return
    with source.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if not text:
                continue
            try:
                yield f"line {number}", json.loads(text)
            except (ValueError, RecursionError) as error:
                source.problems.add(
                    "hold one JSON object a line, or one array of objects",
                    "malformed JSON",
                    _at(number, error),
                )


def _at(line: int, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {line} ({error.msg} at column {error.colno})"
    return f"line {line}"


def _json_array(source: _Source) -> Iterator[tuple[str, Any]]:
    """Objects of one array, decoded one by one: only the text of the file is held as a whole."""
    text = source.path.read_text(encoding="utf-8-sig")
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
        source.problems.add(
            "hold a JSON array of objects", "malformed JSON", _at(error.lineno, error)
        )


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


# CSV and TSV --------------------------------------------------------------------------------------


def _csv_fast(source: _Source) -> Columns:
    header = _header(source)
    names = list(dict.fromkeys(source.wanted.values()))
    # The last column tells of a quotation mark that is opened and never closed, see _swallowed.
    include = list(dict.fromkeys([*names, header[-1]]))
    quoted = source.path.suffix.lower() == ".csv"
    table = _with_larger_blocks(
        lambda block: pa_csv.read_csv(
            source.path,
            read_options=pa_csv.ReadOptions(block_size=block),
            parse_options=pa_csv.ParseOptions(
                delimiter="," if quoted else "\t",
                quote_char='"' if quoted else False,
                double_quote=quoted,
                newlines_in_values=quoted,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=include,
                column_types=dict.fromkeys(include, _TEXT),
                strings_can_be_null=False,
            ),
        )
    )
    if quoted and table.num_rows and _swallowed(source, table[header[-1]][-1].as_py()):
        raise _NotPlainError
    return {role: table[column] for role, column in source.wanted.items()}


def _csv_careful(source: _Source) -> Columns:
    header = _header(source)
    indices = [header.index(column) for column in source.wanted.values()]
    columns = _Building(source)
    row: list[str] = []
    begins = line_end = 1
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as lines:
            for row, begins, line_end in _csv_rows(source, lines):  # noqa: B007 (the last is used)
                if len(row) != len(header):
                    source.problems.add(
                        f"have {len(header)} columns in every row, as its header has",
                        "more or fewer",
                        f"line {begins} ({len(row)} column{'s' if len(row) != 1 else ''})",
                        "Put texts with commas or line ends in double quotes, or use .jsonl."
                        if source.path.suffix.lower() == ".csv"
                        else "Replace tabs inside texts, or use .jsonl.",
                    )
                else:
                    columns.add([row[index] for index in indices])
    finally:
        csv.field_size_limit(limit)
    if source.path.suffix.lower() == ".csv" and row and _swallowed(source, row[-1]):
        source.problems.add(
            "close every quotation mark",
            "one that is opened and never closed",
            f"lines {begins} to {line_end}",
        )
    return columns.done()


def _csv_rows(source: _Source, lines: Iterator[str]) -> Iterator[tuple[list[str], int, int]]:
    """Rows behind the header, with their first and last line; empty lines are no rows."""
    reader, begins, header_seen = _csv_reader(source, lines), 1, False
    for row in reader:
        if row and header_seen:
            yield row, begins, reader.line_num
        header_seen = header_seen or bool(row)
        begins = reader.line_num + 1


def _csv_reader(source: _Source, lines: Iterator[str]) -> Any:
    if source.path.suffix.lower() == ".csv":
        return csv.reader(lines)
    return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _header(source: _Source) -> list[str]:
    """The column names, checked; raises when a wanted one is missing."""
    header: list[str] = []
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as lines:
            header = next((row for row in _csv_reader(source, lines) if row), [])
    except (UnicodeDecodeError, csv.Error):
        _require_utf8(source)
    if not header:
        raise source.refuse(
            f"must begin with a line of column names, got an empty file {source.path.name}."
        )
    separators = [
        name
        for mark, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas"))
        if mark in header[0]
    ]
    hint = ""
    if len(header) == 1 and separators:
        hint = (
            f" The line seems to be separated by {separators[0]}; "
            ".csv is separated by commas and .tsv by tabs."
        )
    source.require_columns(header, hint)
    return header


def _swallowed(source: _Source, last_cell: str) -> bool:
    """Whether the file's last cell ran to the end because its quotation mark is never closed.

    Readers take that in silence and all rows behind the mark become one text. Only quoted cells
    hold a line end, and a closed one ends in a quotation mark.
    """
    if not any(mark in last_cell for mark in _END_OF_LINE):
        return False
    with source.path.open("rb") as file:
        file.seek(max(0, source.path.stat().st_size - 4096))
        return not file.read().rstrip(b"\r\n").endswith(b'"')


# Parquet ------------------------------------------------------------------------------------------


def _parquet(source: _Source) -> Columns:
    name = source.path.name
    try:
        schema = pq.read_schema(source.path, memory_map=True)
        source.require_columns(schema.names)
        faults = [
            Fault(
                source.path_in_config,
                f"must hold {_many(role, _cells_of(role, source))} in column {column!r} ({setting_of(role)}), got "
                f"{schema.field(column).type} in {name}.",
            )
            for role, column in source.wanted.items()
            if not _readable(schema.field(column).type, role, _cells_of(role, source))
        ]
        if faults:
            raise ConfigError(faults)
        columns = list(dict.fromkeys(source.wanted.values()))
        table = pq.read_table(source.path, columns=columns, memory_map=True)
        return {
            role: _as_text(table[name], _cells_of(role, source))
            for role, name in source.wanted.items()
        }
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise source.refuse(f"must be a readable Parquet file, got {name}: {reason}.") from error


def _many(role: str, cells: Cells) -> str:
    named = {"class": "names or numbers", "list": "lists of names or numbers, or text"}
    return named.get(cells, "numbers") if _is_name(role) else "text"


def _readable(kind: pa.DataType, role: str, cells: Cells) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    if text or pa.types.is_null(kind) or not _is_name(role):
        return bool(text or pa.types.is_null(kind))
    if cells == "list":
        return _is_list(kind) and _readable(kind.value_type, role, "class")
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    other = pa.types.is_decimal if cells == "number" else pa.types.is_boolean
    return bool(number or other(kind))


# Shared -------------------------------------------------------------------------------------------


class _Building:
    """Columns that grow row by row; now and then rows become Arrow arrays, to stay small."""

    def __init__(self, source: _Source) -> None:
        self._roles = list(source.wanted)
        self._cells: list[list[str | None]] = [[] for _ in self._roles]
        self._chunks: list[list[pa.Array]] = [[] for _ in self._roles]

    def add(self, row: Sequence[str | None]) -> None:
        for cells, value in zip(self._cells, row, strict=True):
            cells.append(value)
        if self._cells and len(self._cells[0]) >= _CHUNK_ROWS:
            self._flush()

    def done(self) -> Columns:
        self._flush()
        return {
            role: pa.chunked_array(chunks, type=_TEXT)
            for role, chunks in zip(self._roles, self._chunks, strict=True)
        }

    def _flush(self) -> None:
        for cells, chunks in zip(self._cells, self._chunks, strict=True):
            chunks.append(pa.array(cells, type=_TEXT))
            cells.clear()


def _as_text(column: pa.ChunkedArray, cells: Cells) -> pa.ChunkedArray:
    if _is_list(column.type):
        lists = (_spelled(value, cells) for value in column.to_pylist() if value is not None)
        texts = [None if null else next(lists) for null in column.is_null().to_pylist()]
        return pa.chunked_array([pa.array(texts, type=_TEXT)], type=_TEXT)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_floating(column.type) and cells != "number":
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(_TEXT)


def _texts(wanted: Wanted) -> list[str]:
    return [column for role, column in wanted.items() if not _is_name(role)]


def _is_name(role: str) -> bool:
    """Whether its cells may be numbers, too."""
    return role.startswith("label") or role in ("route", "words", "tags")


def _cells_of(role: str, source: _Source) -> Cells:
    return "class" if role == "route" else source.cells


def _is_list(kind: pa.DataType) -> bool:
    kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return any(is_one(kind) for is_one in kinds)


def _with_larger_blocks(read: Any) -> pa.Table:
    try:
        return read(_BLOCK_BYTES[0])
    except pa.ArrowInvalid as error:
        if "block" not in str(error):
            raise
        return read(_BLOCK_BYTES[1])


def _require_utf8(source: _Source) -> None:
    require_utf8(source.path, source.path_in_config)


def require_utf8(path: Path, path_in_config: str) -> None:
    """Raises with line and byte offset of the first bytes that are not UTF-8, if there are any.

    Args:
        path: The file.
        path_in_config: The subject of the fault.
    """
    problems, offset = RowFaults(path_in_config, path.name), 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isascii():
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    hint = "Convert it: iconv -f CP1252 -t UTF-8, or save it as UTF-8."
                    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        hint = "It begins like UTF-16: save it as UTF-8."
                        problems.add("be UTF-8", "other bytes", "line 1, byte 0", hint)
                        break
                    where = (
                        f"line {number}, byte {offset + error.start} (0x{line[error.start]:02x})"
                    )
                    problems.add("be UTF-8", "other bytes", where, hint)
            offset += len(line)
    if problems:
        raise ConfigError(problems.faults())
