"""Which replica is asked, and what follows when it fails: decisions, no actions."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Decision", "Failure", "Router", "decide"]


class Failure(Enum):
    """How a request failed."""

    LOST = "lost"
    """The replica died, or its node."""
    LATE = "late"
    """No answer within the deadline."""


class Decision(Enum):
    """What to do about a failed request."""

    ASK_ANOTHER = "ask another replica"
    AWAIT_RESTART = "wait for the restart"
    """Of a dead replica; there is no other."""
    RESTART = "restart the replica"
    """It hangs, and there is no other."""
    STOP = "stop"


def decide(failure: Failure, *, attempts: int, max_retries: int, others: int) -> Decision:
    """What to do after a failure.

    Args:
        failure: What happened.
        attempts: How often this request was asked, the failed one included.
        max_retries: How often it may be asked again.
        others: Replicas that are not under suspicion.
    """
    if attempts > max_retries:
        return Decision.STOP
    if others > 0:
        return Decision.ASK_ANOTHER
    return Decision.AWAIT_RESTART if failure is Failure.LOST else Decision.RESTART


@dataclass
class _Replica:
    load: int = 0
    suspect: bool = False
    retired: bool = False


class Router:
    """Least outstanding work first; suspects only when nobody else is left, retired ones never.

    Args:
        num_replicas: How many there are.
        offset: Where ties begin, so that workers do not all start with the same replica.
    """

    def __init__(self, num_replicas: int, offset: int = 0) -> None:
        self._replicas = [_Replica() for _ in range(num_replicas)]
        self._offset = offset

    def pick(self, load: int) -> int:
        """Choose a replica for a request of some load, and count it there."""
        chosen = self._least(range(len(self._replicas)))
        self._replicas[chosen].load += load
        return chosen

    def others(self, replica: int) -> list[int]:
        """Replicas beside one that are trusted."""
        return [
            i
            for i, one in enumerate(self._replicas)
            if i != replica and not one.suspect and not one.retired
        ]

    def count(self, replica: int, load: int) -> None:
        """It was asked something more."""
        self._replicas[replica].load += load

    def _least(self, replicas: Iterable[int]) -> int:
        count = len(self._replicas)

        def rank(i: int) -> tuple[bool, bool, int, int]:
            one = self._replicas[i]
            return one.retired, one.suspect, one.load, (i - self._offset) % count

        return min(replicas, key=rank)

    def done(self, replica: int, load: int) -> None:
        """An answer came, or none is expected any more: less load."""
        self._replicas[replica].load -= load

    def trust(self, replica: int) -> None:
        """It serves: no suspicion."""
        self._replicas[replica].suspect = False

    def failed(self, replica: int, load: int) -> None:
        """A request came to nothing: its load is gone, the replica under suspicion."""
        self._replicas[replica].load -= load
        self._replicas[replica].suspect = True

    def add(self) -> int:
        """One more replica; its number."""
        self._replicas.append(_Replica())
        return len(self._replicas) - 1

    def retire(self, replica: int) -> None:
        """It gets nothing more; what it was asked it still answers."""
        self._replicas[replica].retired = True

    def trusted(self) -> int:
        """How many replicas are not under suspicion."""
        return sum(not (one.suspect or one.retired) for one in self._replicas)

    def suspects(self) -> list[int]:
        """Replicas under suspicion."""
        return [i for i, one in enumerate(self._replicas) if one.suspect and not one.retired]

    def outstanding(self, replica: int) -> int:
        """Load asked and not answered."""
        return self._replicas[replica].load
