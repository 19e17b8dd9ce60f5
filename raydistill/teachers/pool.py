"""A worker's view of one teacher: ask ahead, collect in order, survive lost and late replicas.

The pool decides by `routing` and acts through a `Transport`, which Ray implements in `transport.py` and
tests implement without it. Invariant: ``asked == answered + in flight``; a request that is asked
again stays the same ticket, so no answer is lost and none is used twice.

A replica has lives: when it dies or is restarted, the next begins. What was asked of an earlier
life and had not arrived is asked again at once; what had arrived is used, but says nothing about
the replica's health now. A replica under suspicion is asked again when it answers a ping.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raydistill.errors import SignalError, TeacherError, TeacherLostError, TeacherTimeoutError
from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.routing import Decision, Failure, Router, decide
from raydistill.teachers.source import Source

__all__ = ["ReplicaLost", "ReplicaSlow", "TeacherPool", "Ticket", "Transport"]


_REMEMBERED = 32  # latencies of the last answers that were waited for
_ENOUGH = 8  # of them tell what is usual
_SHORTEST_S = 0.05  # below that nothing is late
_RIVALS = 2  # replicas that hedging needs


class ReplicaLost(Exception):  # noqa: N818 - a status, caught by the pool, never shown
    """The replica or its node died, or is being restarted; as its text, why it cannot start again."""


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

    def first(self, pending: Sequence[Any], timeout_s: float) -> int | None:
        """Wait until one of some calls has ended, well or not: which; None: none did in time."""
        ...

    def assign(self, handles: Sequence[Any]) -> tuple[int, list[int]]:
        """Reach these replicas from now on: how many are new, numbered on, and which are not among them."""
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
        rival: The same request at another replica, when this one was late; the first answer wins.
    """

    request: Request
    replica: int
    life: int
    pending: Any
    asked_at: float
    attempts: int = 1
    rival: "Ticket | None" = None


