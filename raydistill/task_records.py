"""What a run on several tasks leaves: of each as of a run on it alone, and of all together."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill.assembly import flat_metrics
from raydistill.card import write_card
from raydistill.config import to_yaml
from raydistill.config.task import METRICS
from raydistill.config.task_views import MEAN
from raydistill.final import FinalFigures
from raydistill.output import OutputFolder, write_atomically
from raydistill.prepare import Prepared, PreparedTasks
from raydistill.scoring import Measured
from raydistill.serve import Served
from raydistill.summary import write_summary
from raydistill.training.several_worker import mean_of_tasks
from raydistill.training.trainer import Trained

__all__ = [
    "OF_THE_RUN",
    "RunningTask",
    "TaskFolder",
    "finish_task",
    "means_of",
    "write_joint_summary",
]

OF_THE_RUN = ("train/", "store/")
"""Metrics that no task has alone begin so."""


class TaskFolder(OutputFolder):
    """What a run on several tasks leaves of one: as of a run on it alone.

    Args:
        whole: Of the run.
        task: Which.
    """

    def __init__(self, whole: OutputFolder, task: str) -> None:
        super().__init__(whole.path / "tasks" / task)
        self.student, self.model = whole.student / task, whole.model / task


@dataclass
class RunningTask:
    """One task of a run that goes on.

    Attributes:
        prepared: The task.
        folder: What is left of it.
        teachers: Ready to answer.
        tables: References to its rows.
        measured: What its teachers scored, if they weigh by that.
    """

    prepared: Prepared
    folder: TaskFolder
    teachers: Mapping[str, Served]
    tables: Mapping[str, Any]
    measured: Measured | None = None


def finish_task(
    one: RunningTask,
    task: str,
    *,
    folder: OutputFolder,
    select_by: str,
    trained: Trained,
    figures: FinalFigures,
    descriptions: Mapping[str, Any],
    num_parameters: int,
    begin: float,
) -> dict[str, float]:
    """Leave a task's figures as of a run on it alone; its metrics."""
    own = {_of_one(name, task): value for name, value in trained.metrics.items()}
    alone = replace(trained, metrics={n: v for n, v in own.items() if n is not None})
    stats = {name: served.stats() for name, served in one.teachers.items()}
    metrics = flat_metrics(alone, figures, stats, one.measured) | dict(one.prepared.counted)
    config = one.prepared.config
    chosen = {"select_by": select_by.removeprefix(f"{task}/")}
    shown = config.model_copy(update={"training": config.training.model_copy(update=chosen)})
    write_atomically(one.folder.config, to_yaml(shown))
    own_teachers = {name: descriptions[f"{task}/{name}"] for name in one.teachers}
    write_summary(
        one.folder,
        one.prepared,
        trained=alone,
        figures=figures,
        descriptions=own_teachers,
        stats=stats,
        student_parameters=num_parameters,
        begin=begin,
        metrics=metrics,
    )
    write_card(one.folder, one.prepared, metrics, own_teachers)
    write_atomically(one.folder.history, _history_of(folder, task))
    return metrics


def _of_one(name: str, task: str) -> str | None:
    """A name of the whole run's metrics as one task has it; None: it is another's."""
    prefixes: Mapping[str, str] = {
        f"{task}/": "",
        f"teachers/{task}/": "teachers/",
        f"train/losses/{task}.": "train/losses/",
        f"train/teacher_weight/{task}/": "train/teacher_weight/",
    }
    for before, after in prefixes.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    by_task = ("teachers/", "train/losses/", "train/teacher_weight/")
    if name == MEAN:  # what chose
        return name
    return name if name.startswith(OF_THE_RUN) and not name.startswith(by_task) else None


def _history_of(folder: OutputFolder, task: str) -> str:
    """The lines of a run's history that say something of a task."""
    lines = []
    for line in folder.history.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # torn when an earlier attempt was killed
        own = {_of_one(name, task): value for name, value in values.items()}
        own.pop(None, None)
        lines.append(json.dumps({"step": values["step"], **own}) + "\n")
    return "".join(lines)


def means_of(prepared: PreparedTasks, metrics: Mapping[str, float]) -> dict[str, float]:
    """Over the tasks, of the first metric of each."""
    found = {}
    for split in prepared.config.evaluation.splits:
        firsts = [
            f"{name}/{split}/{METRICS[one.config.task.kind][0]}"
            for name, one in prepared.tasks.items()
            if split in one.splits
        ]
        mean = mean_of_tasks(metrics, firsts)
        if mean is not None:
            found[f"{split}/{MEAN.partition('/')[2]}"] = mean
    return found


def write_joint_summary(
    prepared: PreparedTasks, folder: OutputFolder, metrics: Mapping[str, float], begin: float
) -> None:
    """Of all tasks together: their models one below the other, each with its task before its name."""
    of_tasks = {
        name: json.loads(TaskFolder(folder, name).summary.read_text(encoding="utf-8"))
        for name in prepared.tasks
    }
    summary: dict[str, Any] = dict(of_tasks[prepared.owner])
    summary |= {
        "task": "several_tasks",
        "tasks": {name: one["task"] for name, one in of_tasks.items()},
        "labels": [],
        "per_class": [],
        "duration_s": time.time() - begin,
        "notes": list(prepared.notes),
        "rows": {},
        "models": [],
        "teachers": {},
    }
    for task, one in of_tasks.items():
        for split, number in one["rows"].items():
            summary["rows"][split] = summary["rows"].get(split, 0) + number
        summary["models"] += [
            {**model, "name": f"{task}/{model['name']}"} for model in one["models"]
        ]
        summary["teachers"] |= {f"{task}/{name}": facts for name, facts in one["teachers"].items()}
    write_atomically(folder.metrics, json.dumps(dict(metrics), indent=1, sort_keys=True))
    write_atomically(folder.summary, json.dumps(summary, indent=1, ensure_ascii=False))
