"""The Ray shell around a teacher: actors and their placement. No logic."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from raydistill.errors import TeacherError
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.signals.signal import CPU, on_device
from raydistill.teachers.calls import last_line
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.direct import Offered, Offers
from raydistill.teachers.merging import Merge, MergingTeacher
from raydistill.teachers.placement import Trial
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.stored import Publisher, StoredTeacher
from raydistill.teachers.teacher import LocalTeacher, time_answers
from raydistill.teachers.thread import OneThread
from raydistill.teachers.transport import LOST, cause_of

__all__ = [
    "TeacherActor",
    "describe_replicas",
    "start_replicas",
    "try_teacher",
]

_WAITING = 64  # calls that one replica holds at a time, computing one; more wait in Ray


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
        self._offers = Offers(self._said.append)
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
        return self._offers.offer(self._teacher.answer(request))

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
        """What it has to tell the user since the last call: of its store, and how its answers travel."""
        said = self._said[:]
        del self._said[: len(said)]
        return said


def start_replicas(
    settings: TeacherSettings,
    *,
    replicas: int,
    num_cpus: float,
    num_gpus: float,
    resources: Mapping[str, float] | None = None,
    window_rows: int = 0,
    merge: Merge = "never",
    store: Any = None,
    make_teacher: Any = LocalTeacher,
) -> list[Any]:
    """Start the actors of one teacher, spread over the nodes; returns without waiting for them."""
    remote = ray.remote(TeacherActor).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=dict(resources or {}),
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
            f"Its num_gpus, num_cpus or resources may not be free on any node; else raise teachers.{name}.start_timeout_s.",
        ) from None
    except RayTaskError as error:
        raise cause_of(name, error) from error
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
    resources: Mapping[str, float] | None = None,
) -> tuple[TeacherDescription, Trial]:
    """Load a teacher where a worker will run, let it answer twice, and time the second.

    Raises:
        RaydistillError: What the teacher raised.
        TeacherError: It could not be loaded, or not within ``timeout_s``.
    """
    task = ray.remote(_trial).options(
        num_cpus=num_cpus, num_gpus=num_gpus, resources=dict(resources or {}), max_retries=0
    )
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
        raise cause_of(settings.name, error) from error
    except LOST as error:
        raise TeacherError(settings.name, f"failed to load: {last_line(error)}", "") from error


def _trial(settings: TeacherSettings, request: Request) -> tuple[TeacherDescription, Trial]:
    teacher = LocalTeacher(settings)
    teacher.answer(request)
    begin = time.perf_counter()
    signal = teacher.answer(request)
    seconds = time.perf_counter() - begin
    return teacher.describe(), Trial(request.num_rows, seconds, signal.num_bytes)
