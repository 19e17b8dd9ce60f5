"""Rows of a request as the tokenizer of a local teacher cuts them."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raydistill.models import load_tokenizer, tokenize
from raydistill.models.pieces import encode_words, tokenize_words
from raydistill.models.span_pieces import RowSpans, encode_spans
from raydistill.signals import Ask, Request
from raydistill.teachers.protocol import TeacherSettings

__all__ = ["EncodedRows", "RowReader"]


@dataclass(frozen=True)
class EncodedRows:
    """Rows as the tokenizer cuts them.

    Attributes:
        inputs: By name, a list for each row.
        lengths: Tokens of each row, or words, or units.
        word_ids: Of rows of words the word of each token, None of special ones.
        spans: Of questions and windows how units are made of tokens.
    """

    inputs: dict[str, Any]
    lengths: list[int]
    word_ids: list[list[int | None]] | None = None
    spans: list[RowSpans] | None = None


class RowReader:
    """Texts, words, questions with windows, or one side of pairs: whatever a request is about.

    Args:
        settings: Of the teacher.

    Attributes:
        tokenizer: The teacher's.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.tokenizer = load_tokenizer(settings.source)
        # It warns that padding is a second step; of a teacher it must be one.
        self.tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        self._max_tokens, self._embedder = settings.max_tokens, settings.embedder

    def encode(self, request: Request, cut: int | None = None) -> EncodedRows:
        """Token numbers of every row, not padded.

        Args:
            request: The rows.
            cut: Longer ones are cut, where that is less than always.
        """
        cut = min(cut or self._max_tokens, self._max_tokens)
        if request.ask.logits == "words":
            rows = _of_words(request)
            inputs, word_ids = encode_words(self.tokenizer, rows, cut)
            return EncodedRows(inputs, [len(row) for row in rows], word_ids)
        if request.ask.logits == "spans":
            inputs, spans = encode_spans(self.tokenizer, _of_texts(request), cut, request.row_ids)
            return EncodedRows(inputs, [len(row.starts) for row in spans], spans=spans)
        found = self.tokenizer(*self._columns(request), truncation=True, max_length=cut)
        return EncodedRows(dict(found), [len(ids) for ids in found["input_ids"]])

    def _columns(self, request: Request) -> list[list[Any]]:
        """Texts as the model reads them: as they are, or those of one side behind its prompt."""
        spec = self._embedder
        if spec is None:
            return [list(column) for column in request.texts]
        (side,), (column,) = request.ask.embeddings, request.texts
        return [spec.prompted(column, side)]

    def token_counts(self, request: Request) -> list[int]:
        """Tokens of each row, after the cut; of pairs of texts that are embedded, of the passage."""
        if self._embedder is not None:
            passages = Ask(logits=None, embeddings=("passage",))
            request = Request(request.row_ids, request.texts[-1:], passages)
        encoded = self.encode(request)
        return [len(ids) for ids in encoded.inputs["input_ids"]]

    def inputs_of(self, request: Request, max_tokens: int | None = None) -> dict[str, Tensor]:
        """Token tensors of the rows as one batch, padded to the longest and no further.

        Args:
            request: The rows.
            max_tokens: Longer ones are cut; None: as always.
        """
        most = max_tokens or self._max_tokens
        if request.ask.logits == "words":
            return tokenize_words(self.tokenizer, _of_words(request), most)[0]
        if (spec := self._embedder) is not None:
            passages = spec.prompted(request.texts[-1], "passage")
            return tokenize(self.tokenizer, [passages], most)
        return tokenize(self.tokenizer, request.texts, most)


def _of_words(request: Request) -> list[tuple[str, ...]]:
    """The only column of a request about words; a text, as probes are, is cut at its spaces."""
    (column,) = request.texts
    return [cell if isinstance(cell, tuple) else tuple(cell.split()) for cell in column]


def _of_texts(request: Request) -> list[list[str]]:
    """The columns of a request about texts."""
    return [[cell for cell in column if isinstance(cell, str)] for column in request.texts]
