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
    queries: Tensor,
    passages: Tensor,
    scorer: PairScorer,
    depth: int,
    *,
    themselves: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """The passages with the largest scores of each query, the best first: scores and places, ``[Q, K]`` each.

    Args:
        queries: ``[Q, D]``.
        passages: ``[P, D]``.
        scorer: What makes scores of them.
        depth: K, or P if that is less.
        themselves: Of each query the place of a passage that comes last, with the score -infinity; -1: none.
    """
    most = min(depth, len(passages))
    among = scorer.as_compared(passages)
    own = torch.tensor([-1] * len(queries) if themselves is None else themselves)
    best = []
    for some, places in zip(
        torch.split(queries, _QUERIES), torch.split(own, _QUERIES), strict=True
    ):
        scores = scorer.products(scorer.as_compared(some), among)
        rows = torch.nonzero(places >= 0).squeeze(1)
        scores[rows, places[rows]] = -torch.inf
        best.append(scores.topk(most, dim=1))
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

    Those of candidates, by the same names, and ``recall_at_100``; ``map`` is of the first hundred. A query that
    is a document of the corpus, by its id, does not find itself, as BEIR has it (``ignore_identical_ids``); a
    document of that id which is judged relevant stays, as ids may be the same by chance.

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
    themselves = task.themselves()
    scores, places = find_passages(queries, passages, scorer, CORPUS_DEPTH, themselves=themselves)
    others = places != torch.tensor(themselves).unsqueeze(1)  # [Q, K]
    grades, missed = torch.zeros_like(scores), []
    for number, (_, relevant) in enumerate(judged):
        found = {place: at for at, place in enumerate(places[number].tolist())}
        for place, grade in relevant:
            if place in found:
                grades[number, found[place]] = grade
        missed.append([grade for place, grade in relevant if place not in found])
    groups = QueryGroups(np.concatenate([[0], others.sum(1).cumsum(0).numpy()]), missed)
    values = ranking_metrics(scores[others], grades[others], groups, recall=(CORPUS_DEPTH,))
    return {f"{prefix}/corpus/{name}": value for name, value in values.items()}
