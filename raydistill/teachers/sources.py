"""Where a worker gets one teacher's answers from: the store, memory, this process, or the pool."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import TeacherError
from raydistill.signals import Request, TeacherSignal
from raydistill.signals.signal import select_rows
from raydistill.store import (
    Block,
    Codecs,
    Pick,
    ShelfStore,
    encode_signal,
    part_names,
    read_signal,
    row_keys,
)
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.merging import merge_requests
from raydistill.teachers.protocol import Teacher, TeacherDescription
from raydistill.teachers.source import Source
from raydistill.teachers.stored import StoredTeacher

__all__ = ["InlineSource", "Memory", "StoreSource"]


@dataclass(eq=False)
class _Asked:
    request: Request
    signal: TeacherSignal | None = None


class InlineSource(Source):
    """A teacher in the worker's own process: no transport, no overlap.

    What was asked ahead is computed together when the first of it is needed, so that rows of like
    length share a pass.

    Args:
        teacher: Who computes.
        window_rows: At most that many rows together; 0: each request by itself.
        counted: The part of it that counts, if there is one.
        stored: The part of it that writes to the store, if there is one.
    """

    def __init__(
        self,
        teacher: Teacher,
        window_rows: int,
        counted: CountingTeacher | None = None,
        stored: StoredTeacher | None = None,
    ) -> None:
        self._teacher, self._window_rows = teacher, window_rows
        self._counted, self._stored = counted, stored
        self._asked: deque[_Asked] = deque()

    def ask(self, request: Request) -> _Asked:
        """Put it in line."""
        asked = _Asked(request)
        self._asked.append(asked)
        return asked

    def collect(self, pending: _Asked) -> TeacherSignal:
        """Compute up to it."""
        while pending.signal is None:
            self._compute()
        return pending.signal

    def _compute(self) -> None:
        taken = [self._asked.popleft()]
        rows = taken[0].request.num_rows
        for asked in [a for a in self._asked if a.request.ask == taken[0].request.ask]:
            rows += asked.request.num_rows
            if rows > self._window_rows:
                break
            self._asked.remove(asked)
            taken.append(asked)
        signal = self._teacher.answer(merge_requests([asked.request for asked in taken]))
        begin = 0
        for asked in taken:
            end = begin + asked.request.num_rows
            asked.signal = signal if len(taken) == 1 else select_rows(signal, begin, end)
            begin = end

    def describe(self) -> TeacherDescription:
        """The teacher's own description."""
        return self._teacher.describe()

    def stats(self) -> Mapping[str, float]:
        """What this process computed."""
        return self._counted.stats() if self._counted is not None else {}

    def close(self) -> None:
        """Let others find what was computed."""
        if self._stored is not None:
            self._stored.publish()


class Memory:
    """What was received, kept in the shared memory it came in, up to a number of bytes; the oldest goes.

    Args:
        max_bytes: Of signals; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._blocks: OrderedDict[int, tuple[list[bytes], int]] = OrderedDict()
        self._places: dict[bytes, Pick] = {}
        self._count = 0

    def find(self, key: bytes, names: set[str]) -> Pick | None:
        """Where a row stands, if all parts do."""
        pick = self._places.get(key)
        return pick if pick is not None and names <= pick[0].parts.keys() else None

    def keep(self, keys: NDArray[np.void], block: Block, num_bytes: int) -> None:
        """Add rows."""
        if num_bytes > self._max_bytes:
            return
        names = [key.tobytes() for key in keys]
        self._places |= {name: (block, row) for row, name in enumerate(names)}
        self._blocks[self._count] = (names, num_bytes)
        self._count += 1
        self._bytes += num_bytes
        while self._bytes > self._max_bytes:
            _, (old, size) = self._blocks.popitem(last=False)
            self._bytes -= size
            for name in old:
                self._places.pop(name, None)


@dataclass(eq=False)
class _Looked:
    request: Request
    keys: NDArray[np.void]
    picks: list[Pick | None]
    missing: list[int]
    pending: Any = field(default=None, repr=False)


class StoreSource(Source):
    """What the store or memory has is not asked; the rest is, and is kept in memory.

    Args:
        teacher: Its name.
        store: Its shelf, as far as this process sees it; None: memory only.
        memory: What this process received before.
        inner: Who is asked for the rest; None: everything must be in the store.
    """

    def __init__(
        self, teacher: str, store: ShelfStore | None, memory: Memory, inner: Source | None
    ) -> None:
        self._teacher, self._store, self._memory, self._inner = teacher, store, memory, inner
        self.hits = self.misses = 0

    def ask(self, request: Request) -> _Looked:
        """Look, and ask for what is missing."""
        keys = row_keys(request.texts)
        names = set(part_names(request.ask))
        picks = [self._memory.find(key.tobytes(), names) for key in keys]
        absent = [row for row, pick in enumerate(picks) if pick is None]
        if absent and self._store is not None:
            found = self._store.find(keys[np.array(absent)], request.ask)
            for row, pick in zip(absent, found, strict=True):
                picks[row] = pick
            absent = [row for row in absent if picks[row] is None]
        self.hits += request.num_rows - len(absent)
        self.misses += len(absent)
        looked = _Looked(request, keys, picks, absent)
        if absent:
            if self._inner is None:
                raise self._incomplete(request, absent)
            looked.pending = self._inner.ask(request.select(absent))
        return looked

    def collect(self, pending: _Looked) -> TeacherSignal:
        """Put together what was found and what was answered."""
        request, picks, missing = pending.request, pending.picks, pending.missing
        if missing:
            assert self._inner is not None
            signal = self._inner.collect(pending.pending)
            block = encode_signal(signal, Codecs())
            self._memory.keep(pending.keys[np.array(missing)], block, signal.num_bytes)
            if len(missing) == request.num_rows:
                return signal
            for place, row in enumerate(missing):
                picks[row] = (block, place)
        found = [pick for pick in picks if pick is not None]
        names, dtype = part_names(request.ask), request.ask.dtype
        return read_signal(self._teacher, request.row_ids, found, names, dtype, view=True)

    def set_replicas(self, handles: Sequence[Any]) -> None:
        """Ask these from now on for what is missing."""
        if self._inner is not None:
            self._inner.set_replicas(handles)

    def describe(self) -> TeacherDescription | None:
        """Of a teacher in this process; None: it is elsewhere."""
        return self._inner.describe() if self._inner is not None else None

    def stats(self) -> Mapping[str, float]:
        """What was computed in this process."""
        return self._inner.stats() if self._inner is not None else {}

    def close(self) -> None:
        """Let others find what was computed in this process."""
        if self._inner is not None:
            self._inner.close()

    def bring_here(self) -> None:
        """What was asked for."""
        if self._inner is not None:
            self._inner.bring_here()

    def _incomplete(self, request: Request, absent: list[int]) -> TeacherError:
        ids = [request.row_ids[row] for row in absent]
        return TeacherError(
            self._teacher,
            f"was not started, because all its answers were in the store; now {len(ids)} rows are not, beginning with row {ids[0]}",
            "Is store.path on storage that all nodes share, and large enough that nothing was evicted? Start the run again with --resume.",
        )
