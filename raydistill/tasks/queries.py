"""Which rows are candidates of the same query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["QueryGroups"]


@dataclass(frozen=True)
class QueryGroups:
    """Queries with their candidates, in the order of the rows.

    Attributes:
        starts: First row of each query, and the number of rows, ``[G + 1]``.
        missed: Of each query the grades of relevant passages that are no candidates.
        ordered: Whether candidates stand in the order of a first stage.
    """

    starts: NDArray[np.int64]
    missed: Sequence[Sequence[float]] = ()
    ordered: bool = False

    @property
    def number(self) -> int:
        """Of queries."""
        return len(self.starts) - 1

    def rows(self, group: int) -> slice:
        """Of one query."""
        return slice(int(self.starts[group]), int(self.starts[group + 1]))
