"""A worker's view of one teacher: ask ahead, collect in order, survive lost and late replicas.

The pool decides by `routing` and acts through a `Transport`, which Ray implements in `actor.py` and
tests implement without it. Invariant: ``asked == answered + in flight``; a request that is asked
again stays the same ticket, so no answer is lost and none is used twice.

A replica has lives: when it dies or is restarted, the next begins. What was asked of an earlier
life and had not arrived is asked again at once; what had arrived is used, but says nothing about
the replica's health now. A replica under suspicion is asked again when it answers a ping.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

    def arrived(self, pending: Any) -> bool:
        """Whether there is an answer (or the teacher's own error); never waits."""
        ...

    def bring_here(self, pending: Sequence[Any]) -> None:
        """Let finished answers travel to this node; never waits."""
        ...

    def serving(self, replica: int) -> bool:
        """Whether a replica that failed is known to serve again; never waits."""
        ...

    def await_alive(self, replicas: Sequence[int], timeout_s: float) -> int:
        """Wait until one of them serves; raises ReplicaLost if none ever will, or ReplicaSlow."""
        ...

    def restart(self, replica: int) -> None:
        """Kill a replica that hangs, so that it starts anew."""
        ...


@dataclass(eq=False)
class Ticket:
    """A request on its way.

    Attributes:
        request: What is asked.
        replica: Of whom.
        life: Which life of that replica.
        pending: Stands for the answer; None if the replica was dead when it was sent.
        asked_at: On the pool's clock, the last time.
        attempts: How often it was asked.
    """

    request: Request
    replica: int
    life: int
    pending: Any
    asked_at: float
    attempts: int = 1


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
        self._lives = [0] * transport.num_replicas
        self._in_flight: list[Ticket] = []  # in the order of asking
        self.asked = self.answered = self.retried = 0

    @property
    def in_flight(self) -> int:
        """Requests asked and not collected."""
        return len(self._in_flight)

    def ask(self, request: Request) -> Ticket:
        """Send a request to the least loaded replica; returns at once."""
        self._look_at_suspects()
        replica = self._router.pick(request.num_rows)
        pending = self._submit(replica, request)
        ticket = Ticket(request, replica, self._lives[replica], pending, self._clock())
        self._in_flight.append(ticket)
        self.asked += 1
        return ticket

    def bring_here(self) -> None:
        """Let answers that are ready on other nodes travel while the student works; never waits."""
        pending = [ticket.pending for ticket in self._in_flight if ticket.pending is not None]
        if pending:
            self._transport.bring_here(pending)

    def collect(self, ticket: Ticket) -> TeacherSignal:
        """Wait for a ticket's answer, asking again where that is needed.

        Raises:
            TeacherLostError: Replicas died more often than ``max_retries``.
            TeacherTimeoutError: Answers were late more often than that.
            NotFiniteError, SignalError: What the teacher itself raised; asking again would not help.
        """
        while True:
            try:
                signal = self._fetch(ticket)
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
        if ticket.life == self._lives[ticket.replica]:
            self._router.trust(ticket.replica)
        self._in_flight.remove(ticket)
        self.answered += 1
        return signal

    def _fetch(self, ticket: Ticket) -> TeacherSignal:
        if ticket.pending is None:
            raise ReplicaLost
        remaining = ticket.asked_at + self._timeout_s - self._clock()
        return self._transport.fetch(ticket.pending, max(0.0, remaining))

    def _submit(self, replica: int, request: Request) -> Any:
        try:
            return self._transport.submit(replica, request)
        except ReplicaLost:
            return None  # found lost when it is collected

    def _look_at_suspects(self) -> None:
        for replica in self._router.suspects():
            if self._transport.serving(replica):
                self._router.trust(replica)

    def _recover(self, ticket: Ticket, failure: Failure) -> None:
        """Ask again: this ticket, and with a dead replica everything else that was sent there."""
        replica, life = ticket.replica, ticket.life
        current = life == self._lives[replica]
        if current:
            self._router.failed(replica, ticket.request.num_rows)
        else:  # an answer that had arrived was lost with its node: no fault of the present life
            self._router.done(replica, ticket.request.num_rows)
        self._look_at_suspects()
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
        if current and (failure is Failure.LOST or decision is Decision.RESTART):
            again = [
                t
                for t in self._in_flight
                if t is ticket or ((t.replica, t.life) == (replica, life) and not self._arrived(t))
            ]
            for other in again:
                if other is not ticket:
                    self._router.failed(replica, other.request.num_rows)
            self._lives[replica] += 1
        if decision is Decision.RESTART:
            self._transport.restart(replica)
        if decision in (Decision.RESTART, Decision.AWAIT_RESTART):
            self._await_restart()
        for waiting in again:
            waiting.replica = self._router.pick(waiting.request.num_rows)
            waiting.life = self._lives[waiting.replica]
            waiting.pending = self._submit(waiting.replica, waiting.request)
            waiting.asked_at = self._clock()
            waiting.attempts += 1
            self.retried += 1

    def _arrived(self, ticket: Ticket) -> bool:
        return ticket.pending is not None and self._transport.arrived(ticket.pending)

    def _await_restart(self) -> None:
        """Of whichever replica serves first."""
        try:
            replica = self._transport.await_alive(self._router.suspects(), self._start_timeout_s)
            self._router.trust(replica)
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
