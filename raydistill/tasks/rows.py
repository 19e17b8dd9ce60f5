"""Rows of one or two texts, whatever is learnt from them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["TextRows"]


class TextRows:
    """Rows of one or two texts.

    Args:
        table: Columns ``text``, ``text_pair`` (optional), ``row_id``; others are not read.
    """

    def __init__(self, table: pa.Table) -> None:
        self._columns = [name for name in ("text", "text_pair") if name in table.column_names]
        self._table = table.combine_chunks()

    @property
    def num_rows(self) -> int:
        """All rows."""
        return int(self._table.num_rows)

    def texts(self, rows: Sequence[int]) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
        """Ids and texts of some rows, for a teacher alone."""
        return self._of_part(self._part(rows))

    def lengths(self) -> NDArray[np.int64]:
        """Characters of all rows, ``[N]``: they stand for tokens where rows of like length are sought."""
        columns = [pc.utf8_length(self._table[name]).to_numpy() for name in self._columns]
        return np.asarray(np.sum(columns, axis=0), dtype=np.int64)

    def _part(self, rows: Sequence[int]) -> pa.Table:
        return self._table.take(pa.array(rows, type=pa.int64()))

    def _of_part(self, part: pa.Table) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
        texts = tuple(tuple(part[name].to_pylist()) for name in self._columns)
        return tuple(part["row_id"].to_pylist()), texts
