"""Rows of one or two texts, or of words, or questions with windows, whatever is learnt from them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.signals import Cell
from raydistill.signals.ask import Units

__all__ = ["TextRows", "word_offsets"]


class TextRows:
    """Rows of one or two texts, or of words, or questions with windows.

    Args:
        table: Columns ``text``, ``text_pair`` (optional), or ``words``; ``row_id``; ``question``, if ``text_pair`` is a
            window with an answer; others are not read.

    Attributes:
        head: What must be asked of a teacher about them: logits of texts, of words, or of places in windows.
    """

    def __init__(self, table: pa.Table) -> None:
        self._columns = [
            name for name in ("text", "text_pair", "words") if name in table.column_names
        ]
        self._table = table.combine_chunks()
        self.head: Units = "words" if "words" in self._columns else "texts"
        if "question" in table.column_names:
            self.head = "spans"

    @property
    def num_rows(self) -> int:
        """All rows."""
        return int(self._table.num_rows)

    def texts(self, rows: Sequence[int]) -> tuple[tuple[int, ...], tuple[tuple[Cell, ...], ...]]:
        """Ids and texts, or words, of some rows, for a teacher alone."""
        return self._of_part(self._part(rows))

    def lengths(self) -> NDArray[np.int64]:
        """Characters of all rows, ``[N]``: they stand for tokens where rows of like length are sought."""
        columns = [_lengths(self._table[name]) for name in self._columns]
        return np.asarray(np.sum(columns, axis=0), dtype=np.int64)

    def _part(self, rows: Sequence[int]) -> pa.Table:
        return self._table.take(pa.array(rows, type=pa.int64()))

    def _of_part(self, part: pa.Table) -> tuple[tuple[int, ...], tuple[tuple[Cell, ...], ...]]:
        texts = tuple(_cells(part[name]) for name in self._columns)
        return tuple(part["row_id"].to_pylist()), texts


def _cells(column: pa.ChunkedArray) -> tuple[Cell, ...]:
    cells = column.to_pylist()
    return tuple(tuple(cell) if isinstance(cell, list) else cell for cell in cells)


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Characters of each row."""
    if not pa.types.is_large_list(column.type):
        return np.asarray(pc.utf8_length(column).to_numpy(), dtype=np.int64)
    offsets = word_offsets(column)
    ends = np.concatenate([[0], np.cumsum(pc.utf8_length(pc.list_flatten(column)).to_numpy())])
    return np.diff(ends[offsets]) + np.diff(offsets)


def word_offsets(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where the words of each row begin among all, ``[N + 1]``."""
    return np.concatenate([[0], np.cumsum(pc.list_value_length(column).to_numpy())]).astype(
        np.int64
    )
