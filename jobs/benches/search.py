"""search: K trials that share teachers' answers, against K runs of their own.

A trial is a whole `distill` with another temperature, imports and Ray's start left out. The separate
runs have a store each, empty at their start, so that they pay the teachers once a run and not once an
epoch. Against it also stands the least that is possible: one pass of the teachers and K runs of the
student alone. The rows that teachers compute are counted.
"""

import tempfile
from pathlib import Path

from benches.common import line, say, seconds
from benches.runs import Ground
from raydistill import distill
from raydistill.cache import cache
from raydistill.config.training import RunSection
from raydistill.prepare import Resources
from raydistill.runtime import connect_ray
from raydistill.ui import Ui

ROWS, TEACHERS, EPOCHS, TRIALS = 1024, 2, 3, 8


def search(data: Path | None) -> list[dict]:
    """One pass over all; the trials are the repeats."""
    quiet = Ui(quiet=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        connect_ray(RunSection(name="bench"), Resources(4, 0)),
    ):
        ground = Ground(Path(scratch), ROWS, TEACHERS, data)
        common = {"rows": ROWS, "teachers": TEACHERS, "epochs": EPOCHS}
        store = Path(scratch) / "store"

        def trial(name: str, number: int, **options: object) -> dict:
            result: dict = {}
            config = ground.config(
                f"{name}-{number}", **{**common, **options}, temperature=1.0 + number / 2
            )
            result["s"] = seconds(lambda: result.update(distill(config, ui=quiet).metrics))
            say(f"{name} {number + 1}/{TRIALS}: {result['s']:.1f} s")
            return result

        trial("warm-up", 0, store=None)
        fill: dict = {}
        filled = ground.config("fill", **common, store=store)
        fill_s = seconds(lambda: fill.update(cache(filled, ui=quiet)))
        say(f"one pass of the teachers: {fill_s:.1f} s, {fill}")
        alone, shared, separate = [], [], []
        for number in range(TRIALS):
            alone.append(trial("alone", number, teachers=0, store=None))
            shared.append(trial("shared", number, store=store))
            separate.append(trial("separate", number, store=Path(scratch) / f"own-{number}"))
        computed = sum(fill.values()) + sum(
            int(one.get(f"teachers/t{i}/rows_computed", 0))
            for one in shared
            for i in range(TEACHERS)
        )
        ours, theirs, least = (sum(one["s"] for one in some) for some in (shared, separate, alone))
        ours, least = ours + fill_s, least + fill_s
        what = f"{TRIALS} trials, {TEACHERS} teachers, {ROWS} rows, {EPOCHS} epochs"
        return [
            line("search", what, ours, "s", f"{TRIALS} separate runs", theirs, theirs / ours),
            line("search", what, ours, "s", "one teacher pass and the students alone", least, least / ours),
            line("search", f"{what}: rows computed", computed, "rows", "each once", ROWS * TEACHERS, ROWS * TEACHERS / computed),
        ]  # fmt: skip
