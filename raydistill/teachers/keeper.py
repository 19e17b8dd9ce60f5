"""The replicas of one teacher during a run: started, grown, shrunk, counted, stopped."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError, RayError

from raydistill.teachers.calls import Calls, RayCalls, last_line
from raydistill.teachers.protocol import TeacherDescription
from raydistill.teachers.scaling import Load, Scaler

__all__ = ["ReplicaKeeper"]

_LOOK_S = 2.0  # between two looks
_GRACE_S = 5.0  # for what was on its way to a retired replica
_LEAVE_S = 120.0  # for what a retired replica has still to publish
_STOP_S = 60.0  # for what all have still to publish when the run ends


@dataclass(eq=False)
class _Replica:
    actor: Any
    description: Any  # the call
    since: float  # started, or retired
    publish: Any = None  # the call, once it has retired
    stats: Any = None  # the call, once it has published


class ReplicaKeeper:
    """Looks now and then, and never waits for a replica before the end.

    Args:
        name: Of the teacher.
        actors: Its first replicas.
        start_one: Start another.
        scaler: Decides; None: the number stays.
        say: Where decisions are told.
        start_timeout_s: How long another replica may take to find a place and to load.
        calls: How replicas are reached.
        clock: Seconds; tests bring their own.
    """

    def __init__(
        self,
        name: str,
        actors: Sequence[Any],
        start_one: Callable[[], Any],
        *,
        scaler: Scaler | None,
        say: Callable[[str], None],
        start_timeout_s: float = 600.0,
        calls: Calls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self._start_timeout_s = name, start_timeout_s
        self._calls = calls or RayCalls()
        self._start_one, self._scaler, self._say, self._clock = start_one, scaler, say, clock
        self._serving = [self._replica(actor) for actor in actors]
        self._retired: list[_Replica] = []
        self._starting: _Replica | None = None
        self._gone: dict[str, float] = {}
        self._waited: dict[int, float] = {}
        self._waited_before: dict[int, float] = {}
        self._busy_before: float | None = None
        self._asked_stats: list[Any] = []
        self._hearing: list[Any] = []
        self._told: set[str] = set()
        self._looked_at = clock()

    def _replica(self, actor: Any) -> _Replica:
        return _Replica(actor, self._calls.ask(actor, "describe"), self._clock())

    @property
    def actors(self) -> list[Any]:
        """The replicas that should be asked."""
        return [replica.actor for replica in self._serving]

    @property
    def elastic(self) -> bool:
        """Whether the number may change."""
        return self._scaler is not None

    def waited(self, rank: int, seconds: float) -> None:
        """What a worker waited for this teacher since it started."""
        self._waited[rank] = seconds

    def look(self) -> bool:
        """Whether the replicas that should be asked are others than before."""
        now = self._clock()
        for replica in list(self._retired):
            self._let_go(replica, now)
        changed = self._settle(now)
        seconds = now - self._looked_at
        if seconds < _LOOK_S:
            return changed
        self._looked_at = now
        self._hear()
        if not self._hearing:
            self._hearing = [self._calls.ask(actor, "said") for actor in self.actors]
        load = self._load(seconds) if self._scaler is not None else None
        if self._scaler is None or load is None or self._starting is not None:
            return changed
        step = self._scaler.decide(len(self._serving), load)
        if step > 0:
            self._starting = self._replica(self._start_one())
            self._say(f"{self.name}: workers wait for it; starting replica {len(self.actors) + 1}")
        elif step < 0:
            replica = self._serving.pop()
            replica.since = now
            self._retired.append(replica)
            self._say(f"{self.name}: idle; going on with {len(self.actors)} replica(s)")
            changed = True
        return changed

    def _hear(self) -> None:
        """What stores had to tell when they were last asked, as far as it has come."""
        ended = [call for call in self._hearing if self._calls.ended(call)]
        for call in ended:
            with suppress(RayError):
                self._tell(self._calls.result(call))
        self._hearing = [call for call in self._hearing if call not in ended]

    def _tell(self, sentences: Sequence[str]) -> None:
        """Each once, whichever replica says it."""
        for sentence in sentences:
            if sentence not in self._told:
                self._told.add(sentence)
                self._say(f"{self.name}: {sentence}")

    def _settle(self, now: float) -> bool:
        """Whether a replica that has loaded joins."""
        new = self._starting
        if new is None:
            return False
        if not self._calls.ended(new.description):
            if now - new.since > self._start_timeout_s:
                self._give_up(
                    f"another replica found no place, or did not load, within {self._start_timeout_s:g} s "
                    f"(teachers.{self.name}.start_timeout_s)"
                )
            return False
        try:
            description = self._calls.result(new.description)
        except RayError as error:
            self._refuse(error)
            return False
        if description.fingerprint not in self._fingerprints(description):
            self._give_up(
                "another replica loaded other weights than the first (is the model folder the same on "
                "every node, and unchanged?)"
            )
            return False
        self._starting = None
        self._serving.append(new)
        return True

    def _fingerprints(self, otherwise: TeacherDescription) -> set[str]:
        """Of the replicas that serve, as far as they are known."""
        known = [d for replica in self._serving if (d := self._described(replica)) is not None]
        return {description.fingerprint for description in known or [otherwise]}

    def _described(self, replica: _Replica) -> TeacherDescription | None:
        """What it said of itself; None: it has not loaded, or failed to."""
        if not self._calls.ended(replica.description):
            return None
        try:
            description: TeacherDescription = self._calls.result(replica.description)
        except RayError:
            return None
        return description

    def _refuse(self, error: RayError) -> None:
        """A replica died at its start: whether the next would, too, depends on why."""
        if isinstance(error, RayActorError) and error.actor_init_failed:
            self._give_up(f"another replica could not be started ({last_line(error)})")
            return
        self._say(f"{self.name}: another replica could not be started ({last_line(error)})")
        self._drop_starting()

    def _give_up(self, why: str) -> None:
        self._say(f"{self.name}: {why}; it stays at {len(self.actors)}")
        self._scaler = Scaler(len(self.actors), len(self.actors))
        self._drop_starting()

    def _drop_starting(self) -> None:
        if self._starting is not None:
            self._calls.stop([self._starting.actor])
        self._starting = None

    def _let_go(self, replica: _Replica, now: float) -> None:
        """One step on the way of a retired replica: asked to publish, then counted, then ended."""
        calls, age = self._calls, now - replica.since
        if replica.publish is None:
            if age > _GRACE_S:
                replica.publish = calls.ask(replica.actor, "publish")
            return
        if replica.stats is None and calls.ended(replica.publish):
            replica.stats = calls.ask(replica.actor, "stats")
        if replica.stats is not None and calls.ended(replica.stats):
            self._count_gone(replica)
        elif age > _GRACE_S + _LEAVE_S:
            self._say(
                f"{self.name}: a replica that is not needed did not publish within {_LEAVE_S:g} s; it is ended"
            )
        else:
            return
        self._retired.remove(replica)
        calls.stop([replica.actor])

    def _count_gone(self, replica: _Replica) -> None:
        for call, what in ((replica.publish, "publish its answers"), (replica.stats, "be counted")):
            try:
                result = self._calls.result(call)
            except RayError as error:
                self._say(
                    f"{self.name}: a replica that is not needed could not {what} ({last_line(error)})"
                )
                continue
            for key, value in (result or {}).items():
                self._gone[key] = self._gone.get(key, 0.0) + value

    def _load(self, seconds: float) -> Load | None:
        """Since the last look; None as long as that is not known."""
        calls = self._calls
        asked, self._asked_stats = (
            self._asked_stats,
            [calls.ask(actor, "stats") for actor in self.actors],
        )
        busy = None
        if asked and all(calls.ended(call) for call in asked):
            try:
                busy = sum(calls.result(call)["busy_s"] for call in asked)
            except RayError:
                busy = None
        before, self._busy_before = self._busy_before, busy
        waited = {
            rank: max(0.0, s - self._waited_before.get(rank, 0.0))
            for rank, s in self._waited.items()
        }
        self._waited_before = dict(self._waited)
        if busy is None or before is None:
            return None
        return Load(seconds, waited, max(0.0, busy - before))

    def stats(self) -> Mapping[str, float]:
        """Sums over all replicas that there were."""
        total = dict(self._gone)
        everyone = [*self.actors, *(replica.actor for replica in self._retired)]
        for key, value in self._calls.stats(everyone).items():
            total[key] = total.get(key, 0.0) + value
        return total

    def stop(self) -> None:
        """Publish and end them all; those that have not loaded have nothing to publish."""
        everyone = [*self._serving, *self._retired]
        loaded = [replica for replica in everyone if self._described(replica) is not None]
        self._drop_starting()
        self._end([replica for replica in everyone if replica not in loaded])
        failed = self._calls.publish([replica.actor for replica in loaded], _STOP_S)
        for why in failed:
            self._say(f"{self.name}: a replica could not publish its answers ({why})")
        self._hear()
        self._tell(self._calls.said([replica.actor for replica in loaded]))
        self._end(loaded)

    def _end(self, replicas: Sequence[_Replica]) -> None:
        for why in self._calls.stop([replica.actor for replica in replicas]):
            self._say(f"{self.name}: a replica could not be ended ({why})")
