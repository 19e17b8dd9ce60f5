"""Each of several tasks as a run by itself: the *view* of a task is the configuration that would learn it alone."""

from collections.abc import Mapping
from typing import Any

from raydistill.config.settings import plain
from raydistill.config.task import METRICS

__all__ = ["ALONE", "MEAN", "OWN", "SHARED", "lender_of", "owner_of", "teachers_of", "view_of"]

MEAN = "validation/mean"
"""The mean over tasks of the first metric of each; errors, which are better when smaller, count negative."""
SHARED = ("run", "student", "pipeline", "training", "store", "tracking", "evaluation")
"""Sections of the whole."""
OWN = ("data", "task", "teachers", "ensemble", "losses", "adversarial", "balancing")
"""Sections that each task has for itself."""
ALONE = ("augmentation", "stages")
"""Sections that only a task alone may have."""


def owner_of(raw: Mapping[str, Any]) -> str:
    """The task whose view says how the student is made: whose teacher gives layers, else the first."""
    tasks: Mapping[str, Any] = raw["tasks"]
    teacher = lender_of(raw)
    holders = [name for name, task in tasks.items() if teacher in teachers_of(task)]
    return next(iter(holders or tasks))


def lender_of(raw: Mapping[str, Any]) -> str | None:
    """The teacher whose layers the student begins with."""
    student = raw.get("student")
    source = student.get("from_teacher") if isinstance(student, dict) else None
    teacher = source.get("teacher") if isinstance(source, dict) else None
    return teacher if isinstance(teacher, str) else None


def teachers_of(task: Any) -> Mapping[str, Any]:
    """A task's teachers as written; none where there are none, or something else stands there."""
    teachers = task.get("teachers") if isinstance(task, dict) else None
    return teachers if isinstance(teachers, dict) else {}


def view_of(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings of a task as a run by itself; what is not known in them is left to the rules of the whole."""
    own = raw["tasks"][name]
    kept = {key: own[key] for key in (*OWN, *ALONE) if key in own}
    shared = {key: raw[key] for key in SHARED if key in raw}
    view: dict[str, Any] = plain({**shared, **kept}, "the configuration")
    training, tracking = view.get("training"), view.get("tracking")
    if isinstance(training, dict):
        metric = training.pop("select_by", None)
        if isinstance(metric, str) and metric.startswith(f"{name}/"):
            training["select_by"] = metric.removeprefix(f"{name}/")
    if isinstance(tracking, dict):
        for section, field in (
            (tracking, "champion_metric"),
            (tracking.get("promotion"), "metric"),
        ):
            if isinstance(section, dict) and section.get(field) in (MEAN, "test/mean"):
                section[field] = _first_metric(own, section[field])
        if isinstance(tracking.get("registered_model"), str):
            tracking["registered_model"] += f"-{name}"
    teacher = lender_of(raw)
    lender = teachers_of(raw["tasks"][owner_of(raw)]).get(teacher or "")
    if isinstance(lender, dict) and teacher is not None and owner_of(raw) != name:
        same = ("model", "tokenizer", "revision", "trust_remote_code")
        sizes = {key: view["student"][key] for key in ("max_tokens", "dropout") if key in view["student"]}  # fmt: skip
        view["student"] = {**sizes, **{key: lender[key] for key in same if key in lender}}
    return view


def _first_metric(own: Mapping[str, Any], mean: str) -> str:
    """Of a task, on the split of a mean of all."""
    task = own.get("task")
    kind: Any = task.get("kind") if isinstance(task, dict) else None
    first = METRICS.get(kind, METRICS["text_classification"])[0]
    return f"{mean.partition('/')[0]}/{first}"
