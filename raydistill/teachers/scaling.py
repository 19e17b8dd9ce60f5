"""How many replicas a teacher needs: a decision from what was measured, without actions."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Load", "Scaler"]

_WAITING = 0.05
"""Share of the time that workers wait for this teacher from which it is too slow."""
_IDLE = 0.7
"""How busy the rest may be if one replica fewer is to be enough."""
_STEADY = 3
"""Looks in a row that must agree."""


@dataclass(frozen=True)
class Load:
    """What was seen of a teacher over some seconds.

    Attributes:
        seconds: How long.
        waited_s: What each worker waited for it.
        busy_s: What all replicas computed, together.
    """

    seconds: float
    waited_s: Mapping[int, float]
    busy_s: float


class Scaler:
    """Grow while workers wait and replicas are busy; shrink when the rest would do.

    Args:
        low: At least that many replicas.
        high: At most.
    """

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self._growing = self._shrinking = 0

    def decide(self, replicas: int, load: Load) -> int:
        """1: one more. -1: one fewer. 0: as it is.

        Args:
            replicas: That serve now.
            load: What was seen since the last look.
        """
        seconds = max(load.seconds, 1e-9)
        waiting = max(load.waited_s.values(), default=0.0) / seconds
        busy = load.busy_s / seconds
        slow = waiting > _WAITING and busy > _IDLE * replicas
        idle = waiting < _WAITING / 2 and busy < _IDLE * (replicas - 1)
        self._growing = self._growing + 1 if slow and replicas < self._high else 0
        self._shrinking = self._shrinking + 1 if idle and replicas > self._low else 0
        if self._growing >= _STEADY:
            self._growing = 0
            return 1
        if self._shrinking >= _STEADY:
            self._shrinking = 0
            return -1
        return 0
