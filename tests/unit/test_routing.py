"""Routing: pure decisions."""

import pytest

from raydistill.teachers.routing import Decision, Failure, Router, decide


@pytest.mark.parametrize(
    ("failure", "attempts", "others", "expected"),
    [
        (Failure.LOST, 1, 1, Decision.ASK_ANOTHER),
        (Failure.LATE, 1, 1, Decision.ASK_ANOTHER),
        (Failure.LOST, 1, 0, Decision.AWAIT_RESTART),
        (Failure.LATE, 1, 0, Decision.RESTART),
        (Failure.LOST, 2, 0, Decision.AWAIT_RESTART),
        (Failure.LOST, 3, 0, Decision.STOP),
        (Failure.LATE, 3, 5, Decision.STOP),
    ],
)
def test_decision_table(failure: Failure, attempts: int, others: int, expected: Decision) -> None:
    """A wrong line here asks for ever, or gives up while a replica is idle."""
    assert decide(failure, attempts=attempts, max_retries=2, others=others) is expected


def test_without_retries_the_first_failure_stops() -> None:
    """max_retries = 0 means what it says."""
    assert decide(Failure.LOST, attempts=1, max_retries=0, others=3) is Decision.STOP


def test_least_outstanding_rows_first() -> None:
    """Counting requests instead of rows gives one replica all the long ones."""
    router = Router(3)
    assert [router.pick(rows) for rows in (8, 2, 4, 1, 1)] == [0, 1, 2, 1, 1]
    router.done(0, 8)
    assert router.pick(1) == 0
    assert [router.outstanding(replica) for replica in range(3)] == [1, 4, 4]


@pytest.mark.parametrize(("offset", "expected"), [(0, [0, 1, 2]), (1, [1, 2, 0]), (5, [2, 0, 1])])
def test_workers_begin_with_different_replicas(offset: int, expected: list[int]) -> None:
    """Workers that all begin with the first replica queue there while others are idle."""
    router = Router(3, offset)
    assert [router.pick(4) for _ in range(3)] == expected


def test_suspects_come_last_until_trusted() -> None:
    """Asking the dead first loses a deadline a request."""
    router = Router(2)
    assert router.pick(4) == 0
    router.failed(0, 4)
    assert (router.outstanding(0), router.suspects(), router.trusted()) == (0, [0], 1)
    assert [router.pick(4), router.pick(4)] == [1, 1]
    router.done(1, 4)
    assert router.suspects() == [0]
    router.trust(0)
    assert router.pick(4) == 0


def test_all_suspect_still_gives_one() -> None:
    """With nobody else left, somebody must be asked."""
    router = Router(2)
    for replica in (0, 1):
        assert router.pick(4) == replica
        router.failed(replica, 4)
    assert router.trusted() == 0
    assert router.pick(4) in (0, 1)
