"""What a worker asks of a teacher: rows of text, of words, or questions, and exactly which parts of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "MAPPED",
    "MAPPED_UNITS",
    "REST",
    "SIDES",
    "UNIT_LOGITS",
    "WORD_LOGITS",
    "Ask",
    "AttentionAsk",
    "Cell",
    "Heads",
    "HiddenAsk",
    "Pooling",
    "Request",
    "Side",
    "SignalDtype",
    "States",
    "Units",
    "embedding_key",
]

Pooling = Literal["all", "first", "mean", "gram", "words", "units", "queries", "passages", "both"]
States = Literal["hidden", "query", "key", "value", "embedding"]
Heads = Literal["all", "mean"]
Units = Literal["texts", "words", "spans"]
"""What rows have logits for."""
SignalDtype = Literal["float32", "float16", "bfloat16"]
Side = Literal["query", "passage"]
"""What a text is in a pair."""
SIDES: tuple[Side, Side] = ("query", "passage")
"""In the order of a pair's texts."""
Cell = str | tuple[str, ...]
"""A text, or the words that it is made of."""
WORD_LOGITS = "logits.words"
"""Part of an answer to rows of words: logits of each, those of its first piece, ``[W, C]``."""
MAPPED = "mapped.words"
"""Which words have a piece, ``[W, 1]``: 1, or 0 of those that are cut off or made of nothing visible."""

UNIT_LOGITS = "logits.units"
"""Part of an answer to questions and windows: logits that an answer starts or ends at each unit, ``[U, 2]``."""
MAPPED_UNITS = "mapped.units"
"""Which units have a piece that begins, one that ends, any at all, ``[U, 3]``: 1 or 0."""
REST = "logits.rest"
"""What else a row has, ``[R, 4]``: logits of no answer (start, end) and of all other pieces (start, end)."""


def embedding_key(side: Side) -> str:
    """Name of the part that holds the embeddings of one side's texts, ``[R, D]``."""
    return f"embedding.{side}"


@dataclass(frozen=True, order=True)
class HiddenAsk:
    """One layer's hidden states, or one block's queries, keys or values.

    Attributes:
        layer: Of hidden states 0 is the embeddings, k what comes out of block k; of the others k is what
            block k computes inside, from 1. Never negative here.
        pooling: ``all`` tokens, the ``first`` token, the ``mean`` over the text's tokens, or the ``gram``
            matrix of tokens with tokens, X X^T / D. It happens at the teacher, so that one vector a
            row travels instead of a sequence, or L numbers a token instead of D. Of rows of words
            ``words``: the mean over the pieces of each; of windows ``units``: the same. Of embeddings those of
            ``queries``, ``passages`` or ``both``, the one behind the other; they are asked for by
            :class:`Ask`, not by this.
        states: Which of them. Queries, keys and values are as the block projects them, with the
            heads side by side.
    """

    layer: int
    pooling: Pooling = "all"
    states: States = "hidden"

    @property
    def key(self) -> str:
        """Name of the part in a signal."""
        return f"{self.states}.{self.layer}.{self.pooling}"


@dataclass(frozen=True, order=True)
class AttentionAsk:
    """One block's attention maps (probabilities).

    Attributes:
        layer: Counted from 1 as in ``hidden_states``: k is the map inside block k.
        heads: ``all`` of them, or their ``mean``, which the teacher takes, so that one map travels.
    """

    layer: int
    heads: Heads = "all"

    @property
    def key(self) -> str:
        """Name of the part in a signal."""
        return f"attention.{self.layer}.{self.heads}"


_HEADS: dict[Units, tuple[str, ...]] = {
    "texts": ("logits",),
    "words": (WORD_LOGITS, MAPPED),
    "spans": (UNIT_LOGITS, MAPPED_UNITS, REST),
}


@dataclass(frozen=True)
class Ask:
    """Which parts of a teacher's answer are wanted, and what they travel in.

    Attributes:
        hidden: Layers, and what is inside blocks, in order.
        attention: Blocks whose maps are wanted, in order.
        dtype: Of every part in the signal's buffer.
        logits: What they are for: the ``texts``, or each of the ``words``. Then rows are words, and the
            answer also says which words the teacher's tokenizer made pieces of. Or the places of ``spans``:
            then rows are questions and windows, and the answer is about units of the windows. None: none are wanted.
        embeddings: Sides whose texts' embeddings are wanted. Rows are pairs; of one side alone, without logits,
            they may be its texts.
    """

    hidden: tuple[HiddenAsk, ...] = ()
    attention: tuple[AttentionAsk, ...] = ()
    dtype: SignalDtype = "float32"
    logits: Units | None = "texts"
    embeddings: tuple[Side, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the parts of an answer, in the order of a signal."""
        heads = () if self.logits is None else _HEADS[self.logits]
        hidden, maps = (one.key for one in self.hidden), (one.key for one in self.attention)
        return (*heads, *hidden, *maps, *map(embedding_key, self.embeddings))


@dataclass(frozen=True)
class Request:
    """Rows for one teacher.

    Attributes:
        row_ids: Named in errors; decide nothing.
        texts: One tuple a column of text (one for single texts, two for pairs), each of one string a row, or
            of one tuple of words.
        ask: What to answer.
    """

    row_ids: tuple[int, ...]
    texts: tuple[tuple[Cell, ...], ...]
    ask: Ask

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.row_ids)

    @property
    def load(self) -> int:
        """How much work it is: characters, which stand for tokens."""
        return sum(_size(cell) for column in self.texts for cell in column) + self.num_rows

    def select(self, rows: Sequence[int]) -> "Request":
        """Some of its rows, in the order given."""
        return Request(
            tuple(self.row_ids[row] for row in rows),
            tuple(tuple(column[row] for row in rows) for column in self.texts),
            self.ask,
        )


def _size(cell: Cell) -> int:
    return len(cell) if isinstance(cell, str) else sum(map(len, cell)) + len(cell)
