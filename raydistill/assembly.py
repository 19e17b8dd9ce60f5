"""What the parts of a run are given, and what comes out of them in the end: no part knows another."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raydistill.config.ranking import RankedTask
from raydistill.config.rules import block_queries, group_rows
from raydistill.config.task import HEADS
from raydistill.final import FinalFigures, FinalJob, as_a_worker, final_figures
from raydistill.models.embeddings import embedding_matrix
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, perturbed
from raydistill.runtime import object_store_bytes
from raydistill.scoring import Measured
from raydistill.teachers.line import TeacherLine
from raydistill.teachers.protocol import TeacherSettings
from raydistill.training.job import WorkerJob
from raydistill.training.trainer import Trained

__all__ = ["flat_metrics", "measure_models", "share_tables", "worker_job"]


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
