"""Which rows the segments of a shelf hold: sorted keys, so that a lookup is a binary search."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Index"]


class Index:
    """Positions by key.

    Args:
        keys: One array of 16-byte keys for every segment.
    """

    def __init__(self, keys: Sequence[NDArray[np.void]]) -> None:
        sizes = [len(part) for part in keys]
        whole = np.concatenate(keys) if keys else np.zeros(0, "V16")
        halves = whole.view(np.uint64).reshape(-1, 2)
        order = np.argsort(halves[:, 0], kind="stable")
        self._first, self._second = halves[order, 0], halves[order, 1]
        segment = np.repeat(np.arange(len(keys), dtype=np.int32), sizes)
        row = np.concatenate([np.arange(n, dtype=np.int32) for n in sizes] or [np.zeros(0, int)])
        self._segment, self._row = segment[order], row[order]

    def __len__(self) -> int:
        return len(self._first)

    def first(
        self, keys: NDArray[np.void]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """For every key a place where it stands, and whether there may be others: see `places`.

        Returns:
            Segment, -1 where the key is not at the first place that it could be at; row; whether there
            are other places to look at.
        """
        halves = keys.view(np.uint64).reshape(-1, 2)
        begin = np.searchsorted(self._first, halves[:, 0], "left")
        end = np.searchsorted(self._first, halves[:, 0], "right")
        if not len(self):
            nowhere = np.full(len(keys), -1, np.int32)
            return nowhere, nowhere, np.zeros(len(keys), np.bool_)
        at = np.minimum(begin, len(self) - 1)
        here = (begin < end) & (self._second[at] == halves[:, 1])
        return np.where(here, self._segment[at], -1), self._row[at], end - begin > 1

    def places(self, key: np.void) -> Iterator[tuple[int, int]]:
        """All places ``(segment, row)`` where a key stands."""
        first, second = np.frombuffer(key.tobytes(), np.uint64)
        begin = int(np.searchsorted(self._first, first, "left"))
        end = int(np.searchsorted(self._first, first, "right"))
        for i in range(begin, end):
            if self._second[i] == second:
                yield int(self._segment[i]), int(self._row[i])
