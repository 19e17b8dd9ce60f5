"""One file as a stream of columns: some rows at a time, from its beginning to its end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from raydistill.data.files import DataFile
from raydistill.data.readers.cells import TEXT, Columns
from raydistill.data.readers.csv_rows import csv_lines
from raydistill.data.readers.json_rows import json_lines
from raydistill.data.readers.parquet import parquet_chunks
from raydistill.data.readers.reading import Cells, Reading, Skip, Wanted

__all__ = ["CHUNK_ROWS", "Chunk", "read_chunks"]

CHUNK_ROWS = 1024


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        columns: By role, ``large_string``.
        place: How to name a row, by its number in the chunk.
    """

    columns: Columns
    place: Callable[[int], str]

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.columns["text"])


def read_chunks(
    file: DataFile,
    wanted: Wanted,
    *,
    path_in_config: str,
    skip: Skip,
    cells: Cells = "class",
    labels: Sequence[str] | None = None,
) -> Iterator[Chunk]:
    """The wanted columns of one file, a chunk at a time.

    Args:
        file: Of one of the known suffixes.
        wanted: Role to the column's name.
        path_in_config: The subject of faults.
        skip: Rows to pass over; what the file has not is left.
        cells: What columns of labels hold.
        labels: Names of the classes, if they are known.

    Yields:
        Chunks of at least one row.

    Raises:
        ConfigError: The first fault that is met, with its place.
    """
    reading = Reading(file, wanted, path_in_config, cells, labels)
    if file.suffix == ".parquet":
        for first, columns in parquet_chunks(reading, skip, CHUNK_ROWS):
            yield Chunk(columns, lambda row, first=first: f"row {first + row + 1}")  # type: ignore[misc]
        return
    lines = csv_lines if file.suffix in {".csv", ".tsv"} else json_lines
    places: list[str] = []
    rows: list[Sequence[str | None]] = []
    for place, row in lines(reading, skip):
        places.append(place)
        rows.append(row)
        if len(rows) == CHUNK_ROWS:
            yield _chunk(wanted, places, rows)
            places, rows = [], []
    if rows:
        yield _chunk(wanted, places, rows)


def _chunk(wanted: Wanted, places: list[str], rows: list[Sequence[str | None]]) -> Chunk:
    columns = {
        role: pa.chunked_array([pa.array([row[i] for row in rows], TEXT)])
        for i, role in enumerate(wanted)
    }
    return Chunk(columns, places.__getitem__)
