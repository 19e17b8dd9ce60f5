"""How trials are chosen, judged, kept and shown."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from raydistill.config import DistillConfig, parse_config
from raydistill.config.space import point_of
from raydistill.errors import ConfigError
from raydistill.evaluation.search_report import write_search_report
from raydistill.tuning.outcome import (
    Objective,
    comparison_sentence,
    front_of,
    objective_faults,
    objectives_of,
    winner_of,
)
from raydistill.tuning.population import exchanged
from raydistill.tuning.population_rules import marks_of, population_faults
from raydistill.tuning.records import SearchFolder, SeedResult, Spent, TrialRecord
from raydistill.tuning.suggest import Suggester, importances
from tests.unit.test_search_space import TEMPERATURE, search

ACCURACY = Objective("validation/accuracy", maximize=True)
SIZE = Objective("student/parameters", maximize=False)
SPACE = {
    **TEMPERATURE,
    "losses.1.weight": {"kind": "loguniform", "low": 0.1, "high": 10},
    "losses.2.layers": {"kind": "choice", "values": [{"a": [[1, 1]]}, "uniform", "last"]},
}


def goodness(point: dict[str, Any]) -> float:
    """Best at temperature 4; nothing else matters."""
    return 1.0 - abs(point.get("losses.1.temperature", 2.0) - 4.0) / 10


def run_search(
    config: DistillConfig, trials: int, before: list[TrialRecord] | None = None
) -> list[TrialRecord]:
    """One trial after another, the first `before` of an earlier sitting."""
    records = list(before or [])
    suggester = Suggester(
        config.tuning, list(config.teachers), objectives_of(config), point_of(config, config.tuning)
    )
    for record in records:
        suggester.tell(record)
    for number in range(len(records), trials):
        default = point_of(config, config.tuning)
        point = suggester.ask(number) if number else default or {}
        if point is None:
            break
        record = TrialRecord(
            number, point, state="finished", values={"validation/accuracy": goodness(point)}
        )
        suggester.tell(record)
        records.append(record)
    return records


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_resumed_search_chooses_what_the_uninterrupted_one_does(kind):
    """One that goes on with other points is another search."""
    config = search(SPACE, search={"kind": kind, "seed": 3, "startup_trials": 4})
    whole = run_search(config, 12)
    assert run_search(config, 12, whole[:7]) == whole
    assert len({json.dumps(record.point) for record in whole}) == 12
    other = search(SPACE, search={"kind": kind, "seed": 4, "startup_trials": 4})
    assert run_search(other, 12)[1:] != whole[1:]


def test_tpe_learns():
    """A sampler that is told nothing, or the wrong way round, is random or worse."""
    learnt = run_search(search(SPACE, search={"seed": 1}), 30)
    chance = run_search(search(SPACE, search={"kind": "random", "seed": 1}), 30)
    mean = lambda records: sum(r.values["validation/accuracy"] for r in records[15:]) / 15  # noqa: E731
    assert mean(learnt) > mean(chance) + 0.05


def test_a_grid_is_gone_through_once_without_what_was_written():
    """Trial 0 is the recipe as it was written; a second time it costs a run and says nothing."""
    space = {
        "losses.1.temperature": {"kind": "grid", "values": [1.0, 2.0, 4.0]},
        "losses.1.weight": {
            "kind": "choice",
            "values": [1.0, 2.0],
            "when": {"losses.1.temperature": [2.0, 4.0]},
        },
    }
    config = search(space, search={"kind": "grid"})
    points = [record.point for record in run_search(config, 99)]
    assert points == [
        {"losses.1.temperature": 2.0, "losses.1.weight": 1.0},
        {"losses.1.temperature": 1.0},
        {"losses.1.temperature": 2.0, "losses.1.weight": 2.0},
        {"losses.1.temperature": 4.0, "losses.1.weight": 1.0},
        {"losses.1.temperature": 4.0, "losses.1.weight": 2.0},
    ]


def test_grids_within_a_random_search_come_in_turn():
    """The values of a grid are tried alike often."""
    config = search(
        {**TEMPERATURE, "losses.1.weight": {"kind": "grid", "values": [1, 2, 3]}},
        search={"kind": "random"},
    )
    weights = [record.point["losses.1.weight"] for record in run_search(config, 7)[1:]]
    assert weights == [1, 2, 3, 1, 2, 3]


def test_grids_alone_in_a_random_search_are_gone_through():
    """The search came to the point that was written, which had been tried, and ended there."""
    grids = {
        "losses.1.temperature": {"kind": "grid", "values": [1.0, 2.0, 4.0]},
        "losses.1.weight": {"kind": "grid", "values": [1.0, 2.0]},
    }
    points = [record.point for record in run_search(search(grids, search={"kind": "random"}), 99)]
    written = {"losses.1.temperature": 2.0, "losses.1.weight": 1.0}
    others = run_search(search(grids, search={"kind": "grid"}), 99)[1:]
    assert points == [written, *(record.point for record in others)]
    assert len(points) == 6


def test_a_grid_goes_on_where_all_of_one_value_was_tried():
    """Its next value has points that nobody tried, or the last has."""
    space = {
        "losses.1.temperature": {"kind": "grid", "values": [1.0, 2.0, 4.0]},
        "losses.1.weight": {
            "kind": "uniform", "low": 0.5, "high": 2, "when": {"losses.1.temperature": 4.0}
        },
    }  # fmt: skip
    records = run_search(search(space, search={"kind": "random"}), 9)
    temperatures = [record.point["losses.1.temperature"] for record in records]
    assert temperatures[:3] == [2.0, 1.0, 4.0]
    assert temperatures[3:] == [4.0] * 6


TEMPERATURES = {"losses.1.temperature": {"kind": "choice", "values": [1.0, 2.0, 4.0, 8.0]}}
SIXTEEN = {**TEMPERATURES, "losses.1.weight": {"kind": "choice", "values": [0.5, 1.0, 2.0, 4.0]}}
# 2.0 and 4.0 with each of three weights, the others without: eight.
CONDITIONAL = {
    **TEMPERATURES,
    "losses.1.weight": {
        "kind": "choice",
        "values": [0.5, 1.0, 2.0],
        "when": {"losses.1.temperature": [2.0, 4.0]},
    },
}
# From 1 to 2.5: the step leads to no 2.8.
NUMBERS = {
    "losses.1.temperature": {"kind": "uniform", "low": 1.0, "high": 2.8, "step": 0.5},
    "training.epochs": {"kind": "randint", "low": 1, "high": 4},
}


@pytest.mark.parametrize(("space", "size"), [(SIXTEEN, 16), (CONDITIONAL, 8), (NUMBERS, 16)])
@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_space_with_an_end_is_tried_to_its_end(space, size, kind):
    """TPE proposes again what was good, and the search said after 8 of 16 points that there were no more."""
    for seed in (0, 1):
        config = search(space, search={"kind": kind, "seed": seed})
        records = run_search(config, size + 3)
        assert len({json.dumps(record.point, sort_keys=True) for record in records}) == size
        assert len(records) == size, "and then it ends"
        assert run_search(config, size, records[: size // 2]) == records


def test_the_last_points_of_a_space_are_found_where_chance_would_miss_them():
    """Of 2,000 points the draws of one trial meet the last two in one case of ten."""
    space = {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 2000, "step": 1}}
    config = search(space)
    suggester = Suggester(config.tuning, list(config.teachers), [ACCURACY], None)
    for value in range(1, 1999):
        suggester.hold(TrialRecord(value, {"losses.1.temperature": float(value)}))
    found = [suggester.ask(number) for number in (1999, 2000)]
    assert sorted(point["losses.1.temperature"] for point in found) == [1999.0, 2000.0]
    assert suggester.ask(2001) is None


def test_tpe_goes_on_by_chance_where_it_proposes_what_was_there():
    """A condition leaves one point of three a number of its own; TPE stays with the two that are used up."""
    space = {
        "losses.1.kind": {"kind": "choice", "values": ["forward_kl", "reverse_kl", "jensen_shannon"]},
        "losses.1.temperature": {
            "kind": "uniform",
            "low": 6,
            "high": 8,
            "when": {"losses.1.kind": "jensen_shannon"},
        },
    }  # fmt: skip
    records = run_search(search(space, search={"seed": 1, "startup_trials": 4}), 24)
    assert len({json.dumps(record.point) for record in records}) == 24


def test_a_stopped_trial_teaches_and_a_failed_one_does_not():
    """A trial that never finished must not look like a good one."""
    config = search(SPACE)
    suggester = Suggester(config.tuning, list(config.teachers), [ACCURACY], None)
    point = suggester.ask(1)
    suggester.tell(
        TrialRecord(
            1, point, state="stopped", reports=((10, 40, 0.5),), values={"validation/accuracy": 0.5}
        )
    )
    suggester.tell(TrialRecord(2, suggester.ask(2), state="failed"))
    states = [trial.state.name for trial in suggester._study.trials]
    assert states == ["FAIL", "PRUNED", "FAIL"]


def test_a_point_that_is_still_tried_is_not_drawn_again():
    """A resumed search of a small space would try it twice, and end before it has tried all."""
    space = {"losses.1.temperature": {"kind": "choice", "values": [1.0, 3.0, 4.0]}}
    config = search(space, search={"kind": "random"})
    suggester = Suggester(config.tuning, list(config.teachers), [ACCURACY], None)
    suggester.hold(TrialRecord(1, {"losses.1.temperature": 3.0}))
    found = [suggester.ask(number) for number in (2, 3, 4)]
    assert sorted(point["losses.1.temperature"] for point in found[:2]) == [1.0, 4.0]
    assert found[2] is None


def test_importance_names_what_matters():
    """The report's bars would mislead."""
    records = run_search(search(SPACE, search={"kind": "random"}), 40)
    config = search(SPACE)
    found = importances(records, config.tuning, list(config.teachers), ACCURACY)
    assert next(iter(found)) == "losses.1.temperature"
    assert found["losses.1.temperature"] > 0.8
    assert importances(records[:2], config.tuning, list(config.teachers), ACCURACY) == {}


