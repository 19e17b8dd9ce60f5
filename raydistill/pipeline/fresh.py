"""Rows to train on of which some are others in every epoch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.data.order import Rows
from raydistill.pipeline.plan import StepRows, table_steps
from raydistill.tasks import Batch, TextTask

__all__ = ["FreshRows"]


class FreshRows:
    """One table for each epoch, all of the same length; only the present one is held.

    Args:
        task_of: An epoch to its rows.
        num_rows: Of every epoch.
        batch_rows: Of a step, over all workers.
        seed: Of the order.
    """

    def __init__(
        self, task_of: Callable[[int], TextTask], *, num_rows: int, batch_rows: int, seed: int
    ) -> None:
        self._task_of, self._num_rows = task_of, num_rows
        self._batch_rows, self._seed = batch_rows, seed
        self._task: TextTask | None = None
        self._lengths: NDArray[np.int64] | None = None

    def steps(self, first_step: int, total_steps: int) -> Iterator[StepRows]:
        """From ``first_step`` to before ``total_steps``; `batch` and `lengths` are of the one given last."""
        epoch = -1
        for step in table_steps(
            self._num_rows,
            batch_rows=self._batch_rows,
            seed=self._seed,
            first_step=first_step,
            total_steps=total_steps,
        ):
            if step.epoch != epoch:
                epoch, self._task = step.epoch, self._task_of(step.epoch)
                self._lengths = self._task.lengths()
            yield step

    def batch(
        self, rows: Sequence[int], tokenizer: Any, max_tokens: int, *, filler: bool = False
    ) -> Batch:
        """Some rows of the present step, tokenized for the student."""
        assert self._task is not None, "a step comes first"
        return self._task.batch(rows, tokenizer, max_tokens, filler=filler)

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Characters of rows of the present step."""
        assert self._lengths is not None, "a step comes first"
        return self._lengths[rows]
