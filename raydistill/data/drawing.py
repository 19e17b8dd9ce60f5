"""Which candidates of a query are in its group: a pure function of numbers."""

import numpy as np
from numpy.typing import NDArray

from raydistill.data.order import Rows

__all__ = ["draw_group"]


def draw_group(
    relevance: NDArray[np.float64],
    *,
    most: int,
    positives: int,
    seed: int,
    epoch: int,
    group: int,
) -> Rows:
    """Places of the candidates that one epoch shows, the most relevant first, else in their order.

    Args:
        relevance: Of all candidates of the query, ``[N]``; NaN where it is not known.
        most: Candidates of a group.
        positives: Of them with a relevance above 0; the others have none, or an unknown one. Where a query has
            fewer, its group is smaller.
        seed: The run's.
        epoch: Counted from 0; each draws anew.
        group: Number of the query in the data.

    Example:
        >>> relevance = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
        >>> places = draw_group(relevance, most=3, positives=1, seed=0, epoch=0, group=0)
        >>> len(places), int((relevance[places] > 0).sum())
        (3, 1)
    """
    # The third number keeps these draws apart from those of the order of an epoch.
    key = np.random.SeedSequence(seed, spawn_key=(epoch, group, 1))
    draws = np.random.Philox(key).random_raw(len(relevance))
    order = np.argsort(draws, kind="stable")
    is_relevant = relevance[order] > 0
    relevant = order[is_relevant][:positives]
    others = order[~is_relevant][: most - len(relevant)]
    chosen = np.sort(np.concatenate([relevant, others]))
    first = np.argsort(-np.nan_to_num(relevance[chosen], nan=0.0), kind="stable")
    return chosen[first].astype(np.int64, copy=False)
