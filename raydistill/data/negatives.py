"""Passages that share words with a query and are not its own: BM25, by bm25s."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mined", "mine_negatives"]

# Scripts without spaces between words: Chinese, Japanese, Korean.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


@dataclass(frozen=True)
class Mined:
    """How negatives are found.

    Attributes:
        count: For each query.
        skip: So many of the best are passed over.
    """

    count: int
    skip: int = 0


def mine_negatives(
    queries: Sequence[str], own: Sequence[Collection[str]], corpus: Sequence[str], mined: Mined
) -> list[list[str]]:
    """Of each query the passages that BM25 puts first and that are none of its own.

    Of equal scores the passage that comes first in the corpus is first, so the same rows are found on every
    machine. What shares no word with a query is not found.

    Args:
        queries: Their texts.
        own: Of each query the passages that are not taken.
        corpus: All passages, each once.
        mined: How many.
    """
    import bm25s

    index = bm25s.BM25()
    index.index([_words(text) for text in corpus], show_progress=False)
    known = index.vocab_dict
    found: list[list[str]] = []
    for query, passages in zip(queries, own, strict=True):
        not_taken = set(passages)
        words = [word for word in _words(query) if word in known]
        if not words:
            found.append([])
            continue
        scores = np.asarray(index.get_scores(words))
        most = mined.count + mined.skip + len(not_taken)
        best = (corpus[place] for place in _best(scores, most))
        others = [text for text in best if text not in not_taken]
        found.append(others[mined.skip : mined.skip + mined.count])
    return found


def _words(text: str) -> list[str]:
    """In lower case; of scripts without spaces pairs of neighbours."""
    return list(_parts(text.casefold()))


def _parts(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        if _IS_UNSPACED.match(word) and len(word) > 1:
            yield from (word[i : i + 2] for i in range(len(word) - 1))
        else:
            yield word


def _best(scores: NDArray[np.floating], most: int) -> list[int]:
    """Places of the largest scores above 0, the first of equals first."""
    places = np.flatnonzero(scores > 0)
    if len(places) > most:
        limit = np.partition(scores[places], len(places) - most)[len(places) - most]
        places = places[scores[places] >= limit]
    order = np.argsort(-scores[places], kind="stable")[:most]
    return [int(place) for place in places[order]]
