"""How the workers train one student: each alone, each with a copy (DDP), or each with a shard (FSDP2).

Copies: a forward pass is a worker's own affair, only the last backward pass of a step is common.
Shards: every forward pass is common too, because it gathers parameters. So all workers must make
the same number of passes, in training (:func:`rounds`) and in evaluation.

Both average gradients over the workers.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raydistill.models.spans import logits_of
from raydistill.pipeline import Fed

__all__ = [
    "Round",
    "core_of",
    "is_sharded",
    "load_whole",
    "load_whole_optimizer",
    "parallelize",
    "rounds",
    "sync_of",
    "whole",
    "whole_optimizer",
    "whole_state",
]


def parallelize(
    core: nn.Module,
    *,
    device: torch.device,
    world: int,
    sharding: Literal["none", "full"],
    example: Mapping[str, Tensor],
) -> nn.Module:
    """Bring a StudentModule to its device, and into DDP or FSDP2 if there are several workers.

    Build the optimizer afterwards: sharding replaces the parameters, in the same order.

    Args:
        core: A StudentModule, the same on all workers.
        device: Of this worker.
        world: Number of workers.
        sharding: As configured.
        example: The student's inputs for some text.

    Returns:
        What to call in :func:`raydistill.training.step.train_step`; ``core`` itself except with DDP.
    """
    if world > 1 and sharding == "full":
        _shard(core, device, world)
        return core
    core.to(device)
    if world == 1:
        return core
    return DistributedDataParallel(
        core,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=_some_unused(core, {k: v.to(device) for k, v in example.items()}),
    )


def _shard(core: nn.Module, device: torch.device, world: int) -> None:
    """Each block of the student by itself; embeddings, head and projections together."""
    # Here, since they take a second that only sharded students should pay.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if device.type == "cuda":
        torch.cuda.set_device(device)  # FSDP2 takes the current one
    mesh = init_device_mesh(device.type, (world,))
    for block in _blocks(core.get_submodule("student")):
        fully_shard(block, mesh=mesh)
    # Sharded again after every pass, so that outside of passes all parameters are shards.
    fully_shard(core, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(core, "logits")


def _blocks(student: nn.Module) -> Iterator[nn.Module]:
    """Members of the outermost lists of like modules: layers of an encoder, of a decoder."""
    for child in student.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1 and len(set(map(type, child))) == 1:
            yield from child
        else:
            yield from _blocks(child)


def _some_unused(core: nn.Module, example: Mapping[str, Tensor]) -> bool:
    """Whether some parameters do not reach the logits: DDP would wait for their gradients."""
    student = core.get_submodule("student")
    states = torch.get_rng_state()
    total: Any = logits_of(student(**example)).sum()
    total.backward()
    unused = any(p.grad is None for p in student.parameters() if p.requires_grad)
    core.zero_grad(set_to_none=True)
    torch.set_rng_state(states)  # dropout goes on as if nothing had been
    return unused


def core_of(module: nn.Module) -> Any:
    """The StudentModule inside."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def is_sharded(module: nn.Module) -> bool:
    """Whether this worker holds only shards, and a forward pass needs all workers."""
    return any(_is_shard(parameter) for parameter in module.parameters())


