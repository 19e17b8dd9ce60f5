"""Parquet."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.data.files import DataFile
from raydistill.data.readers.cells import Columns, as_texts, type_faults
from raydistill.data.readers.reading import Reading, Skip
from raydistill.errors import ConfigError
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["feature_names", "parquet_chunks", "parquet_columns", "parquet_names"]

_FEATURES = b"huggingface"  # where `datasets` says in a file what its columns are


def feature_names(feature: Any) -> tuple[str, ...] | None:
    """The names of the classes of a column of `datasets`, or of the items of its lists; None: it has none."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names else None


def parquet_names(file: DataFile, column: str) -> tuple[str, ...] | None:
    """The names of a column's classes, if the file was written by `datasets` and says them.

    A file that cannot be read says nothing here; it is refused where its rows are read.
    """
    try:
        with file.open_anywhere() as opened:
            schema = pq.read_schema(opened)
    except (pa.ArrowException, *PLACE_ERRORS):
        return None
    return _names_in(schema, column)


def _names_in(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    if _FEATURES not in (schema.metadata or {}) or column not in schema.names:
        return None
    from datasets import Features  # takes a second

    return feature_names(Features.from_arrow_schema(schema)[column])


def parquet_columns(reading: Reading) -> Columns:
    """The wanted columns, no others are read."""
    try:
        with reading.file.open_anywhere() as opened:
            file = pq.ParquetFile(opened, pre_buffer=True)
            columns = _wanted_columns(reading, file)
            table = _without_hidden(file.read(columns=columns), reading, file.schema_arrow)
            return as_texts(table, reading.wanted, reading.cells)
    except (pa.ArrowException, OSError) as error:
        raise reading.refuse(_unreadable(reading, error)) from error


def parquet_chunks(reading: Reading, skip: Skip, rows: int) -> Iterator[tuple[int, Columns]]:
    """Some rows at a time, with the number of the first; groups of rows that are passed over are not read."""
    try:
        with reading.file.open_anywhere() as opened:
            file = pq.ParquetFile(opened)
            columns, at = _wanted_columns(reading, file), 0
            for group in range(file.num_row_groups):
                there = file.metadata.row_group(group).num_rows
                if skip.left >= there:
                    at += skip.of(there)
                    continue
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                    table = pa.Table.from_batches([batch])
                    table = _without_hidden(table, reading, file.schema_arrow)
                    passed = skip.of(table.num_rows)
                    if passed < table.num_rows:
                        rest = table.slice(passed)
                        yield at + passed, as_texts(rest, reading.wanted, reading.cells)
                    at += table.num_rows
    except pa.ArrowException as error:
        raise reading.refuse(_unreadable(reading, error)) from error


def _without_hidden(table: pa.Table, reading: Reading, schema: pa.Schema) -> pa.Table:
    """With null in place of negative numbers of classes, which `datasets` writes where there is no label."""
    column = reading.wanted.get("label")
    if column is None or reading.cells != "class" or not pa.types.is_integer(table[column].type):
        return table
    hidden = pc.less(table[column], 0)
    if not pc.any(hidden).as_py() or _names_in(schema, column) is None:
        return table
    seen = pc.if_else(hidden, pa.scalar(None, table[column].type), table[column])
    return table.set_column(table.column_names.index(column), column, seen)


def _unreadable(reading: Reading, error: Exception) -> str:
    return f"must be a readable Parquet file, got {reading.file.name}: {first_line(error)}."


def _wanted_columns(reading: Reading, file: pq.ParquetFile) -> list[str]:
    schema, name = file.schema_arrow, reading.file.name
    reading.require_columns(schema.names)
    faults = type_faults(
        reading.wanted,
        schema,
        name=name,
        path_in_config=reading.path_in_config,
        cells=reading.cells,
    )
    if faults:
        raise ConfigError(faults)
    return list(dict.fromkeys(reading.wanted.values()))
