"""Combinations of values."""

from collections.abc import Callable, Sequence
from typing import Any

from raydistill.config.space import counts
from raydistill.config.tuning import Parameter, TuningSection

__all__ = ["combinations"]


def combinations(
    tuning: TuningSection,
    paths: Sequence[str],
    values: Callable[[Parameter], Sequence[Any]],
    *,
    most: int | None = None,
) -> list[dict[str, Any]] | None:
    """All combinations of some parameters' values, where they count; the first varies slowest.

    Args:
        tuning: The section.
        paths: Of the parameters, each after those it depends on.
        values: Of a parameter.
        most: With more than so many there is no answer; None: however many there are.
    """
    points: list[dict[str, Any]] = [{}]
    for path in paths:
        parameter = tuning.space[path]
        grown: list[dict[str, Any]] = []
        for point in points:
            if not counts(tuning, path, point):
                grown.append(point)
                continue
            found = values(parameter)
            if most is not None and len(grown) + len(found) > most:
                return None
            grown += [{**point, path: value} for value in found]
        points = grown
    return points
