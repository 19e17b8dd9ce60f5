"""Pools of nodes: custom resources of teachers and workers, and whether the cluster has them."""

from typing import Any

import pytest

from raydistill.cache import only_teachers
from raydistill.config import DistillConfig, parse_config
from raydistill.plan import plan_lines
from raydistill.prepare import Resources, needed_resources, prepare, resource_faults
from tests.conftest import two_teachers

SETTINGS: dict[str, Any] = {
    "run": {"name": "r"},
    "data": {"train": "train.jsonl"},
    "student": {"model": "s"},
    "teachers": {
        "wide": {"model": "w", "replicas": 2, "num_cpus": 2, "resources": {"teacher_node": 0.25}},
        "deep": {"model": "d", "placement": "auto", "resources": {"teacher_node": 0.5}},
        "kept": {"model": "k", "placement": "cached", "resources": {"teacher_node": 9}},
    },
    "losses": [{"kind": "forward_kl"}],
    "training": {"num_workers": 2, "worker_resources": {"student_node": 0.5}},
}
TEACHERS = {"CPU": 4.0, "teacher_node": 1.0}
STUDENTS = {"CPU": 4.0, "student_node": 1.0}


def changed(**run: Any) -> DistillConfig:
    return DistillConfig.model_validate(SETTINGS | {"run": {"name": "r", **run}})


def said(*nodes: dict[str, float], embedded: bool = False, **run: Any) -> list[str]:
    faults = resource_faults(changed(**run), Resources.of_nodes(nodes), embedded=embedded)
    return [str(fault) for fault in faults]


def test_custom_resources_are_added_up():
    """One that may still get replicas counts, one that never will does not."""
    assert needed_resources(changed()).custom == {"student_node": 1.0, "teacher_node": 1.0}
    total = Resources.of_nodes([TEACHERS, STUDENTS, STUDENTS])
    assert (total.cpus, total.gpus, total.custom["student_node"]) == (12.0, 0.0, 2.0)


def test_a_pool_that_is_missing_or_small_is_named():
    """Actors that no node can take wait for ten minutes and then blame the timeout."""
    assert said(TEACHERS, STUDENTS) == []
    (line,) = said(TEACHERS, {"CPU": 8.0})
    assert line.startswith(
        "training.worker_resources 1 student_node are asked for by training.worker_resources, "
        "but the cluster has 0. Ask for less"
    )
    (line,) = said(TEACHERS | {"teacher_node": 0.5}, STUDENTS)
    assert line.startswith(
        "teachers.wide.resources 1 teacher_node are asked for by teachers.wide.resources, "
        "teachers.deep.resources, but the cluster has 0.5."
    )
    assert said({"CPU": 8.0}, autoscaling=True) == []
    assert said({"CPU": 8.0}, embedded=True) == []


def test_a_replica_must_fit_on_one_node():
    """All CPUs together are enough, those of the pool are not."""
    (line,) = said({"CPU": 1.0, "teacher_node": 4.0}, {"CPU": 8.0, "student_node": 1.0})
    assert line.startswith(
        "teachers.wide no node has room for a replica, which asks for 2 CPU, 0.25 teacher_node."
    )
    assert resource_faults(changed(), Resources(9, 0, {"teacher_node": 1, "student_node": 1}), embedded=False) == []  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "rule"),
    [
        ({"GPU": 1}, "must name resources of your own nodes; CPUs and GPUs have settings of their own"),
        ({"node:10.0.0.1": 1}, "must name resources of your own nodes"),
        ({"pool": 1.5}, "must be a share of one, or a whole number, got 1.5"),
        ({"pool": 0}, "must be a positive finite number, got 0"),
    ],
)  # fmt: skip
def test_amounts_that_ray_would_refuse_are_refused(resources, rule):
    """Ray says so in an actor, after everything else has started."""
    settings = SETTINGS | {"training": {"worker_resources": resources}}
    (fault,) = parse_config(settings)[1]
    assert str(fault).startswith("training.worker_resources")
    assert rule in str(fault)


def test_what_fills_the_store_needs_no_nodes_of_students():
    """A pool of students may be down while teachers fill the store."""
    settings = SETTINGS | {"teachers": SETTINGS["teachers"] | {"in": {"model": "i", "placement": "inline"}}}  # fmt: skip
    filling = only_teachers(DistillConfig.model_validate(settings))
    assert filling.training.worker_resources == {}
    assert filling.teachers["in"].resources == {"student_node": 0.5}
    assert filling.teachers["wide"].resources == {"teacher_node": 0.25}


def test_the_plan_names_custom_resources(tiny, tmp_path):
    """What a run needs of the cluster, before anybody starts one."""
    settings = two_teachers(tiny, tmp_path) | {"tracking": {"enabled": False}}
    settings["teachers"]["wide"]["resources"] = {"teacher_node": 0.25}
    prepared, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert prepared is not None
    (needs,) = [line for line in plan_lines(prepared) if line.startswith("needs")]
    assert needs.endswith(" GPUs, 0.25 teacher_node")
