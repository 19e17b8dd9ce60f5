"""Where a teacher runs: a decision from a short measurement, without actions."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Trial", "choose_placement"]

_CALL_S = 0.005
"""Of a call of an actor with some megabytes coming back."""
_BYTES_A_SECOND = 1e9
"""That an answer travels at between processes, carefully."""


@dataclass(frozen=True)
class Trial:
    """What was measured of a teacher where a worker runs.

    Attributes:
        rows: Of the request.
        seconds: Until it was answered.
        num_bytes: Of the answer.
    """

    rows: int
    seconds: float
    num_bytes: int


def choose_placement(trial: Trial, *, spare: bool) -> tuple[Literal["remote", "inline"], str]:
    """Beside the student or in its process, and why.

    Beside it a teacher computes while the student does, which pays if there are cores or GPUs that
    the workers do not use, and if the answer takes longer to compute than to bring.

    Args:
        trial: The measurement.
        spare: Whether the machines have what its replicas ask for beside the workers.
    """
    bring_s = _CALL_S + trial.num_bytes / _BYTES_A_SECOND
    took = f"{trial.rows} rows take {trial.seconds * 1000:.0f} ms"
    if not spare:
        return "inline", f"{took}; no cores or GPUs are left beside the workers"
    if trial.seconds <= bring_s:
        return "inline", f"{took}, bringing them about {bring_s * 1000:.0f} ms"
    return "remote", f"{took}, bringing them about {bring_s * 1000:.0f} ms, and there is room"
