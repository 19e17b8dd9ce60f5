"""Several tasks, read and checked: all rules of a single run hold for the view of each.

So they are checked there, and what they find is named by its place in the whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raydistill.config.faults import fault_of, nearest, without_echoes
from raydistill.config.load import parse_config
from raydistill.config.root import DistillConfig
from raydistill.config.settings import plain, read_settings
from raydistill.config.several import AnyConfig, OneTask, TasksConfig
from raydistill.config.task import RANKED
from raydistill.config.task_views import (
    ALONE,
    MEAN,
    OWN,
    SHARED,
    lender_of,
    owner_of,
    teachers_of,
    view_of,
)
from raydistill.errors import ConfigError, Fault

__all__ = ["load_config", "new_faults", "of_task", "parse_any"]

_RESERVED = ("train", "validation", "test", "store", "teachers")


def of_task(fault: Fault, name: str) -> Fault:
    """A fault of a view, by its place in the configuration of all tasks."""

    def place(path: str) -> str:
        return f"tasks.{name}.{path}" if _is_own(path) else path

    shared_for_one = not _is_own(fault.path) and any(map(_is_own, fault.rests_on))
    return replace(
        fault,
        path=place(fault.path),
        message=f"{fault.message} This is of tasks.{name}." if shared_for_one else fault.message,
        rests_on=tuple(place(path) for path in fault.rests_on),
        doubts=tuple(place(path) for path in fault.doubts),
    )


def _is_own(path: str) -> bool:
    """Whether a path of a view stands under the task."""
    first = path.partition(".")[0]
    return first.isidentifier() and first not in SHARED


def new_faults(found: Iterable[Fault], name: str, known: Sequence[Fault]) -> list[Fault]:
    """Faults of a view by their place; what is the same for all tasks is said once."""
    said = {fault.path for fault in known if not any(map(_is_own, fault.rests_on))}
    placed = [of_task(fault, name) for fault in found]
    again = [f for f in placed if f.path in said and not any(map(_is_own, f.rests_on))]
    return without_echoes([fault for fault in placed if fault not in again], known)


def parse_any(settings: Mapping[str, Any]) -> tuple[AnyConfig | None, list[Fault]]:
    """As :func:`raydistill.config.load.parse_config`, of one task or several."""
    if "tasks" not in settings:
        return parse_config(settings)
    try:
        raw = plain(dict(settings), "the configuration")
    except ConfigError as error:
        return None, list(error.faults)
    tasks = raw["tasks"]
    if not isinstance(tasks, dict) or not tasks:
        return None, [Fault("tasks", "must be a mapping of names to tasks, at least one.")]
    faults = [*_root_faults(raw), *_choice_faults(raw), *_lender_faults(raw)]
    wrong = [name for name, task in tasks.items() if not isinstance(task, dict)]
    faults += [
        Fault(f"tasks.{name}", "must be a mapping of settings: data, teachers, losses, …")
        for name in wrong
    ]
    views: dict[str, DistillConfig] = {}
    for name in tasks:
        if name in wrong:
            continue
        view, found = parse_config(view_of(raw, name))
        faults += new_faults(found, name, faults)
        if view is not None:
            views[name] = view
            faults += without_echoes(_refused(view, name), faults)
    own, config = _validated(raw, all_of_it=not faults)
    faults += without_echoes(own, faults)
    order = list(tasks)
    faults.sort(
        key=lambda fault: next(
            (i for i, n in enumerate(order) if f"{fault.path}.".startswith(f"tasks.{n}.")), -1
        )
    )
    if faults and views:
        config = _sound_part(raw, views)
    return config, faults


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read, override and validate a configuration.

    Raises:
        ConfigError: With every fault that the configuration by itself shows.

    Example:
        load_config("config.yaml", overrides=["losses.1.temperature=2"])
    """
    config, faults = parse_any(read_settings(path, overrides))
    if faults or config is None:
        raise ConfigError(faults)
    return config


