"""The pictures of a run over its steps: losses, validation, pace."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from raydistill.config.task import METRICS
from raydistill.evaluation.curves import Curve, curves_svg
from raydistill.evaluation.metrics import greater_is_better
from raydistill.evaluation.table import format_integer, number

__all__ = ["markup", "run_curves", "selected_by", "words_of"]

_SCORES = frozenset(
    {
        "accuracy",
        "f1",
        "precision",
        "recall",
        "micro_f1",
        "macro_f1",
        "exact_match",
        "mean_average_precision",
        "ndcg_at_10",
        "mrr_at_10",
        "recall_at_10",
        "map",
        "ece",
        "agreement",
    }
)
_NAMES = {
    "accuracy": "Validation accuracy",
    "f1": "Validation F1 of spans",
    "precision": "Validation precision of spans",
    "recall": "Validation recall of spans",
    "micro_f1": "Validation micro F1",
    "macro_f1": "Validation macro F1",
    "mean_average_precision": "Validation mean average precision",
    "nll": "Validation loss (nats)",
    "ece": "Validation calibration error",
    "rmse": "Validation RMSE",
    "mse": "Validation mean squared error",
    "mae": "Validation mean absolute error",
    "pearson": "Validation correlation (Pearson)",
    "spearman": "Validation correlation (Spearman)",
    "r2": "Validation R²",
    "ndcg_at_10": "Validation nDCG@10",
    "mrr_at_10": "Validation MRR@10",
    "recall_at_10": "Validation recall@10",
    "map": "Validation MAP",
    "exact_match": "Validation exact match",
}
_FIRST = tuple(dict.fromkeys(name for names in METRICS.values() for name in names))


def selected_by(config: str) -> str:
    """The metric that chose the checkpoint, from the configuration if it can be read."""
    try:
        written = yaml.safe_load(config) or {}
        return str(written["training"]["select_by"])
    except (yaml.YAMLError, KeyError, TypeError):
        return "validation/accuracy"


def run_curves(history: Sequence[Mapping[str, Any]], select_by: str) -> dict[str, Any]:
    """The pictures over steps."""
    keys = list(dict.fromkeys(key for record in history for key in record))

    def points(key: str) -> tuple[tuple[float, float], ...]:
        pairs = ((record["step"], number(record.get(key))) for record in history)
        return tuple((float(step), value) for step, value in pairs if value is not None)

    selection = points(select_by)
    best = None
    if selection:
        sign = 1 if greater_is_better(select_by) else -1
        best = max(selection, key=lambda pair: (sign * pair[1], -pair[0]))[0]

    terms = sorted((key for key in keys if key.startswith("train/losses/")), key=_term_order)
    losses = [Curve("Loss, weighted sum", points("train/loss"))]
    losses += [Curve(_term_title(key), points(key)) for key in terms]
    measured = [key for key in keys if key.startswith("validation/") and key.count("/") == 1]
    measured.sort(key=lambda key: (key != select_by, _rank(key.split("/")[1])))
    validation = [
        Curve(
            _NAMES.get(metric, f"Validation {words_of(metric)}"),
            points(key),
            metric in _SCORES,
            best,
        )
        for key in measured
        for metric in [key.split("/")[1]]
    ]
    pace = [
        Curve("Rows trained a second", points("train/samples_per_s")),
        Curve(
            "Share of time waiting for teachers", points("train/teacher_wait_fraction"), score=True
        ),
    ]
    rates = points("train/learning_rate")
    peak = f"peak {max(rate for _, rate in rates):.1e}".replace("e-0", "e-") if rates else ""
    training = [*losses, Curve("Learning rate", rates, note=peak)]
    return {
        "training": markup(curves_svg(training, label="Loss, its terms, learning rate by step")),
        "validation": markup(curves_svg(validation, label="Validation metrics by step")),
        "pace": markup(curves_svg(pace, label="Speed and waiting by step")),
        "best_step": "" if best is None else format_integer(best),
        "select_by": select_by,
    }


def _term_order(key: str) -> tuple[float, str]:
    """Terms in the order of the configuration: ten comes after two."""
    index, _, name = key.removeprefix("train/losses/").partition(".")
    return (int(index) if index.isdecimal() else math.inf), name


def _term_title(key: str) -> str:
    index, dot, name = key.removeprefix("train/losses/").partition(".")
    return f"{index} · {name}" if dot and index.isdecimal() else f"{index}{dot}{name}"


def _rank(metric: str) -> tuple[int, str]:
    return (_FIRST.index(metric) if metric in _FIRST else len(_FIRST)), metric


def words_of(value: object) -> str:
    """A name without underscores."""
    return str(value or "").replace("_", " ")


def markup(svg: str | None) -> Markup | None:
    """Ours, and escaped where it holds names: may go into the page as it is."""
    return None if svg is None else Markup(svg)
