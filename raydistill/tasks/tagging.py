"""A tag for each word of a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.models import tokenize_words
from raydistill.tasks.batch import Batch
from raydistill.tasks.rows import word_offsets
from raydistill.tasks.task import TextTask

__all__ = ["UNMAPPED", "Tagging"]

UNMAPPED = "unmapped."
"""Prefix of columns that say which words of a row a teacher's tokenizer makes nothing of."""


class Tagging(TextTask):
    """Rows of words with a tag each: labels ``[U]`` int64 of the words of all rows, -100 where there is none.

    Args:
        table: Columns ``words``, ``label`` (as many as words), ``row_id``, ``route`` (optional), and
            ``unmapped.NAME`` of teachers whose tokenizers do not make pieces of all words (optional).
        labels: The tags in order.
        teachers: Names of all, in order; what a batch says about their tokenizers is in this order.
    """

    kind = "tagging"

    def __init__(
        self, table: pa.Table, labels: Sequence[str], teachers: Sequence[str] = ()
    ) -> None:
        super().__init__(table, labels)
        self._teachers = tuple(teachers)
        self._offsets = word_offsets(self._table["words"])

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows, tokenized for the student.

        Args:
            rows: Positions in the table.
            tokenizer: The student's.
            max_tokens: Longer rows are cut; words behind the cut do not count.
            filler: The rows only fill the place of none.
        """
        part = self._part(rows)
        ids, texts = self._of_part(part)
        (words,) = texts
        inputs, pieces = tokenize_words(tokenizer, [tuple(cell) for cell in words], max_tokens)
        route = None
        if "route" in part.column_names:
            route = torch.tensor(part["route"].to_pylist(), dtype=torch.int64)[pieces.row]
        return Batch(
            row_ids=ids,
            texts=texts,
            inputs=inputs,
            labels=self._labels_of(part["label"]),
            counts=torch.zeros_like(pieces.mapped) if filler else pieces.mapped,
            route=route,
            words=pieces,
            answered=self._answered(part, pieces.row),
        )

    def route(self) -> Tensor | None:
        """Of all words the place of the one teacher that speaks, ``[U]``, -1: all; None: all everywhere."""
        of_rows = super().route()
        return None if of_rows is None else of_rows[self.sentences()]

    def places(self, rows: Sequence[int]) -> Tensor:
        """Where the words of some rows stand among all, ``[n]`` int64."""
        of_rows = [np.arange(self._offsets[row], self._offsets[row + 1]) for row in rows]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *of_rows]))

    def sentences(self) -> Tensor:
        """The row of each word, ``[U]``."""
        return torch.arange(self.num_rows).repeat_interleave(
            torch.from_numpy(np.diff(self._offsets))
        )

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        flat = pc.list_flatten(column).to_numpy()
        return torch.from_numpy(flat.astype(np.int64))

    def _answered(self, part: pa.Table, row: Tensor) -> Tensor | None:
        """Which teachers' tokenizers made pieces of which words, ``[M, U]``; None: all of all."""
        columns = [f"{UNMAPPED}{name}" for name in self._teachers]
        if not any(name in part.column_names for name in columns):
            return None
        found = torch.ones(len(columns), len(row), dtype=torch.bool)
        begins = torch.searchsorted(row, torch.arange(part.num_rows))
        for teacher, name in enumerate(columns):
            if name not in part.column_names:
                continue
            for begin, unmapped in zip(begins.tolist(), part[name].to_pylist(), strict=True):
                found[teacher, [begin + word for word in unmapped]] = False
        return found
