"""From a file to columns of text, exactly as they stand in the file.

Why two readers for a format: Arrow's reader is fast and keeps a file of gigabytes out of Python
objects, but it says "JSON parse error: Missing a comma in row 0 of some block", and it refuses some
files that are fine (an array, labels of mixed kinds, a row longer than a block). So the fast reader
is asked first; where it refuses, the careful one reads line by line and either succeeds or names
every faulty line. Types are never guessed: "123", "null", "NA" and "2020-01-01" are texts.
"""

from pathlib import Path

import pyarrow as pa

from raydistill.data.readers.cells import Columns
from raydistill.data.readers.csv_rows import csv_careful, csv_fast
from raydistill.data.readers.json_rows import json_careful, json_fast
from raydistill.data.readers.parquet import parquet_columns
from raydistill.data.readers.reading import NotPlainError, Reading, Wanted, require_utf8
from raydistill.errors import ConfigError

__all__ = ["SUFFIXES", "Columns", "read_columns"]

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".tsv")


def read_columns(path: Path, wanted: Wanted, *, path_in_config: str) -> Columns:
    """The wanted columns of one file as text.

    Args:
        path: An existing file with one of :data:`SUFFIXES`.
        wanted: Role (``text``, ``text_pair``, ``label``) to the column's name.
        path_in_config: The subject of faults.

    Returns:
        By role, ``large_string``. Label numbers are spelled out, true and false are "1" and "0";
        null where a format knows null.

    Raises:
        ConfigError: Every fault that the careful reader could find in the file.
    """
    reading = Reading(path, wanted, path_in_config)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return parquet_columns(reading)
    try:
        return csv_fast(reading) if suffix in {".csv", ".tsv"} else json_fast(reading)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, NotPlainError):
        pass
    require_utf8(reading)
    columns = csv_careful(reading) if suffix in {".csv", ".tsv"} else json_careful(reading)
    if reading.problems:
        raise ConfigError(reading.problems.faults())
    return columns
