"""The Ray shell around a teacher: actors, their placement, and the transport to them. No logic."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayDirectTransportError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from raydistill.errors import RaydistillError, TeacherError
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.signals.signal import CPU, on_device
from raydistill.teachers.calls import last_line
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.direct import Offered, offer, take, why_unable
from raydistill.teachers.merging import Merge, MergingTeacher
from raydistill.teachers.placement import Trial
from raydistill.teachers.pool import ReplicaLost, ReplicaSlow
from raydistill.teachers.stored import Publisher, StoredTeacher
from raydistill.teachers.teacher import (
    LocalTeacher,
    TeacherDescription,
    TeacherSettings,
    time_answers,
)
from raydistill.teachers.thread import OneThread

__all__ = [
    "ActorTransport",
    "TeacherActor",
    "describe_replicas",
    "start_replicas",
    "try_teacher",
]

_PAUSE_S = 0.2  # between looks at a replica that is being restarted
_TRANSFER_S = 60.0  # for an answer that is ready on another node when its deadline comes
_TAKE_S = 5.0  # at least, for a buffer that is ready
_WAITING = 64  # calls that one replica holds at a time, computing one; more wait in Ray
_DEATHS = 5  # pings in a row that find it dead before it is given up; one may be of the last life
_LOST = (
    RayActorError, ObjectLostError, TaskCancelledError, NodeDiedError, OutOfMemoryError, WorkerCrashedError,
)  # fmt: skip


class TeacherActor:
    """Serves one teacher to many threads; counts what it computes.

    One thread loads and computes. `describe` and `stats` answer meanwhile; the others wait for it.

    Args:
        make_teacher: From its settings to the teacher.
        settings: Of the teacher.
        window_rows: Rows of waiting requests computed together; 0: each request by itself.
        merge: ``auto``: only if answers do not depend on it; ``always``; ``never``.
        store: Where answers are kept; None: nowhere.
    """

    def __init__(
        self,
        make_teacher: Any,
        settings: Any,
        window_rows: int = 0,
        merge: Merge = "never",
        store: Any = None,
    ) -> None:
        thread = OneThread()
        self._local = thread.run(make_teacher, settings)
        counted = self._counted = CountingTeacher(self._local)
        self._description = thread.run(counted.describe)
        self._stored: StoredTeacher | None = None
        self._said: list[str] = []
        self._unable: str | None = None  # to send from device to device; nobody tried yet
        if store is not None:
            self._stored = StoredTeacher(counted, store.open(settings.name, self._said.append))
        together = merge == "always" or (merge == "auto" and self._description.steady)
        self._teacher = MergingTeacher(
            self._stored or counted, window_rows if together else 0, thread=thread
        )
        if self._stored is not None:
            Publisher(self._stored, self._teacher.run).start()

    def describe(self) -> TeacherDescription:
        """The teacher's description."""
        return self._description

    def answer(self, request: Request) -> TeacherSignal:
        """The teacher's answer, in host memory."""
        return on_device(self._teacher.answer(request), CPU)

    def offer(self, request: Request) -> Offered | TeacherSignal:
        """The teacher's answer, to be taken from this process's device; if that cannot be, as `answer`."""
        signal = self._teacher.answer(request)
        if self._unable is None:
            self._unable = why_unable() or ""
            if self._unable:
                self._said.append(f"answers through host memory: {self._unable}")
        return on_device(signal, CPU) if self._unable else offer(signal)

    def fill(self, request: Request) -> TeacherSignal:
        """Compute what the store has not; what comes back names the rows and holds nothing."""
        assert self._stored is not None
        self._teacher.run(self._stored.fill, request)
        return pack_signal(self._description.fingerprint, request.row_ids, [], {}, "float32")

    def ping(self) -> int:
        """Alive, and not hanging in an answer; the process id, which tests use to kill it."""
        return self._teacher.run(os.getpid)

    def time(self, requests: Sequence[Request]) -> list[float]:
        """Seconds that each answer takes; not counted as work."""
        return self._teacher.run(time_answers, self._local, requests)

    def stats(self) -> Mapping[str, float]:
        """What was computed since this replica started, and what was found instead."""
        found = self._stored.stats() if self._stored is not None else {}
        return {**self._counted.stats(), **found}

    def publish(self) -> None:
        """Let others find what was computed so far."""
        if self._stored is not None:
            self._teacher.run(self._stored.publish)

    def said(self) -> list[str]:
        """What its store has to tell the user since the last call."""
        said = self._said[:]
        del self._said[: len(said)]
        return said


def start_replicas(
    settings: TeacherSettings,
    *,
    replicas: int,
    num_cpus: float,
    num_gpus: float,
    window_rows: int = 0,
    merge: Merge = "never",
    store: Any = None,
    make_teacher: Any = LocalTeacher,
) -> list[Any]:
    """Start the actors of one teacher, spread over the nodes; returns without waiting for them."""
    remote = ray.remote(TeacherActor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=-1,  # each request's retries are bounded by the pool
        max_task_retries=0,
        max_concurrency=_WAITING,
        scheduling_strategy="SPREAD",
    )
    return [
        remote.remote(make_teacher, settings, window_rows, merge, store) for _ in range(replicas)
    ]


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
        raise TeacherError(name, f"failed to start: {last_line(error)}", "") from error
    fingerprints = {description.fingerprint for description in descriptions}
    if len(fingerprints) > 1:
        raise TeacherError(
            name,
            "its replicas loaded different weights",
            "Is the model folder the same on every node?",
        )
    return descriptions[0]  # type: ignore[no-any-return]


