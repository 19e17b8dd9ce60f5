"""The student once more, with its embeddings moved and everything else as it was.

The move is added by a hook to what comes out of the embedding matrix. So it works for every model that has
one, whatever it derives from token ids beside it (positions, padding), which models do otherwise when they
are given embeddings in place of ids.

Dropout: the passes meet the same masks as the pass they go with, so what changes is the move alone; at no
move the answer is the same, bit by bit on the CPU. And they leave the random numbers where that pass left
them: with or without this term the rest of a run draws the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.tasks import Batch
from raydistill.terms import Nearby

__all__ = ["again"]


def again(student: nn.Module, batch: Batch, autocast: bool) -> Nearby:
    """What asks the student again; to be made right before the pass that it goes with.

    Args:
        student: A Hugging Face model.
        batch: The rows, on the student's device.
        autocast: Whether passes are in bfloat16.
    """
    model: Any = student
    device, matrix = batch.counts.device, model.get_input_embeddings()
    states = _random_states(device)
    with torch.no_grad():
        embeddings = matrix(batch.inputs["input_ids"])

    def logits_at(move: Tensor) -> Tensor:
        def moved(_module: nn.Module, _inputs: Any, found: Tensor) -> Tensor:
            return found + move.to(found.dtype)

        handle = matrix.register_forward_hook(moved)
        try:
            with (
                _drawing_from(states, device),
                torch.autocast(device.type, torch.bfloat16, enabled=autocast),
            ):
                logits: Tensor = student(**batch.inputs).logits.float()
        finally:
            handle.remove()
        return logits

    return Nearby(embeddings, logits_at)


def _random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), of_device


@contextmanager
def _drawing_from(states: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Random numbers from there on; afterwards from where they were."""
    of_cpu, of_device = states
    with torch.random.fork_rng([device] if of_device is not None else []):
        torch.set_rng_state(of_cpu)
        if of_device is not None:
            torch.cuda.set_rng_state(of_device, device)
        yield
