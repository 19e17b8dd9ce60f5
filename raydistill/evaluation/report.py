"""One page about one run: ``report.html``, complete in itself, from what lies in the run's folder.

::

    config.yaml     the resolved configuration
    metrics.json    flat, split/metric -> number; without it there was no finished run
    history.jsonl   one object a line: a step and what was measured at it
    summary.json    what the run was made of, and every model that was compared

Only ``metrics.json`` must be there; what is missing is left out of the page. Names and labels are
the user's: everything is escaped, and the page's own policy allows neither scripts nor network.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from raydistill.config.task import METRICS
from raydistill.errors import ConfigError
from raydistill.evaluation.averages import average_rows
from raydistill.evaluation.comparison_plot import comparison_svg
from raydistill.evaluation.curves import Curve, curves_svg
from raydistill.evaluation.metrics import greater_is_better
from raydistill.evaluation.perturbed import perturbed_rows
from raydistill.evaluation.run_files import read_history, read_object, read_text
from raydistill.evaluation.table import (
    MISSING,
    comparison_rows,
    format_amount,
    format_duration,
    format_integer,
    format_megabytes,
    format_score,
    format_share,
    number,
    result_sentence,
)

__all__ = ["write_report"]

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
_OUTPUTS = {
    "tagging": ("Types", "Type by type"),
    "multi_label_classification": ("Labels", "Label by label"),
    "regression": ("Targets", "Target by target"),
    "reranking": ("Outputs", ""),
    "question_answering": ("Outputs", ""),
    "retrieval": ("Outputs", ""),
}
_SHORT_FINGERPRINT = 12
_MAX_PER_CLASS_OPEN = 30

Table = tuple[list[str], list[list[Any]]]
_Columns = tuple[tuple[str, str, Callable[[object], str]], ...]
_OF_CLASSES: _Columns = (
    ("Precision", "precision", format_score),
    ("Recall", "recall", format_score),
    ("F1", "f1", format_score),
)
_OF_NUMBERS: _Columns = (
    ("RMSE", "rmse", format_amount),
    ("MAE", "mae", format_amount),
    ("Pearson", "pearson", format_score),
    ("Spearman", "spearman", format_score),
)


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run, replacing an older one.

    Args:
        run_folder: Where the run left its results.

    Returns:
        The path of the page.

    Raises:
        ConfigError: there is no ``metrics.json``, or a file is not what it should be.
    """
    folder = Path(run_folder)
    if not (folder / "metrics.json").is_file():
        raise ConfigError.of(
            str(folder),
            "holds no finished run: metrics.json is missing. Give the output folder of one.",
        )
    metrics = read_object(folder / "metrics.json")
    summary = read_object(folder / "summary.json")
    history, num_torn = read_history(folder / "history.jsonl")
    config = read_text(folder / "config.yaml")
    summary = {**summary, "models": summary.get("models") or _models_from(metrics)}

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(
        name=str(summary.get("name") or folder.resolve().name),
        task=_words(summary.get("task")),
        sentence=result_sentence(summary),
        facts=_facts(summary),
        notes=[str(note) for note in summary.get("notes") or ()] + _torn_note(num_torn),
        picture=_markup(comparison_svg(summary)),
        comparison=_comparison(summary),
        calibrated=any("ece" in model for model in summary["models"]),
        timed=any("latency_ms_batch1" in model for model in summary["models"]),
        **_curves(history, _selected_by(config)),
        time=_time(metrics),
        store=_store(metrics),
        perturbed=perturbed_rows(metrics),
        per_class=_per_class(summary),
        each_title=_OUTPUTS.get(str(summary.get("task")), ("", "Class by class"))[1],
        num_classes=len(summary.get("per_class") or ()),
        per_class_open=len(summary.get("per_class") or ()) <= _MAX_PER_CLASS_OPEN,
        teachers=_teachers(summary, metrics),
        config=config.strip(),
        metrics=[[key, _figure(value)] for key, value in sorted(metrics.items())],
        versions=[[str(k), str(v)] for k, v in sorted((summary.get("versions") or {}).items())],
        missing=MISSING,
    )
    path = folder / "report.html"
    part = folder / "report.html.part"
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105  a reader sees the old page or the new one
    return path


