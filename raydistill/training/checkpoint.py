"""What a checkpoint holds, and how it is written and read.

One folder, written by all workers together::

    module.safetensors   student and projections
    best.safetensors     the best student so far, if it is not the one above
    optimizer.pt         optimizer and scheduler
    progress.json        steps done, the best so far, and what the run is made of (its manifest)
    random-RANK.pt       random states of every worker
"""

import json
import math
import pickle
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from raydistill.errors import CheckpointError
from raydistill.training import parallel

__all__ = ["Progress", "load_module", "read_progress", "restore", "save_module", "write"]
# What torch.load and the parts raise when a file is cut off, damaged, or of another shape.
_TORN = (
    OSError, EOFError, pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        best_step: After how many steps the best student was; 0 before the first evaluation.
        best_value: Its selection metric.
        since_best: Evaluations without improvement.
        best_metrics: All metrics of that evaluation.
        last_metrics: All metrics of the last evaluation.
        end: Why training ended (``finished``, ``early_stopping``), or "" while it goes on.
        seconds: Spent training so far.
        world: Workers that wrote the checkpoint.
        manifest: What the run is made of.
    """

    step: int = 0
    best_step: int = 0
    best_value: float | None = None
    since_best: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    end: str = ""
    seconds: float = 0.0
    world: int = 1
    manifest: Mapping[str, Any] = field(default_factory=dict)
    last_metrics: Mapping[str, float] = field(default_factory=dict)

    def evaluated(
        self, metrics: Mapping[str, float], name: str, *, greater_is_better: bool, margin: float
    ) -> "Progress":
        """After an evaluation: is this the best?"""
        value = metrics.get(name)
        if value is None:
            return replace(self, best_step=self.step)
        before = self.best_value
        gain = None if before is None or math.isnan(before) else value - before
        if gain is None or (gain if greater_is_better else -gain) > margin:
            return replace(
                self,
                best_step=self.step,
                best_value=value,
                since_best=0,
                best_metrics=dict(metrics),
            )
        return replace(self, since_best=self.since_best + 1)


def save_module(module: nn.Module, path: Path, *, keep: bool = True) -> None:
    """Weights as safetensors, whole; tied ones once.

    Args:
        module: If it is sharded, all workers must call.
        path: Of the file.
        keep: Whether this worker writes it.
    """
    if parallel.is_sharded(module):
        state = parallel.whole_state(module, keep=keep)
        module = SimpleNamespace(state_dict=lambda: state)  # type: ignore[assignment]
    if keep:
        safetensors.torch.save_model(module, str(path))


def load_module(module: nn.Module, path: Path) -> None:
    """Weights into a module of the same shape, sharded or not."""
    try:
        if parallel.is_sharded(module):
            parallel.load_whole(module, safetensors.torch.load_file(path))
        else:
            safetensors.torch.load_model(module, str(path))
    except (*_TORN, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} does not fit the student, or is torn: {error}") from error


def write(
    folder: Path,
    *,
    rank: int,
    progress: Progress,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    best: Path | None,
) -> None:
    """This worker's part of a checkpoint; worker 0 writes what is common, whole.

    The files are the same whether the module is sharded or not. If it is, all workers must call.

    Args:
        folder: An empty folder of this worker.
        rank: This worker.
        progress: So far.
        module: A StudentModule, not wrapped.
        optimizer: Its optimizer.
        scheduler: Its scheduler.
        best: File of the best student, if that is another than the module's.
    """
    torch.save(_random_states(), folder / f"random-{rank}.pt")
    save_module(module, folder / "module.safetensors", keep=rank == 0)
    states = parallel.whole_optimizer(optimizer, keep=rank == 0)
    if rank != 0:
        return
    if best is not None:
        shutil.copyfile(best, folder / "best.safetensors")
    torch.save(
        {"optimizer": states, "scheduler": scheduler.state_dict()},
        folder / "optimizer.pt",
    )
    (folder / "progress.json").write_text(json.dumps(asdict(progress), indent=1), encoding="utf-8")


def read_progress(folder: Path) -> Progress:
    """How far a checkpoint is."""
    try:
        return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder} is torn: progress.json cannot be read ({error})."
        ) from error


def restore(
    folder: Path,
    *,
    rank: int,
    world: int,
    stochastic: bool,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> Progress:
    """Everything back as it was when the checkpoint was written.

    Args:
        folder: The checkpoint.
        rank: This worker.
        world: Number of workers now.
        stochastic: Whether random states decide results (dropout).
        module: Of the same shape.
        optimizer: Likewise.
        scheduler: Likewise.

    Raises:
        CheckpointError: It is torn, or random states are needed of another number of workers.
    """
    progress = read_progress(folder)
    if stochastic and progress.world != world:
        raise CheckpointError(
            f"training.num_workers is {world}, the checkpoint is of {progress.world}; with student.dropout "
            "above 0 their random numbers differ, so the result would. Resume with the same number."
        )
    load_module(module, folder / "module.safetensors")
    try:
        states = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        parallel.load_whole_optimizer(optimizer, states["optimizer"])
        scheduler.load_state_dict(states["scheduler"])
        if progress.world == world:
            _set_random_states(torch.load(folder / f"random-{rank}.pt", weights_only=True))
    except _TORN as error:
        raise CheckpointError(f"{folder} is torn or of another version: {error}") from error
    return progress


def _random_states() -> dict[str, Any]:
    python = random.getstate()
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global one is what models use
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _on_gpu() else None,
        "python": json.dumps(python),
        "numpy": json.dumps(
            [numpy_state[0], np.asarray(numpy_state[1]).tolist(), *numpy_state[2:]]
        ),
    }


def _set_random_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and _on_gpu():
        torch.cuda.set_rng_state(states["cuda"])
    version, internal, gauss = json.loads(states["python"])
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = json.loads(states["numpy"])
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))  # noqa: NPY002


def _on_gpu() -> bool:
    """Whether this process uses a GPU; asking must not make it do so."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
