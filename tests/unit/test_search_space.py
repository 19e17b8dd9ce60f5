"""What a search varies: values, conditions, subsets of teachers, and every fault before anything starts."""

from typing import Any

import pytest

from raydistill.config import DistillConfig, parse_config
from raydistill.config.space import (
    counts,
    in_sequence,
    point_of,
    trial_config,
    values_of,
    variants,
)
from raydistill.config.space_rules import written_faults
from raydistill.tuning.outcome import Objective
from raydistill.tuning.records import TrialRecord
from raydistill.tuning.suggest import Suggester

TEMPERATURE = {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 8}}


def search(space: dict[str, Any], **tuning: Any) -> DistillConfig:
    """Three teachers, one of them with a weight and a layer map."""
    settings = {
        "run": {"name": "s"},
        "data": {"folder": "rows"},
        "student": {"model": "small"},
        "teachers": {"a": {"model": "x"}, "b": {"model": "y"}, "c": {"model": "z"}},
        "ensemble": {"weights": {"c": 2.0}},
        "losses": [
            {"kind": "cross_entropy"},
            {"kind": "forward_kl", "temperature": 2.0},
            {"kind": "hidden_mse", "layers": {"a": [[1, 1]], "c": [[1, 2]]}},
        ],
        "tuning": {"space": space, **tuning},
    }
    config, faults = parse_config(settings)
    assert config is not None, faults
    assert not faults
    return config


def sentences(space: dict[str, Any], **tuning: Any) -> list[str]:
    return [str(fault) for fault in written_faults(search(space, **tuning))]


def test_a_sound_space_has_no_faults():
    """A rule that refuses what should work leaves nothing to search."""
    space = {
        **TEMPERATURE,
        "losses.1.kind": {"kind": "choice", "values": ["forward_kl", "reverse_kl"]},
        "losses.2.layers": {"kind": "choice", "values": [{"a": [[1, 1]]}, "uniform", "last"]},
        "training.learning_rate": {"kind": "loguniform", "low": 1e-5, "high": 1e-3},
        "training.epochs": {"kind": "randint", "low": 1, "high": 3},
    }
    assert sentences(space) == []


