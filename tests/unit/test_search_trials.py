"""Trials without a cluster: what is chosen, kept, told again, and what happens to those that are stopped or lost."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from raydistill.config import DistillConfig, parse_config
from raydistill.output import OutputFolder
from raydistill.prepare import Resources
from raydistill.tuning import execute as execution
from raydistill.tuning import specs
from raydistill.tuning.check import Checked, check_search
from raydistill.tuning.execute import End
from raydistill.tuning.outcome import objectives_of, winner_of
from raydistill.tuning.population import train_population
from raydistill.tuning.records import SearchFolder, SeedResult
from raydistill.tuning.track import SearchRecord
from raydistill.tuning.trial import TrialSpec
from raydistill.tuning.trials import Trials
from raydistill.ui import Ui
from tests.unit.test_search_check import search_of

QUIET = Ui(quiet=True)


@pytest.fixture(autouse=True)
def no_object_store(monkeypatch):
    monkeypatch.setattr(specs, "object_store_bytes", lambda: 1 << 30)


class Sitting:
    """A search from its start, or from its records on."""

    def __init__(
        self, tiny: dict[str, Path], folder: Path, *, resume: bool = False, **tuning: Any
    ) -> None:
        config = DistillConfig.model_validate(search_of(tiny, folder, **tuning))
        self.checked: Checked = check_search(config, Resources(2.0, 0.0), resume=resume)
        self.folder = SearchFolder.of(config)
        self.folder.begin("run: {}", self.checked.manifest)
        self.objectives = objectives_of(config)
        record = SearchRecord(config, self.folder, resume=resume, ui=QUIET)
        self.trials = Trials(self.checked, self.folder, record, self.objectives, QUIET)


def accuracy(config: DistillConfig) -> float:
    """Best at temperature 4."""
    setting = config.losses[1].temperature
    return (
        0.9 - abs((setting if isinstance(setting, float) else setting.temperatures[-1]) - 4.0) / 100
    )


def run(spec: TrialSpec) -> End:
    """What a trial would leave and say."""
    results = []
    for one in spec.runs:
        config, faults = parse_config(one.settings)
        assert faults == []
        folder = OutputFolder.of(config)
        folder.begin("", {})
        metrics = {"validation/accuracy": accuracy(config) + one.seed / 1000}
        folder.metrics.write_text(json.dumps(metrics))
        folder.summary.write_text(
            json.dumps({"models": [{"role": "student", "parameters": 10, "disk_bytes": 40}]})
        )
        folder.finish(metrics, run_id=None, model_uri=None)
        results.append(
            SeedResult(
                one.seed, {**metrics, "student/parameters": 10.0, "student/disk_bytes": 40.0}
            )
        )
    return End("finished", tuple(results), 7200.0, "")


def to_the_end(sitting: Sitting, most: int = 99) -> list[str]:
    """Names of the trials that ran."""
    names: list[str] = []
    while len(names) < most and (spec := sitting.trials.next()) is not None:
        sitting.trials.ended(spec.name, run(spec))
        names.append(spec.name)
    return names


def test_a_killed_search_loses_no_finished_trial(tiny, tmp_path):
    """Hours of work, done again, or other trials than without the kill."""
    whole = Sitting(tiny, tmp_path / "whole", trials=6)
    to_the_end(whole)
    cut = Sitting(tiny, tmp_path / "cut", trials=6)
    to_the_end(cut, 2)
    spec = cut.trials.next()
    run(spec)  # finished, but the search died before it heard of it
    begun = cut.trials.next()
    again = Sitting(tiny, tmp_path / "cut", resume=True, trials=6)
    assert [record.state for record in again.trials.records] == [
        "finished",
        "finished",
        "finished",
        "running",
    ]
    assert to_the_end(again) == [begun.name, "trial-0004", "trial-0005"]
    assert [record.point for record in again.trials.records] == [
        r.point for r in whole.trials.records
    ]
    assert again.trials.records[0].point == {"losses.1.temperature": 1.0}, (
        "the recipe as it was written"
    )
    assert len(cut.folder.lines.read_text().splitlines()) == 6
    third = Sitting(tiny, tmp_path / "cut", resume=True, trials=8)
    assert to_the_end(third) == ["trial-0006", "trial-0007"]


def test_a_trial_is_measured_on_validation_rows_in_a_place_of_its_own(tiny, tmp_path):
    """Chosen by the test rows, or written over another's folder."""
    sitting = Sitting(tiny, tmp_path, trials=2, seeds_per_trial=2)
    sitting.trials.next()
    spec = sitting.trials.next()
    configs = [parse_config(run.settings)[0] for run in spec.runs]
    assert [config.run.seed for config in configs] == [0, 1]
    assert len({config.run.output_dir for config in configs}) == 2
    for config in configs:
        assert (
            config.evaluation.splits,
            config.evaluation.teachers,
            config.evaluation.latency,
        ) == (["validation"], False, False)
        assert config.tracking.registered_model is None
        assert config.tuning is None
        assert config.store.path == str(tmp_path / "store")
        assert (
            config.losses[1].temperature == sitting.trials.records[1].point["losses.1.temperature"]
        )
    assert TrialSpec.of(spec.plain) == spec
    sitting.trials.ended(spec.name, run(spec))
    record = sitting.trials.records[1]
    first, second = (r.metrics["validation/accuracy"] for r in record.runs)
    assert record.values["validation/accuracy"] == pytest.approx((first + second) / 2)


