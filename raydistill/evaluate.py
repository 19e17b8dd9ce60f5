"""Figures of models, teachers and their ensemble on a split, in this process."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
from torch import Tensor

from raydistill.config import DistillConfig
from raydistill.config.ensemble import ValidationWeighting
from raydistill.config.task import EXCLUSIVE
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.evaluator import predict_ensemble
from raydistill.evaluation.measures import agree
from raydistill.evaluation.predictions import prediction_lines
from raydistill.evaluation.ranking import rank_together
from raydistill.evaluation.spans import answers_together
from raydistill.figures import Asked, Figures, ask, figures_of, metrics_on
from raydistill.models import load_tokenizer, read_traits
from raydistill.objective import ObjectivePlan
from raydistill.prepare import perturbed, plan_operations
from raydistill.prepare.objective import plan_objective
from raydistill.scoring import weigh
from raydistill.subjects import (
    Rows,
    Subject,
    find_model,
    find_teacher,
    fitted,
    open_subject,
    rows_of,
)
from raydistill.ui import Ui

__all__ = ["Evaluation", "Wanted", "evaluate"]


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Attributes:
        models: Folders, exports, Hugging Face ids, registry URIs; none where only teachers are wanted.
        split: Of the data.
        teachers: Also those of the configuration, and how much models agree with each.
        ensemble: Also the teachers together.
        latency: Also how long batches take.
        predictions: Keep what was said about each row.
    """

    models: tuple[str, ...]
    split: str = "test"
    teachers: bool = False
    ensemble: bool = False
    latency: bool = True
    predictions: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        task: Kind of task.
        split: Its name.
        rows: How many there are.
        fingerprint: Of the rows.
        figures: Models, teachers, ensemble.
        lines: Of each row what each model said, if that was wanted.
    """

    task: str
    split: str
    rows: int
    fingerprint: str
    figures: tuple[Figures, ...]
    lines: tuple[dict[str, Any], ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """For a file."""
        whole = {key: getattr(self, key) for key in ("task", "split", "rows", "fingerprint")}
        return whole | {"models": [asdict(one) for one in self.figures]}

    @property
    def flat(self) -> dict[str, float]:
        """Of the first of them, by the names of ``metrics.json``; then what it costs."""
        one = self.figures[0]
        found = {f"{self.split}/{name}": value for name, value in one.metrics.items()}
        for copy, metrics in one.perturbed.items():
            found |= {f"{self.split}/perturbed/{copy}/{n}": v for n, v in metrics.items()}
        for size, latency in one.latency.items():
            found |= {
                f"latency_ms/batch{size}/{name}": getattr(latency, name)
                for name in ("p50", "p90", "p99")
            }
        for name in ("parameters", "disk_bytes", "flops_per_row", "tokens_per_row"):
            if (value := getattr(one, name)) is not None:
                found[name] = value
        return found


def evaluate(config: DistillConfig, wanted: Wanted, ui: Ui) -> Evaluation:
    """Load models one after the other, as any frozen ones, and measure them.

    Raises:
        ConfigError: Every fault of data, models and teachers, before anything is loaded.
    """
    rows = rows_of(config, wanted.split)
    subjects, teachers = _found(rows, wanted)
    rows = fitted(rows, [*subjects, *teachers])
    plan = _plan(rows, teachers)
    asked: list[Asked] = []
    scores: dict[str, float] = {}
    copies = {
        (one.role, one.name): _copies(rows, one) for one in [*subjects, *teachers]
    }  # made first: what cannot be made is said before anything is measured
    for subject in [*subjects, *teachers]:
        with ui.doing(f"measuring {subject.name} on {rows.split.table.num_rows:,} rows"):
            model = open_subject(subject)
            taught = subject.role == "teacher"
            asked.append(
                figures_of(
                    subject,
                    model,
                    rows,
                    latency=wanted.latency,
                    copies=copies[subject.role, subject.name],
                )
            )
            if taught and wanted.ensemble and config.measures_teachers:
                scores[subject.name] = _score(subject, model, rows)
        _say_unknown(subject, rows, ui)
    of_teachers = {one.subject.name: one for one in asked if one.subject.role == "teacher"}
    for one in asked:
        if one.subject.role == "model":
            one.figures.agreement = _agreement(rows, one, of_teachers)
    if wanted.ensemble:
        asked.append(_together(rows, of_teachers, _weighed(config, plan, scores)))
    shown = [one for one in asked if wanted.teachers or one.subject.role != "teacher"]
    lines: Sequence[dict[str, Any]] = ()
    if wanted.predictions:
        said = {one.subject.name: (one.logits, one.subject.known) for one in shown}
        lines = prediction_lines(rows.task(), said)
    return Evaluation(
        task=rows.kind,
        split=rows.name,
        rows=rows.task().num_rows,
        fingerprint=rows.split.fingerprint,
        figures=tuple(one.figures for one in shown),
        lines=tuple(lines),
    )


def _found(rows: Rows, wanted: Wanted) -> tuple[list[Subject], list[Subject]]:
    """Models and teachers; every fault of them at once."""
    subjects: list[Subject] = []
    teachers: list[Subject] = []
    faults: list[Fault] = []
    needed = wanted.teachers or wanted.ensemble
    if not needed and not wanted.models:
        faults.append(
            Fault("--model", "is needed where neither --teachers nor --ensemble is given.")
        )
    if needed and not rows.config.teachers:
        option = "--teachers" if wanted.teachers else "--ensemble"
        faults.append(Fault(option, "needs teachers in the configuration, and there are none."))
    many = len(wanted.models) > 1
    names = [model for i, model in enumerate(wanted.models) if model in wanted.models[:i]]
    faults += [Fault("--model", f"names {name} twice.") for name in dict.fromkeys(names)]
    for model in dict.fromkeys(wanted.models):
        if needed and model in rows.config.teachers:
            faults.append(
                Fault("--model", f"{model} is also the name of a teacher; write ./{model}.")
            )
        try:
            subjects.append(find_model(rows, model, f"--model {model}" if many else "--model"))
        except ConfigError as error:
            faults += error.faults
    for name in rows.config.teachers if needed else ():
        try:
            teachers.append(find_teacher(rows, name))
        except ConfigError as error:
            faults += error.faults
    scored = wanted.ensemble and rows.config.measures_teachers
    if scored and "validation" not in rows.splits:
        faults.append(Fault("--ensemble", "weighs teachers on data.validation, which is missing."))
    if faults:
        raise ConfigError(faults)
    return subjects, teachers


def _plan(rows: Rows, teachers: Sequence[Subject]) -> ObjectivePlan:
    """For the weights of the ensemble; what else is trained does not matter here."""
    bare = rows.config.model_copy(update={"losses": [], "adversarial": None})
    traits = {one.name: read_traits(f"teachers.{one.name}.model", one.source) for one in teachers}
    return plan_objective(bare, student=None, teachers=traits, labels=rows.labels)[0]


def _copies(rows: Rows, subject: Subject) -> Mapping[str, pa.Table]:
    own = rows.config.model_copy(update={"augmentation": None})  # nothing is trained
    whose = "the student" if subject.role == "model" else f"the teacher {subject.name}"
    operations = plan_operations(
        own, lambda: load_tokenizer(subject.source).mask_token, whose=whose
    )
    return perturbed(own, operations, rows.split.table)


def _say_unknown(subject: Subject, rows: Rows, ui: Ui) -> None:
    unknown = [label for i, label in enumerate(rows.labels) if i not in subject.known]
    if unknown:
        ui.say(f"{subject.name} does not know {', '.join(unknown)}; measured on the other labels")


def _score(subject: Subject, model: Any, rows: Rows) -> float:
    """On the validation rows, as before a training."""
    config = rows.config
    held_out = replace(rows, name="validation")
    logits = ask(subject, model, held_out)
    taught = logits / config.ensemble.temperatures.get(subject.name, 1.0)
    return metrics_on(held_out, taught, subject.columns)[config.scored_by]


def _weighed(
    config: DistillConfig, plan: ObjectivePlan, scores: Mapping[str, float]
) -> ObjectivePlan:
    weighting = config.ensemble.weighting
    if not scores or not isinstance(weighting, ValidationWeighting):
        return plan
    measured = weigh(config.scored_by, scores, weighting.sharpness)
    return replace(plan, weights=measured.weights)


def _agreement(
    rows: Rows, one: Asked, teachers: Mapping[str, Asked]
) -> dict[str, dict[str, float]]:
    """Of labels that do not exclude each other only those that both know are compared."""
    found, task = {}, rows.task()
    for name, teacher in teachers.items():
        places = list(range(len(rows.labels)))
        if rows.kind not in EXCLUSIVE:
            places = [p for p in one.subject.known if p in teacher.subject.known]
        if places:
            found[name] = agree(
                rows.kind,
                one.logits[:, places],
                teacher.logits[:, places],
                queries=task.queries(),
                questions=task.questions(),
            )
    return found


def _together(rows: Rows, teachers: Mapping[str, Asked], plan: ObjectivePlan) -> Asked:
    """The ensemble: sizes and operations add up; nobody times it."""
    logits = {name: one.logits for name, one in teachers.items()}
    columns = {name: one.subject.columns for name, one in teachers.items()}
    together = _combined(rows, logits, columns, plan)
    anyone = tuple(max(of_label) for of_label in zip(*columns.values(), strict=True))
    known = anyone if rows.kind not in EXCLUSIVE else ()
    name = f"{len(teachers)} teachers together"
    first = next(iter(teachers.values()))
    figures = Figures("ensemble", name, metrics=metrics_on(rows, together, known))
    for copy in first.changed:
        said = {one: asked.changed[copy] for one, asked in teachers.items()}
        changed = _combined(rows, said, columns, plan)
        figures.perturbed[copy] = metrics_on(rows, changed, known)
    for size in ("parameters", "disk_bytes", "flops_per_row"):
        each = [getattr(one.figures, size) for one in teachers.values()]
        if None not in each:
            setattr(figures, size, sum(each))
    return Asked(Subject("ensemble", name, first.subject.settings, anyone), together, figures)


def _combined(
    rows: Rows,
    logits: Mapping[str, Tensor],
    columns: Mapping[str, Sequence[int]],
    plan: ObjectivePlan,
) -> Tensor:
    """What teachers say together of the rows, or of changed copies of them, whose labels and routes are the same."""
    task = rows.task()
    queries, questions = task.queries(), task.questions()
    if queries is not None:
        return rank_together(logits, plan.weights, plan.combine, queries)
    if questions is not None:
        return answers_together(logits, plan.weights, plan.combine, questions, task.route())
    return predict_ensemble(
        logits, plan.weights, plan.combine, task.route(), kind=rows.kind, columns=columns
    )
