"""Examples made against the student: as strong as said, each row's by itself, and nothing else disturbed."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from raydistill.config.adversarial import FGMSection, PGDSection, VATSection
from raydistill.losses import CATALOG
from raydistill.objective import Moment
from raydistill.terms import AdversarialMatch, HardMatch, SoftMatch
from raydistill.terms.attack import ascend, directions, probe, radii
from raydistill.training.nearby import again
from raydistill.training.step import StepMetrics, StudentModule, train_step
from tests.unit.objectives import (
    LOSSES,
    make_fed,
    make_module,
    make_plan,
    make_tokenizer,
)

MASK = torch.tensor([[True, True, False], [True, True, True]])
EMBEDDINGS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
SLOPE = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
KL = SoftMatch(CATALOG["forward_kl"])
TERMS: dict[str, tuple[Any, Any]] = {
    "fgm": (FGMSection(kind="fgm", weight=0.4, epsilon=0.3), KL),
    "pgd": (PGDSection(kind="pgd", weight=0.4, steps=2), KL),
    "labels": (FGMSection(kind="fgm", against="labels"), HardMatch(CATALOG["cross_entropy"])),
    "vat": (VATSection(kind="vat", weight=0.4, epsilon=0.3), KL),
}


def length(move: Tensor) -> Tensor:
    return move.flatten(1).norm(dim=1)


def test_one_step_is_the_fast_gradient_method() -> None:
    """A step that is longer, or along another direction, is another attack."""
    radius = radii(EMBEDDINGS, MASK, 0.1)
    inside = torch.where(MASK.unsqueeze(-1), EMBEDDINGS, 0.0)
    torch.testing.assert_close(radius.flatten(), 0.1 * length(inside))
    move = ascend(lambda r: (r * SLOPE).sum(), radius, MASK, EMBEDDINGS, steps=1, step_size=1.0)
    slope = torch.where(MASK.unsqueeze(-1), SLOPE, 0.0)
    expected = radius * slope / length(slope).view(-1, 1, 1)
    torch.testing.assert_close(move, expected)
    assert move[0, 2].abs().sum() == 0, "padding does not move"


def test_steps_stay_within_the_radius_and_find_more() -> None:
    """An attack that leaves the ball is stronger than what was asked for; one that does not climb is none."""
    centre = torch.where(MASK.unsqueeze(-1), SLOPE, 0.0)

    def total(move: Tensor) -> Tensor:  # curved: the first slope does not lead to the best place
        return -((move - 0.3 * centre) ** 2 * torch.linspace(1, 5, 4)).sum()

    radius = radii(EMBEDDINGS, MASK, 0.1)
    found = {
        steps: ascend(total, radius, MASK, EMBEDDINGS, steps=steps, step_size=0.5)
        for steps in (1, 8)
    }
    for move in found.values():
        assert (length(move) <= radius.flatten() * (1 + 1e-5)).all()
    assert total(found[8]) > total(found[1]) > total(torch.zeros_like(EMBEDDINGS))


def test_probe_finds_the_direction_of_most_curvature() -> None:
    """A random direction is what virtual adversarial training is compared with."""
    curvature = torch.tensor([1.0, 2.0, 3.0, 50.0])
    start = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    radius = radii(EMBEDDINGS, MASK, 0.1)
    move = probe(lambda r: (curvature * r**2).sum(), radius, MASK, start, steps=6, length=0.1)
    torch.testing.assert_close(length(move), radius.flatten())
    assert (move[..., 3].flatten(1).norm(dim=1) / radius.flatten() > 0.99).all()
    flat = probe(lambda r: 0.0 * r.sum(), radius, MASK, start, steps=1, length=0.1)
    torch.testing.assert_close(length(flat), radius.flatten())


def test_first_directions_are_of_the_row_alone() -> None:
    """They would change with the neighbours of a row, and with the padding that those bring."""
    both = directions([4, 9], MASK, 4, seed=1, step=7)
    alone = directions([9], MASK[1:], 4, seed=1, step=7)
    assert torch.equal(both[1], alone[0])
    wide = directions([4], torch.tensor([[True, True, False, False, False]]), 4, seed=1, step=7)
    assert torch.equal(wide[0, :2], both[0, :2])
    assert both[0, 2].abs().sum() == 0
    for other in ({"seed": 2, "step": 7}, {"seed": 1, "step": 8}):
        assert not torch.equal(directions([9], MASK[1:], 4, **other), alone)


def make_step(
    folder: Path, name: str, pieces: list[list[int]], dropout: float = 0.0
) -> tuple[StepMetrics, StudentModule, dict[str, Tensor]]:
    """One step with a term on adversarial examples beside others."""
    section, target = TERMS[name]
    plan = replace(make_plan(LOSSES), adversarial=AdversarialMatch(section, target))
    module = make_module(folder, plan)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout
    module.train()
    fed = make_fed(plan, module.objective, make_tokenizer(folder), pieces)
    metrics = train_step(
        module, fed, optimizer=torch.optim.SGD(module.parameters(), lr=0.1), moment=Moment(3, 10),
        max_grad_norm=None, device=torch.device("cpu"), world=1,
    )  # fmt: skip
    grads = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return metrics, module, grads


@pytest.mark.parametrize("name", list(TERMS))
def test_micro_batches_give_the_loss_and_gradients_of_one_batch(
    tiny: dict[str, Path], name: str
) -> None:
    """A move that depends on a row's neighbours would change with the number of workers."""
    one, _, expected = make_step(tiny["student"], name, [list(range(8))])
    many, _, found = make_step(tiny["student"], name, [[0], [1, 2, 3], [4, 5], [6, 7]])
    torch.testing.assert_close(many.terms, one.terms, atol=1e-6, rtol=1e-5)
    assert len(one.terms) == len(LOSSES) + 1
    # Near no move a divergence is a small difference of large numbers, and rounding turns its slope.
    rounding = {"atol": 2e-5, "rtol": 1e-3} if name == "vat" else {"atol": 2e-6, "rtol": 1e-4}
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], **rounding, msg=key)


