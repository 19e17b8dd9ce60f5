"""What is trained where there are several tasks: one encoder, and a head and an objective for each.

At any time it stands for the one task whose turn it is: a step of that task is a step of any other
student. What belongs to other tasks alone stays as it is in it: heads, their projections, temperatures
and gates. AdamW does not even count the step for them.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from raydistill.objective import Moment, Objective, ObjectivePlan
from raydistill.signals import TeacherSignal
from raydistill.tasks import Batch
from raydistill.training.step import StudentModule
from raydistill.training.student import StudentPlan, make_student, share_encoder

__all__ = ["TaskStudents", "make_tasks"]

_KEY = "task_"  # a task may have the name of something that modules have


class TaskStudents(nn.Module):
    """A StudentModule a task, whose students share their encoder.

    Args:
        parts: By task.
        weights: What is minimised in a task's steps is multiplied by its weight.
    """

    def __init__(self, parts: Mapping[str, StudentModule], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.names, self._weights = list(parts), dict(weights)
        self.by_task = nn.ModuleDict({_KEY + name: part for name, part in parts.items()})
        self.task = self.names[0]

    def turn_to(self, task: str) -> list[nn.Parameter]:
        """From now on it stands for this task; what the others have alone."""
        self.task = task
        own = set(self.part(task).parameters())
        return [parameter for parameter in self.parameters() if parameter not in own]

    def part(self, task: str) -> StudentModule:
        """Student and objective of a task."""
        found = self.by_task[_KEY + task]
        assert isinstance(found, StudentModule)
        return found

    @property
    def parts(self) -> tuple[StudentModule, ...]:
        """Those of all tasks."""
        return tuple(self.part(name) for name in self.names)

    @property
    def student(self) -> nn.Module:
        """The student of the present task."""
        return self.part(self.task).student

    @property
    def objective(self) -> Objective:
        """The objective of the present task."""
        return self.part(self.task).objective

    @property
    def students(self) -> nn.ModuleDict:
        """The students of all tasks, without what is learned beside them."""
        return nn.ModuleDict({_KEY + name: self.part(name).student for name in self.names})

    def forward(
        self, batch: Batch, signals: Mapping[str, TeacherSignal], moment: Moment, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As of the present task alone.

        Args:
            batch: Its rows.
            signals: Answers by TASK/TEACHER.
            moment: Of the step.
            counts: What each of its terms averages over.
        """
        own = {name.removeprefix(f"{self.task}/"): signal for name, signal in signals.items()}
        terms, loss = self.part(self.task)(batch, own, moment, counts)
        # DDP waits for a gradient of every parameter; whoever steps drops these.
        for parameter in self.turn_to(self.task):
            if parameter.requires_grad:
                loss = loss + 0.0 * parameter.sum()
        return terms, self._weights[self.task] * loss

    def logits(self, batch: Batch) -> Tensor:
        """The present task's answer alone, ``[B, C]`` float32."""
        return self.part(self.task).logits(batch)


def make_tasks(
    plans: Mapping[str, tuple[StudentPlan, ObjectivePlan]],
    weights: Mapping[str, float],
    tokenizer: Any,
    *,
    owner: str,
    precision: str = "float32",
    embeddings: Tensor | None = None,
) -> TaskStudents:
    """The students of all tasks with their first weights, and their objectives.

    Args:
        plans: By task.
        weights: By task.
        tokenizer: Of all.
        owner: Whose student's encoder all have, unless that one is of words and another of texts.
        precision: As of :class:`StudentModule`.
        embeddings: First embedding matrix of the owner, if there is one.
    """
    # A student of words is made without what a head for texts takes its vector from.
    order = sorted(plans, key=lambda name: (plans[name][0].head != "texts", name != owner))
    students = {
        name: make_student(plans[name][0], tokenizer, embeddings if name == owner else None)
        for name in order
    }
    share_encoder([students[name] for name in order])
    if any(objective.student_attention for _, objective in plans.values()):
        students[order[0]].set_attn_implementation("eager")  # type: ignore[operator]
    parts = {
        name: StudentModule(students[name], Objective(objective), precision)
        for name, (_, objective) in plans.items()
    }
    return TaskStudents(parts, weights)
