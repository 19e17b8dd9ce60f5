"""Queries and passages that are embedded, each text by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydistill.models import EmbedderSpec, tokenize
from raydistill.signals import SIDES, Side
from raydistill.tasks.batch import Batch
from raydistill.tasks.pairs import PairTexts, TextPairs, distinct_texts
from raydistill.tasks.reranking import Reranking

__all__ = ["Retrieval"]


class Retrieval(Reranking):
    """Pairs as of reranking, whose texts are read apart.

    Args:
        table: As of reranking.
        labels: The name of the score.
        embedder: What stands before texts; needed for batches only.
    """

    kind = "retrieval"

    def __init__(
        self, table: pa.Table, labels: Sequence[str], embedder: EmbedderSpec | None = None
    ) -> None:
        super().__init__(table, labels)
        self._embedder = embedder or EmbedderSpec()
        self._distinct: PairTexts | None = None
        self._relevant: set[tuple[int, int]] = set()

    @property
    def pair_texts(self) -> PairTexts:
        """All distinct texts."""
        if self._distinct is None:
            self._distinct = distinct_texts(self._table)
            rows = np.flatnonzero(self._grades > 0)
            query, passage = (self._distinct.places[side][rows] for side in ("query", "passage"))
            self._relevant = set(zip(query.tolist(), passage.tolist(), strict=True))
        return self._distinct

    @property
    def prompted(self) -> dict[Side, list[str]]:
        """Distinct texts as the student reads them."""
        texts = self.pair_texts.texts
        return {side: self._embedder.prompted(texts[side], side) for side in SIDES}

    def judged(self) -> list[tuple[str, list[tuple[int, float]]]]:
        """Each query and what is relevant for it in the corpus: places, -1 for what is not there, and grades."""
        first = self._table.take(pa.array(self._starts[:-1]))
        columns = (first[name].to_pylist() for name in ("text", "relevant", "relevant_grades"))
        return [
            (query, list(zip(places, grades, strict=True)))
            for query, places, grades in zip(*columns, strict=True)
        ]

    def themselves(self) -> list[int]:
        """Of each query the place of the document in the corpus that it is itself, -1 where there is none."""
        places: list[int] = self._table["itself"].take(pa.array(self._starts[:-1])).to_pylist()
        return places

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows, whole groups of them; a query is embedded once a group, a passage once."""
        whole, places = self.pair_texts, np.asarray(rows)
        part = self._part(rows)
        ids, texts = self._of_part(part)
        group = self._numbers(places)
        passages, of_row = np.unique(whole.places["passage"][places], return_inverse=True)
        queries = whole.places["query"][places[np.unique(group, return_index=True)[1]]]
        relevant = [[(q, p) in self._relevant for p in passages.tolist()] for q in queries.tolist()]
        spec, texts_of = self._embedder, whole.texts
        asked = spec.prompted([texts_of["query"][q] for q in queries], "query")
        found = spec.prompted([texts_of["passage"][p] for p in passages], "passage")
        return Batch(
            row_ids=ids,
            texts=texts,
            inputs=tokenize(tokenizer, [found], max_tokens),
            labels=self._labels_of(part["label"]),
            counts=torch.full((len(rows),), not filler, dtype=torch.bool),
            group=torch.from_numpy(group),
            pairs=TextPairs(
                tokenize(tokenizer, [asked], max_tokens),
                torch.from_numpy(of_row.reshape(-1).astype(np.int64)),
                torch.tensor(relevant, dtype=torch.bool),
            ),
        )
