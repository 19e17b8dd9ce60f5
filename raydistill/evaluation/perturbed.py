"""How a student holds on changed copies of the rows it is measured on, as a table."""

import re
from collections.abc import Mapping
from typing import Any

from raydistill.config.task import METRICS
from raydistill.evaluation.table import format_amount, format_score, number

__all__ = ["perturbed_rows"]

_KEY = re.compile(r"^(\w+)/perturbed/([\w-]+)/(\w+)$")
_AMOUNTS = {"nll", "rmse", "mae", "mse"}


def perturbed_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """Headers and rows: the texts as they are, then each copy; None without copies.

    Args:
        metrics: As in metrics.json.
    """
    found: dict[str, dict[str, Any]] = {}
    split = ""
    for key, value in metrics.items():
        if match := _KEY.match(key):
            split = match[1]
            found.setdefault(match[2], {})[match[3]] = value
    if not found:
        return None
    whole = {key.partition("/")[2]: value for key, value in metrics.items() if key.startswith(f"{split}/")}  # fmt: skip
    known = dict.fromkeys(name for names in METRICS.values() for name in names)
    columns = [name for name in known if all(number(one.get(name)) is not None for one in (whole, *found.values()))]  # fmt: skip
    rows = [["as they are", *(_shown(name, whole[name]) for name in columns)]]
    rows += [
        [copy, *(_shown(name, values[name]) for name in columns)]
        for copy, values in sorted(found.items())
    ]
    return ["Texts", *(name.replace("_", " ") for name in columns)], rows


def _shown(name: str, value: object) -> str:
    return format_amount(value) if name in _AMOUNTS else format_score(value)
