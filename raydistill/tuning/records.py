"""What lies in a search's folder: each trial's record, written before it starts and when it ends.

::

    config.yaml    the configuration, `tuning` included
    manifest.json  what the search is made of: a resumed one must be the same
    trials/        0003.json: point, state, values; 0003/: the run's own folder, one for each seed
                   trial-0003.log; trial-0003.stop: it is to stop
    trials.jsonl   all records, one a line        tuning.json  the whole, for programs
    best.yaml      the winner as a configuration  report.html  the whole, for people
    final/         trial-0003-seed0/: runs of the winner; as-written-seed0/: of the recipe as it was written

A trial that is finished says so in its own folders (`finished.json`, written by the trial), so that it
is not lost whatever dies after it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError
from raydistill.output import OutputFolder, write_atomically

__all__ = ["SearchFolder", "SeedResult", "Spent", "State", "TrialRecord", "stop_file"]

State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class SeedResult:
    """One run of a trial.

    Attributes:
        seed: Of the run.
        metrics: Flat, with those of the student itself.
        run_id: Of the MLflow run.
    """

    seed: int
    metrics: Mapping[str, float]
    run_id: str | None = None


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        number: 0 is the configuration as it was written.
        point: Values of the parameters that count, by path.
        state: Running ones of a search that died are gone on with.
        values: Of the objectives, means over seeds; of a stopped trial the last seen.
        runs: One for each seed that is finished.
        reports: ``[step, steps, value of the first objective]`` while it trained, as each step was told first.
        stopped_at: The step after which it was told to stop; None: it was not.
        seconds: It took, all its starts together.
        note: Why it failed or was stopped.
        changes: kind pbt: ``[step, from trial or None, point]``, from the first step on.
    """

    number: int
    point: Mapping[str, Any]
    state: State = "running"
    values: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[SeedResult, ...] = ()
    reports: tuple[tuple[int, int, float], ...] = ()
    seconds: float = 0.0
    note: str = ""
    changes: tuple[tuple[int, int | None, Mapping[str, Any]], ...] = ()
    stopped_at: int | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "TrialRecord":
        """From its file."""
        return cls(
            **{
                **content,
                "runs": tuple(SeedResult(**run) for run in content["runs"]),
                "reports": tuple((s, t, v) for s, t, v in content["reports"]),
                "changes": tuple((s, f, p) for s, f, p in content["changes"]),
            }
        )

    def recipe(self, total: int) -> dict[str, Any]:
        """Values of settings that stand for it, those that changed on the way as schedules of kind step.

        Args:
            total: Steps of the run.
        """
        point = dict(self.changes[0][2] if self.changes else self.point)
        at = [step / total for step, _, _ in self.changes[1:]]
        for path, start in list(point.items()) if at else ():
            later = [values[path] for _, _, values in self.changes[1:]]
            if path.endswith(".temperature"):
                point[path] = {"kind": "step", "start": start, "at": at, "temperatures": later}
            else:
                factors = [value / start for value in later]
                schedule = {"kind": "step", "at": at, "factors": factors}
                point[path.removesuffix("weight") + "schedule"] = schedule
        return point

    def changed(self, **fields: Any) -> "TrialRecord":
        """With other values."""
        return replace(self, **fields)


@dataclass(frozen=True)
class Spent:
    """What a search took so far, all sittings together.

    Attributes:
        seconds: From the start of each sitting.
        served: Rows that each teacher computed while trials trained.
        filled: Rows that each answered before the first trial.
        missing: Rows that each had to answer then; None: nobody is at it. What of them is in the store
            was answered, whoever was killed meanwhile.
    """

    seconds: float = 0.0
    served: Mapping[str, int] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] | None = None

    @property
    def rows(self) -> dict[str, int]:
        """By teacher."""
        names = dict.fromkeys((*self.filled, *self.served))
        return {name: self.filled.get(name, 0) + self.served.get(name, 0) for name in names}

    def filling(self, lacking: Mapping[str, int]) -> "Spent":
        """Before teachers answer what the store lacks, for the first time or where a kill ended it."""
        if self.missing is not None:
            return self
        missing = {name: self.filled.get(name, 0) + rows for name, rows in lacking.items()}
        return replace(self, missing=missing)

    def full(self, lacking: Mapping[str, int]) -> "Spent":
        """After that, by what the store still lacks."""
        missing = self.missing or {}
        filled = {name: max(0, rows - lacking.get(name, 0)) for name, rows in missing.items()}
        return replace(self, filled=filled, missing=None)


class SearchFolder(OutputFolder):
    """The folder of a search.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.trials = self.checkpoints = self.path / "trials"
        self.final = self.path / "final"
        self.tune = self.path / "tune"
        self.lines = self.path / "trials.jsonl"
        self.tuning = self.path / "tuning.json"
        self.best = self.path / "best.yaml"
        self._spent = self.path / "spent.json"

    @classmethod
    def of(cls, config: DistillConfig) -> "SearchFolder":
        """The folder that a configuration names."""
        return cls(OutputFolder.of(config).path)

    def trial(self, number: int, seed: int) -> Path:
        """The folder of a trial's run."""
        return self.trials / f"{number:04}" / f"seed-{seed}"

    def records(self) -> list[TrialRecord]:
        """Of all trials, in order."""
        return [TrialRecord.of(_object(path)) for path in sorted(self.trials.glob("[0-9]*.json"))]

    def write(self, record: TrialRecord) -> None:
        """Keep a record, in place of its last."""
        text = json.dumps(asdict(record), indent=1, ensure_ascii=False)
        write_atomically(self.trials / f"{record.number:04}.json", text)

    def write_lines(self) -> None:
        """All records as they are now, one a line."""
        lines = [json.dumps(asdict(record), ensure_ascii=False) for record in self.records()]
        write_atomically(self.lines, "".join(f"{line}\n" for line in lines))

    def spent(self) -> Spent:
        """What was spent so far, as it was kept last."""
        return Spent(**_object(self._spent)) if self._spent.exists() else Spent()

    def spend(self, spent: Spent) -> None:
        """Keep what was spent."""
        write_atomically(self._spent, json.dumps(asdict(spent), indent=1))


def stop_file(folder: Path, name: str) -> Path:
    """What says that a trial is to stop, in the folder of all trials."""
    return folder / f"{name}.stop"


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError.of("run.output_dir", f"holds a torn record: {path}. Remove it, or start anew in another folder.")  # fmt: skip
    return content
