"""Parquet."""

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.data.readers.cells import Columns, as_text
from raydistill.data.readers.reading import Reading
from raydistill.errors import ConfigError, Fault

__all__ = ["parquet_columns"]


def parquet_columns(reading: Reading) -> Columns:
    """The wanted columns, no others are read."""
    name = reading.file.name
    try:
        with reading.file.open_anywhere() as file:
            return _columns(reading, pq.ParquetFile(file, pre_buffer=True))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise reading.refuse(f"must be a readable Parquet file, got {name}: {reason}.") from error


def _columns(reading: Reading, file: pq.ParquetFile) -> Columns:
    schema, name = file.schema_arrow, reading.file.name
    reading.require_columns(schema.names)
    faults = [
        Fault(
            reading.path_in_config,
            f"must hold {'names or numbers' if role == 'label' else 'text'} in column "
            f"{column!r} "
            f"(task.{role}), got {schema.field(column).type} in {name}.",
        )
        for role, column in reading.wanted.items()
        if not _readable(schema.field(column).type, role)
    ]
    if faults:
        raise ConfigError(faults)
    columns = list(dict.fromkeys(reading.wanted.values()))
    table = file.read(columns=columns)
    return {role: as_text(table[column]) for role, column in reading.wanted.items()}


def _readable(kind: pa.DataType, role: str) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return text or pa.types.is_null(kind) or (role == "label" and number)
