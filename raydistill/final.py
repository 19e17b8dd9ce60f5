"""What is measured after training, in a task of its own on the cluster: numbers come back, no tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from raydistill.alignment import in_outputs
from raydistill.config.task import EXCLUSIVE
from raydistill.config.training import EvaluationSection, TrainingSection
from raydistill.errors import TrainingError
from raydistill.evaluation.corpus import corpus_metrics
from raydistill.evaluation.evaluator import (
    LATENCY_ROWS,
    REQUEST_PASSES,
    median_ms,
    metrics_of,
    predict,
    predict_by_sources,
    predict_ensemble,
    timing_requests,
)
from raydistill.evaluation.measures import agree, measure_each
from raydistill.evaluation.metrics import ClassMetrics
from raydistill.evaluation.numbers import TargetMetrics
from raydistill.evaluation.ranking import first_stage_metrics, rank_together
from raydistill.evaluation.spans import answers_together, predictions_of
from raydistill.evaluation.tagging import seen_words
from raydistill.losses import PairScorer
from raydistill.objective import ObjectivePlan
from raydistill.signals.ask import SignalDtype
from raydistill.tasks import Retrieval, TextRows, task_of
from raydistill.teachers.line import TeacherLine, open_source
from raydistill.teachers.pairs import PairSource
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.source import Asked, Source
from raydistill.teachers.sources import InlineSource, Memory, StoreSource
from raydistill.teachers.teacher import LocalTeacher, time_answers
from raydistill.training.trainer import find_cause, one_line

__all__ = [
    "FinalFigures",
    "FinalJob",
    "as_a_worker",
    "as_teacher",
    "ask_teachers",
    "fetched",
    "final_figures",
    "found_in",
]

Job = TypeVar("Job")
Found = TypeVar("Found")

_KEPT_BYTES = 1 << 30  # of embeddings, while a model is measured
_NEVER = -1e4  # a logit of probability 0 that can be measured, as an infinite one cannot


@dataclass(frozen=True)
class FinalJob:
    """What to measure.

    Attributes:
        student: The exported student, loaded as any frozen model.
        splits: Tables by name, or references to them.
        labels: Of the task.
        perturbed: Changed copies of the last split, by name.
        teachers: How they are reached.
        objective: For the ensemble's weights and the columns of labels.
        evaluation: The section.
        corpus: All passages, or a reference to them; None: nothing is looked for among them.
    """

    student: TeacherSettings
    splits: Mapping[str, Any]
    labels: tuple[str, ...]
    teachers: Mapping[str, TeacherLine]
    objective: ObjectivePlan
    evaluation: EvaluationSection
    perturbed: Mapping[str, Any] = field(default_factory=dict)
    corpus: Any = None


@dataclass
class FinalFigures:
    """What was measured.

    Attributes:
        metrics: Flat, as in metrics.json.
        latency_ms: By model (``student``, ``teachers/NAME``), then by rows of a batch.
        per_class: Of the student on the last split, or of its numbers if there are several.
        computed: By inline teacher, what was computed for these figures.
        predictions: Of the student by split, where questions are answered: id to answer.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, dict[int, float]] = field(default_factory=dict)
    per_class: Sequence[ClassMetrics | TargetMetrics] = ()
    computed: dict[str, Mapping[str, float]] = field(default_factory=dict)
    predictions: dict[str, Mapping[str, str]] = field(default_factory=dict)


def final_figures(job: FinalJob) -> FinalFigures:
    """Measure the student on every split; teachers and ensemble on the test split (else the last)."""
    found, kind = FinalFigures(), job.objective.task
    student = LocalTeacher(job.student)
    asked = as_teacher(student, job.objective.scorer)
    corpus = fetched(job.corpus).to_pylist() if job.corpus is not None else None
    tables = {name: fetched(table) for name, table in job.splits.items()}
    logits, task = None, None
    for name, table in tables.items():
        task = task_of(kind, table, job.labels)
        logits = predict(asked, task, job.evaluation.batch_rows)
        found.metrics |= metrics_of(logits, task, name)
        found.metrics |= found_in(corpus, asked, task, name)
        found.metrics |= first_stage_metrics(task, name)
        if (questions := task.questions()) is not None:
            found.predictions[name] = predictions_of(logits, questions)
        found.per_class = measure_each(
            kind,
            logits,
            task.hard_labels(),
            label_names=job.labels,
            sentences=task.sentences(),
        )
    if logits is None or task is None:
        return found
    split = list(tables)[-1]
    dtypes = {name: ask.dtype for name, ask in job.objective.asks.items()}
    for name, table in job.perturbed.items():
        copies = task_of(kind, table, job.labels)
        said = predict(asked, copies, job.evaluation.batch_rows)
        found.metrics |= metrics_of(said, copies, f"{split}/perturbed/{name}")
    if job.evaluation.latency:
        found.latency_ms["student"] = _latency(student, task)
    if not job.evaluation.teachers or not job.teachers:
        return found
    prefix = f"{split}/teachers"
    answers, found.computed = ask_teachers(
        job.teachers,
        job.objective,
        task,
        job.evaluation.batch_rows,
        lambda name, source: found.metrics.update(
            found_in(corpus, source, task, f"{prefix}/{name}", dtypes[name])
        ),
    )
    for name, line in job.teachers.items():
        columns = job.objective.columns[name]
        found.metrics |= metrics_of(answers[name], task, f"{split}/teachers/{name}", columns)
        # Of labels that do not exclude each other, those that it does not know are not compared.
        alone = kind not in EXCLUSIVE
        compared = [i for i, column in enumerate(columns) if column >= 0 or not alone]
        agreement = agree(
            kind,
            logits[:, compared],
            answers[name][:, compared],
            queries=task.queries(),
            questions=task.questions(),
        )
        found.metrics |= {f"{split}/{key}/{name}": value for key, value in agreement.items()}
        if job.evaluation.latency:
            found.latency_ms |= _teacher_latency(name, line, task)
    plan = job.objective
    queries, questions = task.queries(), task.questions()
    if queries is not None:
        together = rank_together(answers, plan.weights, plan.combine, queries)
    elif questions is not None:
        together = answers_together(answers, plan.weights, plan.combine, questions, task.route())
    else:
        together = predict_ensemble(
            answers, plan.weights, plan.combine, task.route(), kind=kind, columns=plan.columns
        )
    anyone = [max(of_label) for of_label in zip(*plan.columns.values(), strict=True)]
    partial = kind not in EXCLUSIVE and min(anyone) < 0
    found.metrics |= metrics_of(together, task, f"{split}/ensemble", anyone if partial else ())
    return found


