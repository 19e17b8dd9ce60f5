"""Pictures of a search: which values went with which result, what mattered, and the front."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raydistill.evaluation.canvas import (
    GRID,
    MUTED,
    PAPER,
    PNG_DPI,
    STUDENT,
    TEACHER,
    WIDTH,
    clean,
    new_figure,
    style,
    to_svg,
)

__all__ = ["front_figure", "importance_figure", "parallel_figure", "save_png", "svg_of"]

_MOST_AXES = 12
_NAME = 26

Search = Mapping[str, Any]


def svg_of(draw: Callable[[Search], Figure | None], search: Search, label: str) -> str | None:
    """A picture for the page; None: there is nothing to show."""
    with style(label):
        figure = draw(search)
        return None if figure is None else to_svg(figure, label)


def save_png(draw: Callable[[Search], Figure | None], search: Search, path: Path) -> Path | None:
    """The same picture as a file."""
    with style(path.stem):
        figure = draw(search)
        if figure is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=PNG_DPI, facecolor=PAPER)
    return path


def _finished(search: Search) -> list[Mapping[str, Any]]:
    return [trial for trial in search["trials"] if trial["state"] == "finished"]


def parallel_figure(search: Search) -> Figure | None:
    """A line for each trial through its values to its objectives; the winner's on top."""
    trials = _finished(search)
    if len(trials) < 2:  # noqa: PLR2004 - one line says nothing
        return None
    axes = [(path, [t["point"].get(path) for t in trials]) for path in search["space"]][:_MOST_AXES]
    axes += [(o["metric"], [t["values"].get(o["metric"]) for t in trials]) for o in search["objectives"]]  # fmt: skip
    height = 360
    figure = new_figure(height)
    plot = figure.add_axes((0.06, 0.2, 0.86, 0.66))
    plot.set_xlim(-0.15, len(axes) - 0.85)
    plot.set_ylim(-0.06, 1.06)
    for side in ("top", "left", "right", "bottom"):
        plot.spines[side].set_visible(False)
    plot.tick_params(length=0, labelbottom=False, labelleft=False)
    places = []
    for index, (name, values) in enumerate(axes):
        log = search["space"].get(name, {}).get("kind") == "loguniform"
        where, low, high = _places(values, log=log)
        places.append(where)
        plot.axvline(index, color=MUTED, linewidth=0.8, zorder=1)
        for text, y, anchor in ((high, 1.0, "bottom"), (low, 0.0, "top")):
            shift = 4 if anchor == "bottom" else -4
            plot.annotate(_short(text), (index, y), xytext=(0, shift), textcoords="offset points", ha="center", va=anchor, fontsize=9.5, color=MUTED)  # fmt: skip
        shown = _short(name.rsplit("/", maxsplit=1)[-1], _NAME)
        plot.annotate(shown, (index, 0.0), xytext=(0, -20 - 15 * (index % 2)), textcoords="offset points", ha="center", va="top", fontsize=10.5)  # fmt: skip
    for number, trial in enumerate(trials):
        points = [(i, at) for i, where in enumerate(places) if (at := where[number]) is not None]
        won = trial["number"] == search["winner"]
        color = STUDENT if won else TEACHER
        plot.plot(
            [x for x, _ in points], [y for _, y in points], color=color, marker="o", markersize=4 if won else 2.5,
            linewidth=2.2 if won else 0.9, alpha=1.0 if won else 0.55, zorder=4 if won else 2,
        )  # fmt: skip
    return figure


def _places(values: Sequence[Any], *, log: bool) -> tuple[list[float | None], str, str]:
    """Each value between 0 and 1, and what stands at the ends."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(v, int | float) and not isinstance(v, bool) for v in there):
        scale = math.log if log else float
        low, high = min(there), max(there)
        width = scale(high) - scale(low)
        where = [None if v is None else (scale(v) - scale(low)) / width if width else 0.5 for v in values]  # fmt: skip
        return where, f"{low:.4g}", f"{high:.4g}"
    labels = sorted({str(value) for value in there})
    last = max(1, len(labels) - 1)
    found = [None if v is None else labels.index(str(v)) / last for v in values]
    return found, labels[0] if labels else "", labels[-1] if len(labels) > 1 else ""


def importance_figure(search: Search) -> Figure | None:
    """How much of the first objective's variation each parameter explains."""
    shares = dict(sorted(search["importance"].items(), key=lambda item: item[1]))
    if not shares:
        return None
    height = 60 + 30 * len(shares)
    figure = new_figure(height)
    left = 250
    plot = figure.add_axes((left / WIDTH, 34 / height, (WIDTH - left - 60) / WIDTH, (height - 50) / height))  # fmt: skip
    _bars(plot)
    names = list(shares)
    plot.barh(range(len(names)), list(shares.values()), color=TEACHER, height=0.55)
    plot.set_yticks(range(len(names)), [_short(name, 36) for name in names])
    plot.set_xlim(0, max(1e-9, *shares.values()) * 1.12)
    for index, name in enumerate(names):
        plot.annotate(f"{shares[name]:.2f}", (shares[name], index), xytext=(5, 0), textcoords="offset points", va="center", fontsize=11)  # fmt: skip
    return figure


def _bars(plot: Axes) -> None:
    for side in ("top", "right", "bottom"):
        plot.spines[side].set_visible(False)
    plot.spines["left"].set_color(MUTED)
    plot.tick_params(length=0, labelbottom=False, labelsize=11)


def front_figure(search: Search) -> Figure | None:
    """The first two objectives against each other; those of the front joined."""
    if len(search["objectives"]) < 2:  # noqa: PLR2004 - no front of one
        return None
    first, second = (objective["metric"] for objective in search["objectives"][:2])
    trials = [t for t in _finished(search) if first in t["values"] and second in t["values"]]
    if not trials:
        return None
    height = 400
    figure = new_figure(height)
    plot = figure.add_axes((80 / WIDTH, 58 / height, (WIDTH - 110) / WIDTH, (height - 100) / height))  # fmt: skip
    clean(plot)
    plot.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
    plot.xaxis.set_major_locator(MaxNLocator(6))
    figure.text(14 / WIDTH, 1 - 24 / height, first, fontsize=12.5, fontweight="bold")
    figure.text(1 - 12 / WIDTH, 10 / height, second, ha="right", fontsize=12.5, fontweight="bold")
    front = sorted((t for t in trials if t["number"] in search["front"]), key=lambda t: t["values"][second])  # fmt: skip
    plot.plot([t["values"][second] for t in front], [t["values"][first] for t in front], color=STUDENT, linewidth=1.2, dashes=(2, 2.5), zorder=2)  # fmt: skip
    for trial in trials:
        x, y = trial["values"][second], trial["values"][first]
        ahead, won = trial["number"] in search["front"], trial["number"] == search["winner"]
        color = STUDENT if ahead else TEACHER
        plot.plot([x], [y], "o", markersize=11 if won else 7, markerfacecolor=color if ahead else PAPER, markeredgecolor=color, markeredgewidth=1.6, zorder=3)  # fmt: skip
        if ahead:
            plot.annotate(str(trial["number"]), (x, y), xytext=(8, 6), textcoords="offset points", fontsize=11)  # fmt: skip
    return figure


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"
