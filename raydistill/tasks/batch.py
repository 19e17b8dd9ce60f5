"""The rows of one forward pass of the student."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.models import SpanPieces, WordPieces
from raydistill.signals import Cell
from raydistill.tasks.pairs import TextPairs

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Rows as the student and the teachers see them.

    Attributes:
        row_ids: Named in errors.
        texts: One tuple a column of text, or of words; what teachers are asked about.
        inputs: Token tensors of the student, ``[B, S]`` each.
        labels: Of one class a row ``[B]`` int64, -100 where there is none; of several, or of numbers, ``[B, C]``
            float32, NaN where it is not known.
        counts: Bool ``[B]``, False for a row that only fills the place of none (a worker without
            rows of its own in a short last batch must still take part in the exchange of gradients).
        route: Place of the one teacher that speaks about a row, ``[B]`` int64, -1: all; None: all
            about every row.
        words: Of rows of words, how they are made of tokens. Then labels, counts and route have an entry
            for each of the U words of all rows, and a word without tokens does not count.
        answered: Which teachers' tokenizers made pieces of which words, ``[M, U]`` bool; None: all of all.
        spans: Of questions with windows, how units are made of tokens. Then labels, counts and route have two
            entries for each row: the class of the answer's start, and that of its end.
        group: Of candidates of queries, number of the query in this batch, ``[B]`` int64, rising; None: rows are
            no candidates.
        pairs: Of pairs whose texts are read apart, these. Then inputs are those of the distinct passages.
    """

    row_ids: tuple[int, ...]
    texts: tuple[tuple[Cell, ...], ...]
    inputs: dict[str, Tensor]
    labels: Tensor
    counts: Tensor
    route: Tensor | None = None
    words: WordPieces | None = None
    answered: Tensor | None = None
    group: Tensor | None = None
    spans: SpanPieces | None = None
    pairs: TextPairs | None = None

    @property
    def row_counts(self) -> Tensor:
        """Bool ``[B]``: rows that count; of words those with any that does."""
        if self.spans is not None:
            return self.counts[::2]
        if self.words is None:
            return self.counts
        found = torch.zeros(len(self.row_ids), dtype=torch.bool, device=self.counts.device)
        found[self.words.row[self.counts]] = True
        return found

    @property
    def num_rows(self) -> int:
        """Rows that count."""
        return int(self.row_counts.sum())

    @property
    def row_of(self) -> Tensor:
        """The row that each label is of: itself, or that of the word, or of the side."""
        if self.spans is not None:
            return torch.arange(len(self.counts), device=self.counts.device) // 2
        if self.words is None:
            return torch.arange(len(self.row_ids), device=self.counts.device)
        return self.words.row

    @property
    def token_mask(self) -> Tensor:
        """Bool ``[B, S]``, True for the student's tokens."""
        return self.inputs["attention_mask"].bool()

    @property
    def num_tokens(self) -> int:
        """The student's tokens of rows that count."""
        if self.pairs is None:
            return int(self.token_mask[self.row_counts].sum())
        if not bool(self.counts.any()):
            return 0
        return int(self.token_mask.sum() + self.pairs.queries["attention_mask"].sum())

    def to(self, device: torch.device) -> "Batch":
        """The same rows with tensors on another device."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=True))

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        """The same rows with every tensor moved."""
        words, spans = self.words, self.spans
        return Batch(
            self.row_ids,
            self.texts,
            {name: move(tensor) for name, tensor in self.inputs.items()},
            move(self.labels),
            move(self.counts),
            None if self.route is None else move(self.route),
            None if words is None else WordPieces(*map(move, words.tensors)),
            None if self.answered is None else move(self.answered),
            None if self.group is None else move(self.group),
            None if spans is None else SpanPieces.from_tensors([move(t) for t in spans.tensors]),
            None if self.pairs is None else self.pairs.moved(move),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All that :meth:`moved` moves."""
        of_words = () if self.words is None else self.words.tensors
        of_spans = () if self.spans is None else self.spans.tensors
        of_pairs = () if self.pairs is None else self.pairs.tensors
        others = (self.labels, self.counts, self.route, self.answered, self.group)
        others = (*others, *of_words, *of_spans, *of_pairs)
        return [*self.inputs.values(), *(tensor for tensor in others if tensor is not None)]
