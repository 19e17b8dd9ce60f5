"""CSV (commas, quotation marks) and TSV (tabs, none)."""

import csv
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.csv as pa_csv

from raydistill.data.readers.cells import TEXT, Building, Columns, with_larger_blocks
from raydistill.data.readers.reading import NotPlainError, Reading, Skip, require_utf8

__all__ = ["csv_careful", "csv_fast", "csv_lines"]

_END_OF_LINE = ("\n", "\r")
_LONGEST_CELL = 1 << 26  # of a stream: behind an unclosed quotation mark the whole rest is one cell


def csv_fast(reading: Reading) -> Columns:
    """By Arrow.

    Raises:
        NotPlainError: It would misread the file.
        pyarrow.ArrowInvalid: It refuses the file.
    """
    header = _header(reading)
    names = list(dict.fromkeys(reading.wanted.values()))
    # The last column tells of a quotation mark that is opened and never closed, see _swallowed.
    include = list(dict.fromkeys([*names, header[-1]]))
    quoted = reading.file.suffix == ".csv"
    table = with_larger_blocks(
        lambda block: pa_csv.read_csv(
            reading.file.path,
            read_options=pa_csv.ReadOptions(block_size=block),
            parse_options=pa_csv.ParseOptions(
                delimiter="," if quoted else "\t",
                quote_char='"' if quoted else False,
                double_quote=quoted,
                newlines_in_values=quoted,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=include,
                column_types=dict.fromkeys(include, TEXT),
                strings_can_be_null=False,
            ),
        )
    )
    if quoted and table.num_rows and _swallowed(reading, table[header[-1]][-1].as_py()):
        raise NotPlainError
    return {role: table[column] for role, column in reading.wanted.items()}


def csv_careful(reading: Reading) -> Columns:
    """Row by row; faulty rows are added to the problems."""
    columns = Building(reading)
    for _, cells in _csv_cells(reading, None, sys.maxsize):
        if cells is not None:
            columns.add(cells)
    return columns.done()


def csv_lines(reading: Reading, skip: Skip) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Row by row, with the place to name; the first faulty one raises."""
    rows = _csv_cells(reading, skip, _LONGEST_CELL)
    try:
        for where, cells in rows:
            if cells is None:
                next(rows, None)  # at the end of the file there may be more to say
                reading.raise_problems()
            else:
                yield where, cells
    except UnicodeDecodeError:
        require_utf8(reading)
    except csv.Error as error:
        message = (
            f"must be readable as {reading.file.suffix[1:]}, got {reading.file.name}: {error}."
        )
        raise reading.refuse(message) from error
    reading.raise_problems()


def _csv_cells(
    reading: Reading, skip: Skip | None, longest: int
) -> Iterator[tuple[str, list[str] | None]]:
    """The wanted cells of each row with the place to name; None for one that is added to the problems."""
    header = _header(reading)
    indices = [header.index(column) for column in reading.wanted.values()]
    row: list[str] = []
    begins = line_end = 1
    limit = csv.field_size_limit(longest)
    try:
        with reading.open_text() as lines:
            for row, begins, line_end in _csv_rows(reading, lines):  # noqa: B007 (the last is used)
                if skip is not None and skip.of(1):
                    continue
                if len(row) == len(header):
                    yield f"line {begins}", [row[index] for index in indices]
                    continue
                reading.problems.add(
                    f"have {len(header)} columns in every row, as its header has",
                    "more or fewer",
                    f"line {begins} ({len(row)} column{'s' if len(row) != 1 else ''})",
                    "Put texts with commas or line ends in double quotes, or use .jsonl."
                    if reading.file.suffix == ".csv"
                    else "Replace tabs inside texts, or use .jsonl.",
                )
                yield f"line {begins}", None
    finally:
        csv.field_size_limit(limit)
    if reading.file.suffix == ".csv" and row and _swallowed(reading, row[-1]):
        reading.problems.add(
            "close every quotation mark",
            "one that is opened and never closed",
            f"lines {begins} to {line_end}",
        )


def _csv_rows(reading: Reading, lines: Iterator[str]) -> Iterator[tuple[list[str], int, int]]:
    """Rows behind the header, with their first and last line; empty lines are no rows."""
    reader, begins, header_seen = _csv_reader(reading, lines), 1, False
    for row in reader:
        if row and header_seen:
            yield row, begins, reader.line_num
        header_seen = header_seen or bool(row)
        begins = reader.line_num + 1


def _csv_reader(reading: Reading, lines: Iterator[str]) -> Any:
    if reading.file.suffix == ".csv":
        return csv.reader(lines)
    return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _header(reading: Reading) -> list[str]:
    """The column names, checked; raises when a wanted one is missing."""
    header: list[str] = []
    try:
        with reading.open_text() as lines:
            header = next((row for row in _csv_reader(reading, lines) if row), [])
    except (UnicodeDecodeError, csv.Error):
        require_utf8(reading)
    if not header:
        raise reading.refuse(
            f"must begin with a line of column names, got an empty file {reading.file.name}."
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
    reading.require_columns(header, hint)
    return header


def _swallowed(reading: Reading, last_cell: str) -> bool:
    """Whether the file's last cell ran to the end because its quotation mark is never closed.

    Readers take that in silence and all rows behind the mark become one text. Only quoted cells
    hold a line end, and a closed one ends in a quotation mark.
    """
    if not any(mark in last_cell for mark in _END_OF_LINE):
        return False
    with reading.file.open_anywhere() as file:
        file.seek(max(0, file.size() - 4096))
        return not file.read().rstrip(b"\r\n").endswith(b'"')
