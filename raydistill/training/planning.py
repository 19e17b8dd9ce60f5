"""Which micro-batches a worker trains on, in which order."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from raydistill.config.task import RANKED
from raydistill.data import Stream
from raydistill.data.order import Rows
from raydistill.objective import Objective
from raydistill.pipeline import (
    Drawing,
    FreshRows,
    MicroBatch,
    StepRows,
    StreamedRows,
    plan_groups,
    plan_micro_batches,
    table_steps,
)
from raydistill.tasks import Reranking, TextTask, task_of
from raydistill.training.job import WorkerJob

__all__ = ["Planner", "read_task"]


def read_task(job: WorkerJob, table: Any) -> TextTask:
    """Rows that the student reads.

    Args:
        job: Of a single task.
        table: Of a split.
    """
    return task_of(job.objective.task, table, job.labels, embedder=job.student.embedder)


class Planner:
    """A worker's share of every step.

    Args:
        tokenizer: The student's.
        rank: The worker's number.
        world: How many there are.
    """

    def __init__(self, tokenizer: Any, rank: int, world: int) -> None:
        self._tokenizer, self._rank, self._world = tokenizer, rank, world

    def plan(
        self, job: WorkerJob, objective: Objective, first: int, total: int
    ) -> Iterator[MicroBatch]:
        """The micro-batches of some steps.

        Args:
            job: Of a single task.
            objective: What counts rows, or words, or pairs.
            first: Steps that are done.
            total: Steps of the run.
        """
        if job.objective.task in RANKED:
            return self._groups(job, objective, first, total)
        data, steps, lengths = _steps(job, first, total)
        return plan_micro_batches(
            steps,
            micro_batch_rows=job.training.micro_batch_rows,
            rank=self._rank,
            world=self._world,
            make_batch=lambda rows, filler: data.batch(
                rows, self._tokenizer, job.student.max_tokens, filler=filler
            ),
            count=objective.counts,
            lengths=lengths,
            group_rows=job.group_rows,
        )

    def _groups(
        self, job: WorkerJob, objective: Objective, first: int, total: int
    ) -> Iterator[MicroBatch]:
        """Where rows are candidates of queries."""
        training = job.training
        task = read_task(job, ray.get(job.train))
        assert isinstance(task, Reranking), "its rows are candidates of queries"
        options = {"most": training.group_rows, "positives": job.max_positives, "seed": job.seed}
        return plan_groups(
            Drawing(
                task.queries().number,
                training.group_rows,
                lambda group, epoch: task.draw(group, epoch=epoch, **options),
                job.block_queries,
            ),
            batch_rows=training.batch_rows,
            micro_batch_rows=training.micro_batch_rows,
            seed=job.seed,
            rank=self._rank,
            world=self._world,
            first_step=first,
            total_steps=total,
            make_batch=lambda rows, filler: task.batch(
                rows, self._tokenizer, job.student.max_tokens, filler=filler
            ),
            count=objective.counts,
            lengths=task.lengths(),
        )


def _steps(
    job: WorkerJob, first: int, total: int
) -> tuple[
    TextTask | FreshRows | StreamedRows, Iterator[StepRows], Callable[[Rows], NDArray[np.int64]]
]:
    """The rows to train on, which of them come when, and how long they are."""
    batch_rows, seed = job.training.batch_rows, job.seed
    if isinstance(job.train, Stream):
        streamed = StreamedRows(
            job.train,
            kind=job.objective.task,
            batch_rows=batch_rows,
            window_rows=job.shuffle_rows,
            seed=seed,
        )
        return streamed, streamed.steps(first, total), streamed.lengths
    table, teachers = ray.get(job.train), tuple(job.objective.columns)
    if job.fresh:
        fresh = FreshRows(
            lambda epoch: _task_of_epoch(job, epoch),
            num_rows=table.num_rows + ray.get(job.fresh[0]).num_rows,
            batch_rows=batch_rows,
            seed=seed,
        )
        return fresh, fresh.steps(first, total), fresh.lengths
    task = task_of(job.objective.task, table, job.labels, teachers)
    steps = table_steps(
        task.num_rows, batch_rows=batch_rows, seed=seed, first_step=first, total_steps=total
    )
    return task, steps, task.lengths().__getitem__


def _task_of_epoch(job: WorkerJob, epoch: int) -> TextTask:
    """The training rows and those that are added in one epoch."""
    table = pa.concat_tables([ray.get(job.train), ray.get(job.fresh[epoch])])
    return task_of(job.objective.task, table, job.labels)
