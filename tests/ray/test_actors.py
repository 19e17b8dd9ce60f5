"""The transport against real actors: killed, hanging, failing."""

import dataclasses
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.errors import NotFiniteError, TeacherError, TeacherLostError
from raydistill.models import ModelSource, ModelTraits
from raydistill.signals import Ask, HiddenAsk, Request, TeacherSignal, pack_signal
from raydistill.store import Codecs, Place, Shelf, ShelfStore
from raydistill.teachers import LocalTeacher, TeacherDescription, TeacherPool, TeacherSettings
from raydistill.teachers.actor import (
    describe_replicas,
    start_replicas,
)
from raydistill.teachers.calls import publish_replicas, replica_stats, stop_replicas
from raydistill.teachers.transport import ActorTransport
from raydistill.training.recorder import RecorderClient, start_recorder
from tests.conftest import make_rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

TEXTS = tuple(row["text"] for row in make_rows(48, seed=11))
ASK = Ask(hidden=(HiddenAsk(1), HiddenAsk(3, "mean")))
REQUESTS = [Request(tuple(range(b, b + 4)), (TEXTS[b : b + 4],), ASK) for b in range(0, 48, 4)]


class Light:
    """Answers the checksum of each text after a moment; a text may tell it to hang or to fail.

    Without a model, since a process that loads one takes seconds to come back.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.name = settings.name

    def describe(self) -> TeacherDescription:
        return TeacherDescription(
            ModelTraits(1, 1, 1, ("a",), None, ""), "light", 0, 0, "cpu", steady=True
        )

    def answer(self, request: Request) -> TeacherSignal:
        time.sleep(0.05)
        for text in request.texts[0]:
            order, _, argument = text.partition(":")
            if order == "hang" and not Path(argument).exists():
                Path(argument).touch()
                time.sleep(120)
            if order == "nan":
                raise NotFiniteError(f"teachers.{self.name}: logits", request.row_ids, "Look.")
            if order == "fail":
                raise KeyError("missing")
        sums = [[float(zlib.crc32(text.encode()) % 65521)] for text in request.texts[0]]
        lengths = [1] * request.num_rows
        return pack_signal(
            self.name, request.row_ids, lengths, {"logits": torch.tensor(sums)}, "float32"
        )


class Reweighted(Light):
    """Its weights are what stands in a file when it starts."""

    def __init__(self, settings: TeacherSettings) -> None:
        super().__init__(settings)
        self.weights = Path(settings.source.location, "weights").read_text()

    def describe(self) -> TeacherDescription:
        return dataclasses.replace(super().describe(), fingerprint=self.weights)


class AnyShelf:
    """A shelf whose name says nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, teacher: str, say: Callable[[str], None]) -> ShelfStore:
        said: Any = dict.fromkeys((field.name for field in dataclasses.fields(Shelf)), "any")
        shelf = Shelf(**said | {"signal_dtype": "float32"})
        return ShelfStore(Place(str(self.folder)), shelf, Codecs(), teacher=teacher, say=say)


def settings_of(folder: Path) -> TeacherSettings:
    return TeacherSettings(
        "wide", ModelSource(str(folder), str(folder), str(folder)), "float32", 32, 8
    )


def answers_of(teacher: Any, requests: list[Request]) -> list[bytes]:
    """What an undisturbed teacher says."""
    return [teacher.answer(request).buffer.tobytes() for request in requests]


def start(folder: Path, kind: type, replicas: int) -> list[Any]:
    actors = start_replicas(
        settings_of(folder), replicas=replicas, num_cpus=0.25, num_gpus=0, make_teacher=kind
    )
    describe_replicas("wide", actors, 60)
    return actors


@pytest.fixture(scope="module")
def pair(tiny: dict[str, Path]) -> Iterator[list[Any]]:
    """Two replicas for all tests; those that a test kills come back by themselves."""
    actors = start(tiny["wide"], Light, 2)
    yield actors
    stop_replicas(actors)


def alive(actors: list[Any]) -> list[Any]:
    """The same actors, once all of them serve."""
    transport = ActorTransport("wide", actors)
    for replica in range(len(actors)):
        assert transport.await_alive([replica], 60) == replica
    return actors


def make_pool(actors: list[Any], said: list[str], **changes: Any) -> TeacherPool:
    options: dict[str, Any] = {"timeout_s": 60.0, "max_retries": 3, "start_timeout_s": 60.0}
    return TeacherPool(
        "wide", ActorTransport("wide", actors), say=said.append, **{**options, **changes}
    )


