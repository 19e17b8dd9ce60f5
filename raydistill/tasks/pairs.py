"""Queries and passages of pairs, each text once: as a batch has them, and as a whole split does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from raydistill.signals import SIDES, Side

__all__ = ["PairTexts", "TextPairs", "distinct_texts"]


@dataclass(frozen=True)
class TextPairs:
    """The texts of a batch of pairs, for a model that embeds each by itself.

    Dimensions: B rows, Q queries, P distinct passages, S tokens with padding.

    Attributes:
        queries: Token tensors of the queries, ``[Q, S]`` each; those of the passages are the batch's inputs.
        passage: Place of each row's passage among them, ``[B]`` int64; that of its query is its group.
        relevant: Which passages are known to be relevant for which queries, ``[Q, P]`` bool, as far as the split
            says, whatever pairs are in the batch.
    """

    queries: dict[str, Tensor]
    passage: Tensor
    relevant: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "TextPairs":
        """The same with every tensor moved."""
        queries = {name: move(tensor) for name, tensor in self.queries.items()}
        return TextPairs(queries, move(self.passage), move(self.relevant))

    @property
    def tensors(self) -> list[Tensor]:
        """All that :meth:`moved` moves."""
        return [*self.queries.values(), self.passage, self.relevant]


@dataclass(frozen=True)
class PairTexts:
    """The distinct texts of all pairs of a split.

    Attributes:
        texts: Of each side.
        places: Of each side the place of every row's text among them, ``[N]``.
    """

    texts: dict[Side, list[str]]
    places: dict[Side, NDArray[np.int64]]


def distinct_texts(table: pa.Table) -> PairTexts:
    """Texts in the order in which they first occur.

    Args:
        table: Columns ``text`` (query) and ``text_pair`` (passage).
    """
    texts: dict[Side, list[str]] = {}
    places: dict[Side, NDArray[np.int64]] = {}
    for side, name in zip(SIDES, ("text", "text_pair"), strict=True):
        coded = table[name].combine_chunks().dictionary_encode()
        texts[side] = coded.dictionary.to_pylist()
        places[side] = coded.indices.to_numpy().astype(np.int64)
    return PairTexts(texts, places)
