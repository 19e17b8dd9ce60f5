"""Which candidates of which queries come when: whole groups and blocks, a pure function of the seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.data.order import Rows, epoch_order, micro_batches, steps_per_epoch, worker_slice
from raydistill.pipeline.plan import MicroBatch
from raydistill.tasks import Batch

__all__ = ["Drawing", "plan_groups"]


@dataclass(frozen=True)
class Drawing:
    """How groups are made.

    Attributes:
        number: Of queries.
        most: Candidates of a group.
        draw: Query and epoch to the rows of its group.
        block: Queries that are seen beside each other: consecutive ones of a step.
    """

    number: int
    most: int
    draw: Callable[[int, int], Rows]
    block: int = 1


def plan_groups(
    drawing: Drawing,
    *,
    batch_rows: int,
    micro_batch_rows: int | None,
    seed: int,
    rank: int,
    world: int,
    first_step: int,
    total_steps: int,
    make_batch: Callable[[list[int], bool], Batch],
    count: Callable[[Batch], Tensor],
    lengths: NDArray[np.int64],
) -> Iterator[MicroBatch]:
    """The micro-batches of one worker from ``first_step`` to the end.

    A step has as many queries as groups of full size are in ``batch_rows``; queries with few candidates make it
    smaller. No group is cut, and a group is the same whoever computes it; likewise a block of them, of which the
    last of a step may have fewer.

    Args:
        drawing: Of the groups.
        batch_rows: Of one optimizer step, over all workers, at most.
        micro_batch_rows: Of one forward pass, at most; None: the worker's whole share.
        seed: Of the order.
        rank: This worker.
        world: Number of workers.
        first_step: Steps already done.
        total_steps: Where to end.
        make_batch: Row positions, and whether they only fill the place of none, to a batch.
        count: What a batch adds to each term's denominator.
        lengths: Of all rows: blocks with rows of like length share a micro-batch.
    """
    step_groups = batch_rows // drawing.most
    block = drawing.block
    per_epoch = steps_per_epoch(drawing.number, step_groups)
    order, order_epoch = None, -1
    for step in range(first_step, total_steps):
        epoch, place = divmod(step, per_epoch)
        if order is None or epoch != order_epoch:
            order, order_epoch = epoch_order(drawing.number, seed, epoch), epoch
        queries = order[place * step_groups : (place + 1) * step_groups]
        begins = np.arange(0, len(queries), block)
        mine = worker_slice(begins, rank, world)
        filler = len(mine) == 0
        blocks = [queries[:1]] if filler else [queries[begin : begin + block] for begin in mine]
        drawn = [
            np.concatenate([drawing.draw(int(query), epoch) for query in some]) for some in blocks
        ]
        if micro_batch_rows is not None:
            # One that is not full stays the last: blocks are told by counting queries.
            longest = [int(lengths[rows].max()) for rows in drawn]
            places = sorted(range(len(drawn)), key=lambda i: (len(blocks[i]) < block, longest[i]))
            drawn = [drawn[i] for i in places]
        in_pass = len(drawn)
        if micro_batch_rows is not None:
            in_pass = max(1, micro_batch_rows // (drawing.most * block))
        pieces = micro_batches(np.arange(len(drawn)), in_pass)
        rows = [np.concatenate([drawn[i] for i in piece]).tolist() for piece in pieces]
        batches = [make_batch(one, filler) for one in rows]
        share = torch.stack([count(batch) for batch in batches]).sum(0)
        for i, batch in enumerate(batches):
            yield MicroBatch(step, epoch, batch, i == len(batches) - 1, share if i == 0 else None)
