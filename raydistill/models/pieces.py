"""From rows of words to token tensors, and from what a model says about pieces back to words.

A tokenizer cuts words into pieces, each in its own way. Teachers and student are compared by words: a
word's logits are those of its first piece, as models for tokens are trained, its hidden state is the
mean over its pieces. A word may have no piece at all: it lies behind the cut of long rows, or holds
nothing that the tokenizer sees (an empty string, a zero-width character). It is then *unmapped*: zeros
stand for it, and who counts leaves it out.

Dimensions: B rows, S pieces with padding, P pieces of words, U words of all rows, C classes, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raydistill.signals import Ask
from raydistill.signals.ask import MAPPED, WORD_LOGITS

__all__ = [
    "WordPieces",
    "encode_words",
    "first_pieces",
    "mean_pieces",
    "select_word_parts",
    "tokenize_words",
    "unmapped_words",
    "word_pieces",
    "word_prefix",
]

Words = Sequence[str]


@dataclass(frozen=True)
class WordPieces:
    """Which pieces of padded rows belong to which word, words counted over all rows.

    Attributes:
        row: Of each word, ``[U]`` int64.
        first: Place of its first piece among all ``B * S``, ``[U]`` int64; 0 where it has none.
        number: Of its pieces, ``[U]`` int64; 0: it is unmapped.
        place: Of each piece of a word, ``[P]`` int64.
        word: Of each such piece, ``[P]`` int64.
    """

    row: Tensor
    first: Tensor
    number: Tensor
    place: Tensor
    word: Tensor

    @property
    def mapped(self) -> Tensor:
        """Words with a piece, ``[U]`` bool."""
        return self.number > 0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return self.row, self.first, self.number, self.place, self.word


def encode_words(
    tokenizer: Any, rows: Sequence[Words], max_tokens: int
) -> tuple[dict[str, list[list[int]]], list[list[int | None]]]:
    """What a tokenizer makes of rows of words, not padded.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        rows: Words of each.
        max_tokens: Longer rows are cut.

    Returns:
        Model inputs by name, and for each row the word of each piece, None of special tokens.
    """
    prefix = word_prefix(tokenizer)
    if prefix:
        rows = [[prefix + word if word else word for word in row] for row in rows]
    encoded = tokenizer(
        [list(row) for row in rows], is_split_into_words=True, truncation=True, max_length=max_tokens
    )  # fmt: skip
    return dict(encoded), [encoding.word_ids for encoding in encoded.encodings]


def word_prefix(tokenizer: Any) -> str:
    """What must stand before each word for it to be cut as it is within a text: a space, or nothing.

    Byte-level tokenizers (GPT-2, RoBERTa, Llama 3) take a word without its space for the rest of the one
    before, unless they were made with ``add_prefix_space``.
    """
    behind_x = _plain(tokenizer, "x y")[len(_plain(tokenizer, "x")) :]
    spaced = [_plain(tokenizer, [f"{prefix}y"]) == behind_x for prefix in ("", " ")]
    return " " if spaced == [False, True] else ""


def _plain(tokenizer: Any, text: str | list[str]) -> list[int]:
    is_split = not isinstance(text, str)
    ids: list[int] = tokenizer(text, is_split_into_words=is_split, add_special_tokens=False)[
        "input_ids"
    ]
    return ids


def tokenize_words(
    tokenizer: Any, rows: Sequence[Words], max_tokens: int
) -> tuple[dict[str, Tensor], WordPieces]:
    """Token tensors of some rows of words, padded to the longest of them, not further.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        rows: Words of each.
        max_tokens: Longer rows are cut.
    """
    encoded, word_ids = encode_words(tokenizer, rows, max_tokens)
    inputs = dict(tokenizer.pad(encoded, padding=True, return_tensors="pt"))
    return inputs, word_pieces(word_ids, [len(row) for row in rows], inputs["attention_mask"])


def word_pieces(
    word_ids: Sequence[Sequence[int | None]], num_words: Sequence[int], mask: Tensor
) -> WordPieces:
    """Where the pieces of words stand in padded rows.

    Args:
        word_ids: Of each row the word of each piece, None of special tokens.
        num_words: Of each row.
        mask: ``[B, S]``, not 0 for tokens; as many in each row as it has pieces.
    """
    numbers = torch.tensor(list(num_words), dtype=torch.int64)
    begins = numbers.cumsum(0) - numbers
    flat = torch.tensor(
        [-1 if word is None else word for row in word_ids for word in row], dtype=torch.int64
    )
    lengths = torch.tensor([len(row) for row in word_ids], dtype=torch.int64)
    of_word = flat >= 0
    place = mask.bool().flatten().nonzero().squeeze(1)[of_word]
    word = (flat + begins.repeat_interleave(lengths))[of_word]
    total = int(numbers.sum())
    first = torch.full((total,), mask.numel(), dtype=torch.int64)
    first = first.scatter_reduce(0, word, place, "amin")
    number = torch.bincount(word, minlength=total)
    row = torch.arange(len(numbers)).repeat_interleave(numbers)
    return WordPieces(row, first.masked_fill(number == 0, 0), number, place, word)


def first_pieces(values: Tensor, pieces: WordPieces) -> Tensor:
    """Of each word what stands at its first piece, ``[B, S, C] -> [U, C]``; zeros where it has none."""
    found = values.flatten(0, 1)[pieces.first]
    return found.masked_fill(~pieces.mapped.unsqueeze(1), 0.0)


def mean_pieces(values: Tensor, pieces: WordPieces) -> Tensor:
    """Means over the pieces of each word, ``[B, S, D] -> [U, D]``, at least float32; zeros where it has none."""
    wide = values.flatten(0, 1)[pieces.place]
    wide = wide.to(torch.promote_types(wide.dtype, torch.float32))
    sums = wide.new_zeros(len(pieces.row), wide.shape[1]).index_add(0, pieces.word, wide)
    return sums / pieces.number.clamp(min=1).unsqueeze(1)


def select_word_parts(
    found: dict[str, Tensor], pieces: WordPieces, ask: Ask, num_rows: int
) -> dict[str, Tensor]:
    """The asked parts of what a model gave out about rows of words, by their keys in a signal.

    Args:
        found: Of a `Backend`; rows behind ``num_rows`` are left out.
        pieces: Of the rows.
        ask: What is wanted; hidden states by words.
        num_rows: How many rows there are.
    """
    parts = {
        WORD_LOGITS: first_pieces(found["logits"][:num_rows], pieces),
        MAPPED: pieces.mapped.float().unsqueeze(1),
    }
    for hidden in ask.hidden:
        assert hidden.pooling == "words", "whoever asks about words asks for states of words"
        states = found[f"{hidden.states}.{hidden.layer}"][:num_rows]
        parts[hidden.key] = mean_pieces(states, pieces)
    return parts


def unmapped_words(tokenizer: Any, rows: Sequence[Words], max_tokens: int) -> list[list[int]]:
    """Of each row the words that have no piece.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        rows: Words of each.
        max_tokens: Longer rows are cut.
    """
    _, word_ids = encode_words(tokenizer, rows, max_tokens)
    found = []
    for words, ids in zip(rows, word_ids, strict=True):
        there = set(ids)
        found.append([place for place in range(len(words)) if place not in there])
    return found
