"""Windows of contexts that fit several tokenizers: cut where the hungriest is full, then tried.

Pieces are counted in the whole context, and a border may cost some more: what does not fit when it is tried is cut
again, shorter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.data import units_of
from raydistill.models.span_pieces import RowSpans, match_units
from raydistill.prepare.sides import Side

__all__ = ["Cutter", "Seen", "Window"]

_ROWS = 1024  # tokenized at once
_SLACK = 2  # tokens that a border may cost


@dataclass(frozen=True)
class _Context:
    """A context as all tokenizers cut it.

    Attributes:
        units: ``[N, 2]``.
        begins: Of each side the first piece that reaches into each unit, ``[N]``.
        ends: Of each side the pieces up to the end of each unit, ``[N]``.
    """

    units: NDArray[np.int64]
    begins: list[NDArray[np.int64]]
    ends: list[NDArray[np.int64]]

    def until(self, first: int, rooms: Sequence[int]) -> int:
        """The unit behind the last that fits, from one on."""
        most = [
            int(np.searchsorted(ends, begins[first] + room, side="right"))
            for begins, ends, room in zip(self.begins, self.ends, rooms, strict=True)
        ]
        return min(most)


@dataclass
class Window:
    """A window.

    Attributes:
        question: Row of its question.
        begin: Its first unit in the context.
        end: The unit behind its last.
        text: Itself.
    """

    question: int
    begin: int
    end: int
    text: str


@dataclass
class Seen:
    """What the tokenizers make of a window, each in its place.

    Attributes:
        fits: Whether it fits all.
        unseen: Units that have no piece.
        merged: How many have one, but none that begins, or none that ends in them.
        blind: Whether no unit has a piece.
    """

    fits: bool = True
    unseen: list[list[int]] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    blind: list[bool] = field(default_factory=list)

    def add(self, spans: RowSpans, *, fits: bool) -> None:
        """Of the next tokenizer."""
        unseen = spans.unseen.tolist()
        self.fits &= fits
        self.unseen.append(unseen)
        self.merged.append(int(((spans.starts < 0) | (spans.ends < 0)).sum()) - len(unseen))
        self.blind.append(not len(spans.piece))


class Cutter:
    """Cuts the contexts of some questions.

    Args:
        questions: Texts.
        contexts: Of each question.
        sides: The tokenizers.
        overlap: Share of a window that the next begins with.
    """

    def __init__(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        sides: Sequence[Side],
        overlap: float,
    ) -> None:
        self._questions, self._texts = questions, contexts
        self._sides, self._overlap = sides, overlap
        self._contexts: dict[str, _Context] = {}
        self._read_contexts()

    def units(self, question: int) -> NDArray[np.int64]:
        """Of the context of a question."""
        return self._contexts[self._texts[question]].units

    def windows(self) -> tuple[dict[int, list[Window]], dict[int, list[Seen]], list[int]]:
        """Of each question its windows and what tokenizers make of them; and questions that leave no room for any."""
        rooms = self._rooms()
        crowded = [q for q, room in enumerate(rooms) if min(room) < 1]
        cut = {q: self._cut(q, room) for q, room in enumerate(rooms) if min(room) >= 1}
        slack, left = 0, list(cut)
        seen: dict[int, list[Seen]] = {}
        while left:
            rows = [row for q in left for row in cut[q]]
            too_long = set[int]()
            for q in left:
                seen[q] = []
            for row, one in zip(rows, self._tried(rows), strict=True):
                seen[row.question].append(one)
                too_long |= set() if one.fits else {row.question}
            left, slack = sorted(too_long), slack + _SLACK
            for q in left:
                room = [one - slack for one in rooms[q]]
                cut[q] = self._cut(q, room) if min(room) >= 1 else []
        crowded += [q for q, rows in cut.items() if not rows]
        return cut, seen, sorted(crowded)

    def _read_contexts(self) -> None:
        distinct = list(dict.fromkeys(self._texts))
        pieces: list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = [[] for _ in distinct]
        for side in self._sides:
            for begin in range(0, len(distinct), _ROWS):
                encoded = side.tokenizer(
                    distinct[begin : begin + _ROWS], add_special_tokens=False, verbose=False
                )
                for number, encoding in enumerate(encoded.encodings, start=begin):
                    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
                    pieces[number].append((offsets[:, 0], offsets[:, 1]))
        for text, of_sides in zip(distinct, pieces, strict=True):
            units = units_of(text)
            self._contexts[text] = _Context(
                units,
                [np.searchsorted(np.maximum.accumulate(end), units[:, 0], side="right") for _, end in of_sides],
                [np.searchsorted(begin, units[:, 1], side="left") for begin, _ in of_sides],
            )  # fmt: skip

    def _rooms(self) -> list[list[int]]:
        """Of each question the tokens that are left for a context, by side."""
        found: list[list[int]] = [[] for _ in self._questions]
        for side in self._sides:
            around = side.tokenizer.num_special_tokens_to_add(pair=True)
            for begin in range(0, len(self._questions), _ROWS):
                encoded = side.tokenizer(
                    self._questions[begin : begin + _ROWS], add_special_tokens=False, verbose=False
                )
                for number, ids in enumerate(encoded["input_ids"], start=begin):
                    found[number].append(side.cut - around - len(ids))
        return found

    def _cut(self, question: int, rooms: Sequence[int]) -> list[Window]:
        """Windows of a question; none if a unit does not fit."""
        text = self._texts[question]
        context, rows, begin = self._contexts[text], list[Window](), 0
        number = len(context.units)
        while True:
            end = context.until(begin, rooms)
            if end <= begin:
                return []
            first, last = context.units[begin, 0], context.units[end - 1, 1]
            rows.append(Window(question, begin, end, text[first:last]))
            if end >= number:
                return rows
            begin = max(begin + 1, end - int(self._overlap * (end - begin)))

    def _tried(self, rows: Sequence[Window]) -> list[Seen]:
        """What all tokenizers make of windows beside their questions."""
        found = [Seen() for _ in rows]
        for side in self._sides:
            for begin in range(0, len(rows), _ROWS):
                some = rows[begin : begin + _ROWS]
                pairs = [self._questions[row.question] for row in some], [row.text for row in some]
                encoded = side.tokenizer(*pairs, verbose=False)
                for number, encoding in enumerate(encoded.encodings):
                    spans = self._spans(some[number], encoding)
                    found[begin + number].add(spans, fits=len(encoding.ids) <= side.cut)
        return found

    def _spans(self, row: Window, encoding: Any) -> RowSpans:
        units = self._contexts[self._texts[row.question]].units[row.begin : row.end]
        begin = units[0, 0] if len(units) else 0
        return match_units(encoding, 1, units - begin)
