"""One run on several tasks: each part as of a run on one, task by task, around one training.

::

    config -> prepare each -> Ray -> teachers of all (weigh) -> train by turns -> figures of each -> registry -> reports
"""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

from raydistill import assembly, checks, run
from raydistill.card import write_card
from raydistill.config import AnyConfig, TasksConfig, to_yaml
from raydistill.config.faults import without_echoes
from raydistill.config.several import MEAN, of_task
from raydistill.config.task import METRICS
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.report import write_report
from raydistill.export import export_tasks
from raydistill.final import FinalFigures
from raydistill.output import OutputFolder, write_atomically
from raydistill.prepare import (
    Prepared,
    PreparedTasks,
    Resources,
    changed_settings,
    needed_resources,
    prepare_tasks,
)
from raydistill.record import RunRecord
from raydistill.run import DistillResult
from raydistill.runtime import (
    cluster_resources,
    connect_ray,
    embedded,
    job_faults,
    machine_resources,
    object_store_bytes,
)
from raydistill.scoring import Measured, weigh_teachers
from raydistill.serve import Served, serve_teachers, tend_replicas, try_inline
from raydistill.storing import cached_faults, store_faults
from raydistill.summary import write_summary
from raydistill.training.job import TasksJob, WorkerJob
from raydistill.training.recorder import descriptions_in, start_recorder
from raydistill.training.several_worker import mean_of_tasks
from raydistill.training.trainer import Trained, train
from raydistill.ui import Ui

__all__ = ["TaskFolder", "check", "distill"]

_OF_THE_RUN = ("train/", "store/")
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


def check(
    config: AnyConfig,
    faults: list[Fault] | None = None,
    *,
    resume: bool = False,
    output: bool = True,
) -> Prepared | PreparedTasks:
    """As :func:`raydistill.checks.check`, of one task or several."""
    if not isinstance(config, TasksConfig):
        return checks.check(config, faults, resume=resume, output=output)
    found = list(faults or [])
    prepared, more = prepare_tasks(config)
    found += without_echoes(more, found)
    joint, folder = config.joint, OutputFolder.of(config.joint)
    found += without_echoes([*job_faults(joint), *store_faults(joint)], found)
    if output:
        found += without_echoes(folder.faults(resume=resume), found)
        for name, one in prepared.tasks.items() if prepared is not None and not found else ():
            found += [of_task(fault, name) for fault in cached_faults(one)]
    found += without_echoes(checks.lacking_resources(joint), found)
    if prepared is not None and resume:
        for name in prepared.tasks:
            TaskFolder(folder, name).read_weights()  # before anything starts
        before = folder.read_manifest()
        if before is not None:
            found += changed_settings(before, prepared.manifest)
    if found or prepared is None:
        raise ConfigError(found)
    return prepared


def distill(config: AnyConfig, *, resume: bool = False, ui: Ui | None = None) -> DistillResult:
    """Train a student from its teachers (or, without teachers, from labels alone).

    Args:
        config: The run, on one task or on several.
        resume: Continue the run in the output folder; the same numbers come out as without the break.
        ui: Where progress and sentences go; None: standard error.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing was started or written.
        RaydistillError: The run failed.
        KeyboardInterrupt: The run was interrupted; it can be resumed.
    """
    if not isinstance(config, TasksConfig):
        return run.distill(config, resume=resume, ui=ui)
    ui = ui or Ui()
    with checks.connect_if_cluster(config.joint):
        prepared = check(config, resume=resume)
        assert isinstance(prepared, PreparedTasks)
        for note in prepared.notes:
            ui.say(note)
        folder = OutputFolder.of(prepared.joint)
        if resume and folder.read_manifest() is None:
            ui.say(f"{folder.path} holds no run to resume; starting anew")
        if resume and (done := folder.finished()) is not None:
            ui.say(f"{folder.path} holds a finished run; nothing to resume")
            return DistillResult(
                done["metrics"], folder.student, folder.path, done["run_id"], done["model_uri"]
            )
        return _run(prepared, folder, resume=resume, ui=ui)


@dataclass
class _Running:
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


