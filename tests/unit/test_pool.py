"""The pool over a transport without Ray: replicas die, hang and come back as a test says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import (
    NotFiniteError,
    SignalError,
    TeacherLostError,
    TeacherTimeoutError,
)
from raydistill.signals import Ask, Request, TeacherSignal, pack_signal
from raydistill.teachers.pool import ReplicaLost, ReplicaSlow, TeacherPool, Ticket


class Clock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Call:
    """A request at a replica."""

    replica: int
    request: Request
    life: int
    lost: bool = False
    answered: bool = False
    never: bool = False
    error: Exception | None = None


@dataclass
class FakeTransport:
    """Replicas that answer at once, unless told otherwise."""

    num_replicas: int
    clock: Clock = field(default_factory=Clock)
    calls: list[Call] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    hanging: set[int] = field(default_factory=set)
    refuses: set[int] = field(default_factory=set)
    never_back: set[int] = field(default_factory=set)
    restarted: list[int] = field(default_factory=list)
    awaited: list[tuple[int, ...]] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    pings: int = 0
    poison: int | None = None
    lives: Counter[int] = field(default_factory=Counter)

    def submit(self, replica: int, request: Request) -> Call:
        call = Call(replica, request, self.lives[replica])
        self.calls.append(call)
        if replica in self.down:
            if replica in self.refuses:
                raise ReplicaLost
            call.lost = True
        return call

    def fetch(self, pending: Call, timeout_s: float) -> TeacherSignal:
        assert isinstance(pending, Call)
        self.timeouts.append(timeout_s)
        if pending.request.row_ids[0] == self.poison and not pending.lost:
            self.kill(pending.replica)
        if pending.lost:
            raise ReplicaLost
        if not pending.answered and (pending.never or pending.replica in self.hanging):
            self.clock.now += timeout_s
            raise ReplicaSlow
        if pending.error is not None:
            raise pending.error
        pending.answered = True
        values = torch.tensor([[float(row)] for row in pending.request.row_ids])
        return pack_signal(
            "wide", pending.request.row_ids, [1] * len(values), {"logits": values}, "float32"
        )

    def first(self, pending: Sequence[Call], timeout_s: float) -> int | None:
        for i, call in enumerate(pending):
            if call.lost or not (call.never or call.replica in self.hanging):
                call.answered = not call.lost
                return i
        self.clock.now += timeout_s
        return None

    def assign(self, handles: Sequence[int]) -> tuple[int, list[int]]:
        new = [h for h in handles if h >= self.num_replicas]
        self.num_replicas += len(new)
        return len(new), [h for h in range(self.num_replicas) if h not in handles]

    def bring_here(self, pending: object) -> None:
        """Nothing travels here."""

    def arrived(self, pending: Call) -> bool:
        return pending.answered and not pending.lost

    def serving(self, replica: int) -> bool:
        self.pings += 1
        return replica not in self.down and replica not in self.hanging

    def await_alive(self, replicas: Sequence[int], timeout_s: float) -> int:
        self.awaited.append(tuple(replicas))
        possible = [replica for replica in replicas if replica not in self.never_back]
        if not possible:
            raise ReplicaLost
        back = [r for r in possible if r not in self.hanging]
        if not back:
            self.clock.now += timeout_s
            raise ReplicaSlow
        self.down.discard(back[0])
        return back[0]

    def restart(self, replica: int) -> None:
        self.restarted.append(replica)
        self.kill(replica)
        self.hanging.discard(replica)

    def kill(self, replica: int) -> None:
        """Everything on its way there is lost; what it answered stays."""
        self.down.add(replica)
        self.lives[replica] += 1
        for call in self.calls:
            if call.replica == replica and not call.answered:
                call.lost = True

    def answer_all(self) -> None:
        """Answers arrive, collected or not."""
        for call in self.calls:
            call.answered = not call.lost and not call.never and call.replica not in self.hanging


def request(number: int, num_rows: int = 2) -> Request:
    rows = tuple(range(10 * number, 10 * number + num_rows))
    return Request(rows, (tuple(str(row) for row in rows),), Ask())


def make_pool(transport: FakeTransport, **changes: Any) -> TeacherPool:
    options: dict[str, Any] = {"timeout_s": 10.0, "max_retries": 3, "start_timeout_s": 60.0}
    return TeacherPool("wide", transport, clock=transport.clock, **{**options, **changes})


def collect_all(pool: TeacherPool, tickets: Sequence[Ticket]) -> None:
    """Every answer belongs to its ticket, and the books balance."""
    for ticket in tickets:
        signal = pool.collect(ticket)
        assert signal.row_ids == ticket.request.row_ids
        assert pool.asked == pool.answered + pool.in_flight


def test_answers_come_in_the_order_of_the_tickets() -> None:
    """An answer to other rows trains each row towards another's target."""
    transport = FakeTransport(3)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(9)]
    assert pool.in_flight == 9
    collect_all(pool, tickets)
    assert Counter(call.replica for call in transport.calls) == {0: 3, 1: 3, 2: 3}
    assert (pool.asked, pool.answered, pool.in_flight, pool.retried) == (9, 9, 0, 0)