def finished(number: int, accuracy: float, size: float) -> TrialRecord:
    values = {ACCURACY.metric: accuracy, SIZE.metric: size}
    return TrialRecord(number, {}, state="finished", values=values)


def test_front_winner_and_limit():
    """A front with a dominated trial, or a winner over its limit, is chosen wrongly."""
    records = [
        finished(0, 0.80, 10), finished(1, 0.85, 20), finished(2, 0.79, 11), finished(3, 0.90, 40),
        finished(4, 0.90, 40), finished(5, float("nan"), 1), TrialRecord(6, {}, state="stopped", values={ACCURACY.metric: 0.99}),
    ]  # fmt: skip
    objectives = [ACCURACY, SIZE]
    assert [record.number for record in front_of(records, objectives)] == [0, 1, 3, 4]
    assert winner_of(records, objectives).number == 3
    assert (
        winner_of(records, [ACCURACY, Objective(SIZE.metric, maximize=False, limit=20)]).number == 1
    )
    assert winner_of(records, [ACCURACY, Objective(SIZE.metric, maximize=False, limit=5)]) is None
    assert winner_of(records, [SIZE, ACCURACY]).number == 0


def test_comparison_is_said_honestly():
    """A gain within chance that is called a gain."""
    assert comparison_sentence("test/accuracy", [0.8], [0.8], maximize=True) == (
        "The winner does not beat the recipe as it was written: test/accuracy 0.8000 against 0.8000."
    )
    assert comparison_sentence("test/nll", [0.5], [0.6], maximize=False).startswith(
        "The winner beats"
    )
    close = comparison_sentence("m", [0.80, 0.84, 0.79], [0.80, 0.80, 0.81], maximize=True)
    assert "not by more than chance may do" in close
    clear = comparison_sentence("m", [0.90, 0.91, 0.92], [0.80, 0.81, 0.82], maximize=True)
    assert clear.startswith(
        "The winner beats the recipe as it was written: m 0.9100 against 0.8100 over 3 seeds"
    )


