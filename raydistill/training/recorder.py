"""Where workers drop what should be known outside: a small actor beside the driver.

Workers send and go on; the driver empties it every half second, shows progress and writes to MLflow.
Only numbers and sentences pass here, never tensors. The way back carries one word: stop.
"""

import pickle
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:  # the actor is small: it must not import torch
    from raydistill.teachers.protocol import TeacherDescription

__all__ = ["Recorder", "RecorderClient", "descriptions_in", "start_recorder"]


_FLUSH_S = 60.0


class Recorder:
    """Events until the driver fetches them; whether a stop was asked for; which replicas to ask."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._stop, self._version = False, 0
        self._replicas: dict[str, list[Any]] = {}

    def put(self, event: dict[str, Any]) -> tuple[bool, int]:
        """Keep an event; tells whether to stop, and the version of the replicas."""
        self._events.append(event)
        return self._stop, self._version

    def set_replicas(self, teacher: str, actors: list[Any]) -> None:
        """From now on these are asked."""
        self._replicas[teacher] = actors
        self._version += 1

    def replicas(self) -> dict[str, list[Any]]:
        """Of the teachers whose replicas are others than at the start."""
        return self._replicas

    def drain(self) -> list[dict[str, Any]]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events

    def ask_to_stop(self) -> None:
        """From now on every worker that sends something is told to stop."""
        self._stop = True


def descriptions_in(events: Sequence[Mapping[str, Any]]) -> "dict[str, TeacherDescription]":
    """What workers told with `RecorderClient.described`, by teacher."""
    return {
        event["teacher"]: pickle.loads(event["description"])
        for event in events
        if event["kind"] == "described"
    }


def start_recorder() -> Any:
    """On the driver's own node, using no CPU."""
    node = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(Recorder).options(num_cpus=0, label_selector={"ray.io/node-id": node}).remote()
    )


class RecorderClient:
    """A worker's end: sends without waiting, and hears of a stop a little later."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._replies: list[Any] = []
        self._stop, self._version, self._seen = False, 0, 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step."""
        self._send({"kind": "metrics", "step": step, "values": dict(values)})

    def progress(self, step: int) -> None:
        """Steps done."""
        self._send({"kind": "progress", "step": step})

    def waited(self, rank: int, seconds: Mapping[str, float]) -> None:
        """What a worker waited for each teacher so far."""
        self._send({"kind": "waited", "rank": rank, "values": dict(seconds)})

    def described(self, teacher: str, description: "TeacherDescription") -> None:
        """What a teacher in this worker's own process says about itself; packed, for the actor's sake."""
        packed = pickle.dumps(description)
        self._send({"kind": "described", "teacher": teacher, "description": packed})

    def say(self, sentence: str) -> None:
        """A line for the user."""
        self._send({"kind": "say", "text": sentence})

    def _send(self, event: dict[str, Any]) -> None:
        event["timestamp_ms"] = int(time.time() * 1000)
        self._replies.append(self._actor.put.remote(event))

    def flush(self) -> None:
        """Wait until all that was sent is there."""
        self._hear(_FLUSH_S)

    def _hear(self, timeout_s: float = 0.0) -> None:
        if not self._replies:
            return
        ready, self._replies = ray.wait(
            self._replies, num_returns=len(self._replies), timeout=timeout_s
        )
        for stop, version in ray.get(ready):
            self._stop, self._version = self._stop or stop, max(self._version, version)

    def stop_asked(self) -> bool:
        """Whether a stop was heard of; never waits."""
        self._hear()
        return self._stop

    def new_replicas(self) -> dict[str, list[Any]]:
        """By teacher, if they are others than when this was last called."""
        self._hear()
        if self._version == self._seen:
            return {}
        self._seen = self._version
        return ray.get(self._actor.replicas.remote())  # type: ignore[no-any-return]
