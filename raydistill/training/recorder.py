"""Where workers drop what should be known outside: a small actor beside the driver.

Workers send and go on; the driver empties it every half second, shows progress and writes to MLflow.
Only numbers and sentences pass here, never tensors. The way back carries one word: stop.
"""

import time
from collections.abc import Mapping
from typing import Any

import ray

__all__ = ["Recorder", "RecorderClient", "start_recorder"]


class Recorder:
    """Events until the driver fetches them, and whether a stop was asked for."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._stop = False

    def put(self, event: dict[str, Any]) -> bool:
        """Keep an event; tells whether to stop."""
        self._events.append(event)
        return self._stop

    def drain(self) -> list[dict[str, Any]]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events

    def ask_to_stop(self) -> None:
        """From now on every worker that sends something is told to stop."""
        self._stop = True


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

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step."""
        self._send({"kind": "metrics", "step": step, "values": dict(values)})

    def progress(self, step: int) -> None:
        """Steps done."""
        self._send({"kind": "progress", "step": step})

    def say(self, sentence: str) -> None:
        """A line for the user."""
        self._send({"kind": "say", "text": sentence})

    def _send(self, event: dict[str, Any]) -> None:
        event["timestamp_ms"] = int(time.time() * 1000)
        self._replies.append(self._actor.put.remote(event))

    def stop_asked(self) -> bool:
        """Whether a stop was heard of; never waits."""
        if not self._replies:
            return False
        ready, self._replies = ray.wait(self._replies, num_returns=len(self._replies), timeout=0)
        return any(ray.get(ready))
