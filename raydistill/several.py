"""One run on several tasks: each part as of a run on one, task by task, around one training.

::

    config -> prepare each -> Ray -> teachers of all (weigh) -> train by turns -> figures of each -> registry -> reports
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import fields
from typing import Any

from raydistill import assembly, checks, run
from raydistill.config import AnyConfig, TasksConfig, to_yaml
from raydistill.config.faults import without_echoes
from raydistill.config.parse_several import of_task
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.report import write_report
from raydistill.export import export_tasks
from raydistill.final import FinalFigures
from raydistill.output import OutputFolder
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
from raydistill.scoring import weigh_teachers
from raydistill.serve import serve_teachers, tend_replicas, try_inline
from raydistill.storing import cached_faults, store_faults
from raydistill.task_records import (
    OF_THE_RUN,
    RunningTask,
    TaskFolder,
    finish_task,
    means_of,
    write_joint_summary,
)
from raydistill.training.job import TasksJob, WorkerJob
from raydistill.training.recorder import descriptions_in, start_recorder
from raydistill.training.trainer import train
from raydistill.ui import Ui

__all__ = ["check", "distill"]


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
            own = finish_task(
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
            metrics |= {f"{task}/{k}": v for k, v in own.items() if not k.startswith(OF_THE_RUN)}
            metrics |= {k: v for k, v in own.items() if k.startswith(OF_THE_RUN)}
        metrics |= means_of(prepared, metrics)
        write_joint_summary(prepared, folder, metrics, begin)
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
) -> RunningTask:
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
    return RunningTask(one, own, teachers, assembly.share_tables(one))


def _job(prepared: PreparedTasks, running: Mapping[str, RunningTask]) -> TasksJob:
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


def _figures(one: RunningTask) -> FinalFigures:
    now = {name: served.line_now() for name, served in one.teachers.items()}
    return assembly.measure_models(one.prepared, now, one.tables, one.folder)