def test_failed_and_stopped_trials_are_kept_and_never_win(tiny, tmp_path):
    """A trial that looked best when it was cut off has no student."""
    sitting = Sitting(tiny, tmp_path, trials=4)
    ends = [
        None,
        End("failed", (), 1.0, "the loss is not finite"),
        End("stopped", (), 1.0, ""),
        None,
    ]
    for end in ends:
        spec = sitting.trials.next()
        sitting.trials.reported(spec.name, 4, 12, 0.99)
        sitting.trials.ended(spec.name, end or run(spec))
    states = [(r.state, r.note) for r in sitting.trials.records]
    assert states == [
        ("finished", ""),
        ("failed", "the loss is not finite"),
        ("stopped", ""),
        ("finished", ""),
    ]
    assert sitting.trials.records[2].values == {"validation/accuracy": 0.99}
    assert winner_of(sitting.trials.records, sitting.objectives).number in (0, 3)


def test_budgets_end_the_search_between_trials(tiny, tmp_path):
    """Money and time that are gone."""
    cost = Sitting(tiny, tmp_path / "a", trials=9, budget={"cost": 5.0, "cpu_hour": 1.0})
    assert len(to_the_end(cost)) == 3, "each takes two hours of one CPU"
    time_up = Sitting(tiny, tmp_path / "b", trials=9, budget={"seconds": 100})
    time_up.folder.spend({"seconds": 99.999, "teachers": {}})
    again = Sitting(tiny, tmp_path / "b", resume=True, trials=9, budget={"seconds": 100})
    assert to_the_end(again) == ["trial-0000"], "the recipe as it was written always runs"


def test_a_scheduler_tells_its_victims_instead_of_killing_them(monkeypatch):
    """A killed trial leaves its placement group, and the next waits for it for ever."""
    told: list[str] = []
    decisions = SimpleNamespace(stop=SimpleNamespace(remote=told.append))
    monkeypatch.setattr(execution.ray, "get", lambda value: value)
    source = SimpleNamespace(stopped=lambda name, step: told.append(f"{name} at {step}"))
    gentle = execution._gentle(AsyncHyperBandScheduler, decisions, source)(
        time_attr="progress", metric="value", mode="max", max_t=100, grace_period=25, reduction_factor=2, stop_last_trials=False,
    )  # fmt: skip
    trials = [SimpleNamespace(trial_id=str(i), config={"name": f"t{i}"}) for i in range(3)]
    for trial, value in zip(trials, (0.9, 0.8, 0.1), strict=True):
        gentle.on_trial_add(None, trial)
        result = {"progress": 25.0, "step": 10, "value": value}
        assert gentle.on_trial_result(None, trial, result) == "CONTINUE"
    assert told == ["t1", "t1 at 10", "t2", "t2 at 10"]
    assert gentle.on_trial_result(None, trials[0], {"end": "finished"}) == "CONTINUE"


def test_a_population_exchanges_and_goes_on_after_a_kill(tiny, tmp_path):
    """Members that go on from the wrong checkpoint, or an exchange that happens twice."""
    space = {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 8}}
    options = {"space": space, "trials": 4, "stopper": {"kind": "pbt", "rounds": 3}}
    killed_at = [2]

    def train(sitting: Sitting) -> list[str]:
        ran: list[str] = []

        def run_round(source: Any) -> None:
            while (spec := source.next()) is not None:
                config, faults = parse_config(spec.runs[0].settings)
                assert faults == []
                folder = OutputFolder.of(config)
                if folder.read_manifest() is None:
                    folder.begin("", {})
                if spec.pause_at is None:
                    source.ended(spec.name, run(spec))
                    continue
                ran.append(f"{spec.name} to {spec.pause_at}")
                with folder.history.open("a") as history:
                    line = {"step": spec.pause_at, "validation/accuracy": accuracy(config)}
                    history.write(json.dumps(line) + "\n")
                (folder.checkpoints / "owner").write_text(spec.name)
                source.ended(spec.name, End("paused", (), 1.0, ""))
                if len(ran) == killed_at[0] and sitting is cut:
                    raise KeyboardInterrupt

        steps = sitting.checked.base.steps
        train_population(
            sitting.trials, sitting.folder, sitting.checked.config, total=steps.total, evaluate_every=steps.evaluate_every,
            objective=sitting.objectives[0], run_round=run_round, say=lambda _: None,
        )  # fmt: skip
        return ran

    cut = None
    whole = Sitting(tiny, tmp_path / "whole", **options)
    train(whole)
    records = whole.trials.records
    assert {record.state for record in records} == {"finished"}
    assert len(records[0].changes) == 1, "the recipe as it was written stays as it is"
    changed = [record for record in records if len(record.changes) > 1]
    assert changed
    last = changed[-1]
    recipe = last.recipe(whole.checked.base.steps.total)["losses.1.temperature"]
    assert recipe["kind"] == "step"
    assert [step for step, _, _ in last.changes] == [
        0,
        *(round(a * whole.checked.base.steps.total) for a in recipe["at"]),
    ]
    cut = Sitting(tiny, tmp_path / "cut", **options)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    again = Sitting(tiny, tmp_path / "cut", resume=True, **options)
    train(again)
    assert [record.changes for record in again.trials.records] == [
        record.changes for record in records
    ]
    shutil.rmtree(tmp_path / "cut")
