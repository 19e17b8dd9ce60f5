"""A trial, in its own process: one run after another, each the same `distill` as anywhere else.

It tells the search what the validation rows say while it trains, and waits until that was heard. If it is
to stop, there is a file by then, which whoever is started again finds too. Every end is told, a
failure too; only a process that dies, or loses one that it needs or the server that it must have, says
nothing, and is started again by Ray Tune.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from raydistill.config import parse_config
from raydistill.errors import ConfigError, RaydistillError
from raydistill.output import OutputFolder
from raydistill.run import DistillResult, Within, distill
from raydistill.serve import Served
from raydistill.tracking import ResolvedModel, models_held
from raydistill.tuning.outcome import OF_STUDENT
from raydistill.tuning.records import SeedResult, stop_file
from raydistill.ui import Ui

__all__ = ["RunSpec", "Shared", "TrialSpec", "run_trial", "student_metrics"]

_SERVER = {"tracking.uri", "tracking.required"}
"""What a complaint rests on that no trial can help: all was sound when the search began."""


@dataclass(frozen=True)
class RunSpec:
    """One run of a trial.

    Attributes:
        seed: Of the run.
        settings: Complete, as `parse_config` reads them.
        params: What MLflow shows as parameters; None: all settings.
    """

    seed: int
    settings: Mapping[str, Any]
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrialSpec:
    """What Ray Tune is given to run.

    Attributes:
        name: Of the trial, for people.
        runs: One after another; the first is watched.
        pause_at: The step at which the first stops for now; None: none.
        free: Settings below these paths may be others than when it was paused.
    """

    name: str
    runs: tuple[RunSpec, ...]
    pause_at: int | None = None
    free: tuple[str, ...] = ()

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "TrialSpec":
        """From what Ray Tune keeps."""
        spec = json.loads(content["spec"])
        runs = tuple(RunSpec(**run) for run in spec["runs"])
        return cls(spec["name"], runs, spec["pause_at"], tuple(spec["free"]))

    @property
    def plain(self) -> dict[str, Any]:
        """As Ray Tune keeps it; what it could take for a space of its own is hidden in a text."""
        return {"name": self.name, "spec": json.dumps(asdict(self))}


@dataclass(frozen=True)
class Shared:
    """What all trials have in common.

    Attributes:
        teachers: Ready to answer.
        metric: Of the validation rows, what is told while a trial trains; empty: nothing.
        folder: Where the search was started.
        environment: Variables that a process elsewhere has not.
        log: Where sentences of trials go, and the word that one is to stop.
        models: Registered ones, as the search found them, by URI.
    """

    teachers: Mapping[str, Served]
    metric: str
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    models: Mapping[str, ResolvedModel] = field(default_factory=dict)


class _Stopped(KeyboardInterrupt):
    """The search stops this trial: its workers save and end, as after Ctrl-C."""


class _Clock:
    """Seconds since it was last read."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def read(self) -> float:
        before, self._last = self._last, time.monotonic()
        return self._last - before


def run_trial(config: Mapping[str, Any], shared: Shared) -> None:
    """Ray Tune's entry.

    Args:
        config: A `TrialSpec`, plain.
        shared: What all trials have in common.
    """
    spec = TrialSpec.of(config)
    _settle(shared)
    clock, done = _Clock(), []
    try:
        with models_held(shared.models):
            for index, run in enumerate(spec.runs):
                done.append(_one_run(spec, run, shared, clock, watched=index == 0))
    except _Stopped:
        end: dict[str, Any] = {"end": "stopped"}
    except KeyboardInterrupt:
        end = {"end": "paused"}
    except ConfigError as error:
        if any(_SERVER & {*fault.rests_on} for fault in error.faults):
            raise  # it is away, and may be back: tuning.max_failures decides
        end = {"end": "failed", "note": "; ".join(str(fault) for fault in error.faults)}
    except RaydistillError as error:
        end = {"end": "failed", "note": str(error)}
    except Exception as error:  # of a user's own code, say: the search goes on without this trial
        if _was_lost(error):
            raise  # tuning.max_failures decides
        text = str(error).strip().splitlines()
        end = {"end": "failed", "note": f"{type(error).__name__}: {text[-1] if text else ''}"}
    else:
        end = {"end": "finished"}
    runs = json.dumps([asdict(result) for result in done])
    tune.report({"note": "", **end, "runs": runs, "seconds": clock.read()})


def _was_lost(error: object) -> bool:
    """Whether Ray lost a process or what it held; code that raised in one would raise again."""
    while isinstance(error, RayTaskError):
        error = error.cause
    return isinstance(error, RayError)


def _settle(shared: Shared) -> None:
    """As in the process that the search runs in."""
    for name, value in shared.environment.items():
        os.environ.setdefault(name, value)
    if Path(shared.folder).is_dir():
        os.chdir(shared.folder)
    if shared.folder not in sys.path:
        sys.path.append(shared.folder)


def _one_run(
    spec: TrialSpec, run: RunSpec, shared: Shared, clock: _Clock, *, watched: bool
) -> SeedResult:
    config, faults = parse_config(run.settings)
    if faults or config is None:
        raise ConfigError(faults)
    folder = OutputFolder.of(config)
    halted = False

    def stop_if_told() -> None:
        nonlocal halted
        if shared.log is not None and stop_file(shared.log, spec.name).exists():
            halted = True
            raise _Stopped

    def watch(step: int, steps: int, values: Mapping[str, float]) -> None:
        value = values.get(shared.metric)
        if halted or not watched or value is None or step >= steps:
            return
        tune.report({"step": step, "steps": steps, "value": value, "seconds": clock.read()})
        stop_if_told()

    if watched:
        stop_if_told()
    log = shared.log / f"{spec.name}.log" if shared.log is not None else Path(os.devnull)
    with log.open("a", encoding="utf-8") as file:
        result = distill(
            config,
            resume=folder.read_manifest() is not None,
            ui=Ui(Console(file=file, highlight=False, soft_wrap=True)),
            within=Within(shared.teachers, run.params, watch, spec.pause_at, spec.free),
        )
    return SeedResult(run.seed, student_metrics(result), result.run_id)


def student_metrics(result: DistillResult) -> dict[str, float]:
    """Metrics of a run, with size and latency of its student."""
    summary = json.loads(OutputFolder(result.output_dir).summary.read_text(encoding="utf-8"))
    student = next(model for model in summary["models"] if model["role"] == "student")
    own = {name: float(student[key]) for name, key in OF_STUDENT.items() if key in student}
    return {**result.metrics, **own}
