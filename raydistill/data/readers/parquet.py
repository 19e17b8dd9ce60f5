"""Parquet."""

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.data.readers.cells import Columns, as_text, type_faults
from raydistill.data.readers.reading import Reading
from raydistill.errors import ConfigError

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
    faults = type_faults(reading.wanted, schema, name=name, path_in_config=reading.path_in_config)
    if faults:
        raise ConfigError(faults)
    columns = list(dict.fromkeys(reading.wanted.values()))
    table = file.read(columns=columns)
    return {role: as_text(table[column]) for role, column in reading.wanted.items()}
