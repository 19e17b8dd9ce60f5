"""The steps of a run on rows that are read while they are used.

The order is a pure function of the seed and the rows: window after window of the stream is mixed, each
by its own hash, and cut into steps. Every worker reads the whole stream and takes its share of each step,
so nothing depends on their number; what was done before a resume is passed over. A stream that is no
longer than one window has the order of a table.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.config.task import TaskKind
from raydistill.data.order import Rows, epoch_order, steps_per_epoch
from raydistill.data.readers import Skip
from raydistill.data.stream import Stream
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import StepRows
from raydistill.tasks import Batch, task_of

__all__ = ["StreamedRows"]

T = TypeVar("T")


class StreamedRows:
    """The steps, and the rows of the present one.

    Args:
        stream: Where rows come from.
        kind: What their labels mean.
        batch_rows: Of one optimizer step, over all workers.
        window_rows: How many are mixed at a time.
        seed: Of the order.
    """

    def __init__(
        self, stream: Stream, *, kind: TaskKind, batch_rows: int, window_rows: int, seed: int
    ) -> None:
        self._stream, self._kind, self._batch_rows = stream, kind, batch_rows
        self._window_rows, self._seed = window_rows, seed
        self._num_rows = 0  # of the last epoch that was seen to its end
        self._at: dict[int, int] = {}  # row to its place in what is held

    def steps(self, first_step: int, total_steps: int) -> Iterator[StepRows]:
        """From ``first_step`` to the end, each epoch as long as the stream.

        Raises:
            ConfigError: A row cannot be used.
        """
        step, epoch, place = first_step, 0, first_step
        while step < total_steps:
            for rows in self._epoch(epoch, place):
                yield StepRows(step, epoch, rows)
                step += 1
                if step == total_steps:
                    return
            per_epoch = steps_per_epoch(self._num_rows, self._batch_rows)
            if not per_epoch:
                part = self._stream.parts[0]
                message = f"must hold at least one row, got none in {part.origin.name}."
                raise ConfigError.of(part.path_in_config, message)
            epoch, place = (
                epoch + max(1, place // per_epoch),
                place % per_epoch if place >= per_epoch else 0,
            )

    def _epoch(self, epoch: int, place: int) -> Iterator[Rows]:
        """The steps of one epoch behind the first ``place``; none if it has no more."""
        window, used = divmod(place * self._batch_rows, self._window_rows)
        self._num_rows = window * self._window_rows
        skip = Skip(self._num_rows)
        waiting: pa.Table | None = None
        for table in _ahead(self._stream.tables(self._window_rows, skip)):
            order = epoch_order(table.num_rows, self._seed, epoch, window)
            mixed = table.take(pa.array(order[used:]))
            waiting = mixed if waiting is None else pa.concat_tables([waiting, mixed])
            while waiting.num_rows >= self._batch_rows:
                yield self._hold(waiting.slice(0, self._batch_rows))
                waiting = waiting.slice(self._batch_rows)
            self._num_rows += table.num_rows
            window, used = window + 1, 0
        self._num_rows -= skip.left
        if waiting is not None and waiting.num_rows:
            yield self._hold(waiting)

    def _hold(self, table: pa.Table) -> Rows:
        """From now on these rows can be asked for."""
        self._task = task_of(self._kind, table, self._stream.labels)
        self._lengths = self._task.lengths()
        ids: Rows = table["row_id"].to_numpy()
        self._at = {int(row): i for i, row in enumerate(ids)}
        return ids

    def batch(
        self, rows: list[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows of the present step, as :meth:`raydistill.tasks.TextTask.batch` makes them."""
        places = [self._at[row] for row in rows]
        return self._task.batch(places, tokenizer, max_tokens, filler=filler)

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Characters of some rows of the present step."""
        return self._lengths[[self._at[int(row)] for row in rows]]


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same, the next one being made while this one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="raydistill-stream") as thread:
        end = object()
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
