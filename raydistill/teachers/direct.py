"""Answers from one process's device memory to another's, past the host: Ray's direct transport over NIXL.

A replica keeps the answer's buffer where it computed it and sends a reference; the worker reads it
from there, over NVLink or InfiniBand where there is any, into memory of its own device.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import ray
import torch

from raydistill.signals import TeacherSignal
from raydistill.signals.signal import CPU, on_device
from raydistill.teachers.calls import last_line

__all__ = ["Offered", "Offers", "take", "why_unable"]

_TRANSPORT = "nixl"


@dataclass(frozen=True)
class Offered:
    """An answer that is still with the replica.

    Attributes:
        signal: Without its buffer.
        buffer: The reference to it, in a list, where Ray leaves it a reference.
    """

    signal: TeacherSignal
    buffer: list[Any]


class Offers:
    """What a process can offer: NIXL set up once, and so many bytes at a time.

    Args:
        say: Where it is told, once, that answers go through host memory.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._unable: str | None = None  # nobody tried yet; empty: able
        self._bytes = 0
        # Filled by whichever thread collects memory: that must not wait for the lock.
        self._freed: deque[int] = deque()
        self._lock = threading.Lock()  # agents are made without one, in Ray

    def offer(self, signal: TeacherSignal) -> Offered | TeacherSignal:
        """The signal's buffer stays until the receiver drops its reference; if that cannot be, in host memory."""
        with self._lock:
            if self._unable is None:
                self._note(why_unable())
            while self._freed:
                self._bytes -= self._freed.popleft()
            buffer = torch.as_tensor(signal.buffer)
            fits = self._bytes + buffer.nbytes <= _most_bytes(buffer.device)
            if self._unable or not fits:
                return on_device(signal, CPU)
            try:
                reference = ray.put(buffer, _tensor_transport=_TRANSPORT)
            except Exception as error:  # e.g. memory that cannot be registered: no common type
                self._note(last_line(error))
                return on_device(signal, CPU)
            self._bytes += buffer.nbytes
            weakref.finalize(buffer, self._freed.append, buffer.nbytes)
        return Offered(replace(signal, buffer=np.empty(0, np.uint8)), [reference])

    def _note(self, unable: str | None) -> None:
        self._unable = unable or ""
        if unable:
            self._say(f"answers through host memory: {unable}")


def _most_bytes(device: torch.device) -> int:
    """Of a device, for answers that wait: what a worker asks ahead was bounded for host memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 16
    return 1 << 30


def take(offered: Offered, timeout_s: float) -> TeacherSignal:
    """Read the buffer into memory of this process's device.

    On a GPU that memory is given out by a stream of its own: what the allocator had from the
    student's might still be read by kernels that wait there, of which NIXL knows nothing.

    Raises:
        RayError: It cannot be read, or not in time.
    """
    with torch.cuda.stream(_stream()) if torch.cuda.is_available() else nullcontext():
        buffer = ray.get(offered.buffer[0], timeout=timeout_s)
    on_host = buffer.device.type == "cpu"
    return replace(offered.signal, buffer=buffer.numpy() if on_host else buffer)


@cache
def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def why_unable() -> str | None:
    """Why this process cannot take part; None if it can."""
    os.environ.setdefault("NIXL_LOG_LEVEL", "FATAL")  # what fails is handled, and told once
    from ray.experimental.rdt.util import get_tensor_transport_manager

    try:
        get_tensor_transport_manager(_TRANSPORT.upper()).get_nixl_agent()
    except Exception as error:  # a package that is missing, a driver: of whatever kind, it is told
        return last_line(error)
    return None
