"""Where in a window of a context the answer to a question starts and ends."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.models import tokenize_spans
from raydistill.models.spans import lay_out, merge_targets
from raydistill.tasks.batch import Batch
from raydistill.tasks.questions import Answering, Questions
from raydistill.tasks.tagging import UNMAPPED
from raydistill.tasks.task import TextTask

__all__ = ["QuestionAnswering"]


class QuestionAnswering(TextTask):
    """Questions with windows: labels ``[2 B]`` int64, classes of start and end of each row, -100 where nobody says.

    Args:
        table: Columns ``text`` (question), ``text_pair`` (window), ``label`` (classes of start and end), ``size`` (units of
            the window), ``question`` (its number), ``id``, ``answers``, ``row_id``, ``route`` (optional), and
            ``unmapped.NAME`` of teachers whose tokenizers do not see all units (optional).
        labels: The names of the outputs.
        teachers: Names of all; a unit is compared where all see it.
    """

    kind = "question_answering"

    def __init__(
        self, table: pa.Table, labels: Sequence[str], teachers: Sequence[str] = ()
    ) -> None:
        super().__init__(table, labels)
        self._unmapped = [
            name for name in (f"{UNMAPPED}{one}" for one in teachers) if name in table.column_names
        ]
        self._questions = cache(self._find_questions)

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows, tokenized for the student.

        Args:
            rows: Positions in the table.
            tokenizer: The student's.
            max_tokens: All rows fit in.
            filler: The rows only fill the place of none.
        """
        part = self._part(rows)
        ids, columns = self._of_part(part)
        texts = [[cell for cell in column if isinstance(cell, str)] for column in columns]
        inputs, pieces = tokenize_spans(tokenizer, texts, max_tokens, ids)
        for name in self._unmapped:
            pieces = replace(pieces, shared=pieces.shared & ~_marked(part[name], part["size"]))
        route = None
        if "route" in part.column_names:
            route = torch.tensor(part["route"].to_pylist(), dtype=torch.int64).repeat_interleave(2)
        return Batch(
            row_ids=ids,
            texts=columns,
            inputs=inputs,
            labels=_in_pieces(self._labels_of(part["label"]), pieces.mapped, part["size"]),
            counts=torch.full((2 * len(rows),), not filler, dtype=torch.bool),
            route=route,
            spans=pieces,
        )

    def route(self) -> Tensor | None:
        """Of both sides of all rows the place of the one teacher that speaks, -1: all; None: all everywhere."""
        of_rows = super().route()
        return None if of_rows is None else of_rows.repeat_interleave(2)

    def places(self, rows: Sequence[int]) -> Tensor:
        """Where the places of some windows stand among all, ``[n]`` int64: no answer, other pieces, units."""
        begins = self.questions().begins
        of_rows = [np.arange(begins[row], begins[row + 1]) for row in rows]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *of_rows]))

    def questions(self) -> Questions:
        """All of them."""
        return self._questions()

    def _find_questions(self) -> Questions:
        table = self._table
        numbers = table["question"].to_numpy()
        question = np.cumsum(np.concatenate([[0], numbers[1:] != numbers[:-1]])).astype(np.int64)
        _, first = np.unique(question, return_index=True)
        of_first = table.select(["id", "answers", "label"]).take(pa.array(first)).to_pylist()
        return Questions(
            table["size"].to_numpy().astype(np.int64),
            question,
            table["text_pair"].to_pylist(),
            [row["id"] for row in of_first],
            [None if min(row["label"]) < 0 else row["answers"] for row in of_first],
            Answering.of(table),
        )

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        flat = pc.list_flatten(column).to_numpy()
        return torch.from_numpy(flat.astype(np.int64))


def _marked(unmapped: pa.ChunkedArray, sizes: pa.ChunkedArray) -> Tensor:
    """Units that lists of rows name, ``[U]`` bool."""
    ends = np.cumsum([0, *sizes.to_pylist()])
    found = torch.zeros(int(ends[-1]), dtype=torch.bool)
    for begin, units in zip(ends, unmapped.to_pylist(), strict=False):
        found[[int(begin) + unit for unit in units]] = True
    return found


def _in_pieces(labels: Tensor, mapped: Tensor, sizes: pa.ChunkedArray) -> Tensor:
    """Classes as the student's pieces have them: a unit without a start of its own is part of another."""
    number = torch.tensor(sizes.to_pylist())
    row = torch.arange(len(number)).repeat_interleave(number)
    _, kept = lay_out(mapped[:, :2].float(), torch.zeros(len(number), 4), mapped[:, :2], row)
    moved = merge_targets(kept).gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.where(labels < 0, labels, moved)
