"""Population-based training: members train side by side, and after each round the worst go on from the best.

Ours, not Ray Tune's: its scheduler kills and restarts trials as results come in, so what it does
depends on timing, and a nested Ray Train run that is killed leaves its placement group behind. Here all
members pause at the same step, with a checkpoint; a member that is replaced gets a copy of the other's
(student, optimizer, random numbers) and that one's settings, a little changed; then all go on.

A member's recipe is written out as schedules of kind step, so that at its end the winner's is a plain
configuration that trains the same student from the first step.
"""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.space import trial_config
from raydistill.config.tuning import PbtSection
from raydistill.errors import TrainingError
from raydistill.output import OutputFolder, write_atomically
from raydistill.tuning.execute import End
from raydistill.tuning.outcome import Objective
from raydistill.tuning.population_rules import marks_of
from raydistill.tuning.records import SearchFolder, TrialRecord
from raydistill.tuning.specs import written_values
from raydistill.tuning.trial import TrialSpec
from raydistill.tuning.trials import Trials, trial_name

__all__ = ["Round", "exchanged", "train_population"]

Change = tuple[int, int | None, Mapping[str, Any]]


def exchanged(
    records: Sequence[TrialRecord],
    values: Mapping[int, float],
    *,
    step: int,
    config: DistillConfig,
    objective: Objective,
) -> list[TrialRecord]:
    """Members after a round; the same for the same values.

    Trial 0, the recipe as it was written, may be taken over but does not change.

    Args:
        records: Members that go on.
        values: Of the objective, by number.
        step: Steps done.
        config: The search.
        objective: The first.
    """
    tuning = config.tuning
    assert tuning is not None
    pbt = tuning.stopper
    assert isinstance(pbt, PbtSection)
    sign = 1.0 if objective.maximize else -1.0
    order = sorted(records, key=lambda r: (-sign * values[r.number], r.number))
    number = max(1, int(pbt.exchange * len(records)))
    rank = {record.number: place for place, record in enumerate(order)}
    losers = [record for record in reversed(order) if record.number != 0][:number]
    donors = [record for record in order if record not in losers][:number]
    found = {record.number: record for record in records}
    for loser, donor in zip(losers, donors, strict=False):
        if rank[donor.number] > rank[loser.number]:
            continue  # trial 0, which does not lose, is worse
        draw = random.Random(f"{tuning.search.seed}/{step}/{loser.number}")
        point = {}
        for path, value in donor.changes[-1][2].items():
            parameter: Any = tuning.space[path]
            moved = value * draw.choice(pbt.factors)
            point[path] = min(max(moved, parameter.low), parameter.high)
        changes = (*donor.changes, (step, donor.number, point))
        found[loser.number] = loser.changed(changes=changes)
    return [found[record.number] for record in records]


class Round:
    """A source: all members, to the next mark or to the end.

    Args:
        trials: Of the search; knows how a member is run and judged.
        folder: Of the search.
        members: Their records.
        total: Steps of the run.
        until: The mark; None: the end.
    """

    def __init__(
        self,
        trials: Trials,
        folder: SearchFolder,
        members: Sequence[TrialRecord],
        *,
        total: int,
        until: int | None,
    ) -> None:
        self._trials, self._folder, self._total, self._until = trials, folder, total, until
        self._left = [member for member in members if member.state == "running"]

    def next(self) -> TrialSpec | None:
        """The next member."""
        if not self._left:
            return None
        record = self._left.pop(0)
        point = record.recipe(self._total)
        return self._trials.spec(record, point=point, pause_at=self._until, free=("losses.",))

    def reported(self, name: str, step: int, steps: int, value: float, seconds: float) -> None:
        """What the validation rows say of one that trains."""
        self._trials.reported(name, step, steps, value, seconds)

    def ended(self, name: str, end: End) -> None:
        """One is paused, or has ended."""
        if end.state == "paused":
            self._trials.paused(name, end.seconds)
        else:
            self._trials.ended(name, end)

    def values(self, metric: str) -> dict[int, float]:
        """Of the members that are paused, by what their histories say of the mark."""
        found = {}
        for record in self._trials.records:
            if record.state != "running":
                continue
            seed = self._trials.seeds[0]
            lines = OutputFolder(self._folder.trial(record.number, seed)).history.read_text("utf-8")
            for line in lines.splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # torn when an earlier attempt was killed
                if event["step"] == self._until and metric in event:
                    found[record.number] = event[metric]
            if record.number not in found:
                raise TrainingError(
                    f"{trial_name(record.number)} has no {metric} at step {self._until}."
                )
        return found


def take_over(folder: SearchFolder, seed: int, loser: int, donor: int) -> None:
    """Put a member's checkpoints in the place of another's; a second time the same."""
    mine = OutputFolder(folder.trial(loser, seed)).checkpoints
    theirs = OutputFolder(folder.trial(donor, seed)).checkpoints
    part = mine.with_name(f".{mine.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(theirs, part)
    shutil.rmtree(mine, ignore_errors=True)
    part.rename(mine)


def first_changes(config: DistillConfig, record: TrialRecord) -> tuple[Change, ...]:
    """A member's course before any exchange."""
    assert config.tuning is not None
    if record.point:
        return ((0, None, dict(record.point)),)
    recipe, _ = trial_config(config, {})
    assert recipe is not None
    return ((0, None, written_values(recipe, list(config.tuning.space))),)


def train_population(
    trials: Trials,
    folder: SearchFolder,
    config: DistillConfig,
    *,
    total: int,
    evaluate_every: int,
    objective: Objective,
    run_round: Callable[[Round], None],
    say: Callable[[str], None],
) -> None:
    """Train all members to the end, round by round; what an earlier sitting did is not repeated.

    Args:
        trials: Of the search.
        folder: Of the search.
        config: The search.
        total: Steps of the run.
        evaluate_every: Steps between evaluations.
        objective: The first.
        run_round: Runs a source of trials to its end.
        say: Where exchanges are told.
    """
    assert config.tuning is not None
    pbt = config.tuning.stopper
    assert isinstance(pbt, PbtSection)
    while (spec := trials.next()) is not None:  # the first points; nothing runs yet
        del spec
    for record in trials.records:
        if not record.changes:
            trials.change(record.changed(changes=first_changes(config, record)))
    path = folder.path / "rounds.json"
    rounds: dict[str, Any] = {"done": [], "values": {}}
    if path.exists():
        rounds = json.loads(path.read_text("utf-8"))
    for mark in marks_of(total, pbt.rounds, evaluate_every):
        if mark in rounds["done"]:
            continue
        if str(mark) not in rounds["values"]:  # else a kill came into the exchange
            one = Round(trials, folder, trials.records, total=total, until=mark)
            run_round(one)
            found = one.values(objective.metric)
            rounds["values"][str(mark)] = {str(number): value for number, value in found.items()}
            write_atomically(path, json.dumps(rounds))
        values = {int(number): value for number, value in rounds["values"][str(mark)].items()}
        going = [record for record in trials.records if record.number in values]
        if len(going) > 1:
            for record in exchanged(going, values, step=mark, config=config, objective=objective):
                step, donor, point = record.changes[-1]
                if step == mark and donor is not None:
                    take_over(folder, trials.seeds[0], record.number, donor)
                    shown = ", ".join(f"{path} = {value:.4g}" for path, value in point.items())
                    say(
                        f"step {mark}: trial {record.number} goes on from trial {donor} with {shown}"
                    )
                    trials.change(record)
        rounds["done"].append(mark)
        write_atomically(path, json.dumps(rounds))
    run_round(Round(trials, folder, trials.records, total=total, until=None))
