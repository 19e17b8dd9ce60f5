"""Means over seeds: python jobs/compare.py CONFIG CONFIG … [--seeds 0 1 2] [--output DIR] [--set a.b=c].

Runs each configuration once a seed, one after another on one Ray, and prints mean and spread of the
test accuracy. Runs that are finished already are not repeated, interrupted ones go on.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from raydistill.cli import run
from raydistill.config import TasksConfig, load_config
from raydistill.output import OutputFolder
from raydistill.prepare import needed_resources
from raydistill.runtime import connect_ray
from raydistill.several import distill
from raydistill.ui import Ui

__all__ = ["over_seeds", "spread_of"]


def over_seeds(
    path: str, seeds: Sequence[int], *, output: Path, settings: Sequence[str] = (), ui: Ui
) -> list[Mapping[str, float]]:
    """The metrics of one configuration with each seed, in folders of their own below ``output``."""
    results = []
    for seed in seeds:
        folder = output / f"{Path(path).stem}-seed{seed}"
        config = load_config(path, [*settings, f"run.seed={seed}", f"run.output_dir={folder}"])
        ui.say(f"— {path}, seed {seed}")
        joint = config.joint if isinstance(config, TasksConfig) else config
        begun = OutputFolder.of(joint).read_manifest() is not None
        with connect_ray(config.run, needed_resources(joint)):
            results.append(distill(config, resume=begun, ui=ui).metrics)
    return results


def spread_of(values: Sequence[float]) -> float:
    """The standard deviation; not a number of a single value."""
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def compare(options: argparse.Namespace) -> None:
    """All runs, then the table."""
    ui, rows = Ui(), []
    for path in options.configs:
        results = over_seeds(
            path, options.seeds, output=Path(options.output), settings=options.settings, ui=ui
        )
        values = [metrics[options.metric] for metrics in results]
        each = " ".join(f"{value:.4f}" for value in values)
        mean, spread = f"{statistics.mean(values):.4f}", f"{spread_of(values):.4f}"
        rows.append([path, str(len(values)), mean, spread, each])
    ui.table(["configuration", "seeds", f"mean {options.metric}", "spread (sd)", "each"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", default="outputs/compare")
    parser.add_argument("--metric", default="test/accuracy")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    sys.exit(run(lambda: compare(given)))