def _worker(rank: int, port: int, folder: Path, results: Path) -> None:
    """One of two workers of a group without Ray."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    section, target = TERMS["pgd"]
    plan = replace(make_plan(LOSSES), adversarial=AdversarialMatch(section, target))
    module = make_module(folder, plan)
    fed = make_fed(plan, module.objective, make_tokenizer(folder), [[[0, 1, 2], [3]], [[4, 5], [6, 7]]][rank])  # fmt: skip
    both = torch.nn.parallel.DistributedDataParallel(module)
    train_step(
        both, fed, optimizer=torch.optim.SGD(both.parameters(), lr=0.1), moment=Moment(3, 10),
        max_grad_norm=None, device=torch.device("cpu"), world=2,
    )  # fmt: skip
    torch.save(module.state_dict(), results / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_equal_one(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Passes inside of a pass must not set off the exchange of gradients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (port, tiny["student"], tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    _, alone, _ = make_step(tiny["student"], "pgd", [list(range(8))])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-4, msg=name)
        assert torch.equal(first[name], second[name]), name


def test_student_answers_worse_where_it_is_moved_to(tiny: dict[str, Path]) -> None:
    """A move that helps is no attack, and one that does nothing costs a pass for nothing."""
    found = {}
    for name, epsilon in (("fgm", 1e-6), ("fgm", 0.3), ("pgd", 0.3), ("vat", 1e-6), ("vat", 0.3)):
        section, target = TERMS[name]
        TERMS["tried"] = (section.model_copy(update={"epsilon": epsilon}), target)
        metrics, _, _ = make_step(tiny["student"], "tried", [list(range(8))])
        found[name, epsilon] = float(metrics.terms[-1])
    del TERMS["tried"]
    plain = found["fgm", 1e-6]
    assert found["fgm", 0.3] > plain * 1.01
    assert found["pgd", 0.3] > plain * 1.01
    assert found["vat", 1e-6] == pytest.approx(0.0, abs=1e-7)
    assert found["vat", 0.3] > 1e-5


def test_weight_is_that_of_the_section(tiny: dict[str, Path]) -> None:
    """A weight that is forgotten, or used twice, is another objective."""
    metrics, _, _ = make_step(tiny["student"], "fgm", [list(range(8))])
    weights = [*(loss.weight for loss in LOSSES), 0.4]
    expected = sum(w * t for w, t in zip(weights, metrics.terms, strict=True))
    torch.testing.assert_close(metrics.loss, expected)


def test_passes_meet_the_same_dropout_and_leave_the_rest_alone(tiny: dict[str, Path]) -> None:
    """The term would measure dropout in place of the move, and shift every later random number."""
    plan = make_plan(LOSSES)
    module = make_module(tiny["student"], plan)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.3
    module.train()
    (fed,) = make_fed(plan, module.objective, make_tokenizer(tiny["student"]), [[0, 1, 2]])
    batch = fed.micro_batch.batch
    torch.manual_seed(5)
    nearby = again(module.student, batch, autocast=False)
    clean = module.student(**batch.inputs).logits
    after = torch.get_rng_state()
    assert torch.equal(nearby.logits_at(torch.zeros_like(nearby.embeddings)), clean)
    assert not torch.equal(nearby.logits_at(0.1 * torch.ones_like(nearby.embeddings)), clean)
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(module.student(**batch.inputs).logits, clean), "there is dropout"
    _, first, _ = make_step(tiny["student"], "vat", [[0, 1], [2, 3]], dropout=0.3)
    assert all(p.isfinite().all() for p in first.parameters())