@pytest.mark.parametrize(
    ("objectives", "validated", "sentence"),
    [
        ([{"metric": "validation/acuracy"}], True, "tuning.objectives.0.metric is validation/acuracy, which is not produced. Known: validation/accuracy,"),
        ([{"metric": "test/accuracy"}], True, "tuning.objectives.0.metric is test/accuracy: what is chosen by the test rows cannot be measured on them."),
        ([{}], False, "tuning.objectives.0.metric is validation/accuracy, but there is no data.validation with labels."),
        ([{}, {}], True, "tuning.objectives.1.metric is validation/accuracy twice."),
    ],
)  # fmt: skip
def test_objectives_that_nobody_produces(objectives, validated, sentence):
    """Sixteen trials without a figure to choose by."""
    config = search(TEMPERATURE, objectives=objectives)
    faults = [str(fault) for fault in objective_faults(config, validated=validated)]
    assert len(faults) == 1
    assert faults[0].startswith(sentence)


def test_a_stopper_needs_something_to_look_at():
    """It would never stop anything."""
    config = search(
        TEMPERATURE, objectives=[{"metric": "student/parameters"}], stopper={"kind": "asha"}
    )
    assert [f.path for f in objective_faults(config, validated=True)] == ["tuning.stopper"]


def test_goals_follow_the_metric():
    """A loss that is maximised."""
    config = search(
        TEMPERATURE,
        objectives=[
            {},
            {"metric": "validation/nll"},
            {"metric": "student/latency_ms", "goal": "max"},
        ],
    )
    assert [(o.metric, o.maximize) for o in objectives_of(config)] == [
        ("validation/accuracy", True), ("validation/nll", False), ("student/latency_ms", True),
    ]  # fmt: skip


