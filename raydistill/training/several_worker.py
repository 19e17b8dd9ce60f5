"""What every training worker does where there are several tasks: the same, by turns."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ray
import torch
from torch import nn

from raydistill.config.task import METRICS
from raydistill.errors import NotFiniteError
from raydistill.evaluation.metrics import greater_is_better
from raydistill.pipeline import MicroBatch, by_turns
from raydistill.signals import Ask
from raydistill.terms import Seen
from raydistill.training.job import TasksJob
from raydistill.training.several import TaskStudents, make_tasks
from raydistill.training.worker import Worker

__all__ = ["TasksWorker", "mean_of_tasks"]


def mean_of_tasks(metrics: Mapping[str, float], firsts: Sequence[str]) -> float | None:
    """The mean of one metric of each task, errors negative.

    Args:
        metrics: By name.
        firsts: Names of those to take; None comes back if one is missing.

    Example:
        >>> mean_of_tasks(
        ...     {"a/test/accuracy": 0.75, "b/test/rmse": 0.25}, ["a/test/accuracy", "b/test/rmse"]
        ... )
        0.25
    """
    if not firsts or any(name not in metrics for name in firsts):
        return None
    signed = [metrics[name] * (1 if greater_is_better(name) else -1) for name in firsts]
    return sum(signed) / len(signed)


class TasksWorker(Worker):
    """One worker's state."""

    job: TasksJob
    core: TaskStudents

    def __init__(self, job: TasksJob, scratch: Path) -> None:
        self._turns = job.turns
        super().__init__(job, scratch)

    def run(self) -> None:
        """Train to the end, evaluating and saving on the way."""
        try:
            super().run()
        except NotFiniteError as error:
            if not error.subject.startswith("losses."):
                raise
            subject = f"tasks.{self.core.task}.{error.subject}"
            raise NotFiniteError(subject, error.rows, error.remedy) from None

    def _make_core(self) -> TaskStudents:
        job, matrix = self.job, None
        if job.embeddings is not None:
            matrix = torch.from_numpy(ray.get(job.embeddings).copy())
        return make_tasks(
            {name: (one.student, one.objective) for name, one in job.tasks.items()},
            job.weights,
            self.tokenizer,
            owner=job.owner,
            precision=job.training.precision,
            embeddings=matrix,
        )

    def _turn_to(self, step: int) -> Sequence[nn.Parameter]:
        return self.core.turn_to(self._turns[step])

    def _term_names(self) -> Sequence[str]:
        return [f"{name}.{term}" for name, one in self.job.tasks.items() for term in one.objective.names]  # fmt: skip

    def _first_term(self) -> int:
        before = list(self.job.tasks)[: list(self.job.tasks).index(self.core.task)]
        return sum(len(self.job.tasks[name].objective.names) for name in before)

    def _seen(self) -> Mapping[str, Seen]:
        return {
            f"{name}/": self.core.part(name).objective.weighting.seen for name in self.job.tasks
        }

    def _plan(self) -> Iterator[MicroBatch]:
        def plan_of(name: str, first: int, total: int) -> Iterator[MicroBatch]:
            objective = self.core.part(name).objective
            return self.planner.plan(self.job.tasks[name], objective, first, total)

        return by_turns(self._turns, self.progress.step, plan_of)

    def _asks_at(self, step: int) -> Mapping[str, Ask]:
        name = self._turns[step]
        asks = self.job.tasks[name].objective.asks_at(step)
        return {f"{name}/{teacher}": ask for teacher, ask in asks.items()}

    def _validate(self) -> dict[str, float]:
        """Of all tasks, and the mean of the first metric of each."""
        present, firsts = self.core.task, []
        found: dict[str, float] = {}
        for name, one in self.job.tasks.items():
            self.core.turn_to(name)
            values = self._validate_task(one)
            if values:
                firsts.append(f"{name}/validation/{METRICS[one.objective.task][0]}")
            found |= {f"{name}/{metric}": value for metric, value in values.items()}
        self.core.turn_to(present)
        mean = mean_of_tasks(found, firsts)
        return found if mean is None else {"validation/mean": mean, **found}

    def _best(self) -> nn.Module:
        return self.core.students
