"""A worker's view of one teacher: ask ahead, collect in order, survive lost and late replicas.

The pool decides by `routing` and acts through a `Transport`, which Ray implements in `actor.py` and
tests implement without it. Invariant: ``asked == answered + in flight``; a request that is asked
again stays the same ticket, so no answer is lost and none is used twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from raydistill.errors import SignalError, TeacherError, TeacherLostError, TeacherTimeoutError
from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.routing import Decision, Failure, Router, decide

__all__ = ["ReplicaLost", "ReplicaSlow", "TeacherPool", "Ticket", "Transport"]


class ReplicaLost(Exception):  # noqa: N818 - a status, caught by the pool, never shown
    """The replica or its node died, or is being restarted."""


class ReplicaSlow(Exception):  # noqa: N818
    """No answer within the time given."""


class Transport(Protocol):
    """How requests reach replicas, numbered from 0."""

    num_replicas: int

    def submit(self, replica: int, request: Request) -> Any:
        """Send a request without waiting; what is returned stands for the answer."""
        ...

    def fetch(self, pending: Any, timeout_s: float) -> TeacherSignal:
        """Wait for an answer; raises ReplicaLost, ReplicaSlow, or what the teacher raised."""
        ...

    def await_alive(self, replica: int, timeout_s: float) -> None:
        """Wait until a replica serves again; raises ReplicaLost if it will not, or ReplicaSlow."""
        ...

    def restart(self, replica: int) -> None:
        """Kill a replica that hangs, so that it starts anew."""
        ...


@dataclass(eq=False)
class Ticket:
    """A request on its way."""

    request: Request
    replica: int
    pending: Any
    asked_at: float
    attempts: int = 1
    lost: bool = field(default=False)


class TeacherPool:
    """One teacher's replicas as one worker sees them.

    Args:
        name: Of the teacher.
        transport: To its replicas.
        timeout_s: Deadline of a request, from asking to answer.
        max_retries: How often a request may be asked again.
        start_timeout_s: How long a restart may take.
        offset: Where this worker begins among equally loaded replicas.
        say: Where decisions are told.
        clock: Seconds; tests bring their own.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        *,
        timeout_s: float,
        max_retries: int,
        start_timeout_s: float = 600.0,
        offset: int = 0,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self._transport = name, transport
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._start_timeout_s, self._say, self._clock = start_timeout_s, say, clock
        self._router = Router(transport.num_replicas, offset)
        self._in_flight: list[Ticket] = []  # in the order of asking
        self.asked = self.answered = self.retried = 0

    @property
    def in_flight(self) -> int:
        """Requests asked and not collected."""
        return len(self._in_flight)

    def ask(self, request: Request) -> Ticket:
        """Send a request to the least loaded replica; returns at once."""
        replica = self._router.pick(request.num_rows)
        ticket = Ticket(request, replica, self._submit(replica, request), self._clock())
        self._in_flight.append(ticket)
        self.asked += 1
        return ticket

    def collect(self, ticket: Ticket) -> TeacherSignal:
        """Wait for a ticket's answer, asking again where that is needed.

        Raises:
            TeacherLostError: Replicas died more often than ``max_retries``.
            TeacherTimeoutError: Answers were late more often than that.
            NotFiniteError, SignalError: What the teacher itself raised; asking again would not help.
        """
        while True:
            try:
                if ticket.lost:
                    raise ReplicaLost
                remaining = ticket.asked_at + self._timeout_s - self._clock()
                signal = self._transport.fetch(ticket.pending, max(0.0, remaining))
            except ReplicaLost:
                self._recover(ticket, Failure.LOST)
            except ReplicaSlow:
                self._recover(ticket, Failure.LATE)
            else:
                break
        if signal.row_ids != ticket.request.row_ids:
            raise SignalError(
                f"teachers.{self.name} answered rows {signal.row_ids[:3]}… "
                f"to a request for {ticket.request.row_ids[:3]}…"
            )
        self._router.done(ticket.replica, ticket.request.num_rows)
        self._in_flight.remove(ticket)
        self.answered += 1
        return signal

    def _submit(self, replica: int, request: Request) -> Any:
        try:
            return self._transport.submit(replica, request)
        except ReplicaLost:
            return None  # found lost when it is collected

    def _recover(self, ticket: Ticket, failure: Failure) -> None:
        """Ask again: this ticket, and with a dead replica everything else that was sent there."""
        replica = ticket.replica
        self._router.failed(replica, ticket.request.num_rows)
        decision = decide(
            failure,
            attempts=ticket.attempts,
            max_retries=self._max_retries,
            others=self._router.trusted(),
        )
        if decision is Decision.STOP:
            raise self._final_error(ticket, failure)
        self._say(
            f"teachers.{self.name}: replica {replica} is {failure.value}; decided to "
            f"{decision.value} (attempt {ticket.attempts + 1} of {self._max_retries + 1})"
        )
        again = [ticket]
        if failure is Failure.LOST or decision is Decision.RESTART:
            others = [t for t in self._in_flight if t.replica == replica and t is not ticket]
            for other in others:
                self._router.failed(replica, other.request.num_rows)
            again = [t for t in self._in_flight if t.replica == replica]
        if decision is Decision.RESTART:
            self._transport.restart(replica)
        if decision in (Decision.RESTART, Decision.AWAIT_RESTART):
            self._await_restart(replica)
        for waiting in again:
            waiting.replica = self._router.pick(waiting.request.num_rows)
            waiting.pending = self._submit(waiting.replica, waiting.request)
            waiting.lost = waiting.pending is None
            waiting.asked_at = self._clock()
            waiting.attempts += 1
            self.retried += 1

    def _await_restart(self, replica: int) -> None:
        try:
            self._transport.await_alive(replica, self._start_timeout_s)
        except ReplicaLost:
            raise TeacherLostError(
                self.name,
                "all its replicas died and cannot be started again",
                "Look at the node's memory and at the teacher's model.",
            ) from None
        except ReplicaSlow:
            raise TeacherLostError(
                self.name,
                f"its last replica died and did not start again within {self._start_timeout_s:g} s "
                f"(start_timeout_s = {self._start_timeout_s:g})",
                f"Raise teachers.{self.name}.start_timeout_s, or give it resources.",
            ) from None

    def _final_error(self, ticket: Ticket, failure: Failure) -> TeacherError:
        rows = f"{ticket.request.num_rows} rows beginning with row {ticket.request.row_ids[0]}"
        if failure is Failure.LATE:
            return TeacherTimeoutError(
                self.name,
                f"no answer for {rows} within {self._timeout_s:g} s, asked {ticket.attempts} times "
                f"(timeout_s = {self._timeout_s:g}, max_retries = {self._max_retries})",
                f"Raise teachers.{self.name}.timeout_s, or add replicas.",
            )
        return TeacherLostError(
            self.name,
            f"a replica died {ticket.attempts} times while {rows} were asked "
            f"(max_retries = {self._max_retries})",
            f"Look at the memory of its node, lower teachers.{self.name}.batch_rows, or raise "
            f"teachers.{self.name}.max_retries.",
        )
