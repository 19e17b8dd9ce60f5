"""Replicas follow the need, not the noise."""

from raydistill.teachers.scaling import Load, Scaler


def looks(scaler: Scaler, replicas: int, waited: float, busy: float, count: int = 3) -> list[int]:
    return [scaler.decide(replicas, Load(2.0, {0: 0.0, 1: waited}, busy)) for _ in range(count)]


def test_grows_while_any_worker_waits_for_busy_replicas() -> None:
    """A student that waits at one worker waits at all: they step together."""
    assert looks(Scaler(1, 4), 1, waited=0.5, busy=1.9) == [0, 0, 1]


def test_does_not_grow_for_replicas_that_are_not_busy() -> None:
    """Waiting for the network, more replicas only take GPUs."""
    assert looks(Scaler(1, 4), 2, waited=1.0, busy=1.0, count=5) == [0] * 5


def test_keeps_to_its_bounds() -> None:
    """A user's GPUs are counted."""
    assert looks(Scaler(1, 2), 2, waited=1.0, busy=4.0, count=6) == [0] * 6
    assert looks(Scaler(2, 4), 2, waited=0.0, busy=0.0, count=6) == [0] * 6


def test_shrinks_when_the_rest_would_do() -> None:
    """An idle replica keeps a GPU from others."""
    assert looks(Scaler(1, 4), 3, waited=0.0, busy=1.0) == [0, 0, -1]
    assert looks(Scaler(1, 4), 3, waited=0.0, busy=3.5) == [0, 0, 0]


def test_one_look_decides_nothing() -> None:
    """A pause for evaluation looks like idleness."""
    scaler = Scaler(1, 4)
    found = [
        scaler.decide(2, Load(2.0, {0: waited}, busy))
        for waited, busy in ((1.0, 4.0), (1.0, 4.0), (0.0, 4.0), (1.0, 4.0), (1.0, 4.0))
    ]
    assert found == [0] * 5
