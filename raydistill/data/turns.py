"""Which of several tasks an optimizer step is of: a pure function of seed and step."""

from collections.abc import Mapping, Sequence

import numpy as np

from raydistill.data.order import Rows

__all__ = ["task_shares", "turns"]

_KEY = (0, 0, 1)  # one longer than those of orders of rows, so that no two draws are the same


def task_shares(sizes: Mapping[str, int], power: float) -> dict[str, float]:
    r"""Probability of each task, :math:`n_i^p / \sum_j n_j^p`.

    Args:
        sizes: Rows to train on, by task; positive.
        power: 0: all alike; 1: by size.

    Example:
        >>> task_shares({"small": 100, "large": 900}, power=0.5)
        {'small': 0.25, 'large': 0.75}
    """
    # Relative to the largest, so that a large power does not overflow.
    most = max(sizes.values())
    raised = {name: (size / most) ** power for name, size in sizes.items()}
    total = sum(raised.values())
    return {name: value / total for name, value in raised.items()}


def turns(shares: Sequence[float], seed: int, total: int) -> Rows:
    """The task of every step.

    The first steps of a longer run are those of a shorter one, and nobody but the seed decides: all
    workers draw the same, and a resumed run goes on as the run would have.

    Args:
        shares: Probability of each task, summing to 1.
        seed: Of the run.
        total: Steps.

    Returns:
        The place of a task for each step, ``[total]``.
    """
    draws = np.random.Philox(np.random.SeedSequence(seed, spawn_key=_KEY)).random_raw(total)
    uniform = (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
    places = np.searchsorted(np.cumsum(shares), uniform, side="right")
    return np.minimum(places, len(shares) - 1).astype(np.int64)