def test_records_survive_a_round_trip_and_a_torn_one_is_named(tmp_path):
    """A finished trial that cannot be read is lost."""
    folder = SearchFolder(tmp_path / "s")
    folder.begin("run: {}", {})
    record = TrialRecord(
        3, {"losses.2.layers": {"a": [[1, 1]]}}, state="finished", values={"validation/accuracy": 0.5},
        runs=(SeedResult(0, {"validation/accuracy": 0.5}, "id"),), reports=((10, 40, 0.4),), seconds=3.5,
        changes=((0, None, {"losses.1.weight": 1.0}), (10, 1, {"losses.1.weight": 1.25})),
    )  # fmt: skip
    folder.write(record)
    assert folder.records() == [record]
    folder.write_lines()
    assert json.loads(folder.lines.read_text())["number"] == 3
    (folder.trials / "0004.json").write_text('{"number": 4')
    with pytest.raises(ConfigError, match="holds a torn record"):
        folder.records()


def test_rows_are_counted_by_what_the_store_lacks():
    """What was answered before a kill, or by a replica that died, was answered too."""
    first = Spent(seconds=5.0).filling({"a": 100, "b": 50})
    assert first.missing == {"a": 100, "b": 50}
    killed = first.filling({"a": 40, "b": 50})
    assert killed == first, "what was missing at first counts"
    done = killed.full({"a": 0, "b": 0})
    assert (done.filled, done.missing, done.seconds) == ({"a": 100, "b": 50}, None, 5.0)
    assert done.filling({"a": 0, "b": 0}).full({"a": 0, "b": 0}) == done
    again = done.filling({"a": 10, "b": 0}).full({"a": 0, "b": 0})
    assert again.filled == {"a": 110, "b": 50}, "answers that were thrown away in between"
    served = Spent(served={"a": 3}, filled={"a": 100})
    assert served.rows == {"a": 103}


def test_what_was_spent_survives_a_round_trip(tmp_path):
    """A resumed search that forgets what it had to answer counts it as nothing."""
    folder = SearchFolder(tmp_path / "s")
    folder.begin("run: {}", {})
    assert folder.spent() == Spent()
    spent = Spent(7.5, {"a": 1}, {"a": 2}, {"a": 3})
    folder.spend(spent)
    assert folder.spent() == spent


PBT = {
    "losses.1.temperature": {"kind": "uniform", "low": 1, "high": 8},
    "losses.1.weight": {"kind": "loguniform", "low": 0.1, "high": 10},
}


def members(*points: dict[str, float]) -> list[TrialRecord]:
    return [TrialRecord(n, point, changes=((0, None, point),)) for n, point in enumerate(points)]


def test_the_worst_go_on_from_the_best_with_changed_settings():
    """A loser that keeps its settings, or a recipe as written that does not stay so."""
    config = search(PBT, stopper={"kind": "pbt", "exchange": 0.25}, trials=4)
    point = {"losses.1.temperature": 2.0, "losses.1.weight": 1.0}
    before = members(
        point, {**point, "losses.1.temperature": 4.0}, {**point, "losses.1.temperature": 7.5}, point
    )
    values = {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.2}
    after = exchanged(before, values, step=10, config=config, objective=ACCURACY)
    assert after == exchanged(before, values, step=10, config=config, objective=ACCURACY)
    assert after[:3] == before[:3], "trial 0 is the worst, and stays"
    step, donor, changed = after[3].changes[-1]
    assert (step, donor) == (10, 1)
    assert changed["losses.1.temperature"] in (4.0 * 0.8, 4.0 * 1.25)
    recipe = after[3].recipe(40)
    assert recipe["losses.1.temperature"] == {
        "kind": "step", "start": 4.0, "at": [0.25], "temperatures": [changed["losses.1.temperature"]],
    }  # fmt: skip
    assert recipe["losses.1.weight"] == 1.0
    assert recipe["losses.1.schedule"]["factors"] == [changed["losses.1.weight"]]
    assert before[1].recipe(40) == before[1].point


