"""One file as columns."""

from collections.abc import Sequence

import pyarrow as pa

from raydistill.data.files import DataFile
from raydistill.data.readers.cells import Columns
from raydistill.data.readers.csv_rows import csv_careful, csv_fast
from raydistill.data.readers.json_rows import json_careful, json_fast
from raydistill.data.readers.parquet import parquet_columns
from raydistill.data.readers.reading import Cells, NotPlainError, Reading, Wanted, require_utf8

__all__ = ["read_columns"]


def read_columns(
    file: DataFile,
    wanted: Wanted,
    *,
    path_in_config: str,
    cells: Cells = "class",
    labels: Sequence[str] | None = None,
) -> Columns:
    """The wanted columns of one file as text.

    Args:
        file: Of one of the known suffixes.
        wanted: Role (``text``, ``text_pair``, ``label``, ``route``, or ``labels.0`` and so on) to the
            column's name.
        path_in_config: The subject of faults.
        cells: What columns of labels hold.
        labels: Names of the classes, if they are known.

    Returns:
        By role, ``large_string``. Numbers of labels and routes are spelled out, true and false are
        "1" and "0", a list is JSON; null where a format knows null, and for NaN unless numbers are wanted.

    Raises:
        ConfigError: Every fault that the careful reader could find in the file.
    """
    if file.suffix == ".parquet":
        return parquet_columns(Reading(file, wanted, path_in_config, cells, labels))
    with file.here() as local:
        return _text_columns(Reading(local, wanted, path_in_config, cells))


def _text_columns(reading: Reading) -> Columns:
    of_cells = reading.file.suffix in {".csv", ".tsv"}
    try:
        return csv_fast(reading) if of_cells else json_fast(reading)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, NotPlainError):
        pass
    require_utf8(reading)
    columns = csv_careful(reading) if of_cells else json_careful(reading)
    reading.raise_problems()
    return columns
