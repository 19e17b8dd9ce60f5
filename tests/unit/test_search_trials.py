"""Trials without a cluster: what is chosen, kept, told again, and what happens to those that are stopped or lost."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from raydistill.config import DistillConfig, parse_config
from raydistill.output import OutputFolder
from raydistill.prepare import Resources
from raydistill.training.checkpoint import Progress
from raydistill.training.worker import Worker
from raydistill.tuning import population, share, specs
from raydistill.tuning import trial as trial_process
from raydistill.tuning.check import Checked, check_search
from raydistill.tuning.execute import End, _Searcher
from raydistill.tuning.outcome import objectives_of, winner_of
from raydistill.tuning.population import train_population
from raydistill.tuning.records import SearchFolder, SeedResult, Spent, stop_file
from raydistill.tuning.track import SearchRecord
from raydistill.tuning.trial import Shared, TrialSpec, run_trial
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
        sitting.trials.reported(spec.name, 4, 12, 0.99, 1.0)
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
    time_up.folder.spend(Spent(seconds=99.999))
    again = Sitting(tiny, tmp_path / "b", resume=True, trials=9, budget={"seconds": 100})
    assert to_the_end(again) == ["trial-0000"], "the recipe as it was written always runs"


ASHA = {"kind": "asha", "min_share": 0.25}


def stopped_search(tiny: dict[str, Path], folder: Path) -> tuple[Sitting, str]:
    """The first trial has 0.9 at the first mark; the second was told to stop there, and has not ended."""
    sitting = Sitting(tiny, folder, trials=4, concurrent=1, stopper=ASHA)
    first = sitting.trials.next()
    sitting.trials.reported(first.name, 4, 12, 0.9, 1.0)
    sitting.trials.ended(first.name, run(first))
    second = sitting.trials.next()
    sitting.trials.reported(second.name, 4, 12, 0.5, 2.0)
    return sitting, second.name


def test_whoever_is_to_stop_finds_a_word_that_outlives_all_processes(tiny, tmp_path):
    """A trial that was stopped and whose process dies would train to the end when it comes back."""
    sitting, name = stopped_search(tiny, tmp_path)
    assert not stop_file(sitting.folder.trials, "trial-0000").exists()
    assert stop_file(sitting.folder.trials, name).exists()
    assert sitting.trials.records[1].stopped_at == 4
    # Its process dies, comes back from an older checkpoint, and tells the same again.
    sitting.trials.reported(name, 4, 12, 0.5, 3.0)
    assert sitting.trials.records[1].reports == ((4, 12, 0.5),)
    sitting.trials.ended(name, End("failed", (), 1.0, "its process was lost"))
    record = sitting.trials.records[1]
    assert (record.state, record.seconds) == ("stopped", 6.0), "all its starts together"
    assert record.values == {"validation/accuracy": 0.5}


def test_a_search_that_died_after_the_word_does_not_train_on(tiny, tmp_path):
    """Else a resumed search finds other trials finished than one that was not killed."""
    whole, name = stopped_search(tiny, tmp_path / "whole")
    whole.trials.ended(name, End("stopped", (), 1.0, ""))
    stopped_search(tiny, tmp_path / "cut")
    options = {"trials": 4, "concurrent": 1, "stopper": ASHA}
    again = Sitting(tiny, tmp_path / "cut", resume=True, **options)
    assert [record.state for record in again.trials.records] == ["finished", "stopped"]
    assert to_the_end(again) == to_the_end(whole) == ["trial-0002", "trial-0003"]
    points = [[record.point for record in one.trials.records] for one in (again, whole)]
    assert points[0] == points[1]


def test_a_mark_that_was_passed_stays_passed(tiny, tmp_path):
    """A trial that goes over it again after a kill would be compared with those that came later."""
    sitting = Sitting(tiny, tmp_path, trials=3, stopper=ASHA)
    first, second = sitting.trials.next(), sitting.trials.next()
    sitting.trials.reported(first.name, 4, 12, 0.5, 1.0)
    sitting.trials.reported(second.name, 4, 12, 0.9, 1.0)
    again = Sitting(tiny, tmp_path, resume=True, trials=3, stopper=ASHA)
    assert again.trials.next().name == first.name
    again.trials.reported(first.name, 4, 12, 0.5, 1.0)
    assert again.trials.records[0].stopped_at is None


def test_words_of_trials_that_have_ended_are_passed_over():
    """Ray Tune starts a process again that dies after its last word; the search would end with a KeyError."""
    heard: list[Any] = []
    source = SimpleNamespace(reported=lambda *words: heard.append(words), ended=heard.append)
    searcher = _Searcher(source)
    searcher.on_trial_result("id", {"step": 4, "steps": 12, "value": 0.5, "seconds": 1.0})
    searcher.on_trial_complete("id")
    assert heard == []


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ActorDiedError(), None),
        (RayTaskError("f", "trace", ActorDiedError()), None),
        (RayTaskError("f", "trace", ValueError("wrong")).as_instanceof_cause(), "ValueError"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_a_lost_process_is_worth_another_start(tiny, tmp_path, monkeypatch, error, note):
    """A trial that lost its recorder was failed for good, while tuning.max_failures allowed two more starts."""
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_process.tune, "report", said.append)

    def raising(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trial_process, "distill", raising)
    sitting = Sitting(tiny, tmp_path, trials=2)
    spec = sitting.trials.next()
    shared = Shared({}, "validation/accuracy", str(tmp_path), log=sitting.folder.trials)
    if note is None:
        with pytest.raises(type(error)):
            run_trial(spec.plain, shared)
        assert said == []
    else:
        run_trial(spec.plain, shared)
        assert said[0]["end"] == "failed"
        assert note in said[0]["note"]


def test_a_trial_stops_when_it_finds_the_word(tiny, tmp_path, monkeypatch):
    """Told while it trains, or before it was started again."""
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_process.tune, "report", said.append)
    sitting = Sitting(tiny, tmp_path, trials=2)
    spec = sitting.trials.next()
    shared = Shared({}, "validation/accuracy", str(tmp_path), log=sitting.folder.trials)

    def distilling(*_: Any, within: Any, **__: Any) -> None:
        within.watch(4, 12, {"validation/accuracy": 0.5})
        stop_file(sitting.folder.trials, spec.name).touch()
        within.watch(8, 12, {"validation/accuracy": 0.6})
        raise AssertionError("it goes on")

    monkeypatch.setattr(trial_process, "distill", distilling)
    run_trial(spec.plain, shared)
    assert [one.get("step", one.get("end")) for one in said] == [4, 8, "stopped"]
    said.clear()
    run_trial(spec.plain, shared)
    assert [one["end"] for one in said] == ["stopped"]


def test_rows_are_counted_though_the_search_is_killed_while_teachers_answer(
    tiny, tmp_path, monkeypatch
):
    """What they had written by then stayed in the store, and in no count."""
    sitting = Sitting(tiny, tmp_path, trials=1)
    lacking = {"wide": 168, "deep": 168}
    monkeypatch.setattr(share, "_lacking", lambda _, name: lacking[name])

    def killed(*_: Any) -> None:
        lacking["wide"] = 60
        raise KeyboardInterrupt

    monkeypatch.setattr(share, "fill_answers", killed)
    with pytest.raises(KeyboardInterrupt):
        share._fill(sitting.checked, sitting.folder, QUIET)
    monkeypatch.setattr(share, "fill_answers", lambda *_: lacking.update(wide=0, deep=0))
    share._fill(sitting.checked, sitting.folder, QUIET)
    again = Sitting(tiny, tmp_path, resume=True, trials=1)
    assert again.trials.spend() == {"wide": 168, "deep": 168}
    share._fill(again.checked, again.folder, QUIET)
    assert again.folder.spent().rows == {"wide": 168, "deep": 168}, "nothing is counted twice"


POPULATION = {
    "space": {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 8}},
    "trials": 4,
    "stopper": {"kind": "pbt", "rounds": 3},
}


def train_members(sitting: Sitting, killed_after: int | None = None) -> list[str]:
    """Which ran, and to which step."""
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
            if len(ran) == killed_after:
                raise KeyboardInterrupt

    steps = sitting.checked.base.steps
    train_population(
        sitting.trials, sitting.folder, sitting.checked.config, total=steps.total, evaluate_every=steps.evaluate_every,
        objective=sitting.objectives[0], run_round=run_round, say=lambda _: None,
    )  # fmt: skip
    return ran


def test_a_population_exchanges_and_goes_on_after_a_kill(tiny, tmp_path):
    """Members that go on from the wrong checkpoint, or an exchange that happens twice."""
    whole = Sitting(tiny, tmp_path / "whole", **POPULATION)
    train_members(whole)
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
    cut = Sitting(tiny, tmp_path / "cut", **POPULATION)
    with pytest.raises(KeyboardInterrupt):
        train_members(cut, killed_after=2)
    again = Sitting(tiny, tmp_path / "cut", resume=True, **POPULATION)
    train_members(again)
    assert [record.changes for record in again.trials.records] == [
        record.changes for record in records
    ]


def test_a_kill_within_an_exchange_changes_nothing(tiny, tmp_path, monkeypatch):
    """Who took over a checkpoint would be measured by it, and another member lose."""
    whole = Sitting(tiny, tmp_path / "whole", **POPULATION)
    ran = train_members(whole)
    cut = Sitting(tiny, tmp_path / "cut", **POPULATION)
    take_over = population.take_over

    def killed(*words: Any) -> None:
        take_over(*words)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(population, "take_over", killed)
        with pytest.raises(KeyboardInterrupt):
            train_members(cut)
    again = Sitting(tiny, tmp_path / "cut", resume=True, **POPULATION)
    assert train_members(again) == ran[4:], "nobody runs to the first mark again"
    assert [record.changes for record in again.trials.records] == [
        record.changes for record in whole.trials.records
    ]


def test_a_paused_run_tells_again_what_its_checkpoint_was_measured_with():
    """Killed after the checkpoint and before anybody heard, the search could never go on."""
    sent: list[Any] = []
    recorder = SimpleNamespace(
        metrics=lambda *words: sent.append(words), flush=lambda: sent.append("flush")
    )
    steps = SimpleNamespace(evaluate_at=lambda step: step == 10)
    worker = object.__new__(Worker)
    worker.job, worker.recorder = SimpleNamespace(pause_at=10, steps=steps), recorder
    metrics = {"validation/accuracy": 0.5}
    worker.rank, worker.progress = 0, Progress(step=10, last_metrics=metrics)
    worker.run()
    assert sent == [(10, metrics), "flush"]
