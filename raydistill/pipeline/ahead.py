"""On a GPU, the next micro-batch is copied while the student works on this one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from raydistill.pipeline.feed import Fed
from raydistill.signals.signal import on_device

__all__ = ["copied_ahead", "moved"]


def moved(fed: Fed, device: torch.device) -> Fed:
    """The same micro-batch with its tensors on a device; through pinned memory if that is a GPU."""

    def move(tensor: Tensor) -> Tensor:
        if device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    signals = {name: on_device(signal, device) for name, signal in fed.signals.items()}
    batch = fed.micro_batch.batch
    return Fed(replace(fed.micro_batch, batch=batch.moved(move)), signals)


def copied_ahead(items: Iterable[Fed], device: torch.device) -> Iterator[Fed]:
    """Micro-batches on their device, each copied on a side stream before it is asked for.

    On the CPU they pass as they are.
    """
    if device.type != "cuda":
        yield from items
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: Fed | None = None
    for item in items:
        with torch.cuda.stream(stream):
            following = moved(item, device)
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        _keep(following, torch.cuda.current_stream(device))
        ready = following
    if ready is not None:
        yield ready


def _keep(fed: Fed, stream: torch.cuda.Stream) -> None:
    """Memory that was made on the side stream is not given away before this stream is done with it."""
    for tensor in fed.micro_batch.batch.tensors:
        tensor.record_stream(stream)
    for signal in fed.signals.values():
        for part in signal.parts:
            signal.part(part).record_stream(stream)
