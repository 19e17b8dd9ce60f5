"""One optimizer step: the same however the batch is cut, and nothing moves when it fails."""

import copy
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from raydistill.errors import NotFiniteError
from raydistill.pipeline import Fed
from raydistill.training.step import StepMetrics, StudentModule, train_step
from tests.unit.objectives import (
    LOSSES,
    NOW,
    make_fed,
    make_module,
    make_optimizer,
    make_plan,
    make_tokenizer,
)

CPU = torch.device("cpu")
WHOLE = [list(range(8))]
UNEVEN = [[0], [1, 2, 3], [4, 5], [6, 7]]


def make_step(
    folder: Path, pieces: Sequence[Sequence[int]], *, max_grad_norm: float | None = None
) -> tuple[StepMetrics, StudentModule, dict[str, torch.Tensor]]:
    """Metrics, module, and gradients (after clipping) of one step in this process."""
    plan = make_plan(LOSSES)
    module = make_module(folder, plan)
    fed = make_fed(plan, module.objective, make_tokenizer(folder), pieces)
    metrics = step(module, fed, torch.optim.SGD(module.parameters(), lr=0.1), max_grad_norm)
    grads = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return metrics, module, grads


def step(
    module: nn.Module, fed: list[Fed], optimizer: Any, max_grad_norm: float | None, world: int = 1
) -> StepMetrics:
    return train_step(
        module, fed, optimizer=optimizer, moment=NOW,
        max_grad_norm=max_grad_norm, device=CPU, world=world,
    )  # fmt: skip


@pytest.mark.parametrize("pieces", [UNEVEN, [[row] for row in range(8)]])
def test_micro_batches_give_the_loss_and_gradients_of_one_batch(
    tiny: dict[str, Path], pieces: list[list[int]]
) -> None:
    """A setting that is there to save memory would change what is learned."""
    one, module, expected = make_step(tiny["student"], WHOLE)
    many, _, found = make_step(tiny["student"], pieces)
    torch.testing.assert_close(many.loss, one.loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(many.terms, one.terms, atol=1e-6, rtol=1e-6)
    assert set(found) == set(expected) == {name for name, _ in module.named_parameters()}
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5, msg=name)
    assert (many.rows, many.tokens) == (one.rows, one.tokens)


def test_loss_is_the_weighted_sum_of_the_terms(tiny: dict[str, Path]) -> None:
    """A weight that is forgotten, or used twice, is another objective."""
    metrics, _, _ = make_step(tiny["student"], WHOLE)
    expected = sum(w * t for w, t in zip([x.weight for x in LOSSES], metrics.terms, strict=True))
    torch.testing.assert_close(metrics.loss, expected)
    assert metrics.rows == 8


def _train_two_steps(
    module: nn.Module,
    folder: Path,
    plan: Any,
    shares: list[tuple[list[list[int]], bool]],
    world: int,
) -> list[float]:
    """Two steps of one worker; the share of each step's loss."""
    core: Any = module.module if world > 1 else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for (pieces, filler), max_grad_norm in zip(shares, CLIP, strict=True):
        fed = make_fed(plan, core.objective, make_tokenizer(folder), pieces, filler=filler)
        losses.append(float(step(module, fed, optimizer, max_grad_norm, world).loss))
    return losses


CLIP = (None, 0.5)  # clipped gradients hide a wrong scale
SHARES = (
    [([[0, 1, 2], [3, 4]], False), ([[8]], False)],
    [([[5, 6, 7]], False), ([[8]], True)],  # a step of one row: this worker has only a filler
)