def test_the_least_loaded_replica_is_asked() -> None:
    """A replica with a long queue holds up the run while another is idle."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    for number, rows in enumerate((8, 2, 2, 2)):
        pool.ask(request(number, rows))
    assert [call.replica for call in transport.calls] == [0, 1, 1, 1]


def test_a_dead_replicas_requests_are_asked_elsewhere_at_once_and_in_order() -> None:
    """One after the other, each would wait for the one before to be computed again."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(6)]
    transport.kill(0)
    pool.collect(tickets[0])
    again = transport.calls[6:]
    assert [call.request.row_ids[0] for call in again] == [0, 20, 40]
    assert {call.replica for call in again} == {1}
    collect_all(pool, tickets[1:])
    assert len(transport.calls) == 9
    assert pool.retried == 3


def test_the_only_replica_is_waited_for() -> None:
    """A single teacher's death is not the end of a run."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(4)]
    transport.kill(0)
    collect_all(pool, tickets)
    assert transport.awaited == [(0,)]
    assert transport.restarted == []
    assert [ticket.attempts for ticket in tickets] == [2, 2, 2, 2]


def test_what_had_arrived_before_the_death_is_not_asked_again() -> None:
    """Computing again what lies here already costs a window of batches for every death."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(4)]
    transport.calls[2].answered = True
    transport.kill(0)
    collect_all(pool, tickets)
    assert [call.request.row_ids[0] for call in transport.calls] == [0, 10, 20, 30, 0, 10, 30]
    assert tickets[2].attempts == 1


def test_an_answer_of_an_earlier_life_clears_no_suspicion() -> None:
    """A dead replica would look healthy, and be asked, for every answer it left behind."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(4)]  # 0 and 2 at replica 0
    transport.calls[2].answered = True
    transport.kill(0)
    collect_all(pool, tickets)
    pool.ask(request(4))
    assert transport.calls[-1].replica == 1


def test_an_arrived_answer_that_is_lost_with_its_node_blames_nobody_alive() -> None:
    """One lost object must not send the work of a healthy replica round again."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(3)]
    transport.calls[1].answered = True
    transport.kill(0)
    pool.collect(tickets[0])
    transport.calls[1].lost = True
    before, pings = len(transport.calls), transport.pings
    collect_all(pool, tickets[1:])
    assert transport.pings == pings  # nobody came under suspicion
    assert [call.request.row_ids[0] for call in transport.calls[before:]] == [10]
    assert len(transport.awaited) == 1


def test_a_replica_that_is_back_is_asked_again() -> None:
    """One death would leave a replica idle for the rest of the run."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    transport.kill(0)
    collect_all(pool, [pool.ask(request(0))])
    collect_all(pool, [pool.ask(request(1))])
    assert [call.replica for call in transport.calls] == [0, 1, 1]
    transport.down.clear()
    collect_all(pool, [pool.ask(request(2))])
    assert transport.calls[-1].replica == 0
    assert pool.retried == 1


def test_nobody_is_pinged_without_suspicion() -> None:
    """A ping a request would be a call a request for nothing."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    collect_all(pool, [pool.ask(request(i)) for i in range(4)])
    assert transport.pings == 0


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_call_that_is_refused_is_found_lost_later(replicas: int) -> None:
    """Asking must not fail in the middle of a step, nor leave a ticket without an answer."""
    transport = FakeTransport(replicas)
    transport.kill(0)
    transport.refuses.add(0)
    pool = make_pool(transport)
    collect_all(pool, [pool.ask(request(i)) for i in range(3)])


