r"""Queries that see each other's passages: scores of all of them with all, block by block.

A block is :math:`b` consecutive queries of a batch (``training.block_queries``), with the passages of all their rows;
every distinct text is one passage. Blocks are never cut, so what is seen beside each other does not depend on
micro-batches and workers.

Dimensions: B rows, Q queries and P distinct passages of a batch, M teachers that embed texts.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses import PairScorer
from raydistill.tasks import Batch, TextPairs
from raydistill.terms.view import View

__all__ = ["Block"]


class Block:
    """The rows of a batch as a matrix of queries and passages.

    Args:
        batch: Of pairs whose texts are read apart.
        counted: Rows that count, ``[B]``; of one query all or none.
        queries: Of a block.
    """

    def __init__(self, batch: Batch, counted: Tensor, queries: int) -> None:
        if batch.pairs is None or batch.group is None:
            raise SignalError("a loss over the passages of a block needs texts that are embedded.")
        self._pairs: TextPairs = batch.pairs
        group, passage = batch.group, batch.pairs.passage
        number, found = batch.pairs.relevant.shape
        block = torch.arange(number, device=group.device) // queries
        there = torch.zeros(int(block[-1]) + 1, found, dtype=torch.bool, device=group.device)
        there[block[group[counted]], passage[counted]] = True
        # Only queries that count see anything; those that fill a place have no row in it.
        asks = torch.zeros(number, dtype=torch.bool, device=group.device)
        asks[group[counted]] = True
        self.mask = there[block] & asks.unsqueeze(1)  # [Q, P]
        rows = torch.arange(len(group), device=group.device)
        self._first_of_query = _first(rows, group, number)
        self._first_of_passage = _first(rows, passage, found)

    def student(self, view: View) -> Tensor:
        """Its scores, ``[Q, P]``."""
        embedded, scorer = view.student.embedded, view.scorer
        assert embedded is not None and scorer is not None, "a student of pairs embeds"  # noqa: PT018
        return scorer.matrix(embedded.queries, embedded.passages)

    def labels(self, batch: Batch) -> Tensor:
        """What is known to be relevant, ``[Q, P]``, 1 or 0."""
        assert batch.pairs is not None, "it was looked at above"
        return batch.pairs.relevant.float()

    def teachers(
        self, view: View, names: Sequence[str], scorers: Mapping[str, PairScorer]
    ) -> Tensor:
        """Scores of those that embed texts, ``[M, Q, P]``.

        Args:
            view: Student and teachers.
            names: Of these teachers.
            scorers: Of each, what makes scores of its embeddings.
        """
        found = []
        for name in names:
            sides = [view.embeddings_of(name, side) for side in ("query", "passage")]
            rows = (self._first_of_query, self._first_of_passage)
            queries, passages = (one[at] for one, at in zip(sides, rows, strict=True))
            tau = view.temperatures.get(name, 1.0)
            found.append(scorers[name].matrix(queries.float(), passages.float()) / tau)
        return torch.stack(found)


def _first(rows: Tensor, of: Tensor, number: int) -> Tensor:
    """The first row of each."""
    found = rows.new_full((number,), len(rows))
    return found.scatter_reduce(0, of, rows, "amin")
