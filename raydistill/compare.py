"""Two models on the same rows: how far apart they are, and whether by more than chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.task import EXCLUSIVE
from raydistill.data import any_label
from raydistill.errors import ConfigError, Fault
from raydistill.evaluation.metrics import greater_is_better
from raydistill.evaluation.resampling import Paired, Resampled, paired_bootstrap
from raydistill.evaluation.statistics import RESAMPLED, Measured, comparable_metrics, resampled
from raydistill.evaluation.table import format_amount
from raydistill.figures import ask
from raydistill.subjects import Rows, Subject, find_model, fitted, open_subject, rows_of
from raydistill.ui import Ui

__all__ = ["Comparison", "compare"]

_FEWEST, _MOST = 100, 1_000_000  # resamples
_UNITS = {
    "tagging": "sentences",
    "reranking": "queries",
    "retrieval": "queries",
    "question_answering": "questions",
}


@dataclass(frozen=True)
class Comparison:
    """Two models, by one metric.

    Attributes:
        first: As the user wrote it.
        second: Likewise.
        metric: Its name.
        split: Of the data.
        unit: What was drawn.
        fingerprint: Of the rows.
        found: Values, difference, interval, p-value.
    """

    first: str
    second: str
    metric: str
    split: str
    unit: str
    fingerprint: str
    found: Paired

    @property
    def document(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self) | {"significant": self.found.significant}

    @property
    def sentence(self) -> str:
        """What follows, and what does not."""
        found, name = self.found, self.metric.replace("_", " ")
        level = f"{found.level:.0%}".replace("%", " %")
        drawn = f"{found.units:,} {self.unit} of {self.split}"
        interval = f"{level} interval {format_amount(found.low)} to {format_amount(found.high)}"
        facts = f"{interval}, p = {found.p_value:.2g}, {found.resamples:,} resamples of {drawn}"
        if not found.significant:
            return (
                f"Not significant: {self.second} less {self.first} is {format_amount(found.difference)} {name}, "
                f"which may be chance ({facts})."
            )
        better = greater_is_better(self.metric) == (found.difference > 0)
        one, other = (self.second, self.first) if better else (self.first, self.second)
        return f"Significant: {one} is better than {other} by {format_amount(abs(found.difference))} {name} ({facts})."

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headers and rows."""
        found = self.found
        headers = ["Model", "", self.metric, "Low", "High", "p"]
        gap = [format_amount(one) for one in (found.difference, found.low, found.high)]
        return headers, [
            [self.first, "A", format_amount(found.first), "", "", ""],
            [self.second, "B", format_amount(found.second), "", "", ""],
            ["difference", "B - A", *gap, f"{found.p_value:.2g}"],
        ]


def compare(
    config: DistillConfig,
    first: str,
    second: str,
    *,
    metric: str | None,
    split: str,
    resamples: int,
    seed: int,
    ui: Ui,
) -> Comparison:
    """Measure both and draw rows again and again.

    Args:
        config: Whose data, task and cut of long texts are used.
        first: Folder, export, Hugging Face id, or registry URI.
        second: Likewise.
        metric: Of the task; None: what chooses the best student.
        split: Of the data.
        resamples: How often rows are drawn.
        seed: Of the draws.
        ui: Where progress goes.

    Raises:
        ConfigError: Every fault, before a model is loaded.
    """
    kind = config.task.kind
    metrics = comparable_metrics(kind)
    metric = metric or metrics[0]
    faults = []
    if kind not in RESAMPLED:
        faults.append(Fault("task.kind", f"is {kind}, whose rows compare cannot draw yet."))
    if metric not in metrics:
        message = f"must be one of {', '.join(metrics)}, got '{metric}'."
        faults.append(Fault("--metric", message + _why_not(metric, metrics)))
    if not _FEWEST <= resamples <= _MOST:
        faults.append(
            Fault("--resamples", f"must be from {_FEWEST} to {_MOST:,}, got {resamples}.")
        )
    if seed < 0:
        faults.append(Fault("--seed", f"must be at least 0, got {seed}."))
    if faults:
        raise ConfigError(faults)
    rows = rows_of(config, split)
    if not any_label(rows.split.table):
        faults.append(Fault("--split", f"is {split}, of which no row has a label."))
    subjects: list[Subject] = []
    for path, model in (("A", first), ("B", second)):
        try:
            subjects.append(find_model(rows, model, path))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    figures = _figures(fitted(rows, subjects), subjects, metric, ui)
    with ui.doing(f"drawing {rows.name} {resamples:,} times"):
        found = paired_bootstrap(*figures, resamples=resamples, seed=seed)
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        split=split,
        unit=_UNITS.get(kind, "rows"),
        fingerprint=rows.split.fingerprint,
        found=found,
    )


def _why_not(metric: str, metrics: Sequence[str]) -> str:
    """Why a figure that evaluate shows is not tested."""
    if metric != "ece":
        return ""
    instead = " nll counts calibration too." if "nll" in metrics else ""
    return (
        " Chance makes a calibration error larger, the more the farther confidences are spread, so that models which are "
        f"equally well calibrated would seem to differ.{instead}"
    )


def _figures(
    rows: Rows, subjects: list[Subject], metric: str, ui: Ui
) -> tuple[Resampled, Resampled]:
    """Of both, on the labels that both know."""
    places = [p for p in subjects[0].known if p in subjects[1].known]
    if not places:
        raise ConfigError.of("B", f"{subjects[1].name} shares no label with {subjects[0].name}.")
    if left := [rows.labels[p] for p in range(len(rows.labels)) if p not in places]:
        ui.say(f"not both know {', '.join(left)}; compared on the other labels")
    task = rows.task()
    labels, found = task.hard_labels(), []
    alone = rows.kind not in EXCLUSIVE
    for subject in subjects:
        with ui.doing(f"asking {subject.name} about {task.num_rows:,} rows"):
            logits = ask(subject, open_subject(subject), rows)
        measured = Measured(
            logits=logits[:, places],
            labels=labels[:, places] if alone else labels,
            label_names=[rows.labels[p] for p in places],
            queries=task.queries(),
            sentences=task.sentences(),
            questions=task.questions(),
        )
        found.append(resampled(rows.kind, metric, measured))
    return found[0], found[1]