def _torn_note(num_torn: int) -> list[str]:
    lines = "line is" if num_torn == 1 else "lines are"
    return [f"history.jsonl: {num_torn} {lines} torn and left out."] if num_torn else []


def _models_from(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Who was measured on the test split, when no summary tells."""
    models: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in metrics.items():
        match key.split("/"):
            case ["test", metric]:
                role, name = "student", ""
            case ["test", "corpus", metric]:
                role, name, metric = "student", "", f"corpus_{metric}"
            case ["test", "teachers", name, "corpus", metric]:
                role, metric = "teacher", f"corpus_{metric}"
            case ["test", "ensemble", metric]:
                role, name = "ensemble", ""
            case ["test", "first_stage", metric]:
                role, name = "baseline", "order of the first stage"
            case ["test", "teachers", name, metric]:
                role = "teacher"
            case _:
                continue
        models.setdefault((role, name), {"role": role, "name": name})[metric] = value
    return list(models.values())


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What one wants to know first about any run."""
    rows = summary.get("rows") or {}
    kinds = {
        "train": "labelled",
        "unlabelled": "unlabelled",
        "new": "made from them",
        "validation": "validation",
        "test": "test",
    }
    counted = [
        f"{format_integer(rows[key])} {word}" for key, word in kinds.items() if rows.get(key)
    ]
    labels = summary.get("labels") or []
    facts = [
        ("Rows", ", ".join(counted)),
        (
            _OUTPUTS.get(str(summary.get("task")), ("Classes", ""))[0],
            format_integer(len(labels)) if labels else "",
        ),
        ("Started", _moment(summary.get("started"))),
        ("Took", format_duration(summary.get("duration_s"))),
        ("Seed", str(summary.get("seed", MISSING))),
        ("Model", str(summary.get("model_uri") or "")),
        ("MLflow run", str(summary.get("run_id") or "")),
    ]
    return [(name, value) for name, value in facts if value not in {"", MISSING}]


def _moment(value: object) -> str:
    """To the minute, in the zone it was written in; seconds since 1970 become UTC."""
    seconds = number(value)
    try:
        if seconds is not None:
            return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
        moment = datetime.fromisoformat(str(value or ""))
    except (ValueError, OverflowError, OSError):
        return str(value or "")
    zone = moment.strftime("%Z")
    return f"{moment:%Y-%m-%d %H:%M} {zone}".strip()


def _comparison(summary: Mapping[str, Any]) -> Table | None:
    headers, rows = comparison_rows(summary)
    return (headers, [list(row) for row in rows]) if rows else None


def _selected_by(config: str) -> str:
    """The metric that chose the checkpoint, from the configuration if it can be read."""
    try:
        written = yaml.safe_load(config) or {}
        return str(written["training"]["select_by"])
    except (yaml.YAMLError, KeyError, TypeError):
        return "validation/accuracy"


def _curves(history: Sequence[Mapping[str, Any]], select_by: str) -> dict[str, Any]:
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
            _NAMES.get(metric, f"Validation {_words(metric)}"), points(key), metric in _SCORES, best
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
        "training": _markup(curves_svg(training, label="Loss, its terms, learning rate by step")),
        "validation": _markup(curves_svg(validation, label="Validation metrics by step")),
        "pace": _markup(curves_svg(pace, label="Speed and waiting by step")),
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


def _time(metrics: Mapping[str, Any]) -> dict[str, str] | None:
    """How training time was divided."""
    waited = number(metrics.get("train/teacher_wait_fraction"))
    speed = number(metrics.get("train/samples_per_s"))
    lasted = number(metrics.get("train/seconds"))
    if waited is None and speed is None:
        return None
    shown = {}
    if waited is not None:
        waited = min(max(waited, 0.0), 1.0)
        shown = {
            "width": f"{100 * waited:.2f}",
            "waiting": f"{100 * waited:.1f} %",
            "working": f"{100 - round(100 * waited, 1):.1f} %",
        }
    if speed is not None:
        shown["speed"] = f"{speed:,.1f}"
    if lasted is not None:
        shown["lasted"] = format_duration(lasted)
    return shown


def _store(metrics: Mapping[str, Any]) -> str:
    """What the signal store saved, in a sentence; empty when it was not asked."""
    hits, misses = number(metrics.get("store/hits")), number(metrics.get("store/misses"))
    if not hits:
        return ""
    share = (
        "" if misses is None else f" ({format_share(hits / (hits + misses))} of those asked for)"
    )
    return f"{format_integer(hits)} answers{share} came from the signal store, computed before."


def _per_class(summary: Mapping[str, Any]) -> Table | None:
    found = summary.get("per_class") or ()
    numbers = any("rmse" in row for row in found)
    columns = _OF_NUMBERS if numbers else _OF_CLASSES
    rows = [
        [
            str(row.get("label", MISSING)),
            *(show(row.get(key)) for _, key, show in columns),
            format_integer(row.get("support")),
        ]
        for row in (*found, *average_rows(found, str(summary.get("task"))))
    ]
    head = "Target" if numbers else "Class"
    return ([head, *(title for title, _, _ in columns), "Rows"], rows) if rows else None


def _teachers(summary: Mapping[str, Any], metrics: Mapping[str, Any]) -> Table | None:
    """Where answers came from; a cell that is a pair has its full text as a tooltip."""
    teachers: Mapping[str, Any] = summary.get("teachers") or {}
    if not teachers:
        return None
    headers = ["Teacher", "Model", "Fingerprint", "Replicas", "Rows computed", "Answers (MB)"]
    split = _last_split(metrics)
    likeness = next(
        (
            key
            for key in ("agreement", "correlation")
            if any(f"{split}/{key}/" in m for m in metrics)
        ),
        "agreement",
    )
    headers.append(f"{likeness.capitalize()} with student")
    rows: list[list[Any]] = []
    for name, facts in teachers.items():
        fingerprint = str(facts.get("fingerprint") or "")
        computed = facts.get("rows_computed", metrics.get(f"teachers/{name}/rows_computed"))
        rows.append(
            [
                str(name),
                str(facts.get("model") or MISSING),
                (_shortened(fingerprint), fingerprint) if fingerprint else MISSING,
                format_integer(facts.get("replicas")),
                format_integer(computed),
                format_megabytes(facts.get("answer_bytes")),
                format_score(metrics.get(f"{split}/{likeness}/{name}")),
            ]
        )
    shown = [i for i in range(len(headers)) if any(row[i] != MISSING for row in rows)]
    return [headers[i] for i in shown], [[row[i] for i in shown] for row in rows]


def _last_split(metrics: Mapping[str, Any]) -> str:
    """Where teachers were measured."""
    return "test" if any(name.startswith("test/") for name in metrics) else "validation"


def _shortened(fingerprint: str) -> str:
    """The first digits; what names the algorithm is left out."""
    return fingerprint.rpartition(":")[2][:_SHORT_FINGERPRINT]


def _figure(value: object) -> str:
    """Any number of metrics.json, exact where it is a count."""
    amount = number(value)
    if amount is None:
        return str(value)
    return format_integer(amount) if amount.is_integer() else f"{amount:,.6g}"


def _words(value: object) -> str:
    return str(value or "").replace("_", " ")


def _markup(svg: str | None) -> Markup | None:
    """Ours, and escaped where it holds names: may go into the page as it is."""
    return None if svg is None else Markup(svg)