def _run(prepared: PreparedTasks, folder: OutputFolder, *, resume: bool, ui: Ui) -> DistillResult:
    joint, begin = prepared.joint, time.time()
    folder.begin(to_yaml(prepared.config), prepared.manifest)
    if not embedded(joint.run):
        folder.require_shared(prepared.files_everywhere)
    with ExitStack() as stack:
        record = stack.enter_context(RunRecord(prepared, folder, resume=resume, ui=ui))
        with ui.doing("starting Ray") if embedded(joint.run) else nullcontext():
            stack.enter_context(connect_ray(joint.run, needed_resources(joint)))
        running = {}
        with ui.doing(f"loading {len(joint.teachers)} teachers"):
            for name in prepared.tasks:
                running[name] = _served(stack, prepared, name, folder, ui)
        teachers = {
            f"{task}/{name}": served
            for task, one in running.items()
            for name, served in one.teachers.items()
        }
        descriptions = {n: t.description for n, t in teachers.items() if t.description is not None}
        record.teachers(descriptions)
        for one in running.values():
            lines = {name: served.line for name, served in one.teachers.items()}
            one.prepared, one.measured = weigh_teachers(
                one.prepared, one.folder, lines, one.tables, ui.say
            )
        job = _job(prepared, running)
        with ui.training(prepared.steps.total, joint.run.name) as bar:

            def on_events(events: list[dict[str, Any]]) -> None:
                told = [e for e in events if e["kind"] not in ("waited", "described")]
                record.events(told)
                bar.events(told)
                tend_replicas(teachers, events, job.recorder)
                if said := descriptions_in(events):
                    descriptions.update(said)
                    record.teachers(descriptions)

            trained = train(
                job,
                storage=folder.checkpoints,
                on_events=on_events,
                say=ui.say,
                wait_for_room=joint.run.autoscaling,
            )
        for task, one in running.items():
            for name in one.teachers:
                if f"{task}/{name}" not in descriptions:  # a resumed run with no step left to do
                    descriptions[f"{task}/{name}"] = try_inline(one.prepared, name)[0]
        with ui.doing("measuring students and teachers"):
            sizes = export_tasks(prepared, trained.checkpoint, folder.student)
            figures = {name: _figures(one) for name, one in running.items()}
        metrics: dict[str, float] = {}
        for task, one in running.items():
            own = _finish_task(
                one,
                task,
                folder=folder,
                select_by=prepared.config.training.select_by,
                trained=trained,
                figures=figures[task],
                descriptions=descriptions,
                num_parameters=sizes[task],
                begin=begin,
            )
            metrics |= {f"{task}/{k}": v for k, v in own.items() if not k.startswith(_OF_THE_RUN)}
            metrics |= {k: v for k, v in own.items() if k.startswith(_OF_THE_RUN)}
        metrics |= _means(prepared, metrics)
        _write_summary(prepared, folder, metrics, begin)
        write_report(folder.path)
        model_uri = record.finished(metrics)
        folder.finish(metrics, run_id=record.run_id, model_uri=model_uri)
        for one in running.values():
            write_report(one.folder.path)
        # Once more: the report names the run and the versions.
        write_report(folder.path)
    return DistillResult(metrics, folder.student, folder.path, record.run_id, model_uri)


def _served(
    stack: ExitStack, prepared: PreparedTasks, task: str, folder: OutputFolder, ui: Ui
) -> _Running:
    """A task with its teachers and rows."""
    one, joint = prepared.tasks[task], prepared.joint
    have = machine_resources() if embedded(joint.run) else cluster_resources()
    others = {n: t for n, t in joint.teachers.items() if not n.startswith(f"{task}/")}
    workers = needed_resources(joint.model_copy(update={"teachers": {}}))
    taken = needed_resources(joint.model_copy(update={"teachers": others}))

    def say(sentence: str) -> None:
        ui.say(f"{task}: {sentence}")

    teachers = stack.enter_context(
        serve_teachers(
            one,
            object_store=object_store_bytes() // len(prepared.tasks),
            have=Resources(
                have.cpus - taken.cpus + workers.cpus, have.gpus - taken.gpus + workers.gpus
            ),
            say=say,
        )
    )
    own = TaskFolder(folder, task)
    own.path.mkdir(parents=True, exist_ok=True)
    return _Running(one, own, teachers, assembly.share_tables(one))


def _job(prepared: PreparedTasks, running: Mapping[str, _Running]) -> TasksJob:
    """Of all tasks; what is not by task is the owner's."""
    recorder = start_recorder()
    tasks: dict[str, WorkerJob] = {}
    for name, one in running.items():
        lines = {teacher: served.line for teacher, served in one.teachers.items()}
        tasks[name] = assembly.worker_job(one.prepared, lines, one.tables, recorder)
    owner = tasks[prepared.owner]
    common = {field.name: getattr(owner, field.name) for field in fields(WorkerJob)}
    lines = {f"{t}/{n}": line for t, job in tasks.items() for n, line in job.teachers.items()}
    common |= {
        "training": prepared.config.training,
        "teachers": lines,
        "manifest": dict(prepared.manifest),
        "row_bytes": max(job.row_bytes for job in tasks.values()),
    }
    return TasksJob(
        **common,
        tasks=tasks,
        owner=prepared.owner,
        shares=dict(prepared.shares),
        weights={name: section.weight for name, section in prepared.config.tasks.items()},
    )


def _figures(one: _Running) -> FinalFigures:
    now = {name: served.line_now() for name, served in one.teachers.items()}
    return assembly.measure_models(one.prepared, now, one.tables, one.folder)


def _finish_task(
    one: _Running,
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
    metrics = assembly.flat_metrics(alone, figures, stats, one.measured) | dict(
        one.prepared.counted
    )
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
    return name if name.startswith(_OF_THE_RUN) and not name.startswith(by_task) else None


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


def _means(prepared: PreparedTasks, metrics: Mapping[str, float]) -> dict[str, float]:
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


def _write_summary(
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
