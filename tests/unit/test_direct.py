"""Who answers from device to device, and what happens where that cannot be."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import GetTimeoutError, RayDirectTransportError

from raydistill.config import DistillConfig
from raydistill.config.load import parse_config
from raydistill.models import ModelSource
from raydistill.serve import is_direct
from raydistill.signals import Request, TeacherSignal
from raydistill.signals.signal import CPU, on_device, pack_signal, select_rows
from raydistill.teachers import TeacherSettings
from raydistill.teachers.actor import TeacherActor
from raydistill.teachers.direct import Offered, Offers
from raydistill.teachers.line import TeacherLine, open_source
from raydistill.teachers.transport import ActorTransport
from tests.unit.test_store import ASK, answer, texts_of

SETTINGS = TeacherSettings("wide", ModelSource("m", "m", "m"), "float32", 32, 8)
REQUEST = Request((0, 1), (texts_of(2),), ASK)


class Ready:
    """Has its answer."""

    def __init__(self, settings: TeacherSettings) -> None:
        pass

    def describe(self) -> Any:
        return SimpleNamespace(steady=True)

    def answer(self, request: Request) -> TeacherSignal:
        return answer(request.texts[0])


def test_a_replica_that_cannot_offer_answers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a cluster without the package must not stop a run."""
    monkeypatch.setattr("raydistill.teachers.direct.why_unable", lambda: "no such package")
    actor = TeacherActor(Ready, SETTINGS)
    for _ in range(2):
        signal = actor.offer(REQUEST)
        assert isinstance(signal, TeacherSignal)
        assert np.array_equal(signal.buffer, answer(texts_of(2)).buffer)
    assert actor.said() == ["answers through host memory: no such package"]


def test_memory_that_cannot_be_registered_is_found_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NIXL starts on a GPU whose memory it then cannot read."""
    tried: list[int] = []

    def put(buffer: torch.Tensor, _tensor_transport: str) -> None:
        tried.append(buffer.nbytes)
        raise RuntimeError("cannot register")

    monkeypatch.setattr("raydistill.teachers.direct.why_unable", lambda: None)
    monkeypatch.setattr("raydistill.teachers.direct.ray.put", put)
    said: list[str] = []
    offers, whole = Offers(said.append), answer(texts_of(2))
    assert offers.offer(whole) is whole
    assert offers.offer(whole) is whole
    assert len(tried) == 1
    assert said == ["answers through host memory: RuntimeError: cannot register"]


def test_no_more_is_offered_than_a_device_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers asked ahead, by many workers, would fill a GPU that the model needs."""
    held: list[torch.Tensor] = []
    monkeypatch.setattr("raydistill.teachers.direct.why_unable", lambda: None)
    monkeypatch.setattr(
        "raydistill.teachers.direct.ray.put", lambda buffer, _tensor_transport: held.append(buffer)
    )
    whole = answer(texts_of(2))
    monkeypatch.setattr(
        "raydistill.teachers.direct._most_bytes", lambda device: 2 * whole.buffer.nbytes
    )
    offers = Offers(pytest.fail)
    kinds = [type(offers.offer(whole)) for _ in range(3)]
    assert kinds == [Offered, Offered, TeacherSignal]
    held.pop()
    assert isinstance(offers.offer(whole), Offered)


def test_a_worker_that_cannot_take_asks_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fail at each of them."""
    said: list[str] = []
    line = TeacherLine((object(),), 60.0, 3, 60.0, direct=True)
    monkeypatch.setattr("raydistill.teachers.line.why_unable", lambda: "no such package")
    pool: Any = open_source("wide", line, say=said.append)
    assert pool._transport._method == "answer"
    assert said == ["teachers.wide answers through host memory: no such package"]
    monkeypatch.setattr("raydistill.teachers.line.why_unable", lambda: None)
    pool = open_source("wide", line)
    assert pool._transport._method == "offer"


@pytest.mark.parametrize("error", [RayDirectTransportError("no way"), GetTimeoutError("blocked")])
def test_what_cannot_be_taken_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A way that is blocked is no fault of the replica, whose retries and restarts are counted."""
    whole, said, asked = answer(texts_of(2)), list[str](), list[str]()
    offered = Offered(dataclasses.replace(whole, buffer=np.empty(0, np.uint8)), [])

    class Call:
        def __init__(self, method: str) -> None:
            self.method = method

        def remote(self, request: Request) -> None:
            asked.append(self.method)

    actor = SimpleNamespace(_actor_id="a1", offer=Call("offer"), answer=Call("answer"))

    def take(*_: Any) -> None:
        raise error

    monkeypatch.setattr("raydistill.teachers.transport.take", take)
    monkeypatch.setattr(
        "raydistill.teachers.transport.ray.get",
        lambda call, timeout: whole if asked[-1] == "answer" else offered,
    )
    transport = ActorTransport("wide", [actor], "offer", said.append)
    assert transport.fetch(transport.submit(0, REQUEST), 5.0) is whole
    assert asked == ["offer", "answer"]
    assert transport.fetch(transport.submit(0, REQUEST), 5.0) is whole
    assert asked == ["offer", "answer", "answer"]
    assert len(said) == 1
    assert said[0].startswith("teachers.wide: a replica answers through host memory from now on")


