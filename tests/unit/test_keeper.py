"""Replicas come and go without anybody waiting for them; no Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayTaskError,
)

from raydistill.errors import TeacherError
from raydistill.models import ModelSource, ModelTraits
from raydistill.signals import Ask, Request
from raydistill.teachers import actor as actor_module
from raydistill.teachers import calls as calls_module
from raydistill.teachers.calls import publish_replicas, stop_replicas
from raydistill.teachers.keeper import ReplicaKeeper
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.scaling import Scaler


def describe(fingerprint: str) -> TeacherDescription:
    return TeacherDescription(
        ModelTraits(1, 1, 1, ("a",), None, ""), fingerprint, 0, 0, "cpu", steady=True
    )


@dataclass(eq=False)
class Replica:
    """What it answers to each call; what is not there is never answered."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def loaded(fingerprint: str = "f", busy_s: float = 0.0, **answers: Any) -> Replica:
    stats = {"busy_s": busy_s, "rows_computed": 5.0}
    return Replica({"describe": describe(fingerprint), "stats": stats, "publish": None, **answers})


@dataclass
class FakeCalls:
    """Replicas that are reached without Ray."""

    published: list[Replica] = field(default_factory=list)
    stopped: list[Replica] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def ask(self, actor: Replica, method: str) -> tuple[Replica, str]:
        actor.asked.append(method)
        return actor, method

    def ended(self, call: tuple[Replica, str]) -> bool:
        return call[1] in call[0].answers

    def result(self, call: tuple[Replica, str]) -> Any:
        answer = call[0].answers[call[1]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stats(self, actors: Sequence[Replica]) -> Mapping[str, float]:
        return {"rows_computed": sum(actor.answers["stats"]["rows_computed"] for actor in actors)}

    def publish(self, actors: Sequence[Replica], timeout_s: float) -> list[str]:
        assert not set(map(id, actors)) & set(map(id, self.stopped))
        self.published += actors
        self.timeouts.append(timeout_s)
        return ["disk full" for actor in actors if actor.answers["publish"] is not None]

    def said(self, actors: Sequence[Replica]) -> list[str]:
        assert not set(map(id, actors)) & set(map(id, self.stopped))
        return [sentence for actor in actors for sentence in actor.answers.get("said", [])]

    def stop(self, actors: Sequence[Replica]) -> list[str]:
        self.stopped += actors
        return []


class World:
    """A keeper of one replica that is always too slow."""

    def __init__(self, *others: Replica, first: Sequence[Replica] = (), high: int = 2) -> None:
        self.calls, self.said, self.now = FakeCalls(), [], 0.0
        self.first = list(first) or [loaded()]
        self.others = list(others)
        self.started: list[Replica] = []
        self.keeper = ReplicaKeeper(
            "wide", self.first, self.start,
            scaler=Scaler(1, high), say=self.said.append, start_timeout_s=900.0,
            calls=self.calls, clock=lambda: self.now,
        )  # fmt: skip

    def start(self) -> Replica:
        self.started.append(self.others.pop(0))
        return self.started[-1]

    def slow(self, looks: int) -> None:
        """Workers wait, and replicas are busy."""
        for _ in range(looks):
            self.now += 2.5
            for replica in self.keeper.actors:
                replica.answers["stats"] = {"busy_s": self.now, "rows_computed": 5.0}
            self.keeper.waited(0, self.now)
            self.keeper.look()

    def idle(self, looks: int) -> None:
        """Nobody waits, and nothing is computed."""
        for _ in range(looks):
            self.now += 2.5
            self.keeper.look()


def test_a_grown_replica_joins() -> None:
    """A replica that is paid for and not asked helps nobody."""
    new = loaded()
    world = World(new)
    world.slow(8)
    assert world.keeper.actors == [*world.first, new]


def test_a_grown_replica_with_other_weights_is_refused() -> None:
    """Half of the rows would be taught by another teacher, and the store would keep them."""
    new = loaded("other")
    world = World(new, loaded())
    world.slow(20)
    assert world.keeper.actors == world.first
    assert world.calls.stopped == [new]
    assert len(world.started) == 1
    assert [line for line in world.said if "other weights" in line] == world.said[1:]
    assert "it stays at 1" in world.said[1]


def test_a_large_model_may_take_as_long_as_its_start_timeout() -> None:
    """Given up after two minutes, a teacher of 30 GB never grows."""
    new = Replica()
    world = World(new)
    world.slow(8)
    world.now += 700.0
    world.slow(1)
    assert world.calls.stopped == []
    new.answers |= loaded().answers
    world.slow(1)
    assert new in world.keeper.actors


def test_no_place_is_said_once() -> None:
    """A replica that waits for a GPU for ever would be started again and again."""
    new = Replica()
    world = World(new)
    world.slow(8)
    world.now += 901.0
    world.slow(20)
    assert world.calls.stopped == [new]
    assert ["start_timeout_s" in line for line in world.said] == [False, True]


@pytest.mark.parametrize(("init_failed", "starts"), [(True, 1), (False, 2)])
def test_a_start_that_fails_by_itself_is_not_tried_again(init_failed: bool, starts: int) -> None:
    """Its own error comes again; the death of a node need not."""
    error = RayActorError("id", "teachers.wide: other weights", actor_init_failed=init_failed)
    world = World(Replica({"describe": error}), loaded())
    world.slow(20)
    assert len(world.started) == starts
    assert "other weights" in world.said[1]


def test_a_retired_replica_is_let_go_without_waiting() -> None:
    """The driver would hear nobody for minutes while a replica publishes."""
    pair = [loaded(), loaded()]
    world = World(first=pair)
    del pair[1].answers["publish"]
    world.idle(10)
    assert world.keeper.actors == pair[:1]
    assert world.calls.stopped == []
    assert world.keeper.stats()["rows_computed"] == 10
    pair[1].answers["publish"] = None
    world.idle(2)
    assert world.calls.stopped == [pair[1]]
    assert world.keeper.stats()["rows_computed"] == 10


def test_a_retired_replica_that_does_not_answer_is_ended() -> None:
    """Its GPU would never be free."""
    pair = [loaded(), loaded()]
    world = World(first=pair)
    del pair[1].answers["publish"]
    world.idle(10)
    world.now += 121.0
    world.idle(1)
    assert world.calls.stopped == [pair[1]]
    assert "did not publish" in world.said[-1]


def test_a_retired_replica_that_cannot_publish_is_said_and_counted() -> None:
    """Answers that are lost in silence are computed again, and nobody knows why."""
    pair = [loaded(), loaded(publish=ActorUnavailableError("disk full", None))]
    world = World(first=pair)
    world.idle(12)
    assert world.calls.stopped == [pair[1]]
    assert "could not publish" in world.said[-1]
    assert world.keeper.stats()["rows_computed"] == 10


def test_the_end_asks_only_those_that_have_loaded() -> None:
    """A start that failed would take a minute a replica to stop."""
    replicas = [loaded(), Replica(), Replica({"describe": ActorDiedError()}), loaded(publish=1)]
    starting = Replica()
    world = World(starting, first=replicas, high=5)
    world.keeper._starting = world.keeper._replica(starting)
    world.keeper.stop()
    assert world.calls.published == [replicas[0], replicas[3]]
    assert world.calls.timeouts == [60.0]
    assert world.calls.stopped == [starting, *replicas[1:3], replicas[0], replicas[3]]
    assert world.said == ["wide: a replica could not publish its answers (disk full)"]


class FakeActor:
    """Fails as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.publish = self
        self.error = error

    def remote(self) -> "FakeActor":
        return self


class FakeRay:
    """Keeps no one waiting."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []
        self.killed: list[Any] = []

    def get(self, call: FakeActor, timeout: float) -> None:
        self.timeouts.append(timeout)
        if call.error is not None:
            raise call.error

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)
        if len(self.killed) == 1:
            raise ValueError("is no actor")


