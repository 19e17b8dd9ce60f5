"""A student in shards is the same student: two processes without Ray against one."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.tensor import DTensor

from raydistill.errors import CheckpointError
from raydistill.losses import CATALOG
from raydistill.objective import ObjectivePlan, Term
from raydistill.terms import FeatureMatch, LayerPair, asked_of
from raydistill.training import checkpoint
from raydistill.training.checkpoint import Progress
from raydistill.training.parallel import parallelize
from raydistill.training.step import train_step
from tests.unit.objectives import (
    LOSSES,
    NOW,
    make_batch,
    make_fed,
    make_module,
    make_optimizer,
    make_plan,
    make_tokenizer,
)

CPU = torch.device("cpu")
# One step each: pieces and whether they only fill the place of none. The first worker has a
# micro-batch more than the second, then fewer, then all the rows there are.
SHARES: Any = (
    [([[0, 1, 2], [3, 4], [5]], False), ([[8]], False), ([[6]], False), ([[0, 3], [4]], False)],
    [([[6, 7]], False), ([[9], [10, 11]], False), ([[6]], True), ([[1, 2], [5]], False)],
)
ALONE: Any = [
    ([list(range(8))], False), ([list(range(8, 12))], False), ([[6]], False), ([list(range(6))], False),
]  # fmt: skip
CLIP = (None, 0.5, None, 0.5)  # clipped gradients hide a wrong scale


class Run:
    """A student in training, as one worker does it."""

    def __init__(self, folder: Path, rank: int, world: int, sharding: Any) -> None:
        self.rank, self.world = rank, world
        self.plan, self.tokenizer = make_plan(LOSSES), make_tokenizer(folder)
        self.core = make_module(folder, self.plan)
        example = make_batch([0], self.tokenizer).inputs
        self.module = parallelize(
            self.core, device=CPU, world=world, sharding=sharding, example=example
        )
        self.optimizer, self.scheduler = make_optimizer(self.core)
        for group in self.optimizer.param_groups:
            group["eps"] = 1e-2  # or AdamW makes steps of rounding errors, where gradients are tiny
        self.numbers: list[tuple[float, float]] = []

    def steps(self, shares: Any, first: int, last: int) -> None:
        for (pieces, filler), clip in list(zip(shares, CLIP, strict=True))[first:last]:
            fed = make_fed(self.plan, self.core.objective, self.tokenizer, pieces, filler=filler)
            metrics = train_step(
                self.module, fed, optimizer=self.optimizer, moment=NOW,
                max_grad_norm=clip, device=CPU, world=self.world,
            )  # fmt: skip
            self.scheduler.step()
            self.numbers.append((float(metrics.loss), float(metrics.grad_norm)))

    def logits(self) -> torch.Tensor:
        self.core.eval()
        with torch.no_grad():
            found = self.core.logits(make_batch(range(4), self.tokenizer))
        self.core.train()
        return found

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        best = folder / "of_the_student"
        checkpoint.save_module(self.core.student, best, keep=self.rank == 0)
        checkpoint.write(
            folder, rank=self.rank, progress=Progress(step=2, world=self.world), module=self.core,
            optimizer=self.optimizer, scheduler=self.scheduler, best=None,
        )  # fmt: skip

    def restore(self, folder: Path) -> None:
        checkpoint.restore(
            folder, rank=self.rank, world=self.world, stochastic=False, module=self.core,
            optimizer=self.optimizer, scheduler=self.scheduler,
        )  # fmt: skip


def _enter(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    work(rank, *arguments)
    dist.destroy_process_group()


def on_two_workers(work: Callable[..., None], *arguments: Any) -> None:
    """Run it in two processes of one group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_enter, (port, work, arguments), nprocs=2)


def _all_of_it(rank: int, folder: Path, before: Path, results: Path) -> None:
    """Train, measure and save in between; then go on with what another run saved."""
    run = Run(folder, rank, 2, "full")
    sizes = [sum(p.to_local().numel() for p in run.core.parameters() if isinstance(p, DTensor))]
    sizes.append(sum(p.numel() for p in run.core.parameters()))
    run.steps(SHARES[rank], 0, 2)
    middle = run.logits()
    run.write(results / "saved")
    kept = sum(s["exp_avg"].to_local().numel() for s in run.optimizer.state.values() if s)
    run.steps(SHARES[rank], 2, 4)
    run.write(results / "end")
    resumed = Run(folder, rank, 2, "full")
    resumed.restore(before)
    resumed.steps(SHARES[rank], 2, 4)
    resumed.write(results / "resumed")
    found = {
        "numbers": run.numbers,
        "middle": middle,
        "sizes": [*sizes, kept],
        "again": resumed.numbers,
    }
    torch.save(found, results / f"{rank}.pt")


