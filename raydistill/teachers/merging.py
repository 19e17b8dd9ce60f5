"""Requests that wait are answered together: rows of all of them share passes with rows of like length."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, ParamSpec, TypeVar

from raydistill.errors import NotFiniteError
from raydistill.signals import Request, TeacherSignal
from raydistill.signals.signal import select_rows
from raydistill.teachers.protocol import Teacher, TeacherDescription
from raydistill.teachers.thread import OneThread

__all__ = ["Merge", "MergingTeacher", "merge_requests"]

Merge = Literal["auto", "always", "never"]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False)
class _Waiting:
    request: Request
    signal: TeacherSignal | None = None
    error: BaseException | None = field(default=None, repr=False)

    @property
    def done(self) -> bool:
        return self.signal is not None or self.error is not None


class MergingTeacher:
    """Answers many threads, one computation at a time.

    Whoever finds the teacher free has it compute for all that wait: the oldest first, up to
    ``window_rows`` rows that ask for the same. There is no waiting for company: under load company
    is there.

    Args:
        teacher: Who computes.
        window_rows: At most that many rows at once, but always one request; 0: never merge.
        window_bytes: At most that many bytes of answers, as far as earlier ones tell.
        thread: Where it computes; best the one that it was made in. None: one of its own.
    """

    def __init__(
        self,
        teacher: Teacher,
        window_rows: int,
        window_bytes: int = 256 << 20,
        thread: OneThread | None = None,
    ) -> None:
        self._teacher, self._window_rows, self._window_bytes = teacher, window_rows, window_bytes
        self._thread = thread or OneThread()
        self._row_bytes = float(window_bytes)  # until the first answer: one request at a time
        self._line: deque[_Waiting] = deque()
        self._computing = threading.Lock()

    def describe(self) -> TeacherDescription:
        """The teacher's own description."""
        return self._teacher.describe()

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Something else where it computes, when the computation under way has ended."""
        with self._computing:
            return self._thread.run(work, *args, **kwargs)

    def answer(self, request: Request) -> TeacherSignal:
        """As the teacher would answer it alone.

        Raises:
            Exception: What the teacher raised for this request, or for all that it was merged with.
        """
        mine = _Waiting(request)
        self._line.append(mine)
        try:
            while not mine.done:
                with self._computing:
                    if not mine.done:
                        self._thread.run(self._compute, self._take())
        except BaseException:  # an interrupt: nobody waits for this request any more
            with suppress(ValueError):
                self._line.remove(mine)
            raise
        if mine.error is not None:
            raise mine.error
        assert mine.signal is not None
        return mine.signal

    def _take(self) -> list[_Waiting]:
        """The oldest in line and those behind it that ask for the same, as far as the window goes."""
        taken = [self._line.popleft()]
        first = taken[0].request
        rows = first.num_rows
        for waiting in tuple(self._line):
            following = waiting.request
            if following.ask != first.ask or len(following.texts) != len(first.texts):
                continue  # queries wait between passages
            rows += following.num_rows
            if rows > self._window_rows or rows * self._row_bytes > self._window_bytes:
                break
            try:
                self._line.remove(waiting)
            except ValueError:  # its caller was interrupted meanwhile
                continue
            taken.append(waiting)
        return taken

    def _compute(self, taken: list[_Waiting]) -> None:
        """Each of them is done afterwards, or in line again if an interrupt came."""
        try:
            if len(taken) == 1:
                self._compute_one(taken[0])
            else:
                self._compute_merged(taken)
        except BaseException:
            self._line.extendleft(waiting for waiting in reversed(taken) if not waiting.done)
            raise

    def _compute_merged(self, taken: list[_Waiting]) -> None:
        try:
            together = self._teacher.answer(merge_requests([w.request for w in taken]))
            signals = _apart(together, [w.request.num_rows for w in taken])
        except NotFiniteError:  # whose rows they are: each by itself
            for waiting in taken:
                self._compute_one(waiting)
            return
        except Exception as error:  # every caller must hear of it
            for waiting in taken:
                waiting.error = error
            return
        for waiting, signal in zip(taken, signals, strict=True):
            waiting.signal = signal

    def _compute_one(self, waiting: _Waiting) -> None:
        try:
            signal = self._teacher.answer(waiting.request)
        except Exception as error:
            waiting.error = error
            return
        waiting.signal = signal
        self._row_bytes = signal.num_bytes / max(1, len(signal.row_ids))


def _apart(signal: TeacherSignal, num_rows: list[int]) -> list[TeacherSignal]:
    ends = list(accumulate(num_rows))
    return [select_rows(signal, end - rows, end) for rows, end in zip(num_rows, ends, strict=True)]


def merge_requests(requests: list[Request]) -> Request:
    """One request for the rows of all."""
    return Request(
        tuple(row for request in requests for row in request.row_ids),
        tuple(
            tuple(text for request in requests for text in request.texts[column])
            for column in range(len(requests[0].texts))
        ),
        requests[0].ask,
    )
