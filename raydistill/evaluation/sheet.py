"""Figures of models as a table: what `evaluate` and `export` print. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.evaluation.cost import Latency
from raydistill.evaluation.table import (
    Column,
    comparison_rows,
    format_count,
    format_ms,
    format_score,
    headline,
)

__all__ = ["sheet_rows"]


def sheet_rows(
    models: Sequence[Mapping[str, Any]], *, in_order: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Headers, and a row of text for each model.

    Args:
        models: Of each ``role``, ``name``, ``metrics``, ``perturbed`` by copy, ``agreement`` by whom, ``latency`` by
            rows of a batch, ``parameters``, ``disk_bytes``, ``flops_per_row``. Of changed copies the first figure
            is shown.
        in_order: Whether they stay in the order they are in.

    Example:
        >>> model = {"role": "model", "name": "a", "metrics": {"accuracy": 0.5}}
        >>> model |= {"agreement": {"t": {"agreement": 0.75}}, "flops_per_row": 2000}
        >>> model["perturbed"] = {"typos": {"accuracy": 0.25}}
        >>> sheet_rows([model])[0]
        ['Role', 'Model', 'Accuracy', 'Accuracy, typos', 'FLOPs a row', 'Like t']
    """
    others = dict.fromkeys(name for model in models for name in model.get("agreement") or ())
    sizes = sorted({rows for model in models for rows in model.get("latency") or ()})
    shown = [_flat(model) for model in models]
    first = headline(shown)
    for row, model in zip(shown, models, strict=True):
        changed = model.get("perturbed") or {}
        row |= {f"perturbed_{copy}": figures.get(first.key) for copy, figures in changed.items()}
    copies = dict.fromkeys(name for model in models for name in model.get("perturbed") or ())
    name = first.name.partition(",")[0]
    more = [Column(f"{name}, {copy}", f"perturbed_{copy}", first.show) for copy in copies]
    more.append(Column("FLOPs a row", "flops_per_row", format_count))
    for rows in sizes:
        unit = "1 row" if rows == 1 else f"{rows} rows"
        more += [Column(f"{name}, {unit}", f"{name}_{rows}", format_ms) for name in ("p90", "p99")]
    more += [Column(f"Like {name}", f"like_{name}", format_score) for name in others]
    return comparison_rows({"models": shown}, more, in_order=in_order)


def _flat(model: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: model.get(key) for key in ("role", "name", "parameters", "disk_bytes")}
    found |= {"flops_per_row": model.get("flops_per_row"), **model["metrics"]}
    latency: Mapping[int, Latency] = model.get("latency") or {}
    for rows, one in latency.items():
        found |= {
            f"latency_ms_batch{rows}": one.p50,
            f"p90_{rows}": one.p90,
            f"p99_{rows}": one.p99,
        }
    for name, figures in (model.get("agreement") or {}).items():
        found[f"like_{name}"] = next(iter(figures.values()), None)
    return found