def pid_of(actor: Any) -> int:
    import ray

    return int(ray.get(actor.ping.remote()))


def disturb(actors: list[Any], expected: list[bytes], said: list[str]) -> TeacherPool:
    """Kill the first replica with its requests on their way; every answer must be right.

    It is stopped before it is asked: however fast it is, the kill finds it without an answer.
    """
    pool, pid = make_pool(actors, said), pid_of(actors[0])
    first = pool.collect(pool.ask(REQUESTS[0]))
    os.kill(pid, signal.SIGSTOP)
    tickets = [pool.ask(request) for request in REQUESTS[1:]]
    os.kill(pid, signal.SIGKILL)
    signals = [first, *(pool.collect(ticket) for ticket in tickets)]
    assert [s.buffer.tobytes() for s in signals] == expected
    assert [s.row_ids for s in signals] == [r.row_ids for r in REQUESTS]
    assert (pool.asked, pool.answered, pool.in_flight) == (len(REQUESTS), len(REQUESTS), 0)
    assert pool.retried >= 1
    assert len(said) == 1, said
    return pool


def test_the_only_replica_killed_changes_nothing(tiny: dict[str, Path]) -> None:
    """A lost, doubled or changed answer after a restart makes the run another run."""
    actors, said = start(tiny["wide"], LocalTeacher, 1), []
    disturb(actors, answers_of(LocalTeacher(settings_of(tiny["wide"])), REQUESTS), said)
    assert "wait for the restart" in said[0]
    stop_replicas(actors)


def test_one_of_two_killed_changes_nothing_and_is_asked_again(
    pair: list[Any], tiny: dict[str, Path]
) -> None:
    """A replica that is back but never trusted leaves its share to the other for good."""
    said: list[str] = []
    pool = disturb(alive(pair), answers_of(Light(settings_of(tiny["wide"])), REQUESTS), said)
    assert "ask another" in said[0]
    retried, deadline = pool.retried, time.monotonic() + 60
    while time.monotonic() < deadline:
        tickets = [pool.ask(request) for request in REQUESTS[:2]]
        for ticket in tickets:
            pool.collect(ticket)
        if {ticket.replica for ticket in tickets} == {0, 1}:
            break
    assert {ticket.replica for ticket in tickets} == {0, 1}
    assert pool.retried == retried, said


def test_a_request_after_the_death_is_answered(pair: list[Any], tiny: dict[str, Path]) -> None:
    """A call that Ray refuses at once must not be taken for an answer."""
    only = alive(pair)[:1]
    expected = answers_of(Light(settings_of(tiny["wide"])), REQUESTS[:3])
    pool = make_pool(only, [])
    os.kill(pid_of(only[0]), signal.SIGKILL)
    time.sleep(0.5)
    tickets = [pool.ask(request) for request in REQUESTS[:3]]
    assert [pool.collect(ticket).buffer.tobytes() for ticket in tickets] == expected


def test_a_hanging_replica_is_restarted(
    pair: list[Any], tiny: dict[str, Path], tmp_path: Path
) -> None:
    """A replica that neither answers nor dies would hold the run for ever."""
    only, said = alive(pair)[:1], []
    hangs = Request((50,), ((f"hang:{tmp_path / 'marker'}",),), Ask())
    requests = [REQUESTS[0], hangs, *REQUESTS[1:3]]
    pool = make_pool(only, said, timeout_s=2.0, max_retries=5)
    tickets = [pool.ask(request) for request in requests]
    found = [pool.collect(ticket).buffer.tobytes() for ticket in tickets]
    assert found == answers_of(Light(settings_of(tiny["wide"])), requests)
    assert any("restart the replica" in sentence for sentence in said), said


def test_a_teachers_own_error_arrives_with_its_type(pair: list[Any]) -> None:
    """Asked again, the error would only come later; as a bare RayTaskError it names no rows."""
    said: list[str] = []
    pool = make_pool(alive(pair), said)
    with pytest.raises(NotFiniteError) as caught:
        pool.collect(pool.ask(Request((7,), (("nan:",),), Ask())))
    assert caught.value.rows == (7,)
    with pytest.raises(TeacherError, match=r"teachers\.wide: failed while answering.*missing"):
        pool.collect(pool.ask(Request((8,), (("fail:",),), Ask())))
    assert pool.retried == 0
    assert said == []