def test_one_that_cannot_publish_or_end_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk would leave every other teacher's GPUs taken."""
    ray = FakeRay()
    monkeypatch.setattr(calls_module, "ray", ray)
    full = ActorUnavailableError("disk full", None)
    task = RayTaskError("publish", "Traceback\nOSError: disk full", OSError("disk full"))
    errors = [task, ActorDiedError(), GetTimeoutError("late"), None, full]
    failed = publish_replicas([FakeActor(error) for error in errors], 60.0)
    assert len(failed) == 2
    assert "disk full" in failed[0]
    assert failed[1] == "not within 60 s"
    assert len(ray.timeouts) == 5
    assert all(timeout <= 60.0 for timeout in ray.timeouts)
    assert stop_replicas([1, 2, 3]) == ["ValueError: is no actor"]
    assert ray.killed == [1, 2, 3]


class NoRoom(FakeRay):
    """Where a task finds no place."""

    def remote(self, *_: Any) -> "NoRoom":
        return self

    def options(self, **_: Any) -> "NoRoom":
        return self

    def get(self, call: Any, timeout: float) -> None:
        raise GetTimeoutError(str(timeout))

    def cancel(self, call: Any, *, force: bool) -> None:
        self.killed.append(call)


def test_a_teacher_that_finds_no_place_to_be_tried_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that waits for a GPU that no node has says nothing for ever."""
    ray = NoRoom()
    monkeypatch.setattr(actor_module, "ray", ray)
    settings = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
    with pytest.raises(TeacherError, match=r"within 5 s \(start_timeout_s = 5\)"):
        actor_module.try_teacher(
            settings, Request((0,), (("a",),), Ask()), num_cpus=1, num_gpus=1, timeout_s=5.0
        )
    assert ray.killed == [ray]


def test_what_stores_have_to_tell_is_told_once() -> None:
    """A disk that is full is full for every replica, and at every look."""
    pair = [loaded(said=["the disk is full"]), loaded(said=["the disk is full"])]
    world = World(first=pair, high=2)
    world.idle(2)
    assert world.said == ["wide: the disk is full"]
    pair[0].answers["said"] = ["the disk is full", "and now it burns"]
    world.keeper.stop()
    assert world.said == ["wide: the disk is full", "wide: and now it burns"]
