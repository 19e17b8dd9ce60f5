"""Answers from one process's device memory to another's, past the host: Ray's direct transport over NIXL.

A replica keeps the answer's buffer where it computed it and sends a reference; the worker reads it
from there, over NVLink or InfiniBand where there is any, into memory of its own device.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch

from raydistill.signals import TeacherSignal
from raydistill.teachers.calls import last_line

__all__ = ["Offered", "offer", "take", "why_unable"]

_TRANSPORT = "nixl"


@dataclass(frozen=True)
class Offered:
    """An answer that is still with the replica.

    Attributes:
        signal: Without its buffer.
        buffer: The reference to it, in a list, where Ray leaves it a reference.
        actor: The replica's id.
    """

    signal: TeacherSignal
    buffer: list[Any]
    actor: str


def offer(signal: TeacherSignal) -> Offered:
    """Keep a buffer where it is until the receiver drops its reference."""
    reference = ray.put(torch.as_tensor(signal.buffer), _tensor_transport=_TRANSPORT)
    header = replace(signal, buffer=np.empty(0, np.uint8))
    return Offered(header, [reference], ray.get_runtime_context().get_actor_id() or "")


def take(offered: Offered, timeout_s: float, *, through_host: bool = False) -> TeacherSignal:
    """Read the buffer into this process's memory.

    Args:
        offered: Of a replica that is alive.
        timeout_s: Deadline.
        through_host: By the object store instead, whatever device it is on.

    Raises:
        RayDirectTransportError: It cannot be read in this way.
        RayError: As of any object.
    """
    buffer = ray.get(offered.buffer[0], timeout=timeout_s, _use_object_store=through_host)
    on_host = buffer.device.type == "cpu"
    return replace(offered.signal, buffer=buffer.numpy() if on_host else buffer)


def why_unable() -> str | None:
    """Why this process cannot take part; None if it can."""
    os.environ.setdefault("NIXL_LOG_LEVEL", "FATAL")  # what fails is handled, and told once
    from ray.experimental.rdt.util import get_tensor_transport_manager

    try:
        get_tensor_transport_manager(_TRANSPORT.upper()).get_nixl_agent()
    except Exception as error:  # a package that is missing, a driver: of whatever kind, it is told
        return last_line(error)
    return None
