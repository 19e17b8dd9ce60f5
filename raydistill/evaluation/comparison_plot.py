"""A student beside its teachers, figure against size: SVG in the colours of the page, or PNG on white.

One point is one pixel at full width.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import BboxBase

from raydistill.evaluation.canvas import (
    MUTED,
    PAPER,
    PNG_DPI,
    STUDENT,
    TEACHER,
    WIDTH,
    clean,
    new_figure,
    shortened,
    style,
    ticks,
    to_svg,
)
from raydistill.evaluation.table import (
    format_count,
    format_ms,
    format_score,
    headline,
    number,
    ordered_models,
)

__all__ = ["comparison_png", "comparison_svg"]

# Hue says student or teacher, filling says one model or what it is compared with.
_MARKS = {
    "student": (STUDENT, True),
    "baseline": (STUDENT, False),
    "teacher": (TEACHER, True),
    "ensemble": (TEACHER, False),
}
_NAME_CHARACTERS = 34
_MIN_MODELS = 2


def comparison_svg(summary: Mapping[str, Any]) -> str | None:
    """Accuracy (or what stands for it) against parameters, for the page; none with fewer than two models."""
    with style("comparison"):
        figure = _comparison(summary)
        if figure is None:
            return None
        name = headline(summary.get("models") or ()).name
        return to_svg(figure, f"{name} against number of parameters, student beside its teachers")


def comparison_png(summary: Mapping[str, Any], path: Path) -> Path | None:
    """The same picture as a PNG on white, twice the size of the page's.

    Args:
        summary: Of a run; only ``models`` is read.
        path: Of the file to write.

    Returns:
        The path, or none and no file when fewer than two models have both figure and parameters.
    """
    with style("comparison"):
        figure = _comparison(summary)
        if figure is None:
            return None
        figure.savefig(path, format="png", dpi=PNG_DPI, facecolor=PAPER)
    return path


def _comparison(summary: Mapping[str, Any]) -> Figure | None:
    """Points with their names beside them; the labels find a free place."""
    first = headline(summary.get("models") or ())
    models = [
        {**model, "shown": model[first.key]}
        for model in ordered_models(summary)
        if number(model.get(first.key)) is not None and (number(model.get("parameters")) or 0) > 0
    ]
    if len(models) < _MIN_MODELS:
        return None
    sizes = [float(model["parameters"]) for model in models]
    scores = [float(model["shown"]) for model in models]
    height = 430
    figure = new_figure(height)
    axes = figure.add_axes((50 / WIDTH, 52 / height, (WIDTH - 62) / WIDTH, (height - 94) / height))
    clean(axes)
    axes.set_xscale("log")
    room = max(2.2, (max(sizes) / min(sizes)) ** 0.22)
    axes.set_xlim(min(sizes) / room, max(sizes) * room)
    spread = max(max(scores) - min(scores), 0.02 * max(1.0, *map(abs, scores)))
    axes.set_ylim(min(scores) - 0.24 * spread, max(scores) + 0.24 * spread)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda size, _: format_count(size).replace(".0", ""))
    )
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(ticks(axes, score=first.show is format_score)))
    axes.tick_params(labelsize=12)
    figure.text(14 / WIDTH, 1 - 24 / height, first.name, fontsize=12.5, fontweight="bold")
    figure.text(
        1 - 12 / WIDTH,
        10 / height,
        "Parameters, logarithmic",
        ha="right",
        fontsize=12.5,
        fontweight="bold",
    )
    _draw_gain(axes, models)
    for model, size, score in zip(models, sizes, scores, strict=True):
        color, filled = _MARKS.get(str(model.get("role")), (MUTED, False))
        axes.plot(
            [size],
            [score],
            "o",
            markersize=13 if model.get("role") == "student" else 10,
            markerfacecolor=color if filled else PAPER,
            markeredgecolor=color,
            markeredgewidth=2,
            zorder=4,
        )
    _draw_labels(figure, axes, models)
    return figure


def _draw_gain(axes: Axes, models: Sequence[Mapping[str, Any]]) -> None:
    """A line from the student without teachers to the student with them."""
    ends = {str(m.get("role")): m for m in models if m.get("role") in {"student", "baseline"}}
    if len(ends) == _MIN_MODELS:
        axes.plot(
            [float(end["parameters"]) for end in ends.values()],
            [float(end["shown"]) for end in ends.values()],
            color=STUDENT,
            linewidth=1.2,
            dashes=(2, 2.5),
            zorder=2,
        )


_Box = tuple[float, float, float, float]


def _draw_labels(figure: Figure, axes: Axes, models: Sequence[Mapping[str, Any]]) -> None:
    """Each label where it covers least; a thin line leads to those that had to move away."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    spots = [
        tuple(axes.transData.transform((float(m["parameters"]), float(m["shown"])))) for m in models
    ]
    taken: list[_Box] = [(x - 9, y - 9, x + 9, y + 9) for x, y in spots]
    for model, (x, y) in zip(models, spots, strict=True):
        role = str(model.get("role", ""))
        # Without the organisation or the folder, which stand in the table.
        name = shortened(str(model.get("name") or "").rstrip("/").split("/")[-1], _NAME_CHARACTERS)
        latency = number(model.get("latency_ms_batch1"))
        detail = role if latency is None else f"{role} · {format_ms(latency)} ms"
        head = {"fontsize": 13.5, "fontweight": "bold" if role == "student" else "normal"}
        foot = {"fontsize": 12, "color": MUTED}
        width = max(
            _text_width(figure, renderer, text, font)
            for text, font in ((name, head), (detail, foot))
        )
        (dx, dy, align), box = _best_place((x, y), width, frame, taken)
        taken.append(box)
        if align != "center" and math.hypot(dx, dy) > 32:  # noqa: PLR2004
            axes.annotate(
                "",
                (float(model["parameters"]), float(model["shown"])),
                xytext=(dx, dy),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 8},
            )
        for text, shift, font in ((detail, -8.0, foot), (name, 7.5, head)):
            axes.annotate(
                text,
                (float(model["parameters"]), float(model["shown"])),
                xytext=(dx, dy + shift),
                textcoords="offset points",
                ha=align,
                va="center",
                zorder=3,  # over the grid, which its background hides; under the points
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
                **font,
            )


