"""Passages that share words with a query and are not its own: BM25, by bm25s.

A word is a run of letters and digits with their vowel signs and accents, in whatever way these are encoded;
where none are, it is the same as ever.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

__all__ = ["Mined", "mine_negatives"]

_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"  # Chinese, Japanese, Korean
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0ecf\u0ed0-\u0edf"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd\u17e0-\u17e9"  # Burmese, Khmer
)
"""Scripts without spaces between words."""
_SIGN = r"(?:(?![\ufe00-\ufe0f\U000e0100-\U000e01ef])[\p{Mn}\p{Mc}])"
"""A vowel or an accent that stands behind its letter; what only chooses a picture is none."""
_LETTER = rf"[[\p{{L}}\p{{N}}_]--[{_UNSPACED}]]"
_WORD = regex.compile(
    rf"(?V1)[{_UNSPACED}](?:[{_UNSPACED}]|{_SIGN})*"
    rf"|{_LETTER}+(?:{_SIGN}+[\u200c\u200d]?{_LETTER}*)*"
)
_HAS_SIGN = regex.compile(_SIGN)
_WITH_SIGNS = regex.compile(f".{_SIGN}*")
# Python's \w knows no signs, and is another set of letters than regex has where the two are of different years.
_PLAIN = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_LEFT_OUT = re.compile("[\u0591-\u05c7\u064b-\u0652\u200c\u200d]")
"""Vowels that Hebrew and Arabic mostly do not write, and joiners, which one does not see."""


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
    return [part for word in _WORD.findall(text) for part in _parts(word)]


def _parts(word: str) -> Iterator[str]:
    """What a word is compared by."""
    if _HAS_SIGN.search(word):
        pieces = [_LEFT_OUT.sub("", unicodedata.normalize("NFC", word.casefold()))]
    else:  # and what signs lower case brings forth (of the Turkish dotted I) separate
        pieces = _PLAIN.findall(word.casefold())
    for piece in pieces:
        letters = _WITH_SIGNS.findall(piece) if _IS_UNSPACED.match(piece) else []
        if len(letters) > 1:
            yield from map("".join, pairwise(letters))
        else:
            yield piece


def _best(scores: NDArray[np.floating], most: int) -> list[int]:
    """Places of the largest scores above 0, the first of equals first."""
    places = np.flatnonzero(scores > 0)
    if len(places) > most:
        limit = np.partition(scores[places], len(places) - most)[len(places) - most]
        places = places[scores[places] >= limit]
    order = np.argsort(-scores[places], kind="stable")[:most]
    return [int(place) for place in places[order]]
