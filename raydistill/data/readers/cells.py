"""Cells of a file as columns of text."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.readers.reading import Reading, Wanted
from raydistill.errors import Fault

__all__ = [
    "BLOCK_BYTES",
    "TEXT",
    "Building",
    "Columns",
    "as_text",
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
    wanted: Wanted, schema: pa.Schema, *, name: str, path_in_config: str
) -> list[Fault]:
    """One for each wanted column that holds neither text nor, for labels, numbers."""
    return [
        Fault(
            path_in_config,
            f"must hold {'names or numbers' if role == 'label' else 'text'} in column {column!r} "
            f"(task.{role}), got {schema.field(column).type} in {name}.",
        )
        for role, column in wanted.items()
        if not _readable(schema.field(column).type, role)
    ]


def _readable(kind: pa.DataType, role: str) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return text or pa.types.is_null(kind) or (role == "label" and number)


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Spelled out: true and false are "1" and "0", NaN is null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(TEXT)


def with_larger_blocks(read: Any) -> pa.Table:
    """What ``read`` gives for a size of blocks; once more with another, where a row is longer."""
    try:
        return read(BLOCK_BYTES[0])
    except pa.ArrowInvalid as error:
        if "block" not in str(error):
            raise
        return read(BLOCK_BYTES[1])
