"""The Ray shell around a teacher: actors, their placement, and the transport to them. No logic."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from raydistill.errors import RaydistillError, TeacherError
from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.pool import ReplicaLost, ReplicaSlow
from raydistill.teachers.teacher import (
    LocalTeacher,
    Teacher,
    TeacherDescription,
    TeacherSettings,
    time_answers,
)

__all__ = ["ActorTransport", "TeacherActor", "start_replicas", "stop_replicas"]

_PAUSE_S = 0.2  # between looks at a replica that is being restarted
_TRANSFER_S = 60.0  # for an answer that is ready on another node when its deadline comes
_DEATHS = 5  # pings in a row that find it dead before it is given up; one may be of the last life
_LOST = (
    RayActorError, ObjectLostError, TaskCancelledError, NodeDiedError, OutOfMemoryError, WorkerCrashedError,
)  # fmt: skip


class TeacherActor:
    """Serves one teacher; counts what it computes."""

    def __init__(self, make_teacher: Any, settings: Any) -> None:
        self._teacher: Teacher = make_teacher(settings)
        self._rows = self._requests = self._bytes = 0
        self._seconds = 0.0

    def describe(self) -> TeacherDescription:
        """The teacher's description."""
        return self._teacher.describe()

    def answer(self, request: Request) -> TeacherSignal:
        """The teacher's answer."""
        begin = time.perf_counter()
        signal = self._teacher.answer(request)
        self._seconds += time.perf_counter() - begin
        self._rows += request.num_rows
        self._requests += 1
        self._bytes += signal.num_bytes
        return signal

    def ping(self) -> int:
        """Alive; the process id, which tests use to kill it."""
        return os.getpid()

    def time(self, requests: Sequence[Request]) -> list[float]:
        """Seconds that each answer takes; not counted as work."""
        return time_answers(self._teacher, requests)

    def stats(self) -> Mapping[str, float]:
        """What was computed since this replica started."""
        return {
            "rows_computed": self._rows,
            "requests": self._requests,
            "answer_bytes": self._bytes,
            "busy_s": self._seconds,
        }


def start_replicas(
    settings: TeacherSettings,
    *,
    replicas: int,
    num_cpus: float,
    num_gpus: float,
    make_teacher: Any = LocalTeacher,
) -> list[Any]:
    """Start the actors of one teacher, spread over the nodes; returns without waiting for them."""
    remote = ray.remote(TeacherActor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=-1,  # each request's retries are bounded by the pool
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )
    return [remote.remote(make_teacher, settings) for _ in range(replicas)]


def describe_replicas(name: str, actors: Sequence[Any], timeout_s: float) -> TeacherDescription:
    """Wait until every replica has loaded; all must be the same teacher."""
    refs = [actor.describe.remote() for actor in actors]
    try:
        descriptions = ray.get(refs, timeout=timeout_s)
    except GetTimeoutError:
        raise TeacherError(
            name,
            f"its {len(actors)} replica(s) did not start within {timeout_s:g} s (start_timeout_s = {timeout_s:g})",
            f"Its num_gpus or num_cpus may not fit on any node; else raise teachers.{name}.start_timeout_s.",
        ) from None
    except RayTaskError as error:
        raise _cause(name, error) from error
    except RayActorError as error:
        raise TeacherError(name, f"failed to start: {_last_line(error)}", "") from error
    fingerprints = {description.fingerprint for description in descriptions}
    if len(fingerprints) > 1:
        raise TeacherError(
            name,
            "its replicas loaded different weights",
            "Is the model folder the same on every node?",
        )
    return descriptions[0]  # type: ignore[no-any-return]


def replica_stats(actors: Sequence[Any], timeout_s: float = 10.0) -> dict[str, float]:
    """Sums over the replicas that answer in time."""
    total: dict[str, float] = {}
    for actor in actors:
        try:
            stats = ray.get(actor.stats.remote(), timeout=timeout_s)
        except (RayActorError, GetTimeoutError):
            continue
        for key, value in stats.items():
            total[key] = total.get(key, 0.0) + value
    return total


def stop_replicas(actors: Sequence[Any]) -> None:
    """Kill the actors; their GPUs are free at once."""
    for actor in actors:
        ray.kill(actor, no_restart=True)


class ActorTransport:
    """Requests to replicas as calls of actors; what stands for an answer is an object reference."""

    def __init__(self, name: str, actors: Sequence[Any]) -> None:
        self._name, self._actors = name, list(actors)
        self.num_replicas = len(self._actors)
        self._pings: dict[int, Any] = {}

    def submit(self, replica: int, request: Request) -> Any:
        """Call without waiting."""
        try:
            return self._actors[replica].answer.remote(request)
        except RayActorError as error:
            raise ReplicaLost from error

    def fetch(self, pending: Any, timeout_s: float) -> TeacherSignal:
        """Get the signal from the node that made it."""
        try:
            return self._get(pending, timeout_s)
        except GetTimeoutError as error:
            ray.cancel(pending)
            raise ReplicaSlow from error
        except _LOST as error:
            raise ReplicaLost from error
        except RayTaskError as error:
            raise _cause(self._name, error) from error

    def _get(self, pending: Any, timeout_s: float) -> TeacherSignal:
        try:
            return ray.get(pending, timeout=timeout_s)  # type: ignore[no-any-return]
        except GetTimeoutError:
            if not self.arrived(pending):
                raise
            return ray.get(pending, timeout=_TRANSFER_S)  # type: ignore[no-any-return]

    def bring_here(self, pending: Sequence[Any]) -> None:
        """Start to pull finished answers; the node goes on with it after this call."""
        ray.wait(list(pending), num_returns=len(pending), timeout=0, fetch_local=True)

    def arrived(self, pending: Any) -> bool:
        """Whether the call has ended, and not by a death."""
        if not ray.wait([pending], timeout=0, fetch_local=False)[0]:
            return False
        try:
            ray.get(pending, timeout=0)
        except _LOST:
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
        deaths = dict.fromkeys(replicas, 0)
        while pings:
            remaining = deadline - time.monotonic()
            ready = ray.wait(list(pings), timeout=remaining)[0] if remaining > 0 else []
            if not ready:
                raise ReplicaSlow
            replica = pings.pop(ready[0])
            try:
                ray.get(ready[0])
            except RayActorError as error:
                deaths[replica] = deaths[replica] + 1 if isinstance(error, ActorDiedError) else 0
                if deaths[replica] < _DEATHS:
                    time.sleep(_PAUSE_S)
                    pings[self._actors[replica].ping.remote()] = replica
            else:
                return replica
        raise ReplicaLost

    def restart(self, replica: int) -> None:
        """Kill; Ray starts it again."""
        ray.kill(self._actors[replica], no_restart=False)


def _cause(name: str, error: RayTaskError) -> RaydistillError:
    """What the teacher itself raised, with its type."""
    cause = error.cause
    if isinstance(cause, RaydistillError):
        return cause
    return TeacherError(name, f"failed while answering: {_last_line(cause or error)}", "")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
