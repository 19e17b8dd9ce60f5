"""One thread that computes, whoever asks."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["OneThread"]

P = ParamSpec("P")
T = TypeVar("T")


class OneThread:
    """Runs in one thread of its own what many threads ask for, one after another.

    Every thread that computes with torch on a CPU gets a team of helper threads, which stays as long as it
    does. With more helpers than cores OpenMP lets them sleep between operations instead of spinning:
    a teacher of two threads that is asked from eight takes about a third longer.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        # A daemon: a process that is told to end does not wait for a forward pass.
        threading.Thread(target=_work, args=(self._tasks,), name="computes", daemon=True).start()
        weakref.finalize(self, self._tasks.put, None)

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work returns or raises; an interrupt of the caller waits for its end."""
        future: Future[T] = Future()
        self._tasks.put((future, partial(work, *args, **kwargs)))
        try:
            return future.result()
        finally:
            wait([future])


_Task = tuple[Future[Any], Callable[[], Any]]


def _work(tasks: "SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        future, work = task
        try:
            future.set_result(work())
        except BaseException as error:  # whoever asked hears of it
            future.set_exception(error)
        del task, future, work  # else the last answer would be kept until the next