@pytest.fixture(scope="module")
def alone(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Any]:
    """One worker: the run, its checkpoint after two steps, and what the student then said."""
    folder = tmp_path_factory.mktemp("alone")
    run = Run(tiny["student"], 0, 1, "full")
    run.steps(ALONE, 0, 2)
    run.write(folder / "saved")
    middle = run.logits()
    run.steps(ALONE, 2, 4)
    run.write(folder / "end")
    return run, folder, middle


@pytest.fixture(scope="module")
def sharded(
    tiny: dict[str, Path], alone: tuple[Run, Path, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any]:
    """Two workers with shards: what they saved, and what each found."""
    folder = tmp_path_factory.mktemp("sharded")
    on_two_workers(_all_of_it, tiny["student"], alone[1] / "saved", folder)
    return folder, torch.load(folder / "0.pt"), torch.load(folder / "1.pt")


def assert_same(one: Path, other: Path) -> None:
    """Both files of weights, names included."""
    first, second = (safetensors.torch.load_file(path) for path in (one, other))
    assert list(first) == list(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_one_worker_is_not_sharded(alone: tuple[Run, Path, Any]) -> None:
    """A group of one costs a copy of everything for nothing."""
    assert alone[0].module is alone[0].core
    assert not any(isinstance(p, DTensor) for p in alone[0].core.parameters())


def test_each_worker_holds_a_share(sharded: tuple[Path, Any, Any]) -> None:
    """Weights or moments that every worker holds whole are what the option is there to avoid."""
    _, first, second = sharded
    held, total, _ = first["sizes"]
    assert held + second["sizes"][0] == total
    assert 0.4 < held / total < 0.6
    assert first["sizes"][2] + second["sizes"][2] == total


def test_shards_train_the_student_of_one_worker(
    alone: tuple[Run, Path, Any], sharded: tuple[Path, Any, Any]
) -> None:
    """Losses and gradient norms by step, weights at the end; micro-batches differ in number."""
    run, folder, middle = alone
    results, first, second = sharded
    for step, (loss, norm) in enumerate(run.numbers):
        together = first["numbers"][step][0] + second["numbers"][step][0]
        assert together == pytest.approx(loss, rel=1e-5), step
        assert first["numbers"][step][1] == pytest.approx(norm, rel=1e-5), step
        assert first["numbers"][step][1] == second["numbers"][step][1]
    torch.testing.assert_close(first["middle"], middle, atol=1e-5, rtol=1e-5)
    assert torch.equal(first["middle"], second["middle"])
    for name in ("saved", "end"):
        assert_same(folder / name / "module.safetensors", results / name / "module.safetensors")
        assert_same(folder / name / "of_the_student", results / name / "of_the_student")


def test_a_run_goes_on_with_and_without_shards(
    tiny: dict[str, Path], alone: tuple[Run, Path, Any], sharded: tuple[Path, Any, Any]
) -> None:
    """Moments that are lost or mixed up on the way train another student."""
    run, folder, _ = alone
    results, first, second = sharded
    together = [a[0] + b[0] for a, b in zip(first["again"], second["again"], strict=True)]
    assert together == pytest.approx([loss for loss, _ in run.numbers[2:]], rel=1e-5)
    assert_same(folder / "end" / "module.safetensors", results / "resumed" / "module.safetensors")
    resumed = Run(tiny["student"], 0, 1, "none")
    resumed.restore(results / "saved")
    resumed.steps(ALONE, 2, 4)
    resumed.write(results / "without")
    assert_same(folder / "end" / "module.safetensors", results / "without" / "module.safetensors")


def test_the_files_are_those_of_an_unsharded_run(
    alone: tuple[Run, Path, Any], sharded: tuple[Path, Any, Any]
) -> None:
    """Export, and every resumed run, read one layout."""
    _, folder, _ = alone
    results, *_ = sharded
    names = {path.name for path in (results / "saved").iterdir()}
    assert names == {path.name for path in (folder / "saved").iterdir()} | {"random-1.pt"}
    one, other = (
        torch.load(path / "saved" / "optimizer.pt", weights_only=True) for path in (folder, results)
    )
    assert one["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
    assert one["scheduler"] == other["scheduler"]
    for index, entries in one["optimizer"]["state"].items():
        for name, value in entries.items():
            found = other["optimizer"]["state"][index][name]
            assert type(found) is torch.Tensor
            torch.testing.assert_close(found, value, atol=1e-6, rtol=1e-4)


def _relations() -> ObjectivePlan:
    """Of keys and values, each as a term, after a loss that leaves some queries without a gradient."""
    terms, asks = [], {}
    for place, states in enumerate(("key", "value")):
        pairs = (LayerPair("wide", (1,), (1,)), LayerPair("wide", (2,), (3,)))
        match = FeatureMatch(states, CATALOG["relation_kl"], pairs, states=states)  # type: ignore[arg-type]
        terms.append(Term(f"{place}.{states}", match))
    asks["wide"] = asked_of("wide", [term.match for term in terms], "float32")
    return ObjectivePlan(
        terms=tuple(terms), weights={"wide": 1.0}, columns={"wide": (0, 1)}, asks=asks
    )


def _related(rank: int, folder: Path, world: int, results: Path) -> None:
    """One step with copies, one with shards: loss, gradient norm and the student after it."""
    tokenizer = make_tokenizer(folder)
    for sharding in ("none", "full"):
        plan = _relations()
        core = make_module(folder, plan)
        example = make_batch([0], tokenizer).inputs
        module = parallelize(core, device=CPU, world=world, sharding=sharding, example=example)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(core.parameters(), lr=1.0)
        pieces = (SHARES[rank] if world > 1 else ALONE)[0][0]
        fed = make_fed(plan, core.objective, tokenizer, pieces)
        metrics = train_step(
            module, fed, optimizer=optimizer, moment=NOW, max_grad_norm=None, device=CPU, world=world
        )  # fmt: skip
        numbers = float(metrics.loss), float(metrics.grad_norm)
        torch.save(numbers, results / f"{sharding}-{rank}.pt")
        checkpoint.save_module(core.student, results / sharding, keep=rank == 0)


def test_relations_inside_blocks_train_the_same_student(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """What hooks read must reach the gradients of copies and of shards."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    _related(0, tiny["student"], 1, alone)
    on_two_workers(_related, tiny["student"], 2, together)
    loss, norm = torch.load(alone / "none-0.pt")
    assert norm > 0
    for sharding in ("none", "full"):
        parts = [torch.load(together / f"{sharding}-{rank}.pt") for rank in (0, 1)]
        assert parts[0][0] + parts[1][0] == pytest.approx(loss, rel=1e-5)
        assert parts[0][1] == pytest.approx(norm, rel=1e-5)
        assert_same(alone / "none", together / sharding)


class Tied(nn.Module):
    """A student whose blocks and head are few, with one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.student[1].weight = self.student[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.student(x)

    logits = forward


def _tied_and_wrong(rank: int, results: Path, torn: Path) -> None:
    torch.manual_seed(0)
    module = parallelize(Tied(), device=CPU, world=2, sharding="full", example={})
    checkpoint.save_module(module, results / "tied", keep=rank == 0)
    torch.distributed.barrier()
    before = checkpoint.parallel.whole_state(module, keep=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    checkpoint.load_module(module, results / "tied")
    after = checkpoint.parallel.whole_state(module, keep=True)
    assert before is not None
    assert after is not None
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(CheckpointError, match=r"does not fit the student.*student\.0\.bias"):
        checkpoint.load_module(module, torn)


def test_tied_weights_and_other_students(tmp_path: Path) -> None:
    """Written twice, they do not load; shards of another student would load in part."""
    torn = tmp_path / "torn"
    torch.manual_seed(0)
    whole = Tied()
    part = {k: v.contiguous() for k, v in whole.state_dict().items() if k == "student.0.weight"}
    safetensors.torch.save_file(part, torn)
    on_two_workers(_tied_and_wrong, tmp_path, torn)
    copy = Tied()
    checkpoint.load_module(copy, tmp_path / "tied")
    assert torch.equal(copy.student[1].bias, whole.student[1].bias)
    assert torch.equal(copy.student[0].weight, whole.student[0].weight)
