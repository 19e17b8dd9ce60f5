"""Which row is used when, and by whom: pure functions of numbers.

Why not ``Generator.permutation``: numpy promises the raw stream of a bit generator and
``SeedSequence`` to stay the same in later versions, but not what ``Generator`` makes of them. A run
that is resumed after an upgrade must see the rest of its epoch, so the permutation is the stable
sort of raw draws.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "epoch_order", "micro_batches", "steps_per_epoch", "worker_slice"]

Rows = NDArray[np.int64]


def epoch_order(num_rows: int, seed: int, epoch: int, window: int = 0) -> Rows:
    """The order of all rows in one epoch, or in one window of a stream.

    Args:
        num_rows: How many rows there are; 0 gives an empty order.
        seed: The run's seed, not negative.
        epoch: Counted from 0; each epoch has an order of its own.
        window: Of a stream's epoch, from 0: a stream of one window has the order of a table.

    Returns:
        A permutation of ``0 … num_rows - 1``, int64, the same on every machine and numpy version.

    Raises:
        ValueError: An argument is negative.

    Example:
        >>> sorted(epoch_order(5, seed=7, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    for name, value in (
        ("num_rows", num_rows),
        ("seed", seed),
        ("epoch", epoch),
        ("window", window),
    ):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}.")
    key = (epoch, window) if window else (epoch,)
    draws = np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)).random_raw(num_rows)
    return np.argsort(draws, kind="stable").astype(np.int64, copy=False)


def steps_per_epoch(num_rows: int, batch_rows: int) -> int:
    """Optimiser steps in an epoch; the last batch may be short, no row is dropped.

    Example:
        >>> steps_per_epoch(10, 4)
        3
    """
    _require_positive("batch_rows", batch_rows)
    return -(-num_rows // batch_rows)


def worker_slice(batch: Rows, rank: int, world: int) -> Rows:
    """The part of a batch that one worker computes.

    Contiguous, so that the parts in rank order are the batch; sizes differ by at most one row, and
    a worker gets none when the batch has fewer rows than there are workers.

    Example:
        >>> worker_slice(np.arange(5), rank=0, world=2)
        array([0, 1, 2])
    """
    _require_positive("world", world)
    if not 0 <= rank < world:
        raise ValueError(f"rank must be from 0 to {world - 1} (world = {world}), got {rank}.")
    size, larger = divmod(len(batch), world)
    start = rank * size + min(rank, larger)
    return batch[start : start + size + (rank < larger)]


def micro_batches(rows: Rows, micro_batch_rows: int) -> list[Rows]:
    """Cuts rows into forward units of at most ``micro_batch_rows``; none when there are no rows.

    Example:
        >>> [part.tolist() for part in micro_batches(np.arange(5), 2)]
        [[0, 1], [2, 3], [4]]
    """
    _require_positive("micro_batch_rows", micro_batch_rows)
    return [
        rows[start : start + micro_batch_rows] for start in range(0, len(rows), micro_batch_rows)
    ]


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