def test_a_signal_on_a_device_is_the_same_signal() -> None:
    """Views of a device's buffer must be cut where those of host memory are."""
    signal = answer(texts_of(3))
    held = dataclasses.replace(signal, buffer=torch.from_numpy(signal.buffer.copy()))
    assert on_device(held, CPU) is held
    for name in signal.parts:
        assert torch.equal(held.part(name), signal.part(name))
        assert torch.equal(select_rows(held, 1, 3).part(name), select_rows(signal, 1, 3).part(name))
    meta = torch.device("meta")
    parts = {name: signal.part(name) for name in signal.parts}
    far = pack_signal("wide", (0, 1, 2), signal.lengths.tolist(), parts, "float32", device=meta)
    assert far.device == meta
    assert {name: far.part(name).shape for name in far.parts} == {
        name: part.shape for name, part in parts.items()
    }


@pytest.mark.parametrize(
    ("teacher", "worker_gpus", "store", "installed", "direct"),
    [
        ({"num_gpus": 1}, 1, False, True, True),
        ({"num_gpus": 0.5}, 1, False, True, True),
        ({"num_gpus": 1}, 1, True, True, False),
        ({"num_gpus": 1}, 1, False, False, False),
        ({"num_gpus": 1}, 0, False, True, False),
        ({}, 1, False, True, False),
        ({"num_gpus": 1, "transport": "object_store"}, 1, False, True, False),
        ({"num_gpus": 1, "replicas": {"min": 1, "max": 3}}, 1, False, True, False),
        ({"num_gpus": 1, "placement": "cached"}, 1, False, True, False),
        ({"transport": "nixl"}, 0, False, True, True),
    ],
)
def test_direct_is_from_gpu_to_gpu_where_nothing_is_kept(
    *, monkeypatch, teacher, worker_gpus, store, installed, direct
) -> None:
    monkeypatch.setattr("raydistill.serve.find_spec", lambda name: object() if installed else None)
    settings = {
        "run": {"name": "r"}, "data": {"train": "t.jsonl"}, "student": {"model": "s"},
        "teachers": {"a": {"model": "m", **teacher}}, "losses": [{"kind": "forward_kl"}],
        "store": {"enabled": store}, "training": {"gpus_per_worker": worker_gpus},
    }  # fmt: skip
    config, faults = parse_config(settings)
    assert faults == []
    assert is_direct(DistillConfig.model_validate(config), "a") is direct


@pytest.mark.parametrize(
    ("teacher", "section", "why"),
    [
        ({}, {"store": {}}, "store.enabled: false"),
        ({"placement": "inline"}, {}, "placement is inline"),
        ({"replicas": {"min": 1, "max": 2}}, {}, "Set replicas to a number"),
        ({"num_gpus": 1}, {}, "num_gpus is 1 and training.gpus_per_worker is 0"),
    ],
)
def test_nixl_where_it_cannot_be_is_refused(teacher, section, why) -> None:
    settings = {
        "run": {"name": "r"}, "data": {"train": "t.jsonl"}, "student": {"model": "s"},
        "teachers": {"a": {"model": "m", "transport": "nixl", **teacher}},
        "losses": [{"kind": "forward_kl"}], "store": {"enabled": False}, **section,
    }  # fmt: skip
    _, (fault,) = parse_config(settings)
    assert fault.path == "teachers.a.transport"
    assert why in fault.message