def test_a_late_answer_is_asked_of_another_replica() -> None:
    """A replica that hangs must not hold the run while another could answer."""
    transport = FakeTransport(2)
    transport.hanging.add(0)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(2)]
    collect_all(pool, tickets)
    assert transport.restarted == []
    assert [call.replica for call in transport.calls] == [0, 1, 1]
    assert transport.clock.now == 10.0
    pool.ask(request(2))
    assert transport.calls[-1].replica == 1


def test_the_only_replica_that_hangs_is_restarted() -> None:
    """Asking a hanging process again and again waits for nothing."""
    transport = FakeTransport(1)
    transport.hanging.add(0)
    pool = make_pool(transport)
    collect_all(pool, [pool.ask(request(i)) for i in range(3)])
    assert transport.restarted == [0]
    assert len(transport.calls) == 6


def test_the_deadline_runs_from_asking() -> None:
    """A deadline that starts with the wait gives a dead run a new one for every ticket."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(2)]
    transport.clock.now = 4.0
    pool.collect(tickets[0])
    transport.clock.now = 400.0
    pool.collect(tickets[1])
    assert transport.timeouts == [6.0, 0.0]


def test_what_is_ready_is_collected_without_waiting() -> None:
    """Who asks several teachers in turn would stand still at a slow one, or never notice a dead one."""
    transport = FakeTransport(1)
    transport.hanging.add(0)
    pool = make_pool(transport, max_retries=1)
    ticket = pool.ask(request(0))
    assert not pool.ready(ticket)
    transport.clock.now = 10.0
    assert pool.ready(ticket)  # late, which is to be dealt with
    transport.hanging.clear()
    again = pool.ask(request(1))
    assert pool.ready(again)
    transport.down.add(0)
    lost = pool.ask(request(2))
    assert pool.ready(lost)
    collect_all(pool, [again])
    transport.refuses.add(0)
    assert pool.ready(pool.ask(request(3)))
    assert transport.timeouts == [10.0]


def test_retries_are_bounded_and_the_error_says_what_to_change() -> None:
    """A request that kills its replica would be asked for ever."""
    transport = FakeTransport(2, poison=0)
    pool = make_pool(transport, max_retries=2)
    ticket = pool.ask(request(0))
    with pytest.raises(TeacherLostError, match=r"teachers\.wide: .*died 3 times.*max_retries = 2"):
        pool.collect(ticket)
    assert [call.replica for call in transport.calls] == [0, 1, 0]


def test_lateness_is_bounded_and_the_error_says_what_to_change() -> None:
    """Without the name of the setting the user cannot know which wait was too short."""
    transport = FakeTransport(3)
    transport.hanging |= {0, 1, 2}
    pool = make_pool(transport, max_retries=2, timeout_s=7.0)
    with pytest.raises(TeacherTimeoutError) as caught:
        pool.collect(pool.ask(request(0)))
    assert caught.value.teacher == "wide"
    assert "asked 3 times (timeout_s = 7, max_retries = 2)" in caught.value.cause
    assert "teachers.wide.timeout_s" in caught.value.remedy
    assert len(transport.calls) == 3
    assert transport.clock.now == 21.0


def test_replicas_that_do_not_come_back_end_the_run() -> None:
    """Gone for good and slow to start need different remedies."""
    transport = FakeTransport(1)
    transport.never_back.add(0)
    pool = make_pool(transport)
    ticket = pool.ask(request(0))
    transport.kill(0)
    with pytest.raises(TeacherLostError, match="cannot be started again"):
        pool.collect(ticket)
    transport = FakeTransport(1)
    pool = make_pool(transport, start_timeout_s=60.0)
    ticket = pool.ask(request(0))
    transport.kill(0)
    transport.hanging.add(0)
    with pytest.raises(TeacherLostError, match=r"start_timeout_s = 60.*teachers\.wide\.start_t"):
        pool.collect(ticket)


def test_with_all_dead_the_first_that_comes_back_is_asked() -> None:
    """Waiting for one whose node is gone, while another serves again, ends the run for nothing."""
    transport = FakeTransport(2)
    transport.never_back.add(1)
    pool = make_pool(transport)
    tickets = [pool.ask(request(i)) for i in range(4)]
    transport.kill(0)
    transport.kill(1)
    collect_all(pool, tickets)
    assert {call.replica for call in transport.calls[-4:]} == {0}


@pytest.mark.parametrize(
    "error", [NotFiniteError("teachers.wide: logits", (0,)), SignalError("no such layer")]
)
def test_a_teachers_own_error_is_not_retried(error: Exception) -> None:
    """The same rows give the same error; asking again only hides it for a while."""
    transport = FakeTransport(2)
    pool = make_pool(transport)
    ticket = pool.ask(request(0))
    transport.calls[0].error = error
    with pytest.raises(type(error)):
        pool.collect(ticket)
    assert len(transport.calls) == 1
    assert pool.asked == pool.answered + pool.in_flight


def test_an_answer_to_other_rows_is_refused() -> None:
    """Rows that are exchanged on the way would go unnoticed in any metric."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    ticket = pool.ask(request(0))
    transport.calls[0].request = request(1)
    with pytest.raises(SignalError, match=r"answered rows \(10, 11\)"):
        pool.collect(ticket)


