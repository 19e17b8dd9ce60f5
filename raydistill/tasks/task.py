"""Rows of texts with their labels: what a student is trained and measured on."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.config.task import TaskKind
from raydistill.models import tokenize
from raydistill.tasks.batch import Batch
from raydistill.tasks.queries import QueryGroups
from raydistill.tasks.questions import Questions
from raydistill.tasks.rows import TextRows

__all__ = ["TextTask"]


class TextTask(TextRows):
    """Rows of one or two texts and their labels.

    Args:
        table: Columns ``text``, ``text_pair`` (optional), ``label``, ``row_id`` and ``route`` (optional).
        labels: Names of the outputs in order.
    """

    kind: ClassVar[TaskKind]

    def __init__(self, table: pa.Table, labels: Sequence[str]) -> None:
        super().__init__(table)
        self.labels = tuple(labels)

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
        part = self._part(rows)
        ids, texts = self._of_part(part)
        return Batch(
            row_ids=ids,
            texts=texts,
            inputs=tokenize(tokenizer, texts, max_tokens),
            labels=self._labels_of(part["label"]),
            counts=torch.full((len(rows),), not filler, dtype=torch.bool),
            route=_route(part),
        )

    def hard_labels(self) -> Tensor:
        """Labels of all rows, as in a batch."""
        return self._labels_of(self._table["label"])

    def places(self, rows: Sequence[int]) -> Tensor:
        """Where the labels of some rows stand among all, ``[n]`` int64: a place for each row."""
        return torch.tensor(list(rows), dtype=torch.int64)

    def sentences(self) -> Tensor | None:
        """The row that each label is of, ``[U]``; None: each row has one."""
        return None

    def route(self) -> Tensor | None:
        """Of all rows the place of the one teacher that speaks, ``[N]``, -1: all; None: all everywhere."""
        return _route(self._table)

    def queries(self) -> QueryGroups | None:
        """Which rows are candidates of the same query; None: rows are no candidates."""
        return None

    def questions(self) -> Questions | None:
        """Which rows are windows of the same question; None: rows are no windows."""
        return None

    @abstractmethod
    def _labels_of(self, column: pa.ChunkedArray) -> Tensor: ...


def _route(table: pa.Table) -> Tensor | None:
    if "route" not in table.column_names:
        return None
    return torch.tensor(table["route"].to_pylist(), dtype=torch.int64)
