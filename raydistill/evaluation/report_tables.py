"""The tables of a run's page: what it was made of, who was compared, class by class, teachers."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from raydistill.evaluation.averages import average_rows
from raydistill.evaluation.table import (
    MISSING,
    comparison_rows,
    format_amount,
    format_duration,
    format_integer,
    format_megabytes,
    format_score,
    number,
)

__all__ = [
    "classes_table",
    "comparison_table",
    "each_title",
    "run_facts",
    "teachers_table",
]

_OUTPUTS = {
    "tagging": ("Types", "Type by type"),
    "multi_label_classification": ("Labels", "Label by label"),
    "regression": ("Targets", "Target by target"),
    "reranking": ("Outputs", ""),
    "question_answering": ("Outputs", ""),
    "retrieval": ("Outputs", ""),
}
_SHORT_FINGERPRINT = 12

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


def run_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
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


def comparison_table(summary: Mapping[str, Any]) -> Table | None:
    """Student, teachers and ensemble beside each other."""
    headers, rows = comparison_rows(summary)
    return (headers, [list(row) for row in rows]) if rows else None


def classes_table(summary: Mapping[str, Any]) -> Table | None:
    """Class by class, or target by target, with averages below."""
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


def teachers_table(summary: Mapping[str, Any], metrics: Mapping[str, Any]) -> Table | None:
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


def each_title(summary: Mapping[str, Any]) -> str:
    """Above the table of classes."""
    return _OUTPUTS.get(str(summary.get("task")), ("", "Class by class"))[1]
