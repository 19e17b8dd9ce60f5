"""An iterator over micro-batches with their teachers' answers, asked ahead of use.

It holds tickets, not threads: asking costs a call without waiting, and answers travel to this
node while the student works.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.pipeline.plan import MicroBatch
from raydistill.pipeline.window import Window
from raydistill.signals import Ask, Request, TeacherSignal
from raydistill.teachers.source import Source
from raydistill.teachers.sources import StoreSource

__all__ = ["Fed", "Feed"]


@dataclass(frozen=True)
class Fed:
    """A micro-batch and what every teacher says about it."""

    micro_batch: MicroBatch
    signals: Mapping[str, TeacherSignal]


class Feed:
    """Ask ahead, hand out in order.

    Args:
        plan: The micro-batches to come.
        sources: One a teacher.
        asks: Of a step, what to ask of each teacher; who is not named is not asked.
        window: How far ahead.
    """

    def __init__(
        self,
        plan: Iterator[MicroBatch],
        sources: Mapping[str, Source],
        asks: Callable[[int], Mapping[str, Ask]],
        window: Window,
    ) -> None:
        self._plan, self._sources, self._asks, self._window = plan, sources, asks, window
        self._queue: deque[tuple[MicroBatch, dict[str, Any]]] = deque()
        self._next = next(plan, None)
        self._rows = 0
        self.wait_s = 0.0
        """Seconds spent waiting for teachers."""
        self.waited_s = dict.fromkeys(sources, 0.0)
        """The same by teacher; who is collected later may have caught up meanwhile."""
        self.rows_received = dict.fromkeys(sources, 0)
        self.bytes_received = dict.fromkeys(sources, 0)

    def figures(self) -> Mapping[str, float]:
        """What this worker received, found in store or memory, and computed itself."""
        looked = [s for s in self._sources.values() if isinstance(s, StoreSource)]
        return {
            **{f"teachers/{name}/rows_received": n for name, n in self.rows_received.items()},
            **{f"teachers/{name}/bytes_received": n for name, n in self.bytes_received.items()},
            "store/hits": sum(source.hits for source in looked),
            "store/misses": sum(source.misses for source in looked),
            **{
                f"teachers/{name}/{key}": value
                for name, source in self._sources.items()
                for key, value in source.stats().items()
            },
        }

    def set_replicas(self, teacher: str, handles: Sequence[Any]) -> None:
        """Ask these replicas of a teacher from now on."""
        self._sources[teacher].set_replicas(handles)

    def close(self) -> None:
        """Let others find what was computed here."""
        for source in self._sources.values():
            source.close()

    def _fill(self) -> None:
        while self._next is not None:
            rows = len(self._next.batch.row_ids)
            if not self._window.may_ask(len(self._queue), self._rows + rows):
                return
            batch = self._next.batch
            tickets = {
                name: self._sources[name].ask(Request(batch.row_ids, batch.texts, ask))
                for name, ask in self._asks(self._next.step).items()
            }
            self._queue.append((self._next, tickets))
            self._rows += rows
            self._next = next(self._plan, None)

    def __iter__(self) -> Iterator[Fed]:
        while True:
            self._fill()
            if not self._queue:
                return
            micro_batch, tickets = self._queue.popleft()
            begin = time.perf_counter()
            signals = {}
            for name, ticket in tickets.items():
                from_here = time.perf_counter()
                signals[name] = self._sources[name].collect(ticket)
                self.waited_s[name] += time.perf_counter() - from_here
            self.wait_s += time.perf_counter() - begin
            rows = len(micro_batch.batch.row_ids)
            self._rows -= rows
            if signals:
                self._window.observe(sum(s.num_bytes for s in signals.values()), rows)
            for name, signal in signals.items():
                self.rows_received[name] += rows
                self.bytes_received[name] += signal.num_bytes
            # Ask for what comes next, and let what is ready travel, before the student works.
            self._fill()
            for source in self._sources.values():
                source.bring_here()
            yield Fed(micro_batch, signals)
