"""Finding passages among a whole corpus by their embeddings: exact, by one product after the other.

Dimensions: Q queries, P passages of the corpus, D width, K passages found for a query.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.evaluation.ranking import ranking_metrics
from raydistill.losses import PairScorer
from raydistill.signals import Request, Side
from raydistill.signals.ask import SignalDtype
from raydistill.tasks import QueryGroups, Retrieval
from raydistill.teachers.pairs import text_ask
from raydistill.teachers.source import Source

__all__ = ["CORPUS_DEPTH", "corpus_metrics", "embed_texts", "find_passages"]

CORPUS_DEPTH = 100
"""Passages that are looked at for each query: recall is measured so far down."""
_AHEAD = 4  # requests on their way
_QUERIES = 64  # of one product
_REQUEST_ROWS = 256


def embed_texts(
    source: Source, texts: Sequence[str], side: Side, dtype: SignalDtype = "float32"
) -> Tensor:
    """Embeddings of texts in their order, ``[N, D]`` float32.

    Args:
        source: A teacher that embeds texts.
        texts: Of one side.
        side: Which.
        dtype: What they travel in.
    """
    # Those of like length share a request, and so a forward pass.
    order = np.argsort([-len(text) for text in texts], kind="stable")
    asked: deque[Any] = deque()
    found: list[Tensor] = []
    for begin in range(0, len(order), _REQUEST_ROWS):
        rows = order[begin : begin + _REQUEST_ROWS].tolist()
        some = tuple(texts[row] for row in rows)
        asked.append(source.ask(Request(tuple(rows), (some,), text_ask(side, dtype))))
        if len(asked) >= _AHEAD:
            found.append(_embedding(source, asked.popleft(), side))
    found += [_embedding(source, pending, side) for pending in asked]
    values = torch.cat(found)
    out = torch.empty_like(values)
    out[torch.from_numpy(order)] = values
    return out


def _embedding(source: Source, pending: Any, side: Side) -> Tensor:
    return source.collect(pending).embedding(side).float().cpu().clone()


def find_passages(
    queries: Tensor, passages: Tensor, scorer: PairScorer, depth: int
) -> tuple[Tensor, Tensor]:
    """The passages with the largest scores of each query, the best first: scores and places, ``[Q, K]`` each.

    Args:
        queries: ``[Q, D]``.
        passages: ``[P, D]``.
        scorer: What makes scores of them.
        depth: K, or P if that is less.
    """
    most = min(depth, len(passages))
    among = scorer.as_compared(passages)
    best = [
        scorer.products(scorer.as_compared(some), among).topk(most, dim=1)
        for some in torch.split(queries, _QUERIES)
    ]
    return torch.cat([one.values for one in best]), torch.cat([one.indices for one in best])


def corpus_metrics(
    source: Source,
    task: Retrieval,
    corpus: Sequence[str],
    scorer: PairScorer,
    *,
    prefix: str,
    dtype: SignalDtype = "float32",
) -> dict[str, float]:
    """Figures of what is found in a corpus, under ``prefix/corpus/``.

    Those of candidates, by the same names, and ``recall_at_100``; ``map`` is of the first hundred.

    Args:
        source: A model that embeds texts.
        task: Queries, which say what is relevant for them.
        corpus: All passages.
        scorer: What makes scores.
        prefix: Of the names.
        dtype: What embeddings travel in.
    """
    judged = task.judged()
    queries = embed_texts(source, [query for query, _ in judged], "query", dtype)
    passages = embed_texts(source, corpus, "passage", dtype)
    scores, places = find_passages(queries, passages, scorer, CORPUS_DEPTH)
    grades, missed = torch.zeros_like(scores), []
    for number, (_, relevant) in enumerate(judged):
        found = {place: at for at, place in enumerate(places[number].tolist())}
        for place, grade in relevant:
            if place in found:
                grades[number, found[place]] = grade
        missed.append([grade for place, grade in relevant if place not in found])
    starts = np.arange(len(judged) + 1, dtype=np.int64) * scores.shape[1]
    groups = QueryGroups(starts, missed)
    values = ranking_metrics(scores.flatten(), grades.flatten(), groups, recall=(CORPUS_DEPTH,))
    return {f"{prefix}/corpus/{name}": value for name, value in values.items()}
