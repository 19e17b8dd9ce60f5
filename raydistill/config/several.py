"""Several tasks, one student: what they share, what each has of its own, and each as a run by itself.

The *view* of a task is the configuration of the run that would learn it alone. All rules of a single
run hold for it, so they are checked there, and what they find is named by its place here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from raydistill.config.adversarial import AdversarialSection
from raydistill.config.base import NonNegative, Positive, Section, with_default
from raydistill.config.data import DataSection
from raydistill.config.ensemble import EnsembleSection
from raydistill.config.faults import fault_of, nearest, without_echoes
from raydistill.config.load import parse_config
from raydistill.config.losses import LossSection
from raydistill.config.models import StudentSection, TeacherName, TeacherSection
from raydistill.config.presets import with_preset
from raydistill.config.root import DistillConfig
from raydistill.config.schedules import BalancingSection, NoBalancing
from raydistill.config.settings import plain, read_settings
from raydistill.config.store import StoreSection
from raydistill.config.task import METRICS, RANKED, TaskSection, TextClassificationTask
from raydistill.config.training import (
    EvaluationSection,
    PipelineSection,
    RunSection,
    TrackingSection,
    TrainingSection,
)
from raydistill.errors import ConfigError, Fault

__all__ = [
    "MEAN",
    "AnyConfig",
    "OneTask",
    "TasksConfig",
    "load_config",
    "new_faults",
    "of_task",
    "parse_any",
]

MEAN = "validation/mean"
"""The mean over tasks of the first metric of each; errors, which are better when smaller, count negative."""
SHARED = ("run", "student", "pipeline", "training", "store", "tracking", "evaluation")
_OWN = ("data", "task", "teachers", "ensemble", "losses", "adversarial", "balancing")
_ALONE = ("augmentation", "stages")
"""Sections that only a task alone may have."""

_RESERVED = ("train", "validation", "test", "store", "teachers")

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
        return _owner(self.model_dump(include={"student", "tasks"}))

    def view(self, name: str) -> DistillConfig:
        """A task as a run by itself; where layers come from another's teacher, that teacher is the student."""
        return DistillConfig.model_validate(_view(self.model_dump(), name))

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
        view, found = parse_config(_view(raw, name))
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
        if key in (*_OWN, *_ALONE):
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
            elif key not in (*_OWN, *_ALONE, "weight"):
                known_here = [*_OWN, "weight"]
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
    teacher = _lender(raw)
    known = [
        f"{other} of {task}" for task, one in raw["tasks"].items() for other in _teachers_of(one)
    ]
    if teacher is None or any(teacher in _teachers_of(task) for task in raw["tasks"].values()):
        return []
    names = f"Known: {', '.join(known)}." if known else "There are none."
    message = f"names the teacher '{teacher}', which no task has. {names}"
    path = "student.from_teacher"
    return [Fault(f"{path}.teacher", message, doubts=(path,))]


def _refused(view: DistillConfig, name: str) -> list[Fault]:
    """What a single task may have and several may not."""
    faults = []
    for part in _ALONE:
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


def _owner(raw: Mapping[str, Any]) -> str:
    tasks: Mapping[str, Any] = raw["tasks"]
    teacher = _lender(raw)
    holders = [name for name, task in tasks.items() if teacher in (_teachers_of(task))]
    return next(iter(holders or tasks))


def _lender(raw: Mapping[str, Any]) -> str | None:
    """The teacher whose layers the student begins with."""
    student = raw.get("student")
    source = student.get("from_teacher") if isinstance(student, dict) else None
    teacher = source.get("teacher") if isinstance(source, dict) else None
    return teacher if isinstance(teacher, str) else None


def _teachers_of(task: Any) -> Mapping[str, Any]:
    teachers = task.get("teachers") if isinstance(task, dict) else None
    return teachers if isinstance(teachers, dict) else {}


def _view(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings of a task as a run by itself; what is not known in them is left to :func:`_root_faults`."""
    own = raw["tasks"][name]
    kept = {key: own[key] for key in (*_OWN, *_ALONE) if key in own}
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
    teacher = _lender(raw)
    lender = _teachers_of(raw["tasks"][_owner(raw)]).get(teacher or "")
    if isinstance(lender, dict) and teacher is not None and _owner(raw) != name:
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
    owner = _owner(raw)
    view = views.get(owner) or next(iter(views.values()))
    tasks = {
        name: OneTask.model_construct(**{key: getattr(one, key) for key in _OWN}, weight=1.0)
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
