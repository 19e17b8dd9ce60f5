"""Several tasks, checked as a whole: each as a run by itself, all with the student of one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig, TasksConfig
from raydistill.config.parse_several import new_faults, of_task
from raydistill.config.task_views import SHARED
from raydistill.data import task_shares
from raydistill.errors import Fault
from raydistill.prepare.prepare import prepare
from raydistill.prepare.prepared import Prepared
from raydistill.schedules import plan_stages
from raydistill.training.schedule import Steps, plan_steps
from raydistill.training.student import StudentPlan, encoder_name

__all__ = ["PreparedTasks", "prepare_tasks"]


@dataclass(frozen=True)
class PreparedTasks:
    """A run on several tasks that can start.

    Attributes:
        config: As written.
        joint: What is shared, and all teachers as TASK/NAME.
        tasks: Each as a run by itself, in the order of the configuration; all of them end with the last
            step of the whole.
        owner: Whose student's encoder all have.
        shares: How often each task is drawn.
        steps: When what happens.
        manifest: What the run is made of.
        notes: What may be meant but should be known.
    """

    config: TasksConfig
    joint: DistillConfig
    tasks: Mapping[str, Prepared]
    owner: str
    shares: Mapping[str, float]
    steps: Steps
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def student(self) -> StudentPlan:
        """How the student with the first head is made."""
        return self.tasks[self.owner].student

    @property
    def files_everywhere(self) -> dict[str, Path]:
        """What every machine must see, by its place in the configuration."""
        return {
            of_task(Fault(place, ""), name).path: path
            for name, one in self.tasks.items()
            for place, path in one.files_everywhere.items()
        }


def prepare_tasks(config: TasksConfig) -> tuple[PreparedTasks | None, list[Fault]]:
    """Read data and models' configurations of all tasks, and check all that can be checked.

    Returns:
        What a run needs, None if there are faults; and the faults.
    """
    faults: list[Fault] = []
    found: dict[str, Prepared] = {}
    owner = config.owner
    for name, view in config.views.items():
        one, wrong = prepare(view, like=found.get(owner))
        faults += new_faults(wrong, name, faults)
        if one is not None:
            found[name] = one
    if owner in found and encoder_name(found[owner].student) is None:
        message = "has no encoder apart from its head, which tasks could share."
        faults.append(Fault("student", message))
    if faults:
        return None, faults
    rows = {name: found[name].num_train_rows or 1 for name in config.tasks}
    training = config.training
    per_epoch = sum(found[name].steps.per_epoch or 1 for name in config.tasks)
    steps = plan_steps(training, per_epoch * training.batch_rows)
    tasks = {name: _until(found[name], steps) for name in config.tasks}
    return PreparedTasks(
        config=config,
        joint=config.joint,
        tasks=tasks,
        owner=owner,
        shares=task_shares(rows, config.task_power),
        steps=steps,
        manifest=_manifest(config, tasks, owner),
        notes=_notes(config, tasks, steps),
    ), []


def _until(one: Prepared, steps: Steps) -> Prepared:
    """A task whose schedules end with the last step of the whole run."""
    stages = plan_stages((), steps.total, len(one.objective.terms))
    return replace(one, steps=steps, objective=replace(one.objective, stages=stages))


def _manifest(config: TasksConfig, tasks: Mapping[str, Prepared], owner: str) -> dict[str, Any]:
    """What is shared, of the owner; the rest by task."""
    found: dict[str, Any] = {"task_power": config.task_power, "tasks": list(tasks)}
    shared = tasks[owner].manifest.items()
    found |= {path: value for path, value in shared if path.partition(".")[0] in SHARED}
    found["training.select_by"] = config.training.select_by
    for name, one in tasks.items():
        found[f"tasks.{name}.weight"] = config.tasks[name].weight
        for path, value in one.manifest.items():
            if path.partition(".")[0] not in SHARED:
                found[f"tasks.{name}.{path}"] = value
    return found


def _notes(config: TasksConfig, tasks: Mapping[str, Prepared], steps: Steps) -> tuple[str, ...]:
    notes = []
    for name, one in tasks.items():
        for note in one.notes:
            first = note.partition(".")[0].partition(" ")[0]
            if first == "training":  # of the view's own steps, which are not made
                continue
            shared = first in SHARED
            if not shared or note not in notes:
                notes.append(note if shared else f"tasks.{name}.{note}")
    most = config.training.max_steps
    if most is not None and most > steps.total:
        notes.append(
            f"training.max_steps = {most} has no effect: training.epochs = {config.training.epochs} "
            f"ends after {steps.total} steps."
        )
    return tuple(notes)