def _best_place(
    spot: tuple[float, float], width: float, frame: BboxBase, taken: Sequence[_Box]
) -> tuple[tuple[float, float, str], _Box]:
    """Where a label covers least and stays in the frame, and what it then takes."""
    x, y = spot

    def priced(order: int, place: tuple[float, float, str]) -> tuple[float, Any, _Box]:
        dx, dy, align = place
        if align == "center":  # may be moved sideways, as it stands above or below
            dx = min(max(0.0, frame.x0 + width / 2 - x), width / 2)
            dx = dx or max(min(0.0, frame.x1 - width / 2 - x), -width / 2)
        left = x + dx - {"left": 0.0, "center": width / 2, "right": width}[align]
        box = (left, y + dy - 16, left + width, y + dy + 16)
        outside = max(0.0, frame.x0 - box[0]) + max(0.0, box[2] - frame.x1)
        outside += max(0.0, frame.y0 - box[1]) + max(0.0, box[3] - frame.y1)
        covered = sum(_overlap(box, other) for other in taken)
        return covered + 40 * outside + 3 * order, (dx, dy, align), box

    found = [priced(order, place) for order, place in enumerate(_places())]
    _, place, box = min(found, key=lambda item: item[0])
    return place, box


def _places() -> Iterator[tuple[float, float, str]]:
    """Where a label may stand, from the point, best first."""
    yield from ((14, 0, "left"), (-14, 0, "right"), (0, 28, "center"), (0, -28, "center"))
    for dx, dy in ((11, 20), (11, -20), (24, 44), (24, -44), (34, 72), (34, -72)):
        yield from ((dx, dy, "left"), (-dx, dy, "right"))


def _overlap(one: _Box, other: _Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 4
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _text_width(figure: Figure, renderer: RendererAgg, text: str, font: Mapping[str, Any]) -> float:
    probe = figure.text(0, 0, text, **font)
    width = float(probe.get_window_extent(renderer).width)
    probe.remove()
    return width
