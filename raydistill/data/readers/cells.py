"""Cells of a file as columns of text."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.checks import setting_of
from raydistill.data.readers.reading import Cells, Reading, Wanted, cells_of, is_name
from raydistill.errors import Fault

__all__ = [
    "BLOCK_BYTES",
    "TEXT",
    "Building",
    "Columns",
    "as_text",
    "as_texts",
    "is_list",
    "spelled",
    "type_faults",
    "with_larger_blocks",
]

TEXT = pa.large_string()
BLOCK_BYTES = (1 << 24, 1 << 30)  # the second for rows that are longer than a block
_CHUNK_ROWS = 65_536

Columns = dict[str, pa.ChunkedArray]  # role -> large_string


class Building:
    """Columns that grow row by row; now and then rows become Arrow arrays, to stay small."""

    def __init__(self, reading: Reading) -> None:
        self._roles = list(reading.wanted)
        self._cells: list[list[str | None]] = [[] for _ in self._roles]
        self._chunks: list[list[pa.Array]] = [[] for _ in self._roles]

    def add(self, row: Sequence[str | None]) -> None:
        """One cell a role."""
        for cells, value in zip(self._cells, row, strict=True):
            cells.append(value)
        if self._cells and len(self._cells[0]) >= _CHUNK_ROWS:
            self._flush()

    def done(self) -> Columns:
        """All that was added."""
        self._flush()
        return {
            role: pa.chunked_array(chunks, type=TEXT)
            for role, chunks in zip(self._roles, self._chunks, strict=True)
        }

    def _flush(self) -> None:
        for cells, chunks in zip(self._cells, self._chunks, strict=True):
            chunks.append(pa.array(cells, type=TEXT))
            cells.clear()


def type_faults(
    wanted: Wanted, schema: pa.Schema, *, name: str, path_in_config: str, cells: Cells = "class"
) -> list[Fault]:
    """One for each wanted column that holds neither text nor what its role may hold."""
    return [
        Fault(
            path_in_config,
            f"must hold {_many(role, cells_of(role, cells))} in column {column!r} "
            f"({setting_of(role)}), got {schema.field(column).type} in {name}.",
        )
        for role, column in wanted.items()
        if not _readable(schema.field(column).type, role, cells_of(role, cells))
    ]


def _many(role: str, cells: Cells) -> str:
    named = {
        "class": "names or numbers",
        "list": "lists of names or numbers, or text",
        "texts": "lists of texts, or text",
        "record": "objects with lists, or text",
    }
    return named.get(cells, "numbers") if is_name(role) else "text"


def _readable(kind: pa.DataType, role: str, cells: Cells) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    if text or pa.types.is_null(kind) or not is_name(role):
        return bool(text or pa.types.is_null(kind))
    if cells == "record":
        return bool(pa.types.is_struct(kind) or is_list(kind))
    if cells == "list":
        return is_list(kind) and _readable(kind.value_type, role, "class")
    if cells == "texts":  # objects with a text, too, and what else there is is named row by row
        return is_list(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    other = pa.types.is_decimal if cells == "number" else pa.types.is_boolean
    return bool(number or other(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether cells of this type are lists, of one length or of any."""
    kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return any(is_one(kind) for is_one in kinds)


def as_texts(table: pa.Table, wanted: Wanted, cells: Cells) -> Columns:
    """The wanted columns of a table, spelled out."""
    return {role: as_text(table[name], cells_of(role, cells)) for role, name in wanted.items()}


def as_text(column: pa.ChunkedArray, cells: Cells) -> pa.ChunkedArray:
    """Spelled out: true and false are "1" and "0", a list or an object is JSON, NaN is null unless numbers are wanted."""
    if is_list(column.type) or pa.types.is_struct(column.type):
        texts = [None if v is None else spelled(v, cells) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, type=TEXT)], type=TEXT)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_floating(column.type) and cells != "number":
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(TEXT)


def spelled(value: Any, cells: Cells) -> str | None:
    """A label as text, as :func:`as_text` spells it."""
    if isinstance(value, list | dict):
        return json.dumps(value, default=lambda _: None)  # of Parquet: bytes, dates
    if isinstance(value, int):
        return str(int(value))
    if cells == "number":
        return str(value)
    if math.isnan(value):
        return None
    # A class number is "1", whether a file has 1 or, where other cells are empty, 1.0.
    text: str = pa.scalar(value, pa.float64()).cast(TEXT).as_py()
    return text


def with_larger_blocks(read: Any) -> pa.Table:
    """What ``read`` gives for a size of blocks; once more with another, where a row is longer."""
    try:
        return read(BLOCK_BYTES[0])
    except pa.ArrowInvalid as error:
        if "block" not in str(error):
            raise
        return read(BLOCK_BYTES[1])