def test_replicas_count_what_they_compute(pair: list[Any]) -> None:
    """The report says how much each teacher worked."""
    before = replica_stats(alive(pair))
    pool = make_pool(pair, [])
    for ticket in [pool.ask(request) for request in REQUESTS[:4]]:
        pool.collect(ticket)
    after = replica_stats(pair)
    assert after["rows_computed"] - before["rows_computed"] == 16
    assert after["requests"] - before["requests"] == 4


def test_a_replica_gone_for_good_ends_the_run_with_its_name(tiny: dict[str, Path]) -> None:
    """Waiting ten minutes for an actor that cannot come back looks like a hang."""
    actors = start(tiny["wide"], Light, 1)
    pool = make_pool(actors, [])
    stop_replicas(actors)
    begin = time.monotonic()
    with pytest.raises(TeacherLostError, match=r"teachers\.wide: all its replicas died"):
        pool.collect(pool.ask(REQUESTS[0]))
    assert time.monotonic() - begin < 20


def test_a_replica_that_restarts_with_other_weights_is_refused(tmp_path: Path) -> None:
    """It would answer the rest of the rows as another teacher, and fill the store with that."""
    (tmp_path / "weights").write_text("first")
    actors = start_replicas(
        settings_of(tmp_path), replicas=1, num_cpus=0.25, num_gpus=0, make_teacher=Reweighted,
        store=AnyShelf(tmp_path / "store"),
    )  # fmt: skip
    describe_replicas("wide", actors, 60)
    pool, plain = make_pool(actors, []), [dataclasses.replace(r, ask=Ask()) for r in REQUESTS]
    pool.collect(pool.ask(plain[0]))
    assert publish_replicas(actors) == []
    (tmp_path / "weights").write_text("second")
    os.kill(pid_of(actors[0]), signal.SIGKILL)
    time.sleep(0.5)
    with pytest.raises(TeacherLostError, match=r"cannot be started again .*files changed"):
        pool.collect(pool.ask(plain[1]))
    stop_replicas(actors)


def test_events_arrive_in_order_and_stop_is_heard() -> None:
    """Ctrl-C that no worker hears leaves the user to kill the run and lose it."""
    import ray

    actor = start_recorder()
    client = RecorderClient(actor)
    assert not client.stop_asked()
    client.metrics(1, {"train/loss": 2.0})
    client.say("hello")
    client.progress(2)
    events = ray.get(actor.drain.remote())
    assert [event["kind"] for event in events] == ["metrics", "say", "progress"]
    assert events[0]["values"] == {"train/loss": 2.0}
    assert ray.get(actor.drain.remote()) == []
    assert not client.stop_asked()
    ray.get(actor.ask_to_stop.remote())
    client.progress(3)
    ray.get(actor.drain.remote())
    deadline = time.monotonic() + 10
    while not (heard := client.stop_asked()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert heard


def test_replicas_follow_the_need(tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Grown while a worker waits, shrunk when it does not, every row counted once and answered."""
    from raydistill.teachers import keeper as module
    from raydistill.teachers.scaling import Scaler

    monkeypatch.setattr(module, "_LOOK_S", 0.3)
    monkeypatch.setattr(module, "_GRACE_S", 0.2)
    said: list[str] = []
    actors = start(tiny["wide"], Light, 1)
    keeper = module.ReplicaKeeper(
        "wide",
        actors,
        lambda: start(tiny["wide"], Light, 1)[0],
        scaler=Scaler(1, 2),
        say=said.append,
    )
    pool = make_pool(actors, said)
    waited, rows = 0.0, 0
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline and len(pool._lives) < 2:
            begin = time.monotonic()
            for ticket in [pool.ask(request) for request in REQUESTS[:4]]:
                rows += len(pool.collect(ticket).row_ids)
            waited += time.monotonic() - begin
            keeper.waited(0, waited)
            if keeper.look():
                pool.set_replicas(keeper.actors)
        assert len(keeper.actors) == 2, said
        tickets = [pool.ask(request) for request in REQUESTS]
        assert {ticket.replica for ticket in tickets} == {0, 1}
        rows += sum(len(pool.collect(ticket).row_ids) for ticket in tickets)
        while time.monotonic() < deadline and (len(keeper.actors) > 1 or keeper._retired):
            time.sleep(0.1)
            if keeper.look():
                pool.set_replicas(keeper.actors)
        assert len(keeper.actors) == 1, said
        assert keeper.stats()["rows_computed"] == rows
        assert pool.ask(REQUESTS[0]).replica == 0
    finally:
        keeper.stop()