def _worker(rank: int, port: int, folder: Path, results: Path) -> None:
    """One of two workers of a group without Ray."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    plan = make_plan(LOSSES)
    module = nn.parallel.DistributedDataParallel(make_module(folder, plan))
    losses = _train_two_steps(module, folder, plan, SHARES[rank], 2)
    torch.save({"losses": losses, "state": module.module.state_dict()}, results / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_equal_one(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A run on more machines would be another run; a worker with only a filler must add nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (port, tiny["student"], tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    plan = make_plan(LOSSES)
    alone = make_module(tiny["student"], plan)
    both = [([list(range(8))], False), ([[8]], False)]
    losses = _train_two_steps(alone, tiny["student"], plan, both, 1)
    together = [a + b for a, b in zip(first["losses"], second["losses"], strict=True)]
    assert together == pytest.approx(losses, abs=1e-6)
    assert second["losses"][1] == 0.0
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first["state"][name], value, atol=1e-6, rtol=1e-5, msg=name)
        assert torch.equal(first["state"][name], second["state"][name]), name


def test_clipping_covers_student_and_projections(tiny: dict[str, Path]) -> None:
    """A projection that is not clipped undoes what clipping is for."""
    free, _, _ = make_step(tiny["student"], WHOLE)
    clipped, _, grads = make_step(tiny["student"], WHOLE, max_grad_norm=0.01)
    assert any("projections" in name for name in grads)
    total = torch.sqrt(sum((g.double() ** 2).sum() for g in grads.values()))  # type: ignore[arg-type]
    assert total.item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped.grad_norm, free.grad_norm)  # as it was before clipping


def test_a_loss_that_is_not_finite_leaves_the_weights(tiny: dict[str, Path]) -> None:
    """One NaN batch would ruin all weights, and the next checkpoint with them."""
    plan = make_plan(LOSSES)
    module = make_module(tiny["student"], plan)
    fed = make_fed(plan, module.objective, make_tokenizer(tiny["student"]), [[0, 1], [2, 3]])
    fed[1].signals["wide"].logits[0, 0] = float("nan")
    optimizer, _ = make_optimizer(module)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(NotFiniteError) as caught:
        step(module, fed, optimizer, 1.0)
    assert caught.value.subject == "losses.1.forward_kl"
    assert caught.value.rows == (2, 3)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_gradient_that_is_not_finite_leaves_the_weights(tiny: dict[str, Path]) -> None:
    """In a group of workers only one sees the loss, but all get its gradient."""
    plan = make_plan(LOSSES)
    module = make_module(tiny["student"], plan)
    fed = make_fed(plan, module.objective, make_tokenizer(tiny["student"]), [[0, 1], [2, 3]])
    weight = module.student.get_parameter("classifier.weight")
    weight.register_hook(lambda grad: grad * float("inf"))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(NotFiniteError, match=r"the gradient .* rows 0, 1, 2, 3"):
        step(module, fed, torch.optim.SGD(module.parameters(), lr=1.0), 1.0)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_bfloat16_stays_close_and_keeps_float32_weights(tiny: dict[str, Path]) -> None:
    """Weights in bfloat16 lose small updates altogether."""
    plan = make_plan(LOSSES)
    tokenizer = make_tokenizer(tiny["student"])
    expected, _, _ = make_step(tiny["student"], WHOLE)
    module = make_module(tiny["student"], plan)
    half = StudentModule(module.student, module.objective, "bfloat16").train()
    fed = make_fed(plan, half.objective, tokenizer, WHOLE)
    found = step(half, fed, torch.optim.SGD(half.parameters(), lr=0.1), None)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=0.05)
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_optimizer_groups(tiny: dict[str, Path]) -> None:
    """Decay on biases and normalisations, or a projection without its own rate, is not configured."""
    module = make_module(tiny["student"], make_plan(LOSSES))
    optimizer, _ = make_optimizer(module, weight_decay=0.2, projection_learning_rate=0.5)
    names = {p: name for name, p in module.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.append(name)
            assert group["weight_decay"] == (0.2 if parameter.ndim > 1 else 0.0), name
            assert group["initial_lr"] == (0.5 if "projections" in name else 0.01), name
    assert sorted(seen) == sorted(names.values())