def test_workers_that_share_a_replica_each_get_their_answers() -> None:
    """One worker's restart is another worker's loss; both must end with every answer once."""
    transport = FakeTransport(1)
    pools = [make_pool(transport) for _ in range(2)]
    tickets = [[pool.ask(request(4 * w + i)) for i in range(4)] for w, pool in enumerate(pools)]
    transport.hanging.add(0)
    pools[0].collect(tickets[0][0])
    collect_all(pools[1], tickets[1])
    collect_all(pools[0], tickets[0][1:])
    assert transport.restarted == [0]


STEPS = st.lists(
    st.one_of(
        st.just("ask"), st.just("collect"), st.just("answer"),
        st.tuples(st.sampled_from(["kill", "back", "hang"]), st.integers(0, 2)),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(steps=STEPS, replicas=st.integers(1, 3))
def test_no_ticket_is_lost_or_answered_twice(steps: list[Any], replicas: int) -> None:
    """Whatever dies and whenever: asked == answered + in flight, and every answer is its own."""
    transport = FakeTransport(replicas)
    pool = make_pool(transport, max_retries=1000)
    waiting: list[Ticket] = []
    for number, step in enumerate(steps):
        match step:
            case "ask":
                waiting.append(pool.ask(request(number, 1 + number % 3)))
            case "collect" if waiting:
                collect_all(pool, [waiting.pop(0)])
            case "answer":
                transport.answer_all()
            case ("kill", replica) if replica < replicas:
                transport.kill(replica)
                transport.hanging.discard(replica)
            case ("back", replica):
                transport.down.discard(replica)
                transport.hanging.discard(replica)
            case ("hang", replica) if replica < replicas and replica not in transport.down:
                transport.hanging.add(replica)
        assert pool.asked == pool.answered + pool.in_flight
        assert pool.in_flight == len(waiting)
        outstanding = sum(pool._router.outstanding(r) for r in range(replicas))
        assert outstanding == sum(ticket.request.load for ticket in waiting)
    collect_all(pool, waiting)
    assert pool.in_flight == 0
    assert sum(pool._router.outstanding(r) for r in range(replicas)) == 0


def warmed(transport: FakeTransport, **changes: Any) -> TeacherPool:
    """A pool that knows what is usual: 0.1 s."""
    pool = make_pool(transport, hedge_after=4.0, **changes)
    for number in range(8):
        ticket = pool.ask(request(number))
        transport.clock.now += 0.1
        pool.collect(ticket)
    return pool


def test_a_late_request_is_sent_to_a_second_replica_and_its_answer_counts() -> None:
    """One slow machine among many would set the pace of all."""
    transport = FakeTransport(2)
    pool = warmed(transport)
    transport.hanging.add(0)
    tickets = [pool.ask(request(number)) for number in (20, 21)]
    transport.answer_all()
    before = transport.clock.now
    assert [pool.collect(ticket).row_ids for ticket in tickets] == [(200, 201), (210, 211)]
    assert transport.clock.now - before == pytest.approx(0.4)
    assert pool.hedged == 1
    assert pool.in_flight == 0


def test_who_lost_a_race_is_busy_until_it_has_ended() -> None:
    """A slow replica that looks idle gets the next request, too, and makes it late."""
    transport = FakeTransport(2)
    pool = warmed(transport)
    transport.hanging.add(0)
    tickets = [pool.ask(request(number)) for number in (20, 21)]
    transport.answer_all()
    collect_all(pool, tickets)
    load = tickets[0].request.load
    assert [pool._router.outstanding(r) for r in (0, 1)] == [load, 0]
    assert pool.ask(request(22)).replica == 1
    transport.hanging.clear()
    assert pool.ask(request(23)).replica == 0
    assert [pool._router.outstanding(r) for r in (0, 1)] == [load, load]


def test_what_lay_ready_says_nothing_about_what_is_usual() -> None:
    """A student that is slow would make every teacher look slow, and nothing late."""
    transport = FakeTransport(2)
    pool = make_pool(transport, hedge_after=4.0)
    tickets = [pool.ask(request(number)) for number in range(20)]
    transport.answer_all()
    transport.clock.now += 500.0
    collect_all(pool, tickets)
    assert len(pool._latencies) == 0
    for number in range(8):
        ticket = pool.ask(request(number))
        transport.clock.now += 0.1
        pool.collect(ticket)
    assert list(pool._latencies) == pytest.approx([0.1] * 8)
    transport.hanging.add(0)
    before = transport.clock.now
    tickets = [pool.ask(request(number)) for number in (30, 31)]
    transport.answer_all()
    collect_all(pool, tickets)
    assert pool.hedged == 1
    assert transport.clock.now - before == pytest.approx(0.4)


def test_why_replicas_cannot_start_again_is_said() -> None:
    """Weights that changed under a run would be sought in the node's memory."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    ticket = pool.ask(request(0))
    transport.kill(0)

    def await_alive(replicas: Sequence[int], timeout_s: float) -> int:
        raise ReplicaLost("other weights")

    transport.await_alive = await_alive  # type: ignore[method-assign]
    with pytest.raises(TeacherLostError, match=r"cannot be started again \(other weights\)"):
        pool.collect(ticket)


def test_no_hedge_without_a_replica_that_has_less_to_do() -> None:
    """Under load a second copy of everything makes everybody late."""
    transport = FakeTransport(2)
    pool = warmed(transport)
    ticket = pool.ask(request(20))
    transport.hanging.add(ticket.replica)
    assert pool.ask(request(21, 20)).replica != ticket.replica
    assert pool.collect(ticket).row_ids == (200, 201)  # asked again after its deadline
    assert (pool.hedged, pool.retried) == (0, 1)


class Recovering(FakeTransport):
    """What hangs answers after the second look at it."""

    looks = 0

    def first(self, pending: Sequence[Call], timeout_s: float) -> int | None:
        found = super().first(pending, timeout_s)
        self.looks += 1
        if self.looks > 1:
            self.hanging.clear()
        return found


def test_a_rival_that_dies_changes_nothing() -> None:
    """The first one's answer must still be used, once, and no load be left behind."""
    transport = Recovering(2)
    pool = warmed(transport)
    transport.looks = 0
    ticket = pool.ask(request(30))
    asked = ticket.replica
    transport.hanging.add(asked)
    transport.down.add(1 - asked)
    assert pool.collect(ticket).row_ids == (300, 301)
    assert (pool.hedged, pool.retried, ticket.replica) == (1, 0, asked)
    assert [pool._router.outstanding(r) for r in (0, 1)] == [0, 0]


def test_replicas_come_and_go() -> None:
    """A new replica that gets nothing does not help; a retired one that is asked never answers."""
    transport = FakeTransport(1)
    pool = make_pool(transport)
    early = pool.ask(request(1))
    pool.set_replicas([0, 1])
    assert pool.ask(request(2)).replica == 1
    pool.set_replicas([1])
    assert {pool.ask(request(n)).replica for n in range(3, 9)} == {1}
    assert pool.collect(early).row_ids == (10, 11)
