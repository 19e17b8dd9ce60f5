"""Calls of replicas beside answers: what they counted, what they may publish, their end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

__all__ = [
    "Calls",
    "RayCalls",
    "last_line",
    "publish_replicas",
    "replica_sentences",
    "replica_stats",
    "stop_replicas",
]


class Calls(Protocol):
    """How a keeper reaches its replicas."""

    def ask(self, actor: Any, method: str) -> Any:
        """Call without waiting; what is returned stands for the answer."""
        ...

    def ended(self, call: Any) -> bool:
        """Whether it was answered, well or not; never waits."""
        ...

    def result(self, call: Any) -> Any:
        """What was answered; raises RayError."""
        ...

    def stats(self, actors: Sequence[Any]) -> Mapping[str, float]:
        """Sums over the replicas that answer in time."""
        ...

    def said(self, actors: Sequence[Any]) -> list[str]:
        """What their stores have to tell the user."""
        ...

    def publish(self, actors: Sequence[Any], timeout_s: float) -> list[str]:
        """Let others find what was computed; why that failed, where it did."""
        ...

    def stop(self, actors: Sequence[Any]) -> list[str]:
        """End them; why that failed, where it did."""
        ...


class RayCalls:
    """Calls of actors."""

    def ask(self, actor: Any, method: str) -> Any:
        """Call without waiting; a call that Ray refuses at once has ended with its error."""
        try:
            return getattr(actor, method).remote()
        except RayActorError as error:
            return error

    def ended(self, call: Any) -> bool:
        """Whether it was answered, well or not."""
        return isinstance(call, RayActorError) or bool(ray.wait([call], timeout=0)[0])

    def result(self, call: Any, timeout_s: float | None = None) -> Any:
        """Wait for what was answered."""
        if isinstance(call, RayActorError):
            raise call
        return ray.get(call, timeout=timeout_s)

    def stats(self, actors: Sequence[Any]) -> Mapping[str, float]:
        """Sums over the replicas that answer in time."""
        return replica_stats(actors)

    def said(self, actors: Sequence[Any]) -> list[str]:
        """What their stores have to tell the user."""
        return replica_sentences(actors)

    def publish(self, actors: Sequence[Any], timeout_s: float) -> list[str]:
        """Let others find what was computed."""
        return publish_replicas(actors, timeout_s)

    def stop(self, actors: Sequence[Any]) -> list[str]:
        """End them."""
        return stop_replicas(actors)


_CALLS = RayCalls()


def replica_stats(actors: Sequence[Any], timeout_s: float = 10.0) -> dict[str, float]:
    """Sums over the replicas that answer in time.

    Args:
        actors: All are asked at once.
        timeout_s: For all of them together.
    """
    total: dict[str, float] = {}
    for stats in _answers(actors, "stats", timeout_s):
        for key, value in stats.items():
            total[key] = total.get(key, 0.0) + value
    return total


def replica_sentences(actors: Sequence[Any], timeout_s: float = 10.0) -> list[str]:
    """What the stores of those that answer in time have to tell the user, once each.

    Args:
        actors: All are asked at once.
        timeout_s: For all of them together.
    """
    return list(dict.fromkeys(chain.from_iterable(_answers(actors, "said", timeout_s))))


def _answers(actors: Sequence[Any], method: str, timeout_s: float) -> Iterator[Any]:
    """Of the replicas that answer before a common deadline."""
    deadline = time.monotonic() + timeout_s
    for call in [_CALLS.ask(actor, method) for actor in actors]:
        try:
            yield _CALLS.result(call, max(0.0, deadline - time.monotonic()))
        except RayError:
            continue


def publish_replicas(actors: Sequence[Any], timeout_s: float = 60.0) -> list[str]:
    """Let other processes find what was computed; a replica that died has nothing to say.

    Args:
        actors: All are asked at once.
        timeout_s: For all of them together.

    Returns:
        Why it failed, a clause for each living replica where it did.
    """
    failed = []
    deadline = time.monotonic() + timeout_s
    for call in [_CALLS.ask(actor, "publish") for actor in actors]:
        try:
            _CALLS.result(call, max(0.0, deadline - time.monotonic()))
        except RayActorError:
            continue
        except GetTimeoutError:
            failed.append(f"not within {timeout_s:g} s")
        except RayError as error:
            failed.append(last_line(error))
    return failed


def stop_replicas(actors: Sequence[Any]) -> list[str]:
    """Kill the actors, every one whatever happens to the others; their GPUs are free at once.

    Returns:
        Why it failed, a clause for each where it did.
    """
    failed = []
    for actor in actors:
        try:
            ray.kill(actor, no_restart=True)
        except Exception as error:
            failed.append(last_line(error))
    return failed


def last_line(error: BaseException) -> str:
    """Type of an error and the line of its text that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
