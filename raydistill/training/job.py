"""What is handed to every training worker: what it does, not how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raydistill.config.training import PipelineSection, TrainingSection
from raydistill.data import turns
from raydistill.objective import ObjectivePlan
from raydistill.teachers.line import TeacherLine
from raydistill.training.schedule import Steps
from raydistill.training.student import StudentPlan

__all__ = ["TasksJob", "WorkerJob"]


@dataclass(frozen=True)
class WorkerJob:
    """Everything a worker needs; tables and teachers are references, not contents.

    Attributes:
        seed: Of the run.
        student: How the student is made.
        objective: What is minimised.
        training: The section.
        pipeline: The section.
        steps: When what happens.
        teachers: By name.
        train: Reference to the training table, or a stream.
        fresh: References to rows that are added to it, for each epoch its own.
        shuffle_rows: How many rows of a stream are mixed at a time.
        validation: Reference to the validation table, or None.
        labels: Of the task.
        max_bytes_ahead: Of this worker.
        row_bytes: First estimate of a row's answers.
        group_rows: Rows that must stay together, since a loss compares them; 1 if none does.
        eval_rows: Rows of a forward pass while evaluating.
        manifest: What the run is made of.
        recorder: The actor.
        embeddings: Reference to the student's first embedding matrix, or None.
        max_positives: Of candidates of a query, those that are relevant in a group.
        pause_at: The step after which the workers save and stop for now; None: none.
        block_queries: Queries that must stay together, since a loss compares their passages; 1 if none does.
    """

    seed: int
    student: StudentPlan
    objective: ObjectivePlan
    training: TrainingSection
    pipeline: PipelineSection
    steps: Steps
    teachers: Mapping[str, TeacherLine]
    train: Any
    shuffle_rows: int
    validation: Any
    labels: tuple[str, ...]
    max_bytes_ahead: int
    row_bytes: float
    group_rows: int
    eval_rows: int
    manifest: Mapping[str, Any]
    recorder: Any
    embeddings: Any = None
    max_positives: int = 1
    block_queries: int = 1
    fresh: tuple[Any, ...] = ()
    pause_at: int | None = None


@dataclass(frozen=True)
class TasksJob(WorkerJob):
    """Everything a worker needs. What is not by task is the owner's, which is the same in all.

    Attributes:
        tasks: Each as a run by itself, in the order of the configuration.
        owner: Whose student's encoder all have.
        shares: How often each is drawn.
        weights: Of their steps.
    """

    tasks: Mapping[str, WorkerJob] = field(default_factory=dict)
    owner: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def turns(self) -> list[str]:
        """The task of every step."""
        names = list(self.tasks)
        drawn = turns([self.shares[name] for name in names], self.seed, self.steps.total)
        return [names[place] for place in drawn]