def _is_shard(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")


def sync_of(module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """A context for one forward and backward pass: gradients are averaged in the last of a step."""
    if is_sharded(module):
        module.set_requires_gradient_sync(last)  # type: ignore[operator]
    elif isinstance(module, DistributedDataParallel) and not last:
        silent: AbstractContextManager[None] = module.no_sync()
        return silent
    return nullcontext()


@dataclass(frozen=True)
class Round:
    """One forward and backward pass of a step.

    Attributes:
        fed: The micro-batch and its signals.
        counts: False: only keeps other workers company, and must add nothing.
        last: Whether the optimizer steps after it, on all workers.
    """

    fed: Fed
    counts: bool
    last: bool


def rounds(module: nn.Module, fed: Iterable[Fed], device: torch.device) -> Iterator[Round]:
    """The passes of one step: of a sharded module the same number on all workers.

    Shares of workers may differ by a row, and so by a micro-batch. Who is done early repeats its
    last one.

    Args:
        module: As from :func:`parallelize`.
        fed: The step's micro-batches.
        device: Of the module.
    """
    common = is_sharded(module)
    last = False
    for item in fed:
        last = _all_done(item.micro_batch.last, device) if common else item.micro_batch.last
        yield Round(item, counts=True, last=last)
    while common and not last:
        last = _all_done(True, device)
        # Random numbers of a pass that adds nothing must not shift those of the next step.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield Round(item, counts=False, last=last)


def _all_done(done: bool, device: torch.device) -> bool:
    left = torch.tensor([0.0 if done else 1.0], device=device)
    dist.all_reduce(left)
    return left.item() == 0.0


def whole(tensor: Any) -> Tensor:
    """A sharded tensor gathered, another as it is. All workers must call."""
    found: Tensor = tensor.full_tensor() if _is_shard(tensor) else tensor
    return found


def whole_state(module: nn.Module, *, keep: bool) -> dict[str, Tensor] | None:
    """A sharded module's state, gathered on the CPU one tensor at a time. All workers must call.

    Args:
        module: Sharded, or a part of such a module.
        keep: Whether this worker wants it.

    Returns:
        By name; tied weights are one tensor under several names. None without ``keep``.
    """
    gathered: dict[int, Tensor] = {}
    state = module.state_dict(keep_vars=True)
    for value in state.values():
        if id(value) not in gathered:
            tensor = whole(value.detach())
            gathered[id(value)] = _kept(tensor) if keep else tensor.new_empty(0)
    return {name: gathered[id(value)] for name, value in state.items()} if keep else None


def _kept(gathered: Tensor) -> Tensor:
    """A copy on the CPU: what is gathered from uneven shards is a view with padding behind it."""
    return gathered.to("cpu", copy=True)


@torch.no_grad()
def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Each worker's shards out of a whole state that it has read; nothing is sent.

    Args:
        module: Sharded.
        state: By name; tied weights once, under any of their names.

    Raises:
        RuntimeError: Names or shapes are others.
    """
    own = module.state_dict(keep_vars=True)
    loaded = {id(own[name]) for name in state if name in own}
    wrong = [name for name in state if name not in own]
    wrong += [name for name, value in own.items() if id(value) not in loaded]
    wrong += [n for n, value in state.items() if n in own and own[n].shape != value.shape]
    if wrong:
        raise RuntimeError(f"missing, unexpected, or of another shape: {', '.join(wrong)}")
    for name, value in state.items():
        own[name].copy_(_sharded_like(value, own[name]))


def whole_optimizer(optimizer: torch.optim.Optimizer, *, keep: bool) -> dict[str, Any] | None:
    """``optimizer.state_dict()`` as it would be without sharding. All workers must call.

    Args:
        optimizer: Over parameters that are sharded or not.
        keep: Whether this worker wants it.

    Returns:
        With shards gathered on the CPU; None without ``keep``.
    """
    found: dict[str, Any] = optimizer.state_dict()
    for index, entries in found["state"].items():
        gathered: dict[str, Any] = {}
        for name, value in entries.items():
            gathered[name] = whole(value)
            if _is_shard(value):
                gathered[name] = _kept(gathered[name]) if keep else None
        found["state"][index] = gathered
    return found if keep else None


def load_whole_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load what :func:`whole_optimizer` gave, with or without sharding; nothing is sent."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {
            name: _sharded_like(value, parameters[index]) if value.ndim else value
            for name, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def _sharded_like(value: Tensor, like: Any) -> Tensor:
    """This worker's shard of a whole tensor, if the other is sharded; nothing is sent."""
    if not _is_shard(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements
    return distribute_tensor(value.to(like.device), mesh, placements, src_data_rank=None)
