"""Checkpoints: everything comes back to the last bit, or not at all."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.errors import CheckpointError
from raydistill.training import checkpoint
from raydistill.training.checkpoint import Progress
from raydistill.training.step import StudentModule, train_step
from tests.unit.objectives import (
    NOW,
    cross_entropy,
    forward_kl,
    hidden_mse,
    make_fed,
    make_module,
    make_optimizer,
    make_plan,
    make_tokenizer,
)

LOSSES = (cross_entropy(), forward_kl(), hidden_mse("mean"))
PROGRESS = Progress(
    step=2, best_step=1, best_value=0.75, since_best=1, best_metrics={"validation/accuracy": 0.75},
    seconds=12.5, world=1, manifest={"rows": 12, "labels": ["a", "b"]},
)  # fmt: skip


class Run:
    """A student in training, with dropout."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.plan, self.tokenizer = make_plan(LOSSES), make_tokenizer(folder)
        self.module: StudentModule = make_module(folder, self.plan, dropout=0.2)
        self.optimizer, self.scheduler = make_optimizer(self.module)
        torch.manual_seed(seed)

    def steps(self, first: int, last: int) -> None:
        for number in range(first, last):
            rows = [(3 * number + k) % 12 for k in range(4)]
            fed = make_fed(self.plan, self.module.objective, self.tokenizer, [rows])
            train_step(
                self.module, fed, optimizer=self.optimizer, moment=NOW,
                max_grad_norm=1.0, device=torch.device("cpu"), world=1,
            )  # fmt: skip
            self.scheduler.step()

    def write(self, folder: Path, *, rank: int = 0, best: Path | None = None) -> None:
        folder.mkdir(exist_ok=True)
        checkpoint.write(
            folder, rank=rank, progress=PROGRESS, module=self.module, optimizer=self.optimizer,
            scheduler=self.scheduler, best=best,
        )  # fmt: skip

    def restore(self, folder: Path, **changes: Any) -> Progress:
        options: dict[str, Any] = {"rank": 0, "world": 1, "stochastic": True, **changes}
        return checkpoint.restore(
            folder, module=self.module, optimizer=self.optimizer, scheduler=self.scheduler,
            **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after two steps."""
    folder = tmp_path_factory.mktemp("saved")
    run = Run(tiny["student"])
    run.steps(0, 2)
    run.write(folder)
    return folder


def test_resumed_training_is_bit_identical(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A moment, a rate or a random state left out, and the resumed run is another run."""
    through = Run(tiny["student"], seed=1)
    through.steps(0, 2)
    through.write(tmp_path / "saved")
    draws = (torch.rand(3), random.random(), np.random.rand())  # noqa: NPY002
    resumed = Run(tiny["student"], seed=99)
    random.seed(5)
    assert resumed.restore(tmp_path / "saved") == PROGRESS
    assert torch.equal(torch.rand(3), draws[0])
    assert (random.random(), np.random.rand()) == draws[1:]  # noqa: NPY002
    state = torch.get_rng_state()
    through.steps(2, 5)
    torch.set_rng_state(state)
    resumed.steps(2, 5)
    for name, value in through.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name
    assert resumed.scheduler.get_last_lr() == through.scheduler.get_last_lr()


def test_projections_are_part_of_it(saved: Path) -> None:
    """A projection that starts anew after a restart pulls the student elsewhere for a while."""
    import safetensors.torch

    names = safetensors.torch.load_file(saved / "module.safetensors")
    assert any("projections" in name for name in names)


def test_every_worker_writes_only_its_part(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Two workers that write the same file tear it."""
    run = Run(tiny["student"])
    best = tmp_path / "best"
    best.write_bytes(b"weights")
    run.write(tmp_path / "second", rank=1, best=best)
    run.write(tmp_path / "first", rank=0, best=best)
    assert [f.name for f in (tmp_path / "second").iterdir()] == ["random-1.pt"]
    assert {f.name for f in (tmp_path / "first").iterdir()} == {
        "module.safetensors", "best.safetensors", "optimizer.pt", "progress.json", "random-0.pt",
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "gone"])
@pytest.mark.parametrize(
    "name", ["module.safetensors", "optimizer.pt", "progress.json", "random-0.pt"]
)
def test_a_torn_checkpoint_is_refused(
    tiny: dict[str, Path], saved: Path, tmp_path: Path, name: str, damage: str
) -> None:
    """A traceback out of a pickle reads as a bug; half a checkpoint that loads is one."""
    for file in saved.iterdir():
        content = file.read_bytes()
        if file.name == name:
            content = {"cut": content[: len(content) // 2], "empty": b""}.get(damage, b"no such")
        if not (file.name == name and damage == "gone"):
            (tmp_path / file.name).write_bytes(content)
    with pytest.raises(CheckpointError, match="torn"):
        Run(tiny["student"]).restore(tmp_path)


def test_another_student_is_refused(tiny: dict[str, Path], saved: Path) -> None:
    """Weights of another shape that load in part make a student that nobody trained."""
    with pytest.raises(CheckpointError, match="does not fit the student"):
        Run(tiny["deep"]).restore(saved)


def test_another_number_of_workers_is_refused_only_with_dropout(
    tiny: dict[str, Path], saved: Path
) -> None:
    """With dropout the numbers would differ in silence; without, nothing speaks against it."""
    run = Run(tiny["student"])
    with pytest.raises(
        CheckpointError, match=r"training\.num_workers is 2, the checkpoint is of 1"
    ):
        run.restore(saved, world=2)
    assert run.restore(saved, world=2, rank=1, stochastic=False).step == 2


@pytest.mark.parametrize(
    ("value", "greater", "margin", "is_best"),
    [(0.8, True, 0.0, True), (0.75, True, 0.0, False), (0.8, True, 0.1, False),
     (0.7, False, 0.0, True), (0.8, False, 0.0, False), (0.7, False, 0.1, False)],
)  # fmt: skip
def test_an_evaluation_is_the_best_by_more_than_the_margin(
    value: float, greater: bool, margin: float, is_best: bool
) -> None:
    """The wrong direction selects the worst student of the run."""
    before = dataclasses.replace(PROGRESS, step=5)
    after = before.evaluated({"m": value}, "m", greater_is_better=greater, margin=margin)
    if is_best:
        assert (after.best_step, after.best_value, after.since_best) == (5, value, 0)
        assert after.best_metrics == {"m": value}
    else:
        assert after == dataclasses.replace(before, since_best=2)


def test_the_first_evaluation_is_the_best_so_far() -> None:
    """Compared with a made-up first value, nothing might ever be the best."""
    after = Progress(step=3).evaluated({"m": -5.0}, "m", greater_is_better=True, margin=1.0)
    assert (after.best_step, after.best_value) == (3, -5.0)


def test_without_the_metric_the_latest_is_the_best() -> None:
    """Without validation rows the student at the end is the result, not the first."""
    after = Progress(step=3, best_step=1).evaluated({}, "m", greater_is_better=True, margin=0.0)
    assert (after.best_step, after.best_value, after.since_best) == (3, None, 0)


def test_what_cannot_be_measured_is_never_the_best() -> None:
    """Compared with NaN nothing is better: the first broken evaluation would win the run."""
    nan = float("nan")
    first = Progress(step=1).evaluated({"m": nan}, "m", greater_is_better=True, margin=0.0)
    then = dataclasses.replace(first, step=2).evaluated(
        {"m": 0.5}, "m", greater_is_better=True, margin=0.0
    )
    assert (then.best_step, then.best_value) == (2, 0.5)
