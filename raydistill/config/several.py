"""Several tasks, one student: what they share, and what each has of its own."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from raydistill.config.adversarial import AdversarialSection
from raydistill.config.base import NonNegative, Positive, Section, with_default
from raydistill.config.data import DataSection
from raydistill.config.ensemble import EnsembleSection
from raydistill.config.losses import LossSection
from raydistill.config.models import StudentSection, TeacherName, TeacherSection
from raydistill.config.presets import with_preset
from raydistill.config.root import DistillConfig
from raydistill.config.schedules import BalancingSection, NoBalancing
from raydistill.config.store import StoreSection
from raydistill.config.task import TaskSection, TextClassificationTask
from raydistill.config.task_views import MEAN, SHARED, owner_of, view_of
from raydistill.config.training import (
    EvaluationSection,
    PipelineSection,
    RunSection,
    TrackingSection,
    TrainingSection,
)

__all__ = ["AnyConfig", "OneTask", "TasksConfig"]

TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Appears in metrics and names of folders: letters, digits, `_` and `-`."""


class OneTask(Section):
    """One of several tasks: its rows, its teachers, and what is minimised for it."""

    data: DataSection
    """Where its rows come from."""
    task: TaskSection = TextClassificationTask()
    """What is learnt from them."""
    teachers: dict[TeacherName, TeacherSection] = {}
    """By name; other tasks may use the same names for others. None: hard labels alone."""
    ensemble: EnsembleSection = EnsembleSection()
    """How several teachers become one soft target."""
    losses: list[LossSection] = Field(min_length=1)
    """Terms of the sum that is minimised in this task's steps."""
    adversarial: AdversarialSection | None = None
    """One more term, on examples made against the student. Null: none."""
    balancing: BalancingSection = NoBalancing(kind="none")
    """How terms of different scale are brought to one."""
    weight: Positive = 1.0
    """Of this task's steps: what is minimised in them is multiplied by it."""


class TasksConfig(Section):
    """One run of raydistill on several tasks: a student with one encoder, and a head for each task."""

    run: RunSection
    """The run as a whole."""
    tasks: dict[TaskName, OneTask] = Field(min_length=1)
    """By name. Every optimizer step is of one task, which is drawn anew for each step."""
    task_power: NonNegative = 0.5
    """A task is drawn in proportion to its number of training rows to this power. 0: all alike; 1: by size."""
    student: StudentSection
    """The model that is trained. `from_teacher` may name a teacher of any task, `network` is not possible."""
    pipeline: PipelineSection = PipelineSection()
    """How far ahead of the student the teachers are asked."""
    training: TrainingSection = TrainingSection()
    """How the student is trained. An epoch has as many steps as the epochs of all tasks together.
    `select_by` is `validation/mean`, unless it names the metric of one task, `NAME/validation/accuracy`:
    the mean over tasks of the first metric of each, errors negative."""
    store: StoreSection = StoreSection()
    """What is kept of the teachers' answers."""
    tracking: TrackingSection = TrackingSection()
    """What MLflow is told. A version of a model of its own is registered for each task,
    `registered_model-NAME`; `champion_metric: validation/mean` (or test/mean) compares by its first metric."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at the end, of each task."""

    @staticmethod
    def _defaults(settings: dict[str, Any]) -> dict[str, Any]:
        if isinstance(settings.get("student"), dict):
            settings = {**settings, "student": with_preset(settings["student"])}
        settings = with_default(settings, "training", "select_by", MEAN)
        return with_default(settings, "tracking", "champion_metric", MEAN)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "TasksConfig":
        """Validated; with the metrics that choose, where none is written."""
        return cls.model_validate(cls._defaults(settings))

    @property
    def owner(self) -> str:
        """The task whose view says how the student is made: whose teacher gives layers, else the first."""
        return owner_of(self.model_dump(include={"student", "tasks"}))

    def view(self, name: str) -> DistillConfig:
        """A task as a run by itself; where layers come from another's teacher, that teacher is the student."""
        return DistillConfig.model_validate(view_of(self.model_dump(), name))

    @property
    def views(self) -> dict[str, DistillConfig]:
        """Of all tasks, the owner's first."""
        names = [self.owner, *(name for name in self.tasks if name != self.owner)]
        return {name: self.view(name) for name in names}

    @property
    def joint(self) -> DistillConfig:
        """What is shared, with the teachers of all tasks as TASK/NAME: for folders, Ray and resources, not to be run."""
        teachers = {
            f"{task}/{name}": teacher
            for task, section in self.tasks.items()
            for name, teacher in section.teachers.items()
        }
        shared = {name: getattr(self, name) for name in SHARED}
        return self.view(self.owner).model_copy(update={**shared, "teachers": teachers})


AnyConfig = DistillConfig | TasksConfig