@pytest.mark.parametrize(
    ("space", "tuning", "sentence"),
    [
        (
            {"losses.1.temprature": {"kind": "uniform", "low": 1, "high": 8}},
            {},
            "tuning.space.losses.1.temprature is not known. Known: kind, probability_shift, "
            "scale_by_temperature_squared, schedule, standardize, temperature, weight. Did you mean 'temperature'?",
        ),
        (
            {"losses.9.weight": {"kind": "uniform", "low": 1, "high": 8}},
            {},
            "tuning.space.losses.9.weight leads nowhere: losses is a list with items 0 to 2.",
        ),
        (
            {"losses.1.weight": {"kind": "choice", "values": []}},
            {},
            "tuning.space.losses.1.weight.values must hold two values or more, got none.",
        ),
        (
            {"losses.1.weight": {"kind": "choice", "values": [1, 2, 1]}},
            {},
            "tuning.space.losses.1.weight.values hold 1 twice.",
        ),
        (
            {"losses.1.temperature": {"kind": "uniform", "low": 0, "high": 8}},
            {},
            "tuning.space.losses.1.temperature with 0: losses.1.temperature must be a positive finite number, got 0.0.",
        ),
        (
            {"losses.1.temperature": {"kind": "uniform", "low": 8, "high": 1}},
            {},
            "tuning.space.losses.1.temperature.low must be less than high = 1, got 8.",
        ),
        (
            {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 2, "step": 5}},
            {},
            "tuning.space.losses.1.temperature.step must be at most high - low = 1, got 5: there would be no value but low.",
        ),
        (
            {"training.learning_rate": {"kind": "loguniform", "low": 0, "high": 1}},
            {},
            "tuning.space.training.learning_rate.low must be positive for loguniform, got 0.",
        ),
        (
            {"run.seed": {"kind": "randint", "low": 0, "high": 9}},
            {},
            "tuning.space.run.seed must not vary: a better seed is no better recipe. Use tuning.seeds_per_trial.",
        ),
        (
            {"data.validation": {"kind": "choice", "values": ["a", "b"]}},
            {},
            "tuning.space.data.validation would have trials measured on other rows or another task, which cannot be compared.",
        ),
        (
            {"teachers.a.dtype": {"kind": "choice", "values": ["float32", "bfloat16"]}},
            {},
            "tuning.space.teachers.a.dtype would change what teachers.a answers, or how, but all trials share its "
            "answers. Write the other as a teacher of its own, and choose with teachers: {kind: subsets}.",
        ),
        (
            {"teachers.a": {"kind": "choice", "values": [{"model": "x"}, {"model": "y"}]}},
            {},
            "tuning.space.teachers.a would change what teachers.a answers, or how, but all trials share its "
            "answers. Write the other as a teacher of its own, and choose with teachers: {kind: subsets}.",
        ),
        (
            {"teachers.new": {"kind": "choice", "values": [{"model": "x"}, {"model": "y"}]}},
            {},
            "tuning.space.teachers.new names no teacher. Known: a, b, c.",
        ),
        (
            {"training": {"kind": "choice", "values": [{"num_workers": 1}, {"num_workers": 2}]}},
            {},
            "tuning.space.training must be the same in all trials: they share the machines.",
        ),
        (
            {"student.max_tokens": {"kind": "choice", "values": [32, 64]}},
            {},
            "tuning.space.student.max_tokens would change where teachers.a cuts texts. Write teachers.a.max_tokens.",
        ),
        (
            TEMPERATURE,
            {"search": {"kind": "grid"}},
            "tuning.space.losses.1.temperature.kind is uniform, which has no end; a search of kind grid needs choice, grid or subsets.",
        ),
        (
            {"losses.1.weight": {"kind": "grid", "values": [1, 2]}},
            {},
            "tuning.space.losses.1.weight.kind is grid, which tpe does not go through. Write choice, or search: {kind: random}.",
        ),
        (
            {
                "losses.1.weight": {
                    "kind": "choice",
                    "values": [1, 2],
                    "when": {"losses.1.kind": "dist"},
                }
            },
            {},
            "tuning.space.losses.1.weight.when.losses.1.kind names no parameter of the space. Known: .",
        ),
        (
            {
                "losses.1.kind": {"kind": "choice", "values": ["forward_kl", "dist"]},
                "losses.1.weight": {
                    "kind": "choice",
                    "values": [1, 2],
                    "when": {"losses.1.kind": "cos"},
                },
            },
            {},
            "tuning.space.losses.1.weight.when.losses.1.kind is cos, which is none of its values.",
        ),
    ],
)
def test_each_fault_is_one_sentence(space, tuning, sentence):
    """A search that fails at its ninth trial has wasted eight."""
    assert sentences(space, **tuning) == [sentence]


def test_a_condition_on_itself_is_refused():
    """Nothing would ever decide which comes first."""
    both = {"kind": "choice", "values": [1, 2]}
    space = {
        "losses.0.weight": {**both, "when": {"losses.1.weight": 1}},
        "losses.1.weight": {**both, "when": {"losses.0.weight": 1}},
    }
    assert sorted(sentences(space)) == [
        "tuning.space.losses.0.weight.when must not depend on itself.",
        "tuning.space.losses.1.weight.when must not depend on itself.",
    ]


def test_conditions_order_parameters_and_decide_which_count():
    """A temperature of a loss that has none would be refused, or worse, ignored."""
    space = {
        "losses.1.temperature": {**TEMPERATURE["losses.1.temperature"], "when": {"losses.1.kind": ["forward_kl", "reverse_kl"]}},
        "losses.1.kind": {"kind": "choice", "values": ["forward_kl", "reverse_kl", "dist"]},
    }  # fmt: skip
    tuning, path = search(space).tuning, "losses.1.temperature"
    assert in_sequence(tuning) == ["losses.1.kind", path]
    assert counts(tuning, path, {"losses.1.kind": "reverse_kl"})
    assert not counts(tuning, path, {"losses.1.kind": "dist"})
    assert not counts(tuning, path, {})
    found = [points for one, _, points in variants(search(space)) if one == path]
    assert found[0] == [
        {"losses.1.kind": "forward_kl", path: 1.0},
        {"losses.1.kind": "reverse_kl", path: 1.0},
    ]


