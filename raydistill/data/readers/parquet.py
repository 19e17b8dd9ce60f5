"""Parquet."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.data.files import DataFile
from raydistill.data.readers.cells import Columns, as_texts, type_faults
from raydistill.data.readers.class_names import ClassReading, feature_names, with_class_names
from raydistill.data.readers.reading import Reading, Skip
from raydistill.errors import ConfigError
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["parquet_chunks", "parquet_columns", "parquet_names"]

_FEATURES = b"huggingface"  # where `datasets` says in a file what its columns are


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
            return _columns(file.read(columns=columns), reading, file.schema_arrow)
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
                    passed = skip.of(table.num_rows)
                    if passed < table.num_rows:
                        rest = table.slice(passed)
                        yield at + passed, _columns(rest, reading, file.schema_arrow)
                    at += table.num_rows
    except pa.ArrowException as error:
        raise reading.refuse(_unreadable(reading, error)) from error


def _columns(table: pa.Table, reading: Reading, schema: pa.Schema) -> Columns:
    """As text; numbers of classes that the file names are their names."""
    known = ClassReading(
        reading.file.name, reading.wanted, reading.cells, reading.labels, reading.path_in_config
    )
    columns = as_texts(table, reading.wanted, reading.cells)
    return with_class_names(columns, table, lambda column: _names_in(schema, column), known)


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
