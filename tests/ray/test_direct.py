"""Answers from device to device, with real NIXL: on CPUs it moves the same bytes in the same way.

Not installed with the `dev` extra, for its size: pip install -e '.[direct]'.
"""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raydistill.teachers import TeacherPool
from raydistill.teachers.actor import describe_replicas, start_replicas
from raydistill.teachers.calls import stop_replicas
from raydistill.teachers.direct import Offered, take, why_unable
from raydistill.teachers.transport import ActorTransport
from tests.ray.test_actors import REQUESTS, Light, alive, answers_of, pid_of, settings_of

pytest.importorskip("nixl")
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SETTINGS = dataclasses.replace(settings_of(Path("none")), keep_on_device=True)


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Any]]:
    actors = start_replicas(SETTINGS, replicas=2, num_cpus=0.25, num_gpus=0, make_teacher=Light)
    describe_replicas("wide", actors, 60)
    assert why_unable() is None  # from here on NIXL keeps a core busy, in each process
    yield actors
    stop_replicas(actors)


def make_pool(actors: list[Any], said: list[str]) -> TeacherPool:
    transport = ActorTransport("wide", actors, "offer", said.append)
    return TeacherPool(
        "wide", transport, timeout_s=60, max_retries=3, start_timeout_s=60, say=said.append
    )


def test_buffers_stay_until_they_are_taken(pair: list[Any]) -> None:
    """Many threads of a fresh replica must share one agent; a buffer that came along went through the host."""
    import ray

    offered = ray.get([pair[0].offer.remote(request) for request in REQUESTS])
    assert all(isinstance(one, Offered) and one.signal.buffer.size == 0 for one in offered)
    found = [take(one, 10).buffer.tobytes() for one in offered]
    assert found == answers_of(Light(SETTINGS), REQUESTS)


def test_a_lost_replica_changes_nothing(pair: list[Any]) -> None:
    """Once restarted it is unknown to NIXL: it answers through host memory, and that is told once."""
    expected, said = answers_of(Light(SETTINGS), REQUESTS), list[str]()
    pool = make_pool(pair, said)
    tickets = [pool.ask(request) for request in REQUESTS]
    assert [pool.collect(ticket).buffer.tobytes() for ticket in tickets] == expected
    assert said == []
    tickets = [pool.ask(request) for request in REQUESTS]
    os.kill(pid_of(pair[0]), signal.SIGKILL)
    assert [pool.collect(ticket).buffer.tobytes() for ticket in tickets] == expected
    alive(pair)
    tickets = [pool.ask(request) for request in REQUESTS]
    assert [pool.collect(ticket).buffer.tobytes() for ticket in tickets] == expected
    assert sum("through host memory" in line for line in said) == 1