def test_a_value_is_sound_if_one_of_its_conditions_allows_it():
    """A search that is refused for a pair of values that the other pair makes good."""
    hidden = {"kind": "hidden_mse", "layers": {"a": [[1, 1]]}}
    space = {
        "losses.2": {"kind": "choice", "values": [{"kind": "dist"}, hidden]},
        "losses.2.positions": {"kind": "choice", "values": ["mean", "all"], "when": {"losses.2": [{"kind": "dist"}, hidden]}},
    }  # fmt: skip
    assert sentences(space) == []
    space["losses.2.positions"]["when"] = {"losses.2": {"kind": "dist"}}
    assert sentences(space)[0].startswith("tuning.space.losses.2.positions")


def test_conditions_name_subsets_of_teachers():
    """One subset is a list; taken for several values it would never hold."""
    weight = {"kind": "uniform", "low": 1, "high": 2}
    path, teachers = "losses.1.weight", {"kind": "subsets", "min": 2}
    for wanted in (["a", "b"], [["a", "b"], ["b", "c"]]):
        space = {"teachers": teachers, path: {**weight, "when": {"teachers": wanted}}}
        assert sentences(space) == []
        tuning = search(space).tuning
        assert counts(tuning, path, {"teachers": ["a", "b"]})
        assert not counts(tuning, path, {"teachers": ["a", "c"]})
    found = next(points for one, _, points in variants(search(space)) if one == path)
    assert [point["teachers"] for point in found] == [["a", "b"], ["b", "c"]]
    space[path]["when"] = {"teachers": ["a", "z"]}
    assert sentences(space) == [
        f'tuning.space.{path}.when.teachers is ["a", "z"], which is none of its values.'
    ]


