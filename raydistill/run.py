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

from raydistill.card import write_card
from raydistill.config import DistillConfig, to_yaml
from raydistill.config.faults import in_order, without_echoes
from raydistill.config.ranking import RankedTask
from raydistill.config.rules import block_queries, group_rows
from raydistill.config.task import HEADS
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.report import write_report
from raydistill.export import export_student
from raydistill.final import FinalFigures, FinalJob, as_a_worker, final_figures
from raydistill.making import make_rows
from raydistill.models.embeddings import embedding_matrix
from raydistill.output import OutputFolder
from raydistill.prepare import (
    Prepared,
    changed_settings,
    needed_resources,
    perturbed,
    prepare,
    resource_faults,
)
from raydistill.record import RunRecord
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
from raydistill.teachers.line import TeacherLine
from raydistill.teachers.protocol import TeacherSettings
from raydistill.training.job import WorkerJob
from raydistill.training.recorder import descriptions_in, start_recorder
from raydistill.training.trainer import Trained, train
from raydistill.ui import Ui

__all__ = [
    "DistillResult",
    "Within",
    "check",
    "connect_if_cluster",
    "distill",
    "flat_metrics",
    "lacking_resources",
    "measure_models",
    "share_tables",
    "worker_job",
]


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


def check(
    config: DistillConfig,
    faults: list[Fault] | None = None,
    *,
    resume: bool = False,
    output: bool = True,
    machines: bool = True,
    free: tuple[str, ...] = (),
) -> Prepared:
    """Check all that can be checked; nothing is started or written.

    Args:
        config: The run, or the sound part of it.
        faults: Found before.
        resume: Whether an existing run is to be continued.
        output: Whether the run will write its folder.
        machines: Whether it must find room by itself.
        free: Settings below these paths may be others than those of the run to resume.

    Raises:
        ConfigError: With every fault.
    """
    found = list(faults or [])
    prepared, more = prepare(config)
    found += without_echoes(more, found)
    found += without_echoes(job_faults(config), found)
    found += without_echoes(store_faults(config), found)
    if output:
        found += without_echoes(OutputFolder.of(config).faults(resume=resume), found)
        if prepared is not None and not found:
            found += cached_faults(prepared)
    if machines:
        found += without_echoes(lacking_resources(config), found)
    if prepared is not None and resume:
        OutputFolder.of(config).read_weights()  # before anything starts
        before = OutputFolder.of(config).read_manifest()
        if before is not None:
            kept = [
                {path: value for path, value in one.items() if not path.startswith(free)}
                for one in (before, prepared.manifest)
            ]
            found += changed_settings(*kept)
    if found or prepared is None:
        raise ConfigError(in_order(found))
    return prepared


def lacking_resources(config: DistillConfig) -> list[Fault]:
    """What this machine, or the cluster, has not."""
    if embedded(config.run):
        return resource_faults(config, machine_resources(), embedded=True)
    with connect_ray(config.run, needed_resources(config)):
        return resource_faults(config, cluster_resources(), embedded=False)


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


@contextmanager
def connect_if_cluster(config: DistillConfig) -> Iterator[None]:
    """A running cluster is connected to once for checks and run; an embedded one starts after the checks."""
    if embedded(config.run):
        yield
    else:
        with connect_ray(config.run, needed_resources(config)):
            yield


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


def share_tables(prepared: Prepared) -> dict[str, Any]:
    """Rows, and first embeddings, in the object store: each node fetches them once, workers read them in place.

    A stream travels as it is: it only says where the rows are.
    """
    import pyarrow as pa
    import ray

    splits = prepared.splits
    parts = [splits[name].table for name in ("train", "unlabelled") if name in splits]
    fresh = prepared.augmented.tables if prepared.augmented is not None else ()
    if len(fresh) == 1:
        parts, fresh = [*parts, *fresh], ()
    tables: dict[str, Any] = {"train": prepared.stream or ray.put(pa.concat_tables(parts))}
    tables["fresh"] = tuple(ray.put(table) for table in fresh)
    for name in ("validation", "test"):
        if name in splits:
            tables[name] = ray.put(splits[name].table)
            if splits[name].corpus is not None and "corpus" not in tables:  # the same for all
                tables["corpus"] = ray.put(splits[name].corpus)
    if prepared.student.embeddings is not None:  # made once, the same for all workers
        tables["embeddings"] = ray.put(embedding_matrix(prepared.student.embeddings).numpy())
    return tables


