"""What stands below a table of classes: the rows of scikit-learn's `classification_report`. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["average_rows"]

_SHARES = ("precision", "recall", "f1")


def average_rows(classes: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
    """Accuracy (of several labels, or of spans, the micro average in its place), macro and weighted average.

    Args:
        classes: As of :class:`raydistill.evaluation.metrics.ClassMetrics`, as in ``summary.json``.
        task: Its kind.

    Returns:
        Rows with ``label``, ``precision``, ``recall``, ``f1`` and ``support``. The macro average is over the classes
        that occur, as label or as answer, of several labels at once over all. What cannot be said is left out:
        without ``given``, as older runs have it, the micro average, and the macro average if a class has no row.

    Example:
        >>> share = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, "given": 2}
        >>> [row["label"] for row in average_rows([share, share], "text_classification")]
        ['accuracy', 'macro average', 'weighted average']
    """
    if not classes or any(share not in row for row in classes for share in _SHARES):
        return []
    total = sum(row["support"] for row in classes)
    right = sum(round(row["recall"] * row["support"]) for row in classes)
    told = all("given" in row for row in classes)
    rows = []
    if task == "text_classification":
        rows.append({"label": "accuracy", "f1": _share(right, total), "support": total})
    elif told:
        given = sum(row["given"] for row in classes)
        micro = _share(right, given), _share(right, total), _share(2 * right, given + total)
        shares = dict(zip(_SHARES, micro, strict=True))
        rows.append({"label": "micro average", **shares, "support": total})
    every = task == "multi_label_classification"
    there = [row for row in classes if every or row["support"] or row.get("given")]
    if there and (every or told or len(there) == len(classes)):
        macro = {name: sum(row[name] for row in there) / len(there) for name in _SHARES}
        rows.append({"label": "macro average", **macro, "support": total})
    if total:
        weighted = {n: sum(r[n] * r["support"] for r in classes) / total for n in _SHARES}
        rows.append({"label": "weighted average", **weighted, "support": total})
    return rows


def _share(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0