def test_nobody_goes_on_from_a_worse_one():
    """Trial 0, which never loses, is left among the donors however bad it is."""
    config = search(PBT, stopper={"kind": "pbt", "exchange": 0.5}, trials=4)
    point = {"losses.1.temperature": 2.0, "losses.1.weight": 1.0}
    before = members(*[point] * 4)
    values = {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.6}
    after = exchanged(before, values, step=10, config=config, objective=ACCURACY)
    assert after[2].changes[-1][1] == 1, "the worst from the best"
    assert after[3] == before[3], "not from trial 0"


def test_members_are_compared_at_evaluations():
    """Elsewhere there is nothing to compare them by."""
    assert marks_of(400, 4, 100) == [100, 200, 300]
    assert marks_of(400, 4, 30) == [90, 180, 270]
    assert marks_of(400, 2, 100) == [200]
    assert marks_of(90, 4, 100) == []


def test_what_cannot_change_on_the_way_is_refused():
    """A learning rate that is exchanged would be forgotten at the next step."""
    config = search(
        {"training.learning_rate": {"kind": "loguniform", "low": 1e-5, "high": 1e-3}, **PBT},
        stopper={"kind": "pbt"}, budget={"seconds": 5}, seeds_per_trial=2,
    )  # fmt: skip
    paths = [fault.path for fault in population_faults(config, 400, 100)]
    assert paths == [
        "tuning.space.training.learning_rate",
        "tuning.seeds_per_trial",
        "tuning.budget",
    ]
    assert [f.path for f in population_faults(search(PBT, stopper={"kind": "pbt"}), 90, 100)] == [
        "training.evaluate_every_steps"
    ]


@pytest.mark.parametrize(
    ("index", "loss", "sentence"),
    [
        (1, {"temperature": {"kind": "linear", "start": 4.0, "end": 1.0}}, "losses.1.temperature must be a plain number with kind pbt, which multiplies it, got {"),
        (1, {"weight": 0}, "losses.1.weight must be positive with kind pbt, which multiplies it, got 0."),
        (2, {"kind": "contrastive", "layers": {"a": [[1, 1]]}, "temperature": 2.0}, "tuning.space.losses.2.temperature cannot change while members train; as a schedule of kind step, losses.2.temperature"),
    ],
)  # fmt: skip
def test_an_exchange_is_tried_before_anything_starts(index, loss, sentence):
    """It would fail after the first round, with all that was trained by then."""
    config = search(PBT, stopper={"kind": "pbt"})
    assert population_faults(config, 400, 100) == []
    settings = config.model_dump(mode="json", exclude_unset=True)
    settings["losses"][index] = loss if "kind" in loss else {**settings["losses"][index], **loss}
    if index == 2:
        settings["tuning"]["space"] = {"losses.2.temperature": PBT["losses.1.temperature"]}
    config, faults = parse_config(settings)
    assert faults == []
    found = [str(fault) for fault in population_faults(config, 400, 100)]
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_report_shows_all_and_runs_no_script(tmp_path):
    """Values are the user's: a path or note with markup must not become markup."""
    records = [finished(n, 0.8 + n / 100, 10 + n) for n in range(3)]
    space = {"losses.1.temperature": {"kind": "uniform"}, "student.model": {"kind": "choice"}}
    trials = [
        asdict(
            r.changed(
                point={
                    "losses.1.temperature": 1.0 + r.number,
                    "student.model": "<script>x</script>",
                }
            )
        )
        for r in records
    ]
    trials.append(asdict(TrialRecord(3, {}, state="failed", note="<b>loss</b> is not finite")))
    content = {
        "name": "s & co", "sentence": "Trial 2 is better.", "objectives": [asdict(ACCURACY), asdict(SIZE)],
        "space": space, "search": {"kind": "tpe", "seed": 0}, "stopper": None, "written": {"losses.1.temperature": 2.0},
        "winner": 2, "front": [0, 1, 2], "importance": {"losses.1.temperature": 1.0}, "seconds": 61.0, "concurrent": 2,
        "rows_computed": {"a": 1234}, "final": {"winner": {"0": {"test/accuracy": 0.83}}}, "run_id": None,
        "model_uri": "models:/best/1", "trials": trials,
    }  # fmt: skip
    (tmp_path / "tuning.json").write_text(json.dumps(content))
    page = write_search_report(tmp_path).read_text()
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "<b>loss" not in page
    for text in ("s &amp; co", "models:/best/1", "a 1,234", "4: 3 finished, 1 failed", ".8300"):
        assert text in page, text
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "front.png",
        "importance.png",
        "parallel.png",
    ]
    with pytest.raises(ConfigError, match="is not the record of a search"):
        write_search_report(tmp_path / "none")
