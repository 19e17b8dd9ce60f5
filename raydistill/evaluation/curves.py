"""Small panels of what a run measured step by step: SVG in the colours of the page.

One point is one pixel at full width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from raydistill.evaluation.canvas import (
    MUTED,
    PAPER,
    STUDENT,
    WIDTH,
    clean,
    new_figure,
    shortened,
    style,
    ticks,
    to_svg,
)
from raydistill.evaluation.table import format_score, number

__all__ = ["Curve", "curves_svg"]

_MAX_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One small panel.

    Attributes:
        title: Above it, with the unit.
        points: Steps and values in order of the steps; all finite.
        score: Whether values are shares of one, written as such.
        best: The step to be marked; none marks nothing.
        note: Beside the title; empty: the value at the best step, or the first and the last value.
    """

    title: str
    points: tuple[tuple[float, float], ...]
    score: bool = False
    best: float | None = None
    note: str = ""


def curves_svg(
    curves: Sequence[Curve], *, label: str, columns: int = 2, panel_height: int = 190
) -> str | None:
    """Small panels beside and below each other, all with the same steps; none without a curve.

    Args:
        curves: In reading order.
        label: What the picture shows, for those who cannot see it.
        columns: Panels in a row; the width is the page's whatever this is.
        panel_height: In pixels at full width.
    """
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    height = rows * panel_height
    first = min(curve.points[0][0] for curve in curves)
    last = max(curve.points[-1][0] for curve in curves)
    with style(label):
        figure = new_figure(height)
        for index, curve in enumerate(curves):
            row, column = divmod(index, columns)
            share = WIDTH / columns
            axes = figure.add_axes(
                (
                    (column * share + 46) / WIDTH,
                    1 - (row * panel_height + panel_height - 30) / height,
                    (share - 46 - (28 if columns > 1 else 20)) / WIDTH,
                    (panel_height - 68) / height,
                )
            )
            _draw_curve(axes, curve, (first, last), last_row=index + columns >= len(curves))
        return to_svg(figure, label)


def _draw_curve(axes: Axes, curve: Curve, steps: tuple[float, float], *, last_row: bool) -> None:
    """A line, its last value written at its end, the best step marked."""
    clean(axes)
    points = _thinned(curve.points)
    values = [value for _, value in points]
    show = format_score if curve.score else _plain
    one = len(points) == 1
    axes.plot(
        [step for step, _ in points],
        values,
        color=STUDENT,
        linewidth=1.6,
        marker="o" if len(points) <= 12 else None,  # noqa: PLR2004
        markersize=3.5,
        zorder=3,
    )
    low, high = min(values), max(values)
    pad = 0.12 * (high - low) or 0.05 * abs(high) or 0.05
    # What is never negative is not drawn on an axis that reaches below zero.
    bottom = max(low - pad, 0.0) if low >= 0 else low - pad
    axes.set_ylim(bottom, high + 1.6 * pad)
    width = (steps[1] - steps[0]) or 1.0
    axes.set_xlim(steps[0] - 0.02 * width, steps[1] + 0.02 * width)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(ticks(axes, score=curve.score)))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.annotate(
        shortened(curve.title, 40),
        (0, 1),
        xytext=(-38, 13),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=12.5,
        fontweight="bold",
    )
    at_best = dict(curve.points).get(curve.best) if curve.best is not None else None
    if curve.best is not None and at_best is not None:
        axes.axvline(curve.best, color=MUTED, linewidth=0.8, dashes=(3, 3), zorder=1)
        axes.plot([curve.best], [at_best], "o", color=STUDENT, markersize=7, mec=PAPER, zorder=4)
        note = f"{show(at_best)} at the best checkpoint"
    else:
        note = show(values[-1]) if one else f"{show(values[0])} → {show(values[-1])}"
    axes.annotate(
        curve.note or note,
        (1, 1),
        xytext=(0, 13),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        color=MUTED,
        fontsize=11,
    )
    if last_row:
        axes.annotate(
            "step",
            (0, 0),
            xytext=(-12, -6),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
            color=MUTED,
            fontsize=11,
        )


def _plain(value: object) -> str:
    """Four significant digits."""
    amount = number(value) or 0.0
    if amount and not 1e-3 <= abs(amount) < 1e5:  # noqa: PLR2004
        return f"{amount:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{amount:,.{max(0, 3 - math.floor(math.log10(abs(amount))))}f}" if amount else "0"


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most a few hundred points: means of neighbours, each at the mean of its steps."""
    size = -(-len(points) // _MAX_POINTS)
    groups = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [
        (math.fsum(s for s, _ in group) / len(group), math.fsum(v for _, v in group) / len(group))
        for group in groups
    ]
