"""What all pictures of the pages share: colours, size, and the way to SVG.

A picture for the page is SVG with real text; its colours are the CSS variables of the page, so one
drawing serves light, dark and print.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "PNG_DPI",
    "STUDENT",
    "TEACHER",
    "WIDTH",
    "clean",
    "new_figure",
    "shortened",
    "style",
    "ticks",
    "to_svg",
]

INK = "#1b1f24"
MUTED = "#656d76"
GRID = "#e2e5e9"
PAPER = "#ffffff"
STUDENT = "#b3430f"
TEACHER = "#3f6285"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    STUDENT: "var(--student)",
    TEACHER: "var(--teacher)",
}
WIDTH = 820
PNG_DPI = 160
# A page has several pictures: their ids must differ, their style sheets must not reach the page.
_NOISE = re.compile(
    r'<metadata>.*?</metadata>|<style.*?</style>|(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"',
    re.DOTALL,
)
_COLOR = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})")
_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "svg.fonttype": "none",
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,  # names are the user's and may hold a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.solid_capstyle": "round",
}


def new_figure(height: float) -> Figure:
    """As wide as the page."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def clean(axes: Axes) -> None:
    """No frame, thin horizontal lines, no tick marks."""
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelsize=11)


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Our settings, whatever the user's matplotlibrc says; the salt keeps ids apart on one page."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({**_RC, "svg.hashsalt": salt})
        # A name in a script that DejaVu lacks: the page has it, the PNG shows boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_svg(figure: Figure, label: str) -> str:
    """The drawing without prologue, metadata and group names, in the page's colours."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = _NOISE.sub("", text[text.index(">") + 1 :])
    text = _COLOR.sub(lambda match: f"{match[1]}: {_VARIABLES.get(match[2], match[2])}", text)
    width, height = (72 * side for side in figure.get_size_inches())
    return f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}">{text}'


def ticks(axes: Axes, *, score: bool) -> Callable[[float, int], str]:
    """How ticks of the upright axis are written: as many decimals as their distance needs, the same for all.

    Args:
        axes: Whose.
        score: Whether they are shares of one, written as such.
    """

    def show(value: float, _: int) -> str:
        there = axes.yaxis.get_majorticklocs()
        distance = abs(there[1] - there[0]) if len(there) > 1 else abs(value) or 1.0
        largest = max(abs(tick) for tick in there) if len(there) else abs(value)
        if largest and (largest < 1e-3 or largest >= 1e5):  # noqa: PLR2004
            return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
        decimals = max(0, -math.floor(math.log10(distance * 1.0001))) if distance else 2
        if abs(distance * 10**decimals - round(distance * 10**decimals)) > 1e-6:  # noqa: PLR2004
            decimals += 1  # 0.25
        text = f"{value:,.{max(decimals, 1 if score else 0)}f}"
        return text.removeprefix("0") if score and value else text

    return show


def shortened(text: str, limit: int) -> str:
    """On one line, printable, not longer than that.

    Args:
        text: Of any origin.
        limit: In characters.
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
