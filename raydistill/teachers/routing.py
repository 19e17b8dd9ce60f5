"""Which replica is asked, and what follows when it fails: decisions, no actions."""

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
class _Load:
    rows: int = 0
    suspect: bool = False


class Router:
    """Least outstanding rows first; suspects only when nobody else is left.

    Args:
        num_replicas: How many there are.
        offset: Where ties begin, so that workers do not all start with the same replica.
    """

    def __init__(self, num_replicas: int, offset: int = 0) -> None:
        self._loads = [_Load() for _ in range(num_replicas)]
        self._order = [(i + offset) % num_replicas for i in range(num_replicas)]

    def pick(self, num_rows: int) -> int:
        """Choose a replica for a request, and count it there."""
        chosen = min(self._order, key=lambda r: (self._loads[r].suspect, self._loads[r].rows))
        self._loads[chosen].rows += num_rows
        return chosen

    def done(self, replica: int, num_rows: int) -> None:
        """An answer came, or none is expected any more: less load."""
        self._loads[replica].rows -= num_rows

    def trust(self, replica: int) -> None:
        """It serves: no suspicion."""
        self._loads[replica].suspect = False

    def failed(self, replica: int, num_rows: int) -> None:
        """A request came to nothing: its load is gone, the replica under suspicion."""
        self._loads[replica].rows -= num_rows
        self._loads[replica].suspect = True

    def trusted(self) -> int:
        """How many replicas are not under suspicion."""
        return sum(not load.suspect for load in self._loads)

    def suspects(self) -> list[int]:
        """Replicas under suspicion."""
        return [replica for replica, load in enumerate(self._loads) if load.suspect]

    def outstanding(self, replica: int) -> int:
        """Rows asked and not answered."""
        return self._loads[replica].rows
