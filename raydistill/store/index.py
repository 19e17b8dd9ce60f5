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

    def find(self, keys: NDArray[np.void]) -> list[list[tuple[int, int]]]:
        """For every key, all places ``(segment, row)`` where it stands."""
        halves = keys.view(np.uint64).reshape(-1, 2)
        begin = np.searchsorted(self._first, halves[:, 0], "left")
        end = np.searchsorted(self._first, halves[:, 0], "right")
        return [list(self._places(b, e, h[1])) for b, e, h in zip(begin, end, halves, strict=True)]

    def _places(self, begin: int, end: int, second: np.uint64) -> Iterator[tuple[int, int]]:
        for i in range(begin, end):
            if self._second[i] == second:
                yield int(self._segment[i]), int(self._row[i])
