"""A search is refused before anything starts, and what it will ask of teachers is known by then."""

import socket
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import DistillConfig
from raydistill.config.augmentation import AugmentationSection
from raydistill.errors import ConfigError
from raydistill.prepare import Resources
from raydistill.tuning.asking import asking_points, unknown_answers
from raydistill.tuning.check import check_search
from raydistill.tuning.records import SearchFolder
from raydistill.tuning.room import room_for
from tests.conftest import two_teachers
from tests.unit.test_search_space import search

HAVE = Resources(2.0, 0.0)
TEMPERATURE = {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 8}}


def search_of(
    tiny: dict[str, Path], folder: Path, space: dict[str, Any] | None = None, **tuning: Any
) -> dict[str, Any]:
    return two_teachers(tiny, folder) | {
        "tracking": {"enabled": False},
        "tuning": {"space": space or TEMPERATURE, **tuning},
    }


def checked(settings: dict[str, Any], *, resume: bool = False, have: Resources = HAVE) -> Any:
    return check_search(DistillConfig.model_validate(settings), have, resume=resume)


def faults_of(settings: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        checked(settings, **options)
    return str(error.value).splitlines()


def test_teachers_are_asked_once_for_all_that_any_trial_asks(tiny, tmp_path):
    """A layer that is not asked beforehand would have every row computed a second time."""
    hidden = {"kind": "hidden_mse", "layers": {"wide": [[1, 1]]}, "projection": "linear"}
    maps = {"kind": "attention_ce", "layers": {"deep": [[2, 2]]}}
    layers = [{"wide": [[1, 1]]}, {"wide": [[2, 3]]}, {"deep": [[1, 4]]}]
    space = {
        "losses.2": {"kind": "choice", "values": [hidden, maps]},
        "losses.2.layers": {"kind": "choice", "values": layers},
    }
    settings = search_of(tiny, tmp_path, space)
    settings["losses"].append(hidden)
    found = checked(settings)
    asks = found.union.objective.asks
    assert [part.layer for part in asks["wide"].hidden] == [1, 3]
    assert [part.layer for part in asks["deep"].hidden] == [4]
    assert [part.layer for part in asks["deep"].attention] == [2, 4], "4 by both values together"
    assert [part.layer for part in found.base.objective.asks["wide"].hidden] == [1]
    assert (found.filled, found.known, found.concurrent) == (True, True, 2)


def test_teachers_are_asked_for_what_only_two_values_together_ask(tiny, tmp_path):
    """A kind with layers that it has by no value alone: teachers that left could not answer that trial."""
    hidden = {"kind": "hidden_mse", "layers": {"wide": [[1, 1]]}, "projection": "linear"}
    space = {
        "losses.2.positions": {"kind": "choice", "values": ["all", "first"]},
        "losses.2.layers": {"kind": "choice", "values": [{"wide": [[1, 1]]}, {"wide": [[2, 3]]}]},
    }
    settings = search_of(tiny, tmp_path, space)
    settings["losses"].append(hidden)
    asks = checked(settings).union.objective.asks["wide"]
    assert {(part.layer, part.pooling) for part in asks.hidden} == {
        (1, "all"), (1, "first"), (3, "all"), (3, "first"),
    }  # fmt: skip
    many = {"kind": "choice", "values": [{"wide": [[1, 1]]}] + [{"wide": [[2, 3]] * n} for n in range(1, 130)]}  # fmt: skip
    settings["tuning"]["space"]["losses.2.layers"] = many
    points = asking_points(DistillConfig.model_validate(settings))
    assert points is None


def test_no_combinations_of_two_losses_are_looked_at():
    """A run asks what each of its losses asks: their product says nothing more, and has no end."""
    temperatures = {"kind": "choice", "values": [1.0, 2.0, 4.0]}
    space = {f"losses.{n}.temperature": temperatures for n in (1, 2)}
    space["losses.1.weight"] = {"kind": "uniform", "low": 1, "high": 2}
    config = search(space)
    assert len(asking_points(config)) == 6


NEW_ROWS = {"operations": [{"kind": "delete"}]}


@pytest.mark.parametrize(
    ("augmentation", "tuning", "unknown"),
    [
        ({}, {}, False),
        ({}, {"seeds_per_trial": 2}, True),
        ({}, {"final": {"seeds": 2, "register_model": False}}, True),
        ({"seed": 1}, {"seeds_per_trial": 2}, False),
        ({"when": "every_epoch"}, {}, False),
        ({"when": "every_epoch"}, {"space": {"training.epochs": {"kind": "randint", "low": 1, "high": 2}}}, True),
        ({"operations": [{"kind": "mask"}]}, {"space": {"student.tokenizer": {"kind": "choice", "values": ["a", "b"]}}}, True),
    ],
)  # fmt: skip
def test_new_rows_that_differ_between_runs_are_not_known(augmentation, tuning, unknown):
    """A second seed makes other texts: teachers that left after the first have no answers."""
    config = search(tuning.pop("space", TEMPERATURE), **tuning)
    section = AugmentationSection.model_validate({**NEW_ROWS, **augmentation})
    config = config.model_copy(update={"augmentation": section})
    assert bool(unknown_answers(config, stream=False, points=[])) is unknown


def test_filled_is_refused_where_not_all_is_known(tiny, tmp_path):
    """Teachers would leave, and trials fail that ask them more."""
    settings = search_of(tiny, tmp_path, answers="filled", seeds_per_trial=2)
    settings["augmentation"] = NEW_ROWS
    assert faults_of(settings) == [
        "tuning.answers is filled, but augmentation.seed is that of the run, and runs of other seeds make rows of "
        "their own. Set served."
    ]
    settings["tuning"]["answers"] = "auto"
    found = checked(settings)
    assert (found.filled, found.known) == (False, False)
    assert "tuning.answers: served" in found.notes[0]


def test_custom_resources_bound_how_many_trials_run(tiny, tmp_path):
    """Trials that wait for a node's resource hold what others could use."""
    settings = search_of(tiny, tmp_path)
    settings["training"] = {"worker_resources": {"student_node": 0.5}}
    settings["run"]["ray_address"] = "auto"
    config = DistillConfig.model_validate(settings)
    have = Resources(8.0, 0.0, {"student_node": 1.0})
    assert room_for(config, have, filled=True) == (2, [])
    settings["tuning"]["concurrent"] = 4
    _, faults = room_for(DistillConfig.model_validate(settings), have, filled=True)
    assert str(faults[0]) == (
        "tuning.concurrent is 4, but the cluster has room for 2: a trial takes 1 CPUs and 0 GPUs, 0.5 student_node. "
        "Lower it, or set auto."
    )


FOUR_NODES = Resources.of_nodes([{"CPU": 3.0}] * 4)


@pytest.mark.parametrize(
    ("changes", "filled", "room"),
    [
        ({"training": {"cpus_per_worker": 2}}, True, 4),
        ({"training": {"cpus_per_worker": 2, "num_workers": 2}}, True, 2),
        ({"training": {"cpus_per_worker": 1.5}}, True, 8),
        ({"training": {"cpus_per_worker": 2}, "teacher": {"num_cpus": 1}}, False, 4),
        ({"training": {"cpus_per_worker": 2}, "teacher": {"num_cpus": 2}}, False, 2),
        ({"training": {"cpus_per_worker": 2}, "teacher": {"num_cpus": 0}}, False, 4),
        ({"training": {"cpus_per_worker": 2}, "teacher": {"num_cpus": 1.5, "replicas": 2}}, False, 2),
    ],
)  # fmt: skip
def test_room_is_counted_on_each_node(tiny, tmp_path, changes, filled, room):
    """Of 12 CPUs on four nodes workers of two CPUs find 8: what is left on each is of no use to them."""
    settings = search_of(tiny, tmp_path)
    settings["run"]["ray_address"] = "auto"
    settings["training"] = changes["training"]
    for teacher in settings["teachers"].values():
        teacher.update(changes.get("teacher", {}))
    found = room_for(DistillConfig.model_validate(settings), FOUR_NODES, filled=filled)
    assert found == (room, [])


def test_a_cluster_that_grows_needs_a_number(tiny, tmp_path):
    """One trial at a time, for all of a search, on a cluster of one node that would have grown to twenty."""
    settings = search_of(tiny, tmp_path)
    settings["run"] |= {"ray_address": "auto", "autoscaling": True}
    have = Resources.of_nodes([{"CPU": 1.0}])
    _, faults = room_for(DistillConfig.model_validate(settings), have, filled=True)
    assert [str(fault) for fault in faults] == [
        "tuning.concurrent is auto, but with run.autoscaling nobody knows how many nodes there will be (now there is "
        "room for 1). Write how many trials may run at the same time."
    ]
    settings["tuning"]["concurrent"] = 5
    assert room_for(DistillConfig.model_validate(settings), have, filled=True) == (5, [])


def test_the_last_runs_measure_what_they_are_chosen_by(tiny, tmp_path):
    """All of them would be trained before somebody misses the figure."""
    final = {"seeds": 1, "register_model": False}
    settings = search_of(tiny, tmp_path, final=final) | {"evaluation": {"splits": ["test"]}}
    assert faults_of(settings) == [
        "evaluation.splits must hold validation with tuning.final, whose best run is chosen by validation/accuracy."
    ]
    timed = search_of(tiny, tmp_path, final=final, objectives=[{"metric": "student/latency_ms"}])
    assert faults_of(timed | {"evaluation": {"latency": False}}) == [
        "evaluation.latency must be true with tuning.final, whose runs are compared by student/latency_ms."
    ]


def test_a_layer_that_a_model_has_not_is_refused_by_its_value(tiny, tmp_path):
    """Found by the ninth trial it costs eight."""
    space = {
        "losses.2.layers": {"kind": "choice", "values": [{"wide": [[1, 1]]}, {"wide": [[1, 9]]}]}
    }
    settings = search_of(tiny, tmp_path, space)
    settings["losses"].append(
        {"kind": "hidden_mse", "layers": {"wide": [[1, 1]]}, "projection": "linear"}
    )
    found = faults_of(settings)
    assert len(found) == 1
    assert found[0].startswith(
        'tuning.space.losses.2.layers with {"wide": [[1, 9]]}: losses.2.layers.wide'
    )


def test_no_tuning_no_server_no_room_no_registry(tiny, tmp_path):
    """Each is one line, and nothing is written."""
    without = search_of(tiny, tmp_path)
    del without["tuning"]
    assert faults_of(without) == [
        "tuning is missing: it says what varies, and how trials are chosen."
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = search_of(tiny, tmp_path) | {"tracking": {"uri": uri}}
    found = faults_of(away)
    assert len(found) == 1
    assert found[0].startswith(f"tracking.uri cannot be used, the server at {uri} does not answer")
    final = search_of(tiny, tmp_path, final={"seeds": 2})
    assert faults_of(final) == [
        "tracking.registered_model is needed to register the winner. Name it, or set tuning.final.register_model: false."
    ]
    gpus = search_of(tiny, tmp_path, concurrent=4)
    gpus["training"] = {"gpus_per_worker": 0.5}
    assert faults_of(gpus, have=Resources(2.0, 1.0)) == [
        "tuning.concurrent is 4, but this machine has room for 2: a trial takes 1 CPUs and 0.5 GPUs. Lower it, or set auto."
    ]
    stored = search_of(tiny, tmp_path) | {"store": {"enabled": False}}
    assert faults_of(stored) == [
        "store.enabled must be true for a search: its trials share the teachers' answers there."
    ]
    assert not (tmp_path / "out").exists()


def test_a_resumed_search_is_the_same_search(tiny, tmp_path):
    """Trials of another space beside those of this one would be told as if they were alike."""
    settings = search_of(tiny, tmp_path)
    first = checked(settings)
    folder = SearchFolder.of(first.config)
    folder.begin("run: {}", first.manifest)
    assert faults_of(settings)[0].startswith("run.output_dir holds another run")
    assert checked(search_of(tiny, tmp_path, trials=40, concurrent=1), resume=True).concurrent == 1
    wider = {"losses.1.temperature": {"kind": "uniform", "low": 1, "high": 9}}
    assert faults_of(search_of(tiny, tmp_path, wider), resume=True)[0].startswith(
        "tuning.space.losses.1.temperature.high is 9.0, but the run to resume had 8.0."
    )


def test_rows_that_vary_are_answered_when_they_are_asked(tiny, tmp_path):
    """Teachers that left would not know the rows of another trial."""
    rows = str(tiny["data"] / "unlabelled.jsonl")
    space = {"data.unlabelled": {"kind": "choice", "values": [None, rows]}}
    found = checked(search_of(tiny, tmp_path, space))
    assert (found.filled, found.known) == (False, False)
    limited = search_of(tiny, tmp_path) | {"store": {"max_bytes": 1 << 30}}
    assert not checked(limited).filled


def test_disturbed_latency_is_noted(tiny, tmp_path):
    """A front of noise."""
    objectives = [{}, {"metric": "student/latency_ms"}]
    assert (
        "measured while 1 other trials train"
        in checked(search_of(tiny, tmp_path, objectives=objectives)).notes[0]
    )
    assert checked(search_of(tiny, tmp_path, objectives=objectives, concurrent=1)).notes == ()
