"""One run: every part is joined here and nowhere else.

::

    config -> prepare (read, check) -> Ray -> teachers (weigh) -> train -> final figures -> registry -> report
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raydistill.assembly import flat_metrics, measure_models, share_tables, worker_job
from raydistill.card import write_card
from raydistill.checks import check, connect_if_cluster
from raydistill.config import DistillConfig, to_yaml
from raydistill.evaluation.report import write_report
from raydistill.export import export_student
from raydistill.making import make_rows
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, needed_resources
from raydistill.record import RunRecord
from raydistill.runtime import (
    cluster_resources,
    connect_ray,
    embedded,
    machine_resources,
    object_store_bytes,
)
from raydistill.scoring import weigh_teachers
from raydistill.serve import Served, serve_teachers, tend_replicas, try_inline
from raydistill.summary import write_summary
from raydistill.training.recorder import descriptions_in, start_recorder
from raydistill.training.trainer import train
from raydistill.ui import Ui

__all__ = ["DistillResult", "Within", "distill"]


@dataclass(frozen=True)
class DistillResult:
    """What a run left.

    Attributes:
        metrics: As in ``metrics.json``.
        student_path: A folder that ``AutoModelForSequenceClassification.from_pretrained`` loads, or, of
            tagging, ``AutoModelForTokenClassification``, of question answering ``AutoModelForQuestionAnswering``;
            of retrieval sentence-transformers loads it.
        output_dir: The run's folder.
        run_id: Of the MLflow run; None if tracking is off or the server was down.
        model_uri: ``models:/name/version``; None if nothing was registered.
    """

    metrics: Mapping[str, float]
    student_path: Path
    output_dir: Path
    run_id: str | None
    model_uri: str | None


@dataclass(frozen=True)
class Within:
    """What a run is given that is part of a search.

    Attributes:
        teachers: Of the whole search, ready to answer; none is started for the run alone.
        params: What MLflow shows as its parameters.
        watch: Called with step, steps, and what was measured on the validation rows then.
        pause_at: The step at which it saves and stops for now; None: none.
        free: Settings below these paths may be others than when the run was paused.
    """

    teachers: Mapping[str, Served]
    params: Mapping[str, Any] | None
    watch: Callable[[int, int, Mapping[str, float]], None]
    pause_at: int | None = None
    free: tuple[str, ...] = ()


def distill(
    config: DistillConfig,
    *,
    resume: bool = False,
    ui: Ui | None = None,
    within: Within | None = None,
) -> DistillResult:
    """Train a student from its teachers (or, without teachers, from labels alone).

    Args:
        config: The run.
        resume: Continue the run in the output folder; the same numbers come out as without the break.
        ui: Where progress and sentences go; None: standard error.
        within: If it is part of a search.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing was started or written.
        RaydistillError: The run failed.
        KeyboardInterrupt: The run was interrupted; it can be resumed.
    """
    ui = ui or Ui()
    with connect_if_cluster(config):
        free = within.free if within is not None else ()
        prepared = check(config, resume=resume, machines=within is None, free=free)
        for note in prepared.notes:
            ui.say(note)
        folder = OutputFolder.of(config)
        if resume and folder.read_manifest() is None:
            ui.say(f"{folder.path} holds no run to resume; starting anew")
        if resume and (done := folder.finished()) is not None:
            ui.say(f"{folder.path} holds a finished run; nothing to resume")
            return DistillResult(
                done["metrics"], folder.student, folder.path, done["run_id"], done["model_uri"]
            )
        return _run(prepared, folder, resume=resume, ui=ui, within=within)


def _run(
    prepared: Prepared, folder: OutputFolder, *, resume: bool, ui: Ui, within: Within | None
) -> DistillResult:
    config, begin = prepared.config, time.time()
    folder.begin(to_yaml(config), prepared.manifest)
    if not embedded(config.run):
        folder.require_shared(prepared.files_everywhere)
    with ExitStack() as stack:
        record = stack.enter_context(
            RunRecord(
                prepared,
                folder,
                resume=resume,
                ui=ui,
                params=within.params if within is not None else None,
            )
        )
        with ui.doing("starting Ray") if embedded(config.run) else nullcontext():
            stack.enter_context(connect_ray(config.run, needed_resources(config)))
        make_rows(prepared, ui)
        teachers = stack.enter_context(_teachers(prepared, within, ui))
        descriptions = {n: t.description for n, t in teachers.items() if t.description is not None}
        lines = {name: teacher.line for name, teacher in teachers.items()}
        record.teachers(descriptions)
        tables = share_tables(prepared)
        with ui.doing("scoring teachers") if config.measures_teachers else nullcontext():
            prepared, measured = weigh_teachers(prepared, folder, lines, tables, ui.say)
        job = worker_job(prepared, lines, tables, start_recorder())
        if within is not None:
            job = replace(job, pause_at=within.pause_at)
        with ui.training(prepared.steps.total, config.run.name) as bar:

            def on_events(events: list[dict[str, Any]]) -> None:
                told = [e for e in events if e["kind"] not in ("waited", "described")]
                record.events(told)
                bar.events(told)
                tend_replicas(teachers, events, job.recorder)
                if said := descriptions_in(events):
                    descriptions.update(said)
                    record.teachers(descriptions)
                if within is not None:
                    _tell(within, events, prepared.steps.total)

            trained = train(
                job,
                storage=folder.checkpoints,
                on_events=on_events,
                say=ui.say,
                wait_for_room=config.run.autoscaling or within is not None,
            )
        for name in teachers:
            if name not in descriptions:  # a resumed run that had no step left to do
                descriptions[name] = try_inline(prepared, name)[0]
        with ui.doing("measuring student and teachers"):
            num_parameters = export_student(prepared, trained.checkpoint, folder.student)
            now = {name: teacher.line_now() for name, teacher in teachers.items()}
            figures = measure_models(prepared, now, tables, folder)
        stats = {name: teacher.stats() for name, teacher in teachers.items()}
        metrics = flat_metrics(trained, figures, stats, measured) | dict(prepared.counted)
        write_summary(
            folder,
            prepared,
            trained=trained,
            figures=figures,
            descriptions={name: descriptions[name] for name in teachers},
            stats=stats,
            student_parameters=num_parameters,
            begin=begin,
            metrics=metrics,
        )
        write_card(folder, prepared, metrics, {name: descriptions[name] for name in teachers})
        write_report(folder.path)
        model_uri = record.finished(metrics)
        folder.finish(metrics, run_id=record.run_id, model_uri=model_uri)
        # Once more: the report names the run and the version.
        write_report(folder.path)
    return DistillResult(metrics, folder.student, folder.path, record.run_id, model_uri)


@contextmanager
def _teachers(prepared: Prepared, within: Within | None, ui: Ui) -> Iterator[dict[str, Served]]:
    """Those of the run, started for it or by the search it is part of."""
    config = prepared.config
    if within is not None:
        yield {name: within.teachers[name] for name in config.teachers}
        return
    with ExitStack() as stack:
        number = len(config.teachers)
        with ui.doing(f"loading {number} teachers") if number else nullcontext():
            teachers = stack.enter_context(
                serve_teachers(
                    prepared,
                    object_store=object_store_bytes(),
                    have=machine_resources() if embedded(config.run) else cluster_resources(),
                    say=ui.say,
                )
            )
        yield teachers


def _tell(within: Within, events: list[dict[str, Any]], steps: int) -> None:
    """What the validation rows said."""
    for event in events:
        values = event.get("values", {})
        measured = {n: v for n, v in values.items() if n.startswith("validation/")}
        if event["kind"] == "metrics" and measured:
            within.watch(event["step"], steps, measured)
