"""Rows that lack a text or a label, left out where the configuration says so.

They go before anything is made of the others: fingerprint and numbers of rows are those of files that never
held them, so that such files may take their place in a resumed run.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.checks import blank_cells, row_place
from raydistill.data.labels import lacks_class
from raydistill.data.readers import Columns
from raydistill.data.targets import Targets

__all__ = ["TEXTS", "Dropped", "IncompleteRows"]

IncompleteRows = Literal["refuse", "drop"]
TEXTS = ("text", "text_pair")
"""Roles of columns that teachers and student read."""


class Dropped:
    """What is left out of a split.

    Args:
        name: Of the split. Rows without a label are left out of ``train`` alone.
        labels: Names of the classes, as far as they are known; an empty sequence: labels are not judged.
        targets: Where labels stand that are not one class a row; None where they are.

    Attributes:
        num_rows: How many rows are left out so far.
    """

    def __init__(self, name: str, labels: Sequence[str] | None, targets: Targets | None) -> None:
        self._name, self._labels, self._targets = name, labels, targets
        self.num_rows = self._all = self._without_text = self._without_label = 0

    def rest(self, columns: Columns) -> tuple[Columns, Callable[[int], str]]:
        """The complete rows of a part, and how they are named in faults: by their numbers in the part.

        Args:
            columns: By role.
        """
        number = len(columns["text"])
        if not number:
            return columns, row_place
        texts = [blank_cells(columns[role]).to_numpy() for role in TEXTS if role in columns]
        no_text = np.any(texts, axis=0)
        no_label = self._lacking(columns)
        kept = np.flatnonzero(~(no_text | no_label))
        self._all += number
        self.num_rows += number - len(kept)
        self._without_text += int(no_text.sum())
        self._without_label += int(no_label.sum())
        columns = self._without_marks(columns)
        if len(kept) == number:
            return columns, row_place
        mask = pa.array(~(no_text | no_label))
        rest = {role: column.filter(mask) for role, column in columns.items()}
        return rest, lambda row: row_place(int(kept[row]))

    @property
    def notes(self) -> list[str]:
        """How many rows were left out, if any."""
        if not self.num_rows:
            return []
        counted = {"text": self._without_text, "label": self._without_label}
        why = " and ".join(f"{count} without a {what}" for what, count in counted.items() if count)
        return [
            f"{self._name}: {self.num_rows} of {self._all} rows are left out, {why} "
            "(data.incomplete_rows: drop)."
        ]

    def _without_marks(self, columns: Columns) -> Columns:
        """With null in place of marks, in rows that stay without a label."""
        if self._name == "train" or self._targets is not None or not self._labels:
            return columns
        if "label" not in columns:
            return columns
        lacks = pa.array(lacks_class(columns["label"], self._labels))
        seen = pc.if_else(lacks, pa.scalar(None, pa.large_string()), columns["label"])
        return {**columns, "label": seen}

    def _lacking(self, columns: Columns) -> np.ndarray:
        """Which rows lack a label that they need."""
        unjudged = self._labels is not None and not self._labels
        if self._name != "train" or unjudged or not any(r.startswith("label") for r in columns):
            return np.zeros(len(columns["text"]), bool)
        if self._targets is not None:
            return self._targets.lacking(columns)
        return lacks_class(columns["label"], self._labels)