class TeacherPool(Source):
    """One teacher's replicas as one worker sees them.

    Args:
        name: Of the teacher.
        transport: To its replicas.
        timeout_s: Deadline of a request, from asking to answer.
        max_retries: How often a request may be asked again.
        start_timeout_s: How long a restart may take.
        offset: Where this worker begins among equally loaded replicas.
        hedge_after: A request that takes that many times the median of earlier ones is sent to a
            second replica as well, if one has less to do; None: never.
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
        hedge_after: float | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self._transport = name, transport
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._start_timeout_s, self._say, self._clock = start_timeout_s, say, clock
        self._router = Router(transport.num_replicas, offset)
        self._lives = [0] * transport.num_replicas
        self._in_flight: list[Ticket] = []  # in the order of asking
        self._losers: list[Ticket] = []  # of races, at replicas that still compute them
        self._hedge_after = hedge_after
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.asked = self.answered = self.retried = self.hedged = 0

    @property
    def in_flight(self) -> int:
        """Requests asked and not collected."""
        return len(self._in_flight)

    def ask(self, request: Request) -> Ticket:
        """Send a request to the least loaded replica; returns at once."""
        self._look_at_suspects()
        self._look_at_losers()
        replica = self._router.pick(request.load)
        pending = self._submit(replica, request)
        ticket = Ticket(request, replica, self._lives[replica], pending, self._clock())
        self._in_flight.append(ticket)
        self.asked += 1
        return ticket

    def set_replicas(self, handles: Sequence[Any]) -> None:
        """Ask these replicas from now on; what others were asked they still answer."""
        new, gone = self._transport.assign(handles)
        for _ in range(new):
            self._router.add()
            self._lives.append(0)
        for replica in gone:
            self._router.retire(replica)

    def bring_here(self) -> None:
        """Let answers that are ready on other nodes travel while the student works; never waits."""
        pending = [ticket.pending for ticket in self._in_flight if ticket.pending is not None]
        if pending:
            self._transport.bring_here(pending)

    def ready(self, ticket: Ticket) -> bool:
        """Whether there is something to collect, be it a loss or a lateness; never waits."""
        if ticket.pending is None or self._remaining(ticket) <= 0:
            return True
        return self._transport.first([ticket.pending], 0.0) is not None

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
        self._router.done(ticket.replica, ticket.request.load)
        if ticket.life == self._lives[ticket.replica]:
            self._router.trust(ticket.replica)
        self._in_flight.remove(ticket)
        self.answered += 1
        return signal

    def _fetch(self, ticket: Ticket) -> TeacherSignal:
        if ticket.pending is None:
            raise ReplicaLost
        # How long ago an answer came that lies ready, nobody knows.
        waits = self._may_hedge and not self._arrived(ticket)
        if waits and self._is_late(ticket):
            self._hedge(ticket)
        if ticket.rival is not None:
            self._race(ticket, ticket.rival)
        signal = self._transport.fetch(ticket.pending, self._remaining(ticket))
        if waits:
            self._latencies.append(self._clock() - ticket.asked_at)
        return signal

    @property
    def _may_hedge(self) -> bool:
        return self._hedge_after is not None and len(self._lives) >= _RIVALS

    def _remaining(self, ticket: Ticket) -> float:
        return max(0.0, ticket.asked_at + self._timeout_s - self._clock())

    def _is_late(self, ticket: Ticket) -> bool:
        """Whether it takes much longer than others did; waits as long as it does not."""
        if self._hedge_after is None or len(self._latencies) < _ENOUGH:
            return False
        usual = max(_SHORTEST_S, statistics.median(self._latencies))
        patience = ticket.asked_at + self._hedge_after * usual - self._clock()
        within = min(max(0.0, patience), self._remaining(ticket))
        return self._transport.first([ticket.pending], within) is None

    def _hedge(self, ticket: Ticket) -> None:
        others = self._router.others(ticket.replica)
        if not others:
            return
        self._look_at_losers()
        # What has arrived and waits to be collected is no work any more.
        open_work = dict.fromkeys([ticket.replica, *others], 0)
        for asked in self._in_flight:
            if asked.replica in open_work and not self._arrived(asked):
                open_work[asked.replica] += asked.request.load
        for loser in self._losers:
            if loser.replica in open_work:
                open_work[loser.replica] += loser.request.load
        other = min(others, key=lambda replica: open_work[replica])
        if open_work[other] + ticket.request.load > open_work[ticket.replica]:
            return
        self._router.count(other, ticket.request.load)
        pending = self._submit(other, ticket.request)
        if pending is None:
            self._router.failed(other, ticket.request.load)
            return
        ticket.rival = Ticket(ticket.request, other, self._lives[other], pending, self._clock())
        self.hedged += 1

    def _race(self, ticket: Ticket, rival: Ticket) -> None:
        """The ticket becomes the rival's if that has an answer first."""
        ended = self._transport.first([ticket.pending, rival.pending], self._remaining(ticket))
        if ended == 1 and self._transport.arrived(rival.pending):
            ticket.replica, rival.replica = rival.replica, ticket.replica
            ticket.life, rival.life = rival.life, ticket.life
            ticket.pending, rival.pending = rival.pending, ticket.pending
        ticket.rival = None
        self._losers.append(rival)
        self._look_at_losers()

    def _look_at_losers(self) -> None:
        """A replica that lost a race computes on: its load counts until that has ended, well or not."""
        for loser in list(self._losers):
            if self._transport.first([loser.pending], 0.0) is not None:
                self._losers.remove(loser)
                self._router.done(loser.replica, loser.request.load)

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
            self._router.failed(replica, ticket.request.load)
        else:  # an answer that had arrived was lost with its node: no fault of the present life
            self._router.done(replica, ticket.request.load)
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
                    self._router.failed(replica, other.request.load)
            self._lives[replica] += 1
        if decision is Decision.RESTART:
            self._transport.restart(replica)
        if decision in (Decision.RESTART, Decision.AWAIT_RESTART):
            self._await_restart()
        for waiting in again:
            waiting.replica = self._router.pick(waiting.request.load)
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
        except ReplicaLost as lost:
            why = f" ({lost})" if str(lost) else ""
            raise TeacherLostError(
                self.name,
                f"all its replicas died and cannot be started again{why}",
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
