"""One label for a text, or for a pair of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.models import tokenize
from raydistill.tasks.batch import Batch

__all__ = ["TextClassification"]


class TextClassification:
    """Rows of one or two texts and a class.

    Args:
        table: Columns ``text``, ``text_pair`` (optional), ``label`` (-100: none), ``row_id``, ``route``
            (optional).
        labels: Names of the classes in order.
    """

    def __init__(self, table: pa.Table, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._columns = [name for name in ("text", "text_pair") if name in table.column_names]
        self._table = table.combine_chunks()

    @property
    def num_rows(self) -> int:
        """All rows."""
        return int(self._table.num_rows)

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows, tokenized for the student.

        Args:
            rows: Positions in the table.
            tokenizer: The student's.
            max_tokens: Longer rows are cut.
            filler: The rows only fill the place of none.
        """
        part = self._table.take(pa.array(rows, type=pa.int64()))
        texts = tuple(tuple(part[name].to_pylist()) for name in self._columns)
        return Batch(
            row_ids=tuple(part["row_id"].to_pylist()),
            texts=texts,
            inputs=tokenize(tokenizer, texts, max_tokens),
            labels=torch.tensor(part["label"].to_pylist(), dtype=torch.int64),
            counts=torch.full((len(rows),), not filler, dtype=torch.bool),
            route=_route(part),
        )

    def texts(self, rows: Sequence[int]) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
        """Ids and texts of some rows, for a teacher alone."""
        part = self._table.take(pa.array(rows, type=pa.int64()))
        return tuple(part["row_id"].to_pylist()), tuple(
            tuple(part[n].to_pylist()) for n in self._columns
        )

    def lengths(self) -> NDArray[np.int64]:
        """Characters of all rows, ``[N]``: they stand for tokens where rows of like length are sought."""
        columns = [pc.utf8_length(self._table[name]).to_numpy() for name in self._columns]
        return np.asarray(np.sum(columns, axis=0), dtype=np.int64)

    def hard_labels(self) -> Tensor:
        """Labels of all rows, ``[N]``."""
        return torch.tensor(self._table["label"].to_pylist(), dtype=torch.int64)

    def route(self) -> Tensor | None:
        """Of all rows the place of the one teacher that speaks, ``[N]``, -1: all; None: all everywhere."""
        return _route(self._table)


def _route(table: pa.Table) -> Tensor | None:
    if "route" not in table.column_names:
        return None
    return torch.tensor(table["route"].to_pylist(), dtype=torch.int64)
