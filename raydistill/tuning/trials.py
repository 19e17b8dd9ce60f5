"""The trials of a search, from the configuration as it was written to the end of the budget."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from raydistill.config.space import Point, label_of, point_of, trial_config
from raydistill.config.tuning import AshaStopper, MedianStopper
from raydistill.errors import TrainingError
from raydistill.output import OutputFolder
from raydistill.prepare import needed_resources
from raydistill.run import DistillResult
from raydistill.tuning.check import Checked
from raydistill.tuning.execute import End
from raydistill.tuning.outcome import Objective
from raydistill.tuning.records import SearchFolder, SeedResult, TrialRecord, stop_file
from raydistill.tuning.specs import run_spec, seeds_of, written_values
from raydistill.tuning.stopping import is_to_stop
from raydistill.tuning.suggest import Suggester
from raydistill.tuning.track import SearchRecord
from raydistill.tuning.trial import TrialSpec, student_metrics
from raydistill.ui import Ui

__all__ = ["Trials", "finished_runs", "trial_name"]

_TRIES = 50  # points that break a rule between their values, one after another


def trial_name(number: int) -> str:
    """Of a trial."""
    return f"trial-{number:04}"


class Trials:
    """A source of trials, and what becomes of them.

    Args:
        checked: The search.
        folder: Where records go.
        record: What MLflow is told.
        objectives: What trials are judged by.
        ui: Where sentences go.
        computed: Rows that each teacher computed in this sitting while trials trained, so far.
        begin: When the sitting began; None: now.
    """

    def __init__(
        self,
        checked: Checked,
        folder: SearchFolder,
        record: SearchRecord,
        objectives: Sequence[Objective],
        ui: Ui,
        *,
        computed: Callable[[], Mapping[str, int]] = dict,
        begin: float | None = None,
    ) -> None:
        config = checked.config
        assert config.tuning is not None
        self._checked, self._config, self._tuning = checked, config, config.tuning
        self._folder, self._record, self._ui = folder, record, ui
        self._objectives, self._begin = objectives, time.monotonic() if begin is None else begin
        self._spent, self._computed = folder.spent(), computed
        self._rows: dict[str, int] = {}
        self._default = point_of(config, config.tuning)
        self._suggester = Suggester(config.tuning, list(config.teachers), objectives, self._default)
        self._records: dict[str, TrialRecord] = {}
        self._left: list[TrialRecord] = []
        for one in folder.records():
            self._take_up(one)

    @property
    def records(self) -> list[TrialRecord]:
        """Of all trials so far, in order."""
        return sorted(self._records.values(), key=lambda record: record.number)

    @property
    def seconds(self) -> float:
        """Of all sittings."""
        return self._spent.seconds + time.monotonic() - self._begin

    def spend(self) -> dict[str, int]:
        """Write down what was spent so far, which a kill would forget; rows by teacher, of all sittings."""
        for name, rows in self._computed().items():  # a replica that dies takes its count with it
            self._rows[name] = max(rows, self._rows.get(name, 0))
        served = Counter(self._spent.served)
        served.update(self._rows)
        spent = replace(self._spent, seconds=self.seconds, served=dict(served))
        self._folder.spend(spent)
        return spent.rows

    def cost(self) -> float:
        """Of the trials so far."""
        per = needed_resources(self._config.model_copy(update={"teachers": {}}))
        budget = self._tuning.budget
        an_hour = per.cpus * budget.cpu_hour + per.gpus * budget.gpu_hour
        return sum(record.seconds for record in self._records.values()) * an_hour / 3600

    def _take_up(self, record: TrialRecord) -> None:
        """One of an earlier sitting: told again if it ended, else gone on with."""
        if record.state == "running":
            runs = finished_runs(self._folder, record.number, self.seeds)
            if record.stopped_at is not None:  # it was told, and the search died before it ended
                record = self._judged(record, runs, "stopped", record.seconds, "")
                self._closed(record)
                self._folder.write(record)
            elif len(runs) == len(self.seeds):  # it ended, and the search died before it knew
                record = self._judged(record, runs, "finished", record.seconds, "")
                self._folder.write(record)
        self._records[trial_name(record.number)] = record
        if record.state == "running":
            self._left.append(record)
            self._suggester.hold(record)
        else:
            self._suggester.tell(record)

    @property
    def seeds(self) -> list[int]:
        """Of the runs of a trial."""
        return seeds_of(self._config, self._tuning.seeds_per_trial)

    def next(self) -> TrialSpec | None:
        """The next trial; None: no further one starts."""
        if self._left:
            return self.spec(self._left.pop(0))
        number = len(self._records)
        if number >= self._tuning.trials or (number > 0 and self._over()):
            return None
        record = TrialRecord(0, self._default or {}) if number == 0 else self._suggested(number)
        if record is None:
            self._ui.say(f"the space holds no further point; the search ends after {number} trials")
            return None
        self._folder.write(record)
        self._records[trial_name(record.number)] = record
        shown = ", ".join(f"{path} = {label_of(value)}" for path, value in record.point.items())
        self._ui.say(f"trial {record.number}: {shown if record.number else 'as written'}")
        return self.spec(record)

    def _over(self) -> bool:
        """Whether the budget is used up."""
        budget = self._tuning.budget
        if budget.seconds is not None and self.seconds >= budget.seconds:
            self._ui.say(f"the search has taken {self.seconds:.0f} s (tuning.budget.seconds = {budget.seconds:g}): no further trial starts")  # fmt: skip
            return True
        if budget.cost is not None and self.cost() >= budget.cost:
            self._ui.say(f"the trials have cost {self.cost():.2f} (tuning.budget.cost = {budget.cost:g}): no further one starts")  # fmt: skip
            return True
        return False

    def _suggested(self, number: int) -> TrialRecord | None:
        for _ in range(_TRIES):
            point = self._suggester.ask(number)
            if point is None:
                return None
            _, faults = trial_config(self._config, point)
            if not faults:
                return TrialRecord(number, point)
            self._suggester.refuse(number)
            if self._tuning.search.kind == "grid":
                record = TrialRecord(number, point, state="failed", note=str(faults[0]))
                self._folder.write(record)
                self._records[trial_name(number)] = record
                self._ui.say(f"trial {number}: cannot be: {faults[0]}")
                number += 1
                if number >= self._tuning.trials:
                    return None
        return None

    def spec(
        self,
        record: TrialRecord,
        *,
        point: Point | None = None,
        pause_at: int | None = None,
        free: tuple[str, ...] = (),
    ) -> TrialSpec:
        """What a trial runs.

        Args:
            record: Of the trial.
            point: Values in place of the record's own.
            pause_at: The step at which it stops for now.
            free: Settings below these paths may be others than when it was paused.
        """
        recipe, faults = trial_config(self._config, record.point if point is None else point)
        if recipe is None or faults:
            raise TrainingError(f"trial {record.number} cannot be: {faults[0]}")
        written, _ = trial_config(self._config, record.point)
        assert written is not None
        varied = written_values(written, list(record.point or self._tuning.space))
        if len(written.losses) < len(self._config.losses):  # whose places are others then
            varied |= {p: v for p, v in record.point.items() if p.startswith("losses.")}
        number = f"{self._config.run.name}-{trial_name(record.number)}"
        runs = tuple(
            run_spec(
                self._config,
                recipe,
                name=number if len(self.seeds) == 1 else f"{number}-seed{seed}",
                seed=seed,
                output=self._folder.trial(record.number, seed),
                tags=self._record.tags(record.number),
                concurrent=self._checked.concurrent,
                objectives=self._objectives,
                varied=varied,
            )
            for seed in self.seeds
        )
        return TrialSpec(trial_name(record.number), runs, pause_at, free)

    def reported(self, name: str, step: int, steps: int, value: float, seconds: float) -> None:
        """What the validation rows say of one that trains: when this returns, it looks whether it is to stop.

        A step that was told before, by a process that died since, changes nothing: what others have told
        in the meantime must not decide a second time.
        """
        record = self._records[name]
        record = record.changed(seconds=record.seconds + seconds)
        if all(step > told for told, _, _ in record.reports):
            record = self._watched(
                record.changed(reports=(*record.reports, (step, steps, value))), step
            )
        self.change(record)
        self.spend()
        if record.stopped_at is not None:
            stop_file(self._folder.trials, name).touch()

    def _watched(self, record: TrialRecord, step: int) -> TrialRecord:
        """After a report: with the decision, if it is to stop."""
        stopper = self._tuning.stopper
        others = [one for one in self._records.values() if one.number != record.number]
        maximize = self._objectives[0].maximize
        if not isinstance(stopper, AshaStopper | MedianStopper):
            return record
        if not is_to_stop(stopper, record, others, maximize=maximize):
            return record
        self._ui.say(f"trial {record.number}: stopped at step {step}")
        return record.changed(stopped_at=step)

    def _closed(self, record: TrialRecord) -> None:
        """End what MLflow has of a trial that will not go on, if its process could not."""
        status = "KILLED" if record.state == "stopped" else "FAILED"
        for seed in self.seeds:
            self._record.lost(self._folder.trial(record.number, seed), status)

    def paused(self, name: str, seconds: float) -> None:
        """One stopped for now."""
        self.change(self._records[name].changed(seconds=self._records[name].seconds + seconds))

    def change(self, record: TrialRecord) -> None:
        """Keep a record in place of the trial's last."""
        self._records[trial_name(record.number)] = record
        self._folder.write(record)

    def ended(self, name: str, end: End) -> None:
        """One has ended."""
        record = self._records[name]
        state = end.state if end.state in ("finished", "stopped") else "failed"
        if record.stopped_at is not None:  # whatever became of it since
            state = "stopped"
        record = self._judged(record, end.runs, state, record.seconds + end.seconds, end.note)
        self._records[name] = record
        self._folder.write(record)
        self._folder.write_lines()
        self.spend()
        self._suggester.tell(record)
        self._record.trial(record.number, record.values if record.state == "finished" else {})
        if record.state != "finished":
            self._closed(record)
        if record.state == "failed":
            self._ui.say(f"trial {record.number}: failed: {record.note}")
        elif record.state == "finished":
            found = ", ".join(f"{metric} {value:,.4f}" for metric, value in record.values.items())
            self._ui.say(f"trial {record.number}: {found} after {record.seconds:.0f} s")

    def _judged(
        self,
        record: TrialRecord,
        runs: Sequence[SeedResult],
        state: str,
        seconds: float,
        note: str,
    ) -> TrialRecord:
        values = {}
        for objective in self._objectives if state == "finished" else ():
            found = [
                run.metrics[objective.metric] for run in runs if objective.metric in run.metrics
            ]
            if len(found) < len(runs):
                state, note = "failed", f"it has no {objective.metric}"
                break
            values[objective.metric] = statistics.mean(found)
        if state == "stopped" and record.reports:
            values = {self._objectives[0].metric: record.reports[-1][2]}
        return record.changed(
            runs=tuple(runs), state=state, values=values, seconds=seconds, note=note
        )


def finished_runs(folder: SearchFolder, number: int, seeds: Sequence[int]) -> list[SeedResult]:
    """Runs of a trial that are finished, by what they left."""
    return [
        run for seed in seeds if (run := finished_run(folder.trial(number, seed), seed)) is not None
    ]


def finished_run(path: Path, seed: int) -> SeedResult | None:
    """A finished run, by what it left."""
    one = OutputFolder(path)
    done = one.finished()
    if done is None:
        return None
    result = DistillResult(
        done["metrics"], one.student, one.path, done["run_id"], done["model_uri"]
    )
    return SeedResult(seed, student_metrics(result), result.run_id)
