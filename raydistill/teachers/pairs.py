"""Pairs of texts, and a teacher that embeds texts: each is asked for once, whatever pairs it is in.

A worker asks about pairs, and what it gets is a pair's score and the embeddings of both its texts. The teacher is asked
about texts, and so is the store: a passage that stands with twenty queries is computed, kept and sent once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.losses import PairScorer
from raydistill.signals import SIDES, Ask, Cell, Request, Side, TeacherSignal, pack_signal
from raydistill.signals.ask import SignalDtype, embedding_key
from raydistill.teachers.protocol import TeacherDescription
from raydistill.teachers.source import Source

__all__ = ["PairSource", "text_ask"]


def text_ask(side: Side, dtype: SignalDtype = "float32") -> Ask:
    """What is asked about the texts of one side."""
    return Ask(dtype=dtype, logits=None, embeddings=(side,))


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request about pairs on its way.

    Attributes:
        request: Itself.
        pending: Of each side what was asked, and the place of each row's text in it.
    """

    request: Request
    pending: Mapping[Side, tuple[Any, NDArray[np.intp]]]


class PairSource(Source):
    """A teacher of texts as one of pairs.

    Args:
        teacher: Its name.
        texts: Where its embeddings come from.
        scorer: What makes scores of them.
    """

    def __init__(self, teacher: str, texts: Source, scorer: PairScorer) -> None:
        self.texts, self.scorer, self._teacher = texts, scorer, teacher

    def ask(self, request: Request) -> _Asked:
        """Ask for each distinct text."""
        pending: dict[Side, tuple[Any, NDArray[np.intp]]] = {}
        for side, column in zip(SIDES, request.texts, strict=True):
            first, places = _distinct(column)
            one = Request(
                tuple(request.row_ids[row] for row in first),
                (tuple(column[row] for row in first),),
                text_ask(side, request.ask.dtype),
            )
            pending[side] = (self.texts.ask(one), places)
        return _Asked(request, pending)

    def collect(self, pending: _Asked) -> TeacherSignal:
        """Scores of the pairs, and those embeddings that were asked for."""
        request, rows = pending.request, dict[Side, Tensor]()
        for side, (asked, places) in pending.pending.items():
            rows[side] = self.texts.collect(asked).embedding(side)[torch.from_numpy(places)]
        scores = self.scorer.pairs(rows["query"].double(), rows["passage"].double())
        parts = {"logits": scores.unsqueeze(1)}
        parts |= {embedding_key(side): rows[side] for side in request.ask.embeddings}
        device = rows["query"].device
        lengths = [1] * request.num_rows  # nothing of it is by tokens
        return pack_signal(
            self._teacher, request.row_ids, lengths, parts, request.ask.dtype, device=device
        )

    def bring_here(self) -> None:
        """Let what is ready elsewhere travel."""
        self.texts.bring_here()

    def set_replicas(self, handles: Sequence[Any]) -> None:
        """Ask these from now on."""
        self.texts.set_replicas(handles)

    def describe(self) -> TeacherDescription | None:
        """Of a teacher in this process."""
        return self.texts.describe()

    def stats(self) -> Mapping[str, float]:
        """What was computed in this process."""
        return self.texts.stats()

    def close(self) -> None:
        """Let others find what was computed in this process."""
        self.texts.close()


def _distinct(column: Sequence[Cell]) -> tuple[list[int], NDArray[np.intp]]:
    """The first row of each distinct text, and of each row the place of its text among them."""
    first: dict[Cell, int] = {}
    rows: list[int] = []
    places = np.empty(len(column), np.intp)
    for row, text in enumerate(column):
        if text not in first:
            first[text] = len(rows)
            rows.append(row)
        places[row] = first[text]
    return rows, places
