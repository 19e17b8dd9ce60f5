"""The plan of micro-batches, the window, and the feed between teachers and student."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.pipeline import Feed, MicroBatch, Window, plan_micro_batches, table_steps
from raydistill.signals import Ask, Request, TeacherSignal, pack_signal
from raydistill.tasks import Batch
from raydistill.teachers.source import Source


def make_batch(rows: list[int], filler: bool) -> Batch:
    counts = torch.full((len(rows),), not filler)
    return Batch(tuple(rows), (tuple(map(str, rows)),), {}, torch.zeros(len(rows)), counts)


def make_plan(**changes: Any) -> list[MicroBatch]:
    options: dict[str, Any] = {
        "num_rows": 10, "batch_rows": 4, "micro_batch_rows": None, "seed": 3, "rank": 0,
        "world": 1, "first_step": 0, "total_steps": 6, "make_batch": make_batch,
        "count": lambda batch: torch.tensor([batch.num_rows]).double(),
    }  # fmt: skip
    options |= changes
    order = {
        name: options.pop(name) for name in ("batch_rows", "seed", "first_step", "total_steps")
    }
    return list(plan_micro_batches(table_steps(options.pop("num_rows"), **order), **options))


def counted(item: MicroBatch) -> list[int]:
    return [r for r, c in zip(item.batch.row_ids, item.batch.counts.tolist(), strict=True) if c]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    num_rows=st.integers(1, 30),
    batch_rows=st.integers(1, 12),
    micro=st.none() | st.integers(1, 5),
    world=st.integers(1, 5),
)
def test_every_row_is_used_once_an_epoch(
    num_rows: int, batch_rows: int, micro: int | None, world: int
) -> None:
    """Rows left out or used twice change what is minimised, depending on the cluster."""
    steps = -(-num_rows // batch_rows)
    used: Counter[tuple[int, int]] = Counter()
    shares: Counter[int] = Counter()
    rows_of_step: Counter[int] = Counter()
    for rank in range(world):
        plan = make_plan(
            num_rows=num_rows, batch_rows=batch_rows, micro_batch_rows=micro,
            world=world, rank=rank, total_steps=2 * steps,
        )  # fmt: skip
        assert [i.step for i in plan if i.last] == list(range(2 * steps))
        firsts = [k for k, i in enumerate(plan) if i.share is not None]
        assert firsts == [0, *(k + 1 for k, i in enumerate(plan[:-1]) if i.last)]
        for item in plan:
            used.update((item.epoch, row) for row in counted(item))
            rows_of_step[item.step] += len(counted(item))
            assert micro is None or len(item.batch.row_ids) <= micro
            if item.share is not None:
                shares[item.step] += int(item.share.item())
    assert used == Counter({(epoch, row): 1 for epoch in (0, 1) for row in range(num_rows)})
    assert {step: rows for step, rows in rows_of_step.items() if rows} == dict(shares)


def test_steps_hold_the_same_rows_for_any_number_of_workers() -> None:
    """A run on more machines would be another run."""

    def steps(world: int, micro: int | None) -> list[list[int]]:
        plans = [make_plan(world=world, rank=r, micro_batch_rows=micro) for r in range(world)]
        return [
            [row for p in plans for i in p if i.step == s for row in counted(i)] for s in range(6)
        ]

    assert steps(1, None) == steps(3, 1) == steps(2, 3)
    assert sorted(steps(1, None)[0]) != steps(1, None)[0]  # drawn, not in the order of the file


def test_a_worker_without_rows_gets_one_that_counts_nothing() -> None:
    """A worker that skips the step leaves the others waiting for its gradient."""
    plan = make_plan(num_rows=5, batch_rows=4, world=2, rank=1, total_steps=2)
    assert [len(item.batch.row_ids) for item in plan] == [2, 1]
    assert plan[1].batch.num_rows == 0
    assert plan[1].share is not None
    assert plan[1].share.item() == 0
    assert plan[1].last


@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_resuming_gives_exactly_the_rest(first: int) -> None:
    """A resumed run that repeats or skips rows is not the run that was interrupted."""

    def facts(plan: list[MicroBatch]) -> list[tuple[Any, ...]]:
        return [(i.step, i.epoch, i.batch.row_ids, i.last, i.share is None) for i in plan]

    whole = make_plan(micro_batch_rows=3)
    rest = [item for item in whole if item.step >= first]
    assert facts(make_plan(micro_batch_rows=3, first_step=first)) == facts(rest)


def test_the_plan_makes_no_batch_before_its_time() -> None:
    """Tokenizing an epoch ahead of the first step delays it by minutes."""
    made = []

    def note(rows: list[int], filler: bool) -> Batch:
        made.append(rows)
        return make_batch(rows, filler)

    plan = plan_micro_batches(
        table_steps(1000, batch_rows=4, seed=0, first_step=0, total_steps=250),
        micro_batch_rows=2, rank=0, world=1, make_batch=note, count=lambda b: torch.zeros(1),
    )  # fmt: skip
    next(plan)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("batches", "rows", "expected"),
    [(0, 10_000, True), (1, 4, True), (3, 10, True), (4, 10, False), (3, 11, False)],
)
def test_window_bounds_batches_and_bytes(batches: int, rows: int, expected: bool) -> None:
    """Too wide fills the object store; too narrow, or shut, stops the run."""
    assert Window(4, 1000, row_bytes=100.0).may_ask(batches, rows) is expected


def test_window_learns_the_size_of_answers() -> None:
    """A first estimate that is kept keeps the window shut, or too wide, for the whole run."""
    window = Window(4, 1000, row_bytes=1000.0)
    assert not window.may_ask(1, 4)
    window.observe(400, 4)
    assert window.may_ask(1, 10)
    window.observe(4000, 4)
    assert not window.may_ask(1, 2)
    window.observe(4, 4)  # short texts now do not mean short texts next
    assert not window.may_ask(1, 2)


class FakePool(Source):
    """Notes what is asked and collected."""

    def __init__(self, name: str, row_bytes: int, on_collect: Callable[[], None]) -> None:
        self.name, self.width, self.on_collect = name, row_bytes // 4, on_collect
        self.asked: list[Request] = []
        self.collected: list[Request] = []

    @property
    def ahead(self) -> int:
        return len(self.asked) - len(self.collected)

    def ask(self, request: Request) -> Request:
        self.asked.append(request)
        return request

    def bring_here(self) -> None:
        """Nothing travels here."""

    def collect(self, ticket: Request) -> TeacherSignal:
        self.on_collect()
        self.collected.append(ticket)
        values = torch.zeros(ticket.num_rows, self.width)
        return pack_signal(
            self.name, ticket.row_ids, [1] * ticket.num_rows, {"logits": values}, "float32"
        )


def make_feed(
    window: Window, *, on_collect: Callable[[], None] = lambda: None, teachers: int = 2
) -> tuple[Feed, list[FakePool]]:
    pools = [FakePool(f"t{i}", 64, on_collect) for i in range(teachers)]
    plan: Iterator[MicroBatch] = iter(make_plan(num_rows=40, total_steps=10))
    asks = {pool.name: Ask(dtype="float16" if pool.name == "t1" else "float32") for pool in pools}
    return Feed(plan, {pool.name: pool for pool in pools}, lambda _: asks, window), pools  # type: ignore[misc]


@pytest.mark.parametrize("ahead", [1, 3])
def test_feed_asks_ahead_as_far_as_allowed_and_no_further(ahead: int) -> None:
    """Not far enough, the student waits; too far, the store overflows."""
    feed, pools = make_feed(Window(ahead, 10**9))
    for used, _ in enumerate(feed, start=1):
        for pool in pools:
            assert pool.ahead == min(ahead, 10 - used)


def test_feed_keeps_to_the_bytes() -> None:
    """Batches of long texts are larger than those of short ones: bytes are what fills memory."""
    feed, pools = make_feed(Window(100, 3 * 4 * 2 * 64, row_bytes=2 * 64.0))
    seen = [pools[0].ahead for _ in feed]
    assert seen == [3, 3, 3, 3, 3, 3, 3, 2, 1, 0]


def test_feed_goes_on_one_batch_at_a_time_when_one_fills_the_window() -> None:
    """A limit below one batch must slow the run, not stop it."""
    feed, pools = make_feed(Window(4, 1, row_bytes=64.0))
    assert len([pool.ahead for _ in feed for pool in pools[:1]]) == 10


def test_feed_hands_out_in_order_with_the_answers_to_the_same_rows() -> None:
    """Answers to the batch before are targets for the wrong rows."""
    feed, pools = make_feed(Window(3, 10**9))
    expected = [item.batch.row_ids for item in make_plan(num_rows=40, total_steps=10)]
    found = list(feed)
    assert [fed.micro_batch.batch.row_ids for fed in found] == expected
    for fed in found:
        assert {s.row_ids for s in fed.signals.values()} == {fed.micro_batch.batch.row_ids}
        assert list(fed.signals) == ["t0", "t1"]
    assert {r.ask.dtype for r in pools[1].asked} == {"float16"}
    assert [r.texts for r in pools[0].asked] == [f.micro_batch.batch.texts for f in found]


def test_feed_measures_wait_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for teachers is the one figure that says whether to add replicas."""
    from types import SimpleNamespace

    from raydistill.pipeline import feed as module

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def wait() -> None:
        clock.now += 0.5

    feed, _ = make_feed(Window(3, 10**9), on_collect=wait)
    for _ in feed:
        clock.now += 7.0  # the student's own time
    assert feed.wait_s == 10 * 2 * 0.5
    assert feed.rows_received == {"t0": 40, "t1": 40}
    assert feed.bytes_received == {"t0": 40 * 64, "t1": 40 * 64}


def test_feed_without_teachers() -> None:
    """Training from labels alone is the baseline of every report."""
    feed, _ = make_feed(Window(2, 0), teachers=0)
    assert [len(fed.signals) for fed in feed] == [0] * 10
