"""growth: training time and memory against rows (x1, x2, x4) and against teachers (1, 2, 4, 8).

Cold runs of one epoch without a store: every teacher answers every row. Time is the training's own,
without start-up, the median of the repeats. The slope of a step (seconds for 1,000 more rows, for one
more teacher) stands beside the slope of the first step: a ratio of 1 is linear, below 1 it gets worse
with size. Memory is the largest sum of proportional set sizes over all processes during a run.
"""

import itertools
import os
import tempfile
from pathlib import Path

from benches.common import PeakMemory, line, median, say
from benches.runs import Ground
from raydistill import distill
from raydistill.config.training import RunSection
from raydistill.prepare import Resources
from raydistill.runtime import connect_ray
from raydistill.ui import Ui

ROWS, MORE_ROWS, TEACHERS, FEW = 512, (1, 2, 4), (1, 2, 4, 8), 2


def growth(repeats: int, data: Path | None) -> list[dict]:
    """Rows with two teachers, then teachers with the fewest rows."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        connect_ray(RunSection(name="bench"), Resources(10, 0)),
    ):
        ground = Ground(Path(scratch), ROWS * max(MORE_ROWS), max(TEACHERS), data)
        cases = [(ROWS * factor, FEW) for factor in MORE_ROWS]
        cases += [(ROWS, count) for count in TEACHERS if count != FEW]
        took: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
        used: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
        _run(ground, "warm-up", ROWS, 1)
        for turn in range(repeats):
            for case in cases:
                name = f"rows{case[0]}-teachers{case[1]}-{turn}"
                seconds, peak = _run(ground, name, *case)
                took[case].append(seconds)
                used[case].append(peak)
                say(
                    f"{turn + 1}/{repeats} {case[0]} rows, {case[1]} teachers: {seconds:.1f} s, {peak / 2**20:.0f} MiB"
                )
    points = {case: (median(took[case]), median(used[case]) / 2**20) for case in cases}
    by_rows = [(case[0], *points[case]) for case in cases if case[1] == FEW]
    by_teachers = [(count, *points[ROWS, count]) for count in TEACHERS]
    return [
        *_slopes(f"rows, {FEW} teachers", by_rows, 1000, "s per 1,000 more rows"),
        *_slopes(f"teachers, {ROWS} rows", by_teachers, 1, "s per teacher more"),
    ]


def _run(ground: Ground, name: str, rows: int, teachers: int) -> tuple[float, float]:
    """Seconds of training, and bytes at the peak."""
    config = ground.config(name, rows=rows, teachers=teachers, epochs=1, store=None)
    with PeakMemory(os.getpid()) as memory:
        metrics = distill(config, ui=Ui(quiet=True)).metrics
    return metrics["train/seconds"], memory.peak


def _slopes(what: str, points: list[tuple[int, float, float]], unit: int, named: str) -> list[dict]:
    """One line a step from a point to the next."""
    found, first = [], 0.0
    for (size, seconds, mib), (larger, longer, more) in itertools.pairwise(points):
        slope = unit * (longer - seconds) / (larger - size)
        first = first or slope
        found.append(
            line(
                "growth", f"{size} to {larger} {what}", slope, named, "the first step's", first, first / slope,
                seconds=round(longer, 2), mib=round(more), mib_more=round(more - mib),
            )
        )  # fmt: skip
    return found
