"""search: a search over K trials, against K runs of their own.

The search is `raydistill tune` itself, on Ray Tune, one trial at a time: its teachers answer once. A separate run is
a whole `distill` with another temperature; its store is empty at its start, so that it pays the teachers once a run and not
once an epoch. Imports and Ray's start are left out on both sides. Against it also stands the least that is
possible: one pass of the teachers and K runs of the student alone. The rows that teachers compute are counted.
"""

import tempfile
from pathlib import Path

from benches.common import line, say, seconds
from benches.runs import Ground
from raydistill import distill
from raydistill.cache import cache
from raydistill.config import DistillConfig
from raydistill.config.training import RunSection
from raydistill.prepare import Resources
from raydistill.runtime import connect_ray
from raydistill.tuning import tune
from raydistill.ui import Ui

ROWS, TEACHERS, EPOCHS = 1024, 2, 3
VALIDATION_ROWS = 64


def searched(config: DistillConfig, data: Path, store: Path, trials: int) -> DistillConfig:
    """The same run as a search over its temperature; trial 0 is one of the K.

    A search needs validation rows: the first training rows stand for them.
    """
    validation = data / "few.jsonl"
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    validation.write_text("\n".join(lines[:VALIDATION_ROWS]), encoding="utf-8")
    settings = config.model_dump(mode="json", exclude_unset=True)
    settings["data"] = {"train": str(data / "train.jsonl"), "validation": str(validation)}
    settings["store"] = {"path": str(store)}
    settings["tuning"] = {
        "space": {"losses.1.temperature": {"kind": "uniform", "low": 1.0, "high": 5.0}},
        "search": {"kind": "random"},
        "trials": trials,
        "concurrent": 1,
    }
    return DistillConfig.model_validate(settings)


def search(data: Path | None, trials: int) -> list[dict]:
    """One pass over all; the trials are the repeats."""
    quiet = Ui(quiet=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        connect_ray(RunSection(name="bench"), Resources(4, 0)),
    ):
        ground = Ground(Path(scratch), ROWS, TEACHERS, data)
        common = {"rows": ROWS, "teachers": TEACHERS, "epochs": EPOCHS}

        def run(name: str, number: int, **options: object) -> float:
            config = ground.config(
                f"{name}-{number}", **{**common, **options}, temperature=1.0 + number / 4
            )
            took = seconds(lambda: distill(config, ui=quiet))
            say(f"{name} {number + 1}/{trials}: {took:.1f} s")
            return took

        run("warm-up", 0, store=None)
        filled = ground.config("fill", **common, store=Path(scratch) / "filled")
        fill_s = seconds(lambda: cache(filled, ui=quiet))
        say(f"one pass of the teachers: {fill_s:.1f} s")
        found: dict = {}
        config = searched(
            ground.config("search", **common, store=Path(scratch) / "shared"),
            ground.data(ROWS),
            Path(scratch) / "shared",
            trials,
        )
        ours = seconds(lambda: found.update(tune(config, ui=quiet).computed))
        say(f"search: {ours:.1f} s, {found}")
        alone = [run("alone", i, teachers=0, store=None) for i in range(trials)]
        separate = [run("separate", i, store=Path(scratch) / f"own-{i}") for i in range(trials)]
        theirs, least, computed = sum(separate), sum(alone) + fill_s, sum(found.values())
        what = f"{trials} trials, {TEACHERS} teachers, {ROWS} rows, {EPOCHS} epochs"
        return [
            line("search", what, ours, "s", f"{trials} separate runs", theirs, theirs / ours),
            line("search", what, ours, "s", "one teacher pass and the students alone", least, least / ours),
            line("search", f"{what}: rows computed", computed, "rows", "each once", ROWS * TEACHERS, ROWS * TEACHERS / computed),
        ]  # fmt: skip
