"""Candidates of queries, to be put in order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.config.task import TaskKind
from raydistill.data import label_matrix
from raydistill.data.drawing import draw_group
from raydistill.data.order import Rows
from raydistill.tasks.batch import Batch
from raydistill.tasks.queries import QueryGroups
from raydistill.tasks.task import TextTask

__all__ = ["Reranking"]


class Reranking(TextTask):
    """Pairs of query and passage; those of a query are one behind the other: ``[B, 1]`` float32, NaN if unknown.

    Args:
        table: As of every task, and ``group``.
        labels: The name of the score.
    """

    kind: ClassVar[TaskKind] = "reranking"

    def __init__(self, table: pa.Table, labels: Sequence[str]) -> None:
        super().__init__(table, labels)
        self._starts = _starts(self._table["group"].to_numpy())
        self._grades: NDArray[np.float64] = label_matrix(self._table["label"])[:, 0].astype(
            np.float64
        )

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows, tokenized for the student; candidates of a query are seen beside each other."""
        batch = super().batch(rows, tokenizer, max_tokens, filler=filler)
        return replace(batch, group=torch.from_numpy(self._numbers(np.asarray(rows))))

    def _numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each row's query, rising."""
        of = np.searchsorted(self._starts, rows, side="right") - 1
        return np.concatenate([[0], np.cumsum(of[1:] != of[:-1])]).astype(np.int64)

    def queries(self) -> QueryGroups:
        """All of them."""
        missed: Sequence[Sequence[float]] = ()
        if "missed" in self._table.column_names:
            column = self._table["missed"].take(pa.array(self._starts[:-1]))
            missed = tuple(tuple(one) for one in column.to_pylist())
        ordered = "ordered" in self._table.column_names and self._table["ordered"][0].as_py()
        return QueryGroups(self._starts, missed, bool(ordered))

    def draw(self, group: int, *, most: int, positives: int, seed: int, epoch: int) -> Rows:
        """Rows of one query that an epoch shows, see :func:`raydistill.data.drawing.draw_group`."""
        rows = slice(int(self._starts[group]), int(self._starts[group + 1]))
        places = draw_group(
            self._grades[rows], most=most, positives=positives, seed=seed, epoch=epoch, group=group
        )
        return places + rows.start

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        return torch.tensor(label_matrix(column), dtype=torch.float32)


def _starts(groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where a number follows another one, the end included."""
    changes = np.flatnonzero(np.diff(groups)) + 1
    return np.concatenate([[0], changes, [len(groups)]]).astype(np.int64)
