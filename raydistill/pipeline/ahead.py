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
    inputs = {name: move(tensor) for name, tensor in batch.inputs.items()}
    route = None if batch.route is None else move(batch.route)
    group = None if batch.group is None else move(batch.group)
    labels, counts = move(batch.labels), move(batch.counts)
    ahead = replace(batch, inputs=inputs, labels=labels, counts=counts, route=route, group=group)
    return Fed(replace(fed.micro_batch, batch=ahead), signals)


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
    batch = fed.micro_batch.batch
    for tensor in (*batch.inputs.values(), batch.labels, batch.counts, batch.route, batch.group):
        if tensor is not None:
            tensor.record_stream(stream)
    for signal in fed.signals.values():
        for part in signal.parts:
            signal.part(part).record_stream(stream)
