"""Which rows come when: a pure function of the seed, whatever the number of workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.data.order import (
    Rows,
    epoch_order,
    micro_batches,
    steps_per_epoch,
    worker_slice,
)
from raydistill.tasks import Batch

__all__ = ["MicroBatch", "StepRows", "by_turns", "plan_micro_batches", "table_steps"]


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step, over all workers.

    Attributes:
        step: From 0.
        epoch: From 0.
        rows: Their numbers in the data.
    """

    step: int
    epoch: int
    rows: Rows


def table_steps(
    num_rows: int, *, batch_rows: int, seed: int, first_step: int, total_steps: int
) -> Iterator[StepRows]:
    """The steps of a run on rows that are counted: each epoch in an order of its own."""
    per_epoch = steps_per_epoch(num_rows, batch_rows)
    order, order_epoch = None, -1
    for step in range(first_step, total_steps):
        epoch, place = divmod(step, per_epoch)
        if order is None or epoch != order_epoch:
            order, order_epoch = epoch_order(num_rows, seed, epoch), epoch
        yield StepRows(step, epoch, order[place * batch_rows : (place + 1) * batch_rows])


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one worker.

    Attributes:
        step: The optimizer step it belongs to, from 0.
        epoch: From 0.
        batch: Its rows.
        last: Whether the optimizer steps after it.
        share: What this worker's whole share of the step adds to each term's denominator; in the
            first micro-batch of a step only, else None.
    """

    step: int
    epoch: int
    batch: Batch
    last: bool
    share: Tensor | None


def plan_micro_batches(
    steps: Iterable[StepRows],
    *,
    micro_batch_rows: int | None,
    rank: int,
    world: int,
    make_batch: Callable[[list[int], bool], Batch],
    count: Callable[[Batch], Tensor],
    lengths: Callable[[Rows], NDArray[np.int64]] | None = None,
    group_rows: int = 1,
) -> Iterator[MicroBatch]:
    """The micro-batches of one worker.

    Args:
        steps: What is done, by all workers together; a step is taken when all of the one before was
            handed out.
        micro_batch_rows: Of one forward pass; None: the worker's whole share.
        rank: This worker.
        world: Number of workers.
        make_batch: Rows of the present step, and whether they only fill the place of none, to a batch.
        count: What a batch adds to each term's denominator.
        lengths: Of rows of the present step: those of like length share a micro-batch, so that less padding is
            computed. The step's sum does not care for the order. None: as they come.
        group_rows: Rows that losses compare with each other: consecutive ones of a step, which stay
            together whatever the number of workers and the size of micro-batches.
    """
    for step in steps:
        rows = step.rows
        mine = _share(rows, rank, world, group_rows)
        filler = len(mine) == 0
        if lengths is not None and micro_batch_rows is not None:
            mine = _like_lengths(mine, lengths(mine), group_rows)
        pieces = micro_batches(rows[:1] if filler else mine, micro_batch_rows or len(rows))
        batches = [make_batch(piece.tolist(), filler) for piece in pieces]
        share = torch.stack([count(batch) for batch in batches]).sum(0)
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            yield MicroBatch(step.step, step.epoch, batch, last, share if i == 0 else None)


def by_turns(
    turns: Sequence[str], done: int, plan_of: Callable[[str, int, int], Iterable[MicroBatch]]
) -> Iterator[MicroBatch]:
    """The micro-batches of several tasks: each goes its own way, a step whenever its turn comes.

    Args:
        turns: The task of every step of the run.
        done: Steps done.
        plan_of: Of a task, its micro-batches from one of its own steps to another.
    """
    plans = {
        task: iter(plan_of(task, turns[:done].count(task), turns.count(task)))
        for task in dict.fromkeys(turns)
    }
    for step, task in enumerate(turns[done:], start=done):
        for micro in plans[task]:
            yield replace(micro, step=step)
            if micro.last:
                break


def _share(rows: Rows, rank: int, world: int, group_rows: int) -> Rows:
    """A worker's part of a step, in whole groups."""
    if group_rows == 1:
        return worker_slice(rows, rank, world)
    groups = np.arange(-(-len(rows) // group_rows))
    own = worker_slice(groups, rank, world)
    return rows[own[0] * group_rows : (own[-1] + 1) * group_rows] if len(own) else rows[:0]


def _like_lengths(rows: Rows, lengths: NDArray[np.int64], group_rows: int) -> Rows:
    """Groups in the order of their longest row; one that is not full stays the last."""
    full = len(rows) - len(rows) % group_rows
    groups = rows[:full].reshape(-1, group_rows)
    order = np.argsort(lengths[:full].reshape(-1, group_rows).max(1), kind="stable")
    return np.concatenate([groups[order].reshape(-1), rows[full:]])