def try_teacher(
    settings: TeacherSettings,
    request: Request,
    *,
    num_cpus: float,
    num_gpus: float,
    timeout_s: float,
) -> tuple[TeacherDescription, Trial]:
    """Load a teacher where a worker will run, let it answer twice, and time the second.

    Raises:
        RaydistillError: What the teacher raised.
        TeacherError: It could not be loaded, or not within ``timeout_s``.
    """
    task = ray.remote(_trial).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)
    trial = task.remote(settings, request)
    try:
        return ray.get(trial, timeout=timeout_s)  # type: ignore[no-any-return]
    except GetTimeoutError:
        ray.cancel(trial, force=True)
        raise TeacherError(
            settings.name,
            f"did not load and answer where a worker will run within {timeout_s:g} s (start_timeout_s = {timeout_s:g})",
            "training.gpus_per_worker or training.cpus_per_worker may not fit on any node; else raise "
            f"teachers.{settings.name}.start_timeout_s.",
        ) from None
    except RayTaskError as error:
        raise _cause(settings.name, error) from error
    except _LOST as error:
        raise TeacherError(settings.name, f"failed to load: {last_line(error)}", "") from error


def _trial(settings: TeacherSettings, request: Request) -> tuple[TeacherDescription, Trial]:
    teacher = LocalTeacher(settings)
    teacher.answer(request)
    begin = time.perf_counter()
    signal = teacher.answer(request)
    seconds = time.perf_counter() - begin
    return teacher.describe(), Trial(request.num_rows, seconds, signal.num_bytes)


class ActorTransport:
    """Requests to replicas as calls of actors; what stands for an answer is an object reference.

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
        self._through_host: set[str] = set()

    def submit(self, replica: int, request: Request) -> Any:
        """Call without waiting."""
        actor, method = self._actors[replica], self._method
        if actor._actor_id.hex() in self._through_host:
            method = "answer"
        try:
            return getattr(actor, method).remote(request)
        except RayActorError as error:
            raise ReplicaLost from error

    def fetch(self, pending: Any, timeout_s: float) -> TeacherSignal:
        """Get the signal from the node that made it."""
        deadline = time.monotonic() + timeout_s
        try:
            answer = self._get(pending, timeout_s)
            if isinstance(answer, Offered):
                return self._take(answer, max(_TAKE_S, deadline - time.monotonic()))
        except GetTimeoutError as error:
            ray.cancel(pending)
            raise ReplicaSlow from error
        except _LOST as error:
            raise ReplicaLost from error
        except RayTaskError as error:
            raise _cause(self._name, error) from error
        return answer

    def _take(self, offered: Offered, timeout_s: float) -> TeacherSignal:
        """From the replica's device; if that fails, by the object store, as later ones of this replica."""
        try:
            return take(offered, timeout_s)
        except (
            RayDirectTransportError
        ) as error:  # e.g. NIXL does not know a replica that was restarted
            if offered.actor not in self._through_host:
                self._through_host.add(offered.actor)
                self._say(
                    f"teachers.{self._name}: a replica answers through host memory from now on: {last_line(error)}"
                )
        return take(offered, timeout_s, through_host=True)

    def _get(self, pending: Any, timeout_s: float) -> TeacherSignal | Offered:
        try:
            return ray.get(pending, timeout=timeout_s)  # type: ignore[no-any-return]
        except GetTimeoutError:
            if not self.arrived(pending):
                raise
            return ray.get(pending, timeout=_TRANSFER_S)  # type: ignore[no-any-return]

    def first(self, pending: Sequence[Any], timeout_s: float) -> int | None:
        """Wait until one of some calls has ended, well or not."""
        ended = ray.wait(list(pending), num_returns=1, timeout=timeout_s, fetch_local=False)[0]
        return list(pending).index(ended[0]) if ended else None

    def assign(self, handles: Sequence[Any]) -> tuple[int, list[int]]:
        """Reach these actors from now on; numbers of earlier ones stay."""
        known = {actor._actor_id for actor in self._actors}
        new = [actor for actor in handles if actor._actor_id not in known]
        wanted = {actor._actor_id for actor in handles}
        gone = [i for i, actor in enumerate(self._actors) if actor._actor_id not in wanted]
        self._actors += new
        self.num_replicas = len(self._actors)
        return len(new), gone

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


def _cause(name: str, error: RayTaskError) -> RaydistillError:
    """What the teacher itself raised, with its type."""
    cause = error.cause
    if isinstance(cause, RaydistillError):
        return cause
    return TeacherError(name, f"failed while answering: {last_line(cause or error)}", "")