def ask_teachers(
    lines: Mapping[str, TeacherLine],
    objective: ObjectivePlan,
    task: TextRows,
    batch_rows: int,
    then: Callable[[str, Source], None] = lambda *_: None,
) -> tuple[dict[str, Tensor], dict[str, Mapping[str, float]]]:
    """What all teachers say about all rows, from the store or now.

    Args:
        lines: How they are reached.
        objective: For what answers travel in, and the columns of labels.
        task: The rows.
        batch_rows: Of a forward pass.
        then: Asks each teacher for more.

    Returns:
        Logits by teacher, ``[N, C]``, in the student's order of classes; and what inline teachers computed.
    """
    sources = {
        name: open_source(name, replace(line, direct=False), timeout_factor=REQUEST_PASSES)
        for name, line in lines.items()
    }
    dtypes = {name: objective.asks[name].dtype for name in sources}
    answers = predict_by_sources(sources, task, batch_rows, dtypes)
    computed = {}
    for name, source in sources.items():
        then(name, source)
        source.close()  # so that the next run need not start an inline teacher
        computed[name] = source.stats()
        columns, seen = objective.columns[name], seen_words(answers[name])
        answers[name] = in_outputs(objective.task, answers[name], columns, missing=_NEVER)
        answers[name] = answers[name].masked_fill(~seen.unsqueeze(1), -torch.inf)
    return answers, computed


def as_teacher(model: LocalTeacher, scorer: PairScorer | None) -> Asked | LocalTeacher:
    """A model as one that answers rows: pairs are scored by what it makes of their texts."""
    if scorer is None:
        return model
    name = model.settings.name
    # A passage of many queries is embedded once: what was computed is kept meanwhile.
    texts = StoreSource(name, None, Memory(_KEPT_BYTES), InlineSource(model, 0))
    return Asked(PairSource(name, texts, scorer))


def found_in(
    corpus: Sequence[str] | None,
    model: Any,
    task: TextRows,
    prefix: str,
    dtype: SignalDtype = "float32",
) -> dict[str, float]:
    """Figures of what a model finds among all passages; nothing of one that reads pairs, or without a corpus."""
    source = model.source if isinstance(model, Asked) else model
    if corpus is None or not isinstance(source, PairSource) or not isinstance(task, Retrieval):
        return {}
    return corpus_metrics(source.texts, task, corpus, source.scorer, prefix=prefix, dtype=dtype)


def fetched(table: Any) -> Any:
    """A table, or what a reference to one leads to."""
    import ray

    return ray.get(table) if isinstance(table, ray.ObjectRef) else table


def as_a_worker(work: Callable[[Job], Found], job: Job, training: TrainingSection) -> Found:
    """Do something in a task of its own on the cluster, while no worker trains.

    Args:
        work: What to do.
        job: Its argument.
        training: For what a worker has: no more is taken, so much is free for certain.

    Raises:
        RaydistillError: What was raised there.
    """
    import ray
    from ray.exceptions import RayError

    resources = {
        "num_cpus": min(1.0, training.cpus_per_worker),
        "num_gpus": training.gpus_per_worker,
        "scheduling_strategy": "DEFAULT",  # a trial of a search has no room of its own
        "resources": training.worker_resources,
    }
    try:
        return ray.get(ray.remote(work).options(**resources).remote(job))  # type: ignore[no-any-return]
    except RayError as error:
        raise (
            find_cause(error) or TrainingError(f"measuring failed: {one_line(error)}")
        ) from error


def _teacher_latency(name: str, line: TeacherLine, task: TextRows) -> dict[str, dict[int, float]]:
    """Where it runs; nothing of one that was not started, or whose replica died just then."""
    import ray
    from ray.exceptions import RayActorError

    if line.inline is not None:
        return {f"teachers/{name}": _latency(LocalTeacher(line.inline), task)}
    if not line.actors:
        return {}
    try:
        return {
            f"teachers/{name}": {
                rows: median_ms(ray.get(line.actors[0].time.remote(timing_requests(task, rows))))
                for rows in LATENCY_ROWS
            }
        }
    except RayActorError:
        return {}


def _latency(model: LocalTeacher, task: TextRows) -> dict[int, float]:
    """Milliseconds by rows of a batch."""
    return {
        rows: median_ms(time_answers(model, timing_requests(task, rows))) for rows in LATENCY_ROWS
    }