def worker_job(
    prepared: Prepared,
    lines: Mapping[str, TeacherLine],
    tables: Mapping[str, Any],
    recorder: Any,
) -> WorkerJob:
    """What workers do, with references to what they need."""
    config = prepared.config
    limit = config.pipeline.max_bytes_ahead
    if limit == "auto":
        limit = object_store_bytes() // 3 // config.training.num_workers
    return WorkerJob(
        seed=config.run.seed,
        student=replace(prepared.student, embeddings=None),
        objective=prepared.objective,
        training=config.training,
        pipeline=config.pipeline,
        steps=prepared.steps,
        teachers=dict(lines),
        train=tables["train"],
        fresh=tables["fresh"],
        shuffle_rows=config.data.shuffle_rows,
        validation=tables.get("validation"),
        labels=prepared.labels,
        max_bytes_ahead=limit,
        row_bytes=sum(prepared.row_bytes(name) for name in config.teachers),
        group_rows=group_rows(config),
        eval_rows=config.evaluation.batch_rows,
        manifest=dict(prepared.manifest),
        recorder=recorder,
        embeddings=tables.get("embeddings"),
        max_positives=config.task.max_positives if isinstance(config.task, RankedTask) else 1,
        block_queries=block_queries(config),
    )


def measure_models(
    prepared: Prepared,
    lines: Mapping[str, TeacherLine],
    tables: Mapping[str, Any],
    folder: OutputFolder,
) -> FinalFigures:
    """Final figures of the exported student, its teachers and their ensemble."""
    config = prepared.config
    job = FinalJob(
        student=TeacherSettings(
            name="student",
            source=folder.student_source(),
            dtype="float32",
            max_tokens=config.student.max_tokens,
            batch_rows=config.evaluation.batch_rows,
            num_threads=max(1, int(config.training.cpus_per_worker)),
            use_gpu=config.training.gpus_per_worker > 0,
            head=HEADS[config.task.kind],
            embedder=prepared.student.embedder,
        ),
        splits={name: tables[name] for name in config.evaluation.splits if name in tables},
        perturbed=_perturbed(prepared),
        labels=prepared.labels,
        teachers=dict(lines),
        objective=prepared.objective,
        evaluation=config.evaluation,
        corpus=tables.get("corpus"),
    )
    if not job.splits:
        return FinalFigures()
    return as_a_worker(final_figures, job, config.training)


def _perturbed(prepared: Prepared) -> dict[str, Any]:
    """Changed copies of the last split that is measured."""
    splits = [name for name in prepared.config.evaluation.splits if name in prepared.splits]
    if not splits:
        return {}
    return perturbed(prepared.config, prepared.operations, prepared.splits[splits[-1]].table)


def flat_metrics(
    trained: Trained,
    figures: FinalFigures,
    stats: Mapping[str, Mapping[str, float]],
    measured: Measured | None,
) -> dict[str, float]:
    """The flat content of metrics.json."""
    metrics = dict(figures.metrics) | (measured.metrics if measured is not None else {})
    metrics |= {k: v for k, v in trained.metrics.items() if "/" in k}
    metrics["train/steps"] = trained.progress.step
    metrics["train/best_step"] = trained.progress.best_step
    for name, values in stats.items():
        metrics |= {f"teachers/{name}/{key}": value for key, value in values.items()}
    computed = [*figures.computed.items(), *(measured.computed if measured else {}).items()]
    for name, values in computed:
        for key, value in values.items():
            metrics[f"teachers/{name}/{key}"] = metrics.get(f"teachers/{name}/{key}", 0.0) + value
    return metrics
