"""Requests to replicas as calls of Ray actors. No logic."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from raydistill.errors import RaydistillError, TeacherError
from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.calls import last_line
from raydistill.teachers.direct import Offered, take
from raydistill.teachers.pool import ReplicaLost, ReplicaSlow

__all__ = ["LOST", "ActorTransport", "cause_of"]

_PAUSE_S = 0.2  # between looks at a replica that is being restarted
_TRANSFER_S = 60.0  # for an answer that is ready on another node when its deadline comes
_TAKE_S = 10.0  # for a buffer that is ready; Ray itself gives up after 60
_DEATHS = 5  # pings in a row that find it dead before it is given up; one may be of the last life
LOST = (
    RayActorError, ObjectLostError, TaskCancelledError, NodeDiedError, OutOfMemoryError, WorkerCrashedError,
)  # fmt: skip
"""What Ray raises when a process, a node or an object is gone."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What stands for an answer: its reference, and what to ask again if it cannot be taken."""

    ref: Any
    actor: Any
    request: Request


class ActorTransport:
    """Requests to replicas as calls of actors.

    Args:
        name: Of the teacher.
        actors: Its replicas.
        method: Of theirs: ``answer``, ``offer``, ``fill``.
        say: Where it is told that answers cannot be taken from device to device.
    """

    def __init__(
        self,
        name: str,
        actors: Sequence[Any],
        method: str = "answer",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name, self._actors, self._method, self._say = name, list(actors), method, say
        self.num_replicas = len(self._actors)
        self._pings: dict[int, Any] = {}
        self._through_host: set[Any] = set()

    def submit(self, replica: int, request: Request) -> _Call:
        """Call without waiting."""
        actor, method = self._actors[replica], self._method
        if method == "offer" and actor._actor_id in self._through_host:
            method = "answer"
        try:
            return _Call(getattr(actor, method).remote(request), actor, request)
        except RayActorError as error:
            raise ReplicaLost from error

    def fetch(self, pending: _Call, timeout_s: float) -> TeacherSignal:
        """Get the signal from the node that made it."""
        deadline = time.monotonic() + timeout_s
        try:
            answer = self._get(pending, timeout_s)
            return self._take(answer, pending, deadline) if isinstance(answer, Offered) else answer
        except GetTimeoutError as error:
            ray.cancel(pending.ref)
            raise ReplicaSlow from error
        except LOST as error:
            raise ReplicaLost from error
        except RayTaskError as error:
            raise cause_of(self._name, error) from error

    def _take(self, offered: Offered, call: _Call, deadline: float) -> TeacherSignal:
        """From the replica's device; if that fails, asked again, and in host memory from now on."""
        if call.actor._actor_id not in self._through_host:
            try:
                return take(offered, _TAKE_S)
            except RayError as error:  # a way that is blocked; a replica restarted, unknown to NIXL
                self._through_host.add(call.actor._actor_id)
                self._say(
                    f"teachers.{self._name}: a replica answers through host memory from now on: {last_line(error)}"
                )
        again = call.actor.answer.remote(call.request)
        return ray.get(again, timeout=max(_TAKE_S, deadline - time.monotonic()))  # type: ignore[no-any-return]

    def _get(self, pending: _Call, timeout_s: float) -> TeacherSignal | Offered:
        try:
            return ray.get(pending.ref, timeout=timeout_s)  # type: ignore[no-any-return]
        except GetTimeoutError:
            if not self.arrived(pending):
                raise
            return ray.get(pending.ref, timeout=_TRANSFER_S)  # type: ignore[no-any-return]

    def first(self, pending: Sequence[_Call], timeout_s: float) -> int | None:
        """Wait until one of some calls has ended, well or not."""
        refs = [call.ref for call in pending]
        ended = ray.wait(refs, num_returns=1, timeout=timeout_s, fetch_local=False)[0]
        return refs.index(ended[0]) if ended else None

    def assign(self, handles: Sequence[Any]) -> tuple[int, list[int]]:
        """Reach these actors from now on; numbers of earlier ones stay."""
        known = {actor._actor_id for actor in self._actors}
        new = [actor for actor in handles if actor._actor_id not in known]
        wanted = {actor._actor_id for actor in handles}
        gone = [i for i, actor in enumerate(self._actors) if actor._actor_id not in wanted]
        self._actors += new
        self.num_replicas = len(self._actors)
        return len(new), gone

    def bring_here(self, pending: Sequence[_Call]) -> None:
        """Start to pull finished answers; the node goes on with it after this call."""
        refs = [call.ref for call in pending]
        ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=True)

    def arrived(self, pending: _Call) -> bool:
        """Whether the call has ended, and not by a death."""
        if not ray.wait([pending.ref], timeout=0, fetch_local=False)[0]:
            return False
        try:
            ray.get(pending.ref, timeout=0)
        except LOST:
            return False
        except (GetTimeoutError, RayTaskError):  # on another node; or to be raised when collected
            return True
        return True

    def serving(self, replica: int) -> bool:
        """Whether a ping was answered; the first look only sends it."""
        ping = self._pings.pop(replica, None)
        if ping is None:
            ping = self._actors[replica].ping.remote()
        if not ray.wait([ping], timeout=0)[0]:
            self._pings[replica] = ping
            return False
        try:
            ray.get(ping)
        except RayActorError:
            return False
        return True

    def await_alive(self, replicas: Sequence[int], timeout_s: float) -> int:
        """Wait for the first restart."""
        deadline = time.monotonic() + timeout_s
        self._pings.clear()  # may be of the last life
        pings = {self._actors[replica].ping.remote(): replica for replica in replicas}
        deaths, why = dict.fromkeys(replicas, 0), ""
        while pings:
            remaining = deadline - time.monotonic()
            ready = ray.wait(list(pings), timeout=remaining)[0] if remaining > 0 else []
            if not ready:
                raise ReplicaSlow
            replica = pings.pop(ready[0])
            try:
                ray.get(ready[0])
            except RayActorError as error:
                why = last_line(error) if error.actor_init_failed else why
                deaths[replica] = deaths[replica] + 1 if isinstance(error, ActorDiedError) else 0
                if deaths[replica] < _DEATHS:
                    time.sleep(_PAUSE_S)
                    pings[self._actors[replica].ping.remote()] = replica
            else:
                return replica
        raise ReplicaLost(why)

    def restart(self, replica: int) -> None:
        """Kill; Ray starts it again."""
        ray.kill(self._actors[replica], no_restart=False)


def cause_of(name: str, error: RayTaskError) -> RaydistillError:
    """What the teacher itself raised, with its type."""
    cause = error.cause
    if isinstance(cause, RaydistillError):
        return cause
    return TeacherError(name, f"failed while answering: {last_line(cause or error)}", "")
