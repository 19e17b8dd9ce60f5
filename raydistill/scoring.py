"""Teachers that weigh by what they score on the validation rows: measured once, before training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raydistill.config.ensemble import ValidationWeighting
from raydistill.ensemble import validation_weights
from raydistill.errors import NotFiniteError, TeacherError
from raydistill.evaluation.evaluator import metrics_of
from raydistill.evaluation.metrics import greater_is_better
from raydistill.final import as_a_worker, ask_teachers, fetched
from raydistill.objective import ObjectivePlan
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared
from raydistill.tasks import task_of
from raydistill.teachers.line import TeacherLine

__all__ = ["Measured", "ScoreJob", "score_teachers", "weigh", "weigh_teachers"]


@dataclass(frozen=True)
class ScoreJob:
    """What to measure.

    Attributes:
        table: The validation rows, or a reference to them.
        labels: Of the task.
        teachers: How they are reached.
        objective: For their columns of labels and their temperatures.
        metric: Whose value is the score.
        batch_rows: Of a forward pass.
    """

    table: Any
    labels: tuple[str, ...]
    teachers: Mapping[str, TeacherLine]
    objective: ObjectivePlan
    metric: str
    batch_rows: int


@dataclass(frozen=True)
class Measured:
    """What teachers scored, and what they weigh for it.

    Attributes:
        metric: Whose values the scores are.
        scores: By teacher.
        weights: By teacher, summing to 1.
        computed: By inline teacher, what was computed for it.
    """

    metric: str
    scores: Mapping[str, float]
    weights: Mapping[str, float]
    computed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For the user."""
        each = (f"{n} {self.weights[n]:.3f} (scored {v:.4f})" for n, v in self.scores.items())
        return f"teachers weigh by their {self.metric} on validation: {', '.join(each)}"

    @property
    def metrics(self) -> dict[str, float]:
        """For metrics.json."""
        found = {f"teachers/{name}/validation_score": score for name, score in self.scores.items()}
        return found | {f"teachers/{name}/weight": weight for name, weight in self.weights.items()}

    @property
    def kept(self) -> dict[str, Any]:
        """For the file that a resumed run reads."""
        return {"metric": self.metric, "scores": self.scores, "weights": self.weights}


def score_teachers(
    job: ScoreJob,
) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    """The score of each teacher on the rows whose label it knows, and what inline ones computed.

    Raises:
        TeacherError: What one answered is not finite.
    """
    task = task_of(job.objective.task, fetched(job.table), job.labels)
    answers, computed = ask_teachers(job.teachers, job.objective, task, job.batch_rows)
    scores = {}
    for name, logits in answers.items():
        taught = logits / job.objective.temperatures.get(name, 1.0)
        try:
            metrics = metrics_of(taught, task, "own", job.objective.columns[name])
        except NotFiniteError as error:
            raise TeacherError(
                name, f"cannot be scored on the validation rows: {str(error).rstrip('. ')}", ""
            ) from None
        if f"own/{job.metric}" not in metrics:
            raise TeacherError(
                name,
                f"has no {job.metric} on the validation rows",
                "It needs labels or predictions that differ; choose another ensemble.weighting.metric.",
            )
        scores[name] = metrics[f"own/{job.metric}"]
    return scores, computed


def weigh(metric: str, scores: Mapping[str, float], sharpness: float) -> Measured:
    """The weights that measured scores give."""
    weights = validation_weights(
        scores, sharpness=sharpness, greater_is_better=greater_is_better(metric)
    )
    return Measured(metric, scores, weights)


def weigh_teachers(
    prepared: Prepared,
    folder: OutputFolder,
    lines: Mapping[str, TeacherLine],
    tables: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[Prepared, Measured | None]:
    """The run with the weights of its teachers, if they are to be measured.

    What was measured is kept in the output folder: a resumed run takes the weights from there.

    Args:
        prepared: The run.
        folder: Of the run.
        lines: How teachers are reached.
        tables: References to the rows, by split.
        say: Where the weights are told.
    """
    config = prepared.config
    section = config.ensemble.weighting
    if not config.measures_teachers or not isinstance(section, ValidationWeighting):
        return prepared, None
    kept = folder.read_weights()
    if kept is not None:
        measured = Measured(**kept)
    else:
        job = ScoreJob(
            table=tables["validation"],
            labels=prepared.labels,
            teachers=dict(lines),
            objective=prepared.objective,
            metric=config.scored_by,
            batch_rows=config.evaluation.batch_rows,
        )
        scores, computed = as_a_worker(score_teachers, job, config.training)
        measured = replace(weigh(job.metric, scores, section.sharpness), computed=computed)
        folder.write_weights(measured.kept)
    say(measured.sentence + (" (measured when the run began)" if kept is not None else ""))
    objective = replace(prepared.objective, weights=measured.weights)
    notes = (*prepared.notes, f"{measured.sentence}.")
    return replace(prepared, objective=objective, notes=notes), measured
