"""growth: training time and memory against rows (x1, x2, x4) and against teachers (1, 2, 4, 8).

Cold runs of one epoch without a store: every teacher answers every row. The ratio is that of the
growth to the growth of the work: 1 is linear, above 1 better. Time is the training's own.
"""

import os
import tempfile
from pathlib import Path

from benches.common import line, memory_of, say
from benches.runs import Ground
from raydistill import distill
from raydistill.config.training import RunSection
from raydistill.prepare import Resources
from raydistill.runtime import connect_ray
from raydistill.ui import Ui

ROWS, MORE_ROWS, TEACHERS = 512, (1, 2, 4), (1, 2, 4, 8)


def growth(data: Path | None) -> list[dict]:
    """Rows with two teachers, then teachers with the fewest rows."""
    found = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        connect_ray(RunSection(name="bench"), Resources(10, 0)),
    ):
        ground = Ground(Path(scratch), ROWS * max(MORE_ROWS), max(TEACHERS), data)

        def run(rows: int, teachers: int) -> tuple[float, float]:
            name = f"rows{rows}-teachers{teachers}"
            config = ground.config(name, rows=rows, teachers=teachers, epochs=1, store=None)
            metrics = distill(config, ui=Ui(quiet=True)).metrics
            say(f"{name}: {metrics['train/seconds']:.1f} s")
            return metrics["train/seconds"], float(memory_of(os.getpid()))

        run(ROWS, 1)
        first, memory = run(ROWS, 2)
        for factor in MORE_ROWS[1:]:
            took, used = run(ROWS * factor, 2)
            found.append(
                line("growth", f"rows x{factor}, 2 teachers", took, "s", "rows x1", first, factor * first / took,
                     mib=round(used / 2**20), mib_against=round(memory / 2**20))
            )  # fmt: skip
        one, memory = run(ROWS, TEACHERS[0])
        for count in TEACHERS[1:]:
            took, used = run(ROWS, count)
            found.append(
                line("growth", f"{count} teachers, {ROWS} rows", took, "s", "1 teacher", one, count * one / took,
                     mib=round(used / 2**20), mib_against=round(memory / 2**20))
            )  # fmt: skip
    return found
