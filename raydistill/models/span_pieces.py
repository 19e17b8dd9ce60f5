"""From questions with windows of a text to token tensors, and which pieces are of which units.

Dimensions: B rows, S pieces with padding, P pieces of units, N units of a row, U of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.data import units_of
from raydistill.errors import SignalError
from raydistill.models.pieces import WordPieces

__all__ = ["RowSpans", "SpanPieces", "encode_spans", "match_units", "span_pieces", "tokenize_spans"]

_SPACES = frozenset({"▁", "Ġ"})
"""Pieces of white space alone; tokenizers say of some that they stand on the character behind it."""


@dataclass(frozen=True)
class RowSpans:
    """How the units of a row are made of its pieces; pieces counted from the first of the row.

    Attributes:
        starts: First piece that begins in each unit, ``[N]``; -1: none does.
        ends: Last piece that ends in it, ``[N]``; -1: none does.
        piece: Pieces that overlap with units, ``[P]``.
        unit: The unit of each, ``[P]``.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    piece: NDArray[np.int64]
    unit: NDArray[np.int64]

    @property
    def unseen(self) -> NDArray[np.intp]:
        """Units that no piece overlaps with."""
        seen = np.zeros(len(self.starts), bool)
        seen[self.unit] = True
        return np.flatnonzero(~seen)


@dataclass(frozen=True)
class SpanPieces:
    """The same of all rows, padded.

    Attributes:
        units: The pieces that overlap with each unit.
        starts: Place of the first piece that begins in each unit among all ``B * S``, ``[U]``; -1: none does.
        ends: Place of the last that ends in it, ``[U]``; -1: none does.
        first: Place of the first piece of each row, ``[B]``.
        shared: Units that the student and all teachers have pieces of, ``[U]`` bool.
    """

    units: WordPieces
    starts: Tensor
    ends: Tensor
    first: Tensor
    shared: Tensor

    @property
    def mapped(self) -> Tensor:
        """Which units have a start, an end, any piece: ``[U, 3]`` bool."""
        return torch.stack([self.starts >= 0, self.ends >= 0, self.units.mapped], 1)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return (*self.units.tensors, self.starts, self.ends, self.first, self.shared)

    @classmethod
    def from_tensors(cls, tensors: Sequence[Tensor]) -> "SpanPieces":
        """From what :attr:`tensors` gave."""
        return cls(WordPieces(*tensors[:-4]), *tensors[-4:])


def encode_spans(
    tokenizer: Any, columns: Sequence[Sequence[str]], max_tokens: int, row_ids: Sequence[int] = ()
) -> tuple[dict[str, Any], list[RowSpans]]:
    """What a tokenizer makes of questions and windows, not padded.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        columns: Questions and windows; or texts alone, which are cut.
        max_tokens: Of a row.
        row_ids: Named in errors.

    Returns:
        Model inputs by name, and of each row how its units are made of pieces.

    Raises:
        SignalError: A row of question and window has more tokens.
    """
    alone = len(columns) == 1
    encoded = tokenizer(
        *[list(column) for column in columns],
        truncation=alone,
        max_length=max_tokens if alone else None,
        verbose=False,
    )
    rows = []
    for number, (text, encoding) in enumerate(zip(columns[-1], encoded.encodings, strict=True)):
        if len(encoding.ids) > max_tokens:
            name = row_ids[number] if row_ids else number
            raise SignalError(
                f"row {name} has {len(encoding.ids)} tokens, where {max_tokens} fit: its window was made for another "
                "tokenizer."
            )
        rows.append(match_units(encoding, len(columns) - 1, units_of(text)))
    return dict(encoded), rows


def match_units(encoding: Any, sequence: int, units: NDArray[np.int64]) -> RowSpans:
    """Which pieces of one text are of which units.

    Args:
        encoding: Of the `tokenizers` library.
        sequence: Which of its texts.
        units: Of that text, ``[N, 2]``.
    """
    of = np.array([-1 if one is None else one for one in encoding.sequence_ids])
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    place = np.flatnonzero((of == sequence) & (offsets[:, 0] < offsets[:, 1]))
    begin, end = offsets[place].T
    first = np.searchsorted(units[:, 1], begin, side="right")  # the first unit that ends behind
    last = np.searchsorted(units[:, 0], end, side="left") - 1  # the last that begins before
    there = first <= last
    # Of a space alone it may be said that it stands on the character behind it, where another piece stands.
    doubtful = np.flatnonzero(there[:-1] & (begin[:-1] == begin[1:]))
    if len(doubtful):
        tokens = encoding.tokens
        there[[i for i in doubtful if tokens[place[i]] in _SPACES]] = False
    place, first, last = place[there], first[there], last[there]
    starts, ends = (np.full(len(units), -1, dtype=np.int64) for _ in range(2))
    found, at = np.unique(first, return_index=True)
    starts[found] = place[at]
    found, at = np.unique(last[::-1], return_index=True)
    ends[found] = place[::-1][at]
    many = last - first + 1
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return RowSpans(starts, ends, np.repeat(place, many), np.repeat(first, many) + within)


def span_pieces(rows: Sequence[RowSpans], mask: Tensor) -> SpanPieces:
    """Where units begin and end in padded rows.

    Args:
        rows: Of each row.
        mask: ``[B, S]``, not 0 for tokens.
    """
    width = mask.shape[1]
    first = mask.bool().int().argmax(1) + torch.arange(len(rows)) * width
    at = first.tolist()
    sizes = [len(row.starts) for row in rows]
    begins = np.cumsum([0, *sizes])

    def places(name: str) -> Tensor:
        each = [getattr(row, name) for row in rows]
        moved = [np.where(one < 0, -1, one + begin) for one, begin in zip(each, at, strict=True)]
        return torch.from_numpy(np.concatenate(moved))

    place = np.concatenate([row.piece + begin for row, begin in zip(rows, at, strict=True)])
    unit = np.concatenate([row.unit + begin for row, begin in zip(rows, begins, strict=False)])
    total = int(begins[-1])
    starts = places("starts")
    word = torch.from_numpy(unit)
    pieces = WordPieces(
        torch.arange(len(rows)).repeat_interleave(torch.tensor(sizes)),
        starts.clamp(min=0),
        torch.bincount(word, minlength=total),
        torch.from_numpy(place),
        word,
    )
    return SpanPieces(pieces, starts, places("ends"), first, pieces.mapped)


def tokenize_spans(
    tokenizer: Any, columns: Sequence[Sequence[str]], max_tokens: int, row_ids: Sequence[int] = ()
) -> tuple[dict[str, Tensor], SpanPieces]:
    """Token tensors of some rows, padded to the longest of them, and the pieces of their units.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        columns: Questions and windows.
        max_tokens: Of a row.
        row_ids: Named in errors.
    """
    encoded, rows = encode_spans(tokenizer, columns, max_tokens, row_ids)
    inputs = dict(tokenizer.pad(encoded, padding=True, return_tensors="pt"))
    return inputs, span_pieces(rows, inputs["attention_mask"])
