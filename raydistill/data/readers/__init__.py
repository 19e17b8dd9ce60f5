"""From a file to columns of text, exactly as they stand in the file.

Why two readers for a format: Arrow's reader is fast and keeps a file of gigabytes out of Python
objects, but it says "JSON parse error: Missing a comma in row 0 of some block", and it refuses some
files that are fine (an array, labels of mixed kinds, a row longer than a block). So the fast reader
is asked first; where it refuses, the careful one reads line by line and either succeeds or names
every faulty line. Types are never guessed: "123", "null", "NA" and "2020-01-01" are texts.
"""

from raydistill.data.readers.cells import Columns
from raydistill.data.readers.chunks import CHUNK_ROWS, Chunk, read_chunks
from raydistill.data.readers.columns import read_columns
from raydistill.data.readers.reading import Cells, Skip, Wanted, absent_roles

__all__ = [
    "CHUNK_ROWS",
    "Cells",
    "Chunk",
    "Columns",
    "Skip",
    "Wanted",
    "absent_roles",
    "read_chunks",
    "read_columns",
]
