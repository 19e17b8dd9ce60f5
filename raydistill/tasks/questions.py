"""Which windows are of which question, what answers it, and how answers are found and compared."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.data import units_of

__all__ = ["Answering", "Questions"]

_KEY = b"raydistill.answering"


@dataclass(frozen=True)
class Answering:
    """How answers are found and compared; it travels with the table of a split.

    Attributes:
        max_answer_units: The longest answer.
        null_threshold: By how much the score of no answer must exceed that of the best.
        unanswerable: Whether any question of the data has no answer; else each gets one.
        normalisation: What two answers are compared by.
    """

    max_answer_units: int = 64
    null_threshold: float = 0.0
    unanswerable: bool = False
    normalisation: Literal["squad", "cmrc2018", "characters"] = "squad"

    def kept_in(self, table: pa.Table) -> pa.Table:
        """The table, which says it."""
        content = json.dumps(asdict(self)).encode()
        return table.replace_schema_metadata({_KEY: content})

    @classmethod
    def of(cls, table: pa.Table) -> "Answering":
        """What a table says."""
        return cls(**json.loads((table.schema.metadata or {})[_KEY]))


@dataclass(frozen=True)
class Questions:
    """Questions with their windows, in the order of the rows.

    Attributes:
        sizes: Units of each window, ``[N]``.
        question: Number of each window's question, ``[N]``, rising from 0.
        windows: Texts of the windows.
        ids: Of the questions.
        answers: Right answers of each question, none of them: it has no answer; None: nobody says.
        answering: How answers are found and compared.
    """

    sizes: NDArray[np.int64]
    question: NDArray[np.int64]
    windows: Sequence[str]
    ids: Sequence[str]
    answers: Sequence[Sequence[str] | None]
    answering: Answering

    @cached_property
    def begins(self) -> NDArray[np.int64]:
        """Where each window's places begin among all, the end included, ``[N + 1]``; two before its units."""
        return np.concatenate([[0], np.cumsum(self.sizes + 2)]).astype(np.int64)

    def text(self, window: int, first: int, last: int) -> str:
        """What stands in a window from one unit to another, both included."""
        whole = self.windows[window]
        units = units_of(whole)
        return whole[units[first, 0] : units[last, 1]]