def test_a_subset_of_teachers_takes_what_is_said_of_the_others_with_it():
    """A weight of a teacher that is gone refuses the trial."""
    config = search({"teachers": {"kind": "subsets", "min": 2}})
    values = values_of(config.tuning.space["teachers"], list(config.teachers))
    assert values == [["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]
    trial, faults = trial_config(config, {"teachers": ["a", "b"]})
    assert faults == []
    assert list(trial.teachers) == ["a", "b"]
    assert trial.ensemble.weights == {}
    assert set(trial.losses[2].layers) == {"a"}
    assert config.ensemble.weights == {"c": 2.0}


def test_a_step_as_wide_as_the_range_is_no_fault():
    """As floats .3 - .1 is less than .2."""
    step = {"kind": "uniform", "low": 0.1, "high": 0.3, "step": 0.2}
    assert sentences({"losses.1.weight": step}) == []


def alone_in_a_loss(**more: Any) -> DistillConfig:
    """Four losses, of which the third has layers of teacher a only."""
    settings = search({"teachers": {"kind": "subsets"}}).model_dump(mode="json", exclude_unset=True)
    settings["losses"][2]["layers"] = {"a": [[1, 1]]}
    settings["losses"].append({"kind": "logit_mse", "weight": 3.0})
    config, faults = parse_config({**settings, **more})
    assert config is not None, faults
    assert not faults
    return config


def test_a_loss_goes_with_the_only_teacher_of_its_layers():
    """Every subset without that teacher was refused, and the whole search with it."""
    stages = [
        {"name": "features", "share": 0.5, "losses": [0, 2, 3]},
        {"name": "answers", "share": 0.5, "losses": [1, 3]},
    ]
    config = alone_in_a_loss(stages=stages, balancing={"kind": "relative", "main": 3})
    assert written_faults(config) == []
    trial, faults = trial_config(config, {"teachers": ["b", "c"], "losses.3.weight": 5.0})
    assert faults == []
    assert [loss.kind for loss in trial.losses] == ["cross_entropy", "forward_kl", "logit_mse"]
    assert trial.losses[2].weight == 5.0, "places are those of what was written"
    assert [stage.losses for stage in trial.stages] == [[0, 2], [1, 2]]
    assert trial.balancing.main == 2
    whole, faults = trial_config(config, {"teachers": ["a", "c"]})
    assert faults == []
    assert whole.losses == config.losses


def test_a_loss_stays_where_it_gets_other_layers_or_others_are_scaled_to_it():
    """A value that was chosen must not be dropped in silence."""
    config = alone_in_a_loss()
    trial, faults = trial_config(config, {"teachers": ["b"], "losses.2.layers": {"b": [[1, 1]]}})
    assert faults == []
    assert set(trial.losses[2].layers) == {"b"}
    _, faults = trial_config(config, {"teachers": ["b"], "losses.2.layers": {"a": [[1, 1]]}})
    assert [fault.path for fault in faults] == ["losses.2.layers.a"]
    scaled = alone_in_a_loss(balancing={"kind": "relative", "main": 2})
    _, faults = trial_config(scaled, {"teachers": ["b"]})
    assert [fault.path for fault in faults][:1] == ["losses.2.layers"]


def test_routes_of_teachers_that_are_left_out_go_with_them():
    """Every subset but the whole was refused for a route to nobody."""
    settings = search({"teachers": {"kind": "subsets", "min": 2}}).model_dump(
        mode="json", exclude_unset=True
    )
    weighting = {"kind": "routing", "column": "language", "routes": {"zh": "a", "en": "b", "de": "a"}, "others": "all"}  # fmt: skip
    settings["ensemble"]["weighting"] = weighting
    config, faults = parse_config(settings)
    assert not faults
    assert written_faults(config) == []
    trial, _ = trial_config(config, {"teachers": ["b", "c"]})
    assert trial.ensemble.weighting.routes == {"en": "b"}
    assert config.ensemble.weighting.routes == weighting["routes"]


def test_the_written_configuration_is_a_point_where_the_space_holds_it():
    """Else the search would try it a second time, or learn nothing from it."""
    inside = search({**TEMPERATURE, "teachers": {"kind": "subsets"}})
    assert point_of(inside, inside.tuning) == {
        "losses.1.temperature": 2.0,
        "teachers": ["a", "b", "c"],
    }
    outside = search({"losses.1.temperature": {"kind": "uniform", "low": 3, "high": 8}})
    assert point_of(outside, outside.tuning) is None


@pytest.mark.parametrize(
    ("parameter", "value", "inside"),
    [
        ({"kind": "uniform", "low": 1, "high": 4, "step": 0.1}, 1.3, True),
        ({"kind": "uniform", "low": 1, "high": 4, "step": 0.5}, 2.2, False),
        ({"kind": "loguniform", "low": 1, "high": 4}, 2.2, True),
        ({"kind": "randint", "low": 1, "high": 4}, 2.0, True),
        ({"kind": "randint", "low": 1, "high": 4}, 2.5, False),
    ],
)
def test_what_could_not_be_drawn_lies_outside(parameter, value, inside):
    """Optuna refuses it, and with it the search, whenever trial 0 is told."""
    config = search({"losses.1.temperature": parameter})
    settings = config.model_dump(mode="json", exclude_unset=True)
    settings["losses"][1]["temperature"] = value
    config, _ = parse_config(settings)
    point = point_of(config, config.tuning)
    assert (point is not None) is inside
    suggester = Suggester(config.tuning, [], [Objective("m", maximize=True)], point)
    suggester.tell(TrialRecord(0, point or {}, state="finished", values={"m": 0.5}))
    assert len(suggester._study.trials) == inside


def test_whole_sections_are_put_in_before_what_is_inside_them():
    """A loss chosen as a whole would wipe out the temperature chosen for it."""
    config = search(TEMPERATURE)
    point = {"losses.1.temperature": 5.0, "losses.1": {"kind": "reverse_kl"}}
    trial, faults = trial_config(config, point)
    assert faults == []
    assert (trial.losses[1].kind, trial.losses[1].temperature) == ("reverse_kl", 5.0)