def _root_faults(raw: Mapping[str, Any]) -> list[Fault]:
    """What stands in the wrong place, or nowhere."""
    faults = []
    known = [*SHARED, "tasks", "task_power"]
    for key in raw:
        if key in (*OWN, *ALONE):
            faults.append(
                Fault(key, f"must be left out beside tasks: each has its own, tasks.NAME.{key}.")
            )
        elif key not in known:
            faults.append(Fault(key, f"is not known. {nearest(key, known)}"))
    for name, task in raw["tasks"].items():
        if name in _RESERVED:
            message = f"must have another name: metrics of the run begin with {name}/."
            faults.append(Fault(f"tasks.{name}", message))
        for key in task if isinstance(task, dict) else ():
            if key in SHARED:
                message = f"must be left out: it is shared by all tasks and stands as {key}."
                faults.append(Fault(f"tasks.{name}.{key}", message))
            elif key not in (*OWN, *ALONE, "weight"):
                known_here = [*OWN, "weight"]
                faults.append(
                    Fault(f"tasks.{name}.{key}", f"is not known. {nearest(key, known_here)}")
                )
    return faults


def _choice_faults(raw: Mapping[str, Any]) -> list[Fault]:
    """What chooses must be the mean, or a metric of a task that there is."""
    training, path = raw.get("training"), "training.select_by"
    metric = training.get("select_by", MEAN) if isinstance(training, dict) else MEAN
    if not isinstance(metric, str) or metric == MEAN or metric.partition("/")[0] in raw["tasks"]:
        return []
    ways = ", ".join(f"{name}/validation/METRIC" for name in raw["tasks"])
    return [Fault(path, f"must be {MEAN} or one of {ways}, got '{metric}'.")]


def _lender_faults(raw: Mapping[str, Any]) -> list[Fault]:
    """The teacher whose layers the student begins with must be one of a task."""
    teacher = lender_of(raw)
    known = [
        f"{other} of {task}" for task, one in raw["tasks"].items() for other in teachers_of(one)
    ]
    if teacher is None or any(teacher in teachers_of(task) for task in raw["tasks"].values()):
        return []
    names = f"Known: {', '.join(known)}." if known else "There are none."
    message = f"names the teacher '{teacher}', which no task has. {names}"
    path = "student.from_teacher"
    return [Fault(f"{path}.teacher", message, doubts=(path,))]


def _refused(view: DistillConfig, name: str) -> list[Fault]:
    """What a single task may have and several may not."""
    faults = []
    for part in ALONE:
        if getattr(view, part):
            message = "must be left out with several tasks, or run the task alone."
            faults.append(Fault(f"tasks.{name}.{part}", message))
    if view.task.kind in RANKED:
        message = f"is {view.task.kind}, which is not possible with several tasks. Run it alone."
        faults.append(Fault(f"tasks.{name}.task.kind", message))
    if view.data.streaming:
        message = "must be false with several tasks: how often one is drawn follows from its rows."
        faults.append(Fault(f"tasks.{name}.data.streaming", message))
    if view.student.network is not None:
        rule = "needs a student with an encoder apart from its head, which one without attention is not. Use model, from_teacher or from_config."
        part = "network" if view.student.preset is None else "preset"
        faults.append(Fault(f"student.{part}", rule, rests_on=("student",)))
    if view.training.sharding == "full":
        message = "must be none with several tasks."
        faults.append(Fault("training.sharding", message))
    return faults


def _validated(
    raw: Mapping[str, Any], *, all_of_it: bool
) -> tuple[list[Fault], TasksConfig | None]:
    """The whole; and faults of what no view holds, or of everything."""
    try:
        return [], TasksConfig.of(plain(dict(raw), "the configuration"))
    except ValidationError as error:
        mine = [
            detail
            for detail in error.errors()
            if all_of_it
            or detail["loc"][:1] == ("task_power",)
            or detail["loc"][2:3] in (("weight",), ("[key]",))
        ]
        return [fault_of(detail, raw)[0] for detail in mine], None


def _sound_part(raw: Mapping[str, Any], views: Mapping[str, DistillConfig]) -> TasksConfig:
    """Of a configuration with faults, what can still be checked; never to be run."""
    owner = owner_of(raw)
    view = views.get(owner) or next(iter(views.values()))
    tasks = {
        name: OneTask.model_construct(**{key: getattr(one, key) for key in OWN}, weight=1.0)
        for name, one in views.items()
    }
    shared: dict[str, Any] = {key: getattr(view, key) for key in SHARED}
    name = next(task for task, one in views.items() if one is view)
    registered = view.tracking.registered_model
    shared["tracking"] = view.tracking.model_copy(
        update={
            "champion_metric": MEAN,
            "promotion": view.tracking.promotion.model_copy(update={"metric": None}),
            "registered_model": registered and registered.removesuffix(f"-{name}"),
        }
    )
    shared["training"] = view.training.model_copy(update={"select_by": MEAN})
    return TasksConfig.model_construct(**shared, tasks=tasks, task_power=0.5)
