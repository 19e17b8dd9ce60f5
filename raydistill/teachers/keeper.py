"""The replicas of one teacher during a run: started, grown, shrunk, counted, stopped."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from raydistill.teachers.actor import publish_replicas, replica_stats, stop_replicas
from raydistill.teachers.scaling import Load, Scaler

__all__ = ["ReplicaKeeper"]

_LOOK_S = 2.0  # between two looks
_GRACE_S = 5.0  # for what was on its way to a retired replica
_ROOM_S = 120.0  # how long another replica may look for a place


class ReplicaKeeper:
    """Looks now and then, and never waits for a replica.

    Args:
        name: Of the teacher.
        actors: Its first replicas.
        start_one: Start another.
        scaler: Decides; None: the number stays.
        say: Where decisions are told.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.actors = name, list(actors)
        self._start_one, self._scaler, self._say, self._clock = start_one, scaler, say, clock
        self._retired: list[tuple[Any, float]] = []
        self._starting: tuple[Any, Any, float] | None = None
        self._gone: dict[str, float] = {}
        self._waited: dict[int, float] = {}
        self._waited_before: dict[int, float] = {}
        self._busy_before: float | None = None
        self._asked_stats: list[Any] = []
        self._looked_at = clock()

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
        changed = self._settle(now)
        if self._scaler is None or now - self._looked_at < _LOOK_S:
            return changed
        load, self._looked_at = self._load(now - self._looked_at), now
        if load is None or self._starting is not None:
            return changed
        step = self._scaler.decide(len(self.actors), load)
        if step > 0:
            actor = self._start_one()
            self._starting = (actor, actor.describe.remote(), now)
            self._say(f"{self.name}: workers wait for it; starting replica {len(self.actors) + 1}")
        elif step < 0:
            self._retired.append((self.actors.pop(), now))
            self._say(f"{self.name}: idle; going on with {len(self.actors)} replica(s)")
            changed = True
        return changed

    def _settle(self, now: float) -> bool:
        """A replica that has loaded joins; one that has retired leaves."""
        for retired, since in list(self._retired):
            if now - since > _GRACE_S:
                self._retired.remove((retired, since))
                self._let_go(retired)
        if self._starting is None:
            return False
        actor, description, since = self._starting
        if ray.wait([description], timeout=0)[0]:
            self._starting = None
            try:
                ray.get(description)
            except RayError as error:
                self._say(
                    f"{self.name}: another replica could not be started ({type(error).__name__})"
                )
                stop_replicas([actor])
                return False
            self.actors.append(actor)
            return True
        if now - since > _ROOM_S:
            self._say(
                f"{self.name}: there is no room for another replica; it stays at {len(self.actors)}"
            )
            self._scaler = Scaler(len(self.actors), len(self.actors))
            self._starting = None
            stop_replicas([actor])
        return False

    def _load(self, seconds: float) -> Load | None:
        """Since the last look; None as long as that is not known."""
        asked, self._asked_stats = self._asked_stats, [a.stats.remote() for a in self.actors]
        try:
            busy = sum(stats["busy_s"] for stats in ray.get(asked, timeout=0)) if asked else None
        except (GetTimeoutError, RayError):
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

    def _let_go(self, actor: Any) -> None:
        publish_replicas([actor])
        for key, value in replica_stats([actor]).items():
            self._gone[key] = self._gone.get(key, 0.0) + value
        stop_replicas([actor])

    def stats(self) -> Mapping[str, float]:
        """Sums over all replicas that there were."""
        total = dict(self._gone)
        everyone = [*self.actors, *(actor for actor, _ in self._retired)]
        for key, value in replica_stats(everyone).items():
            total[key] = total.get(key, 0.0) + value
        return total

    def stop(self) -> None:
        """Publish and end them all."""
        everyone = [*self.actors, *(actor for actor, _ in self._retired)]
        publish_replicas(everyone)
        if self._starting is not None:
            everyone.append(self._starting[0])
        stop_replicas(everyone)
