"""Steps and learning rate: formulas."""

import math

import pytest
import torch

from raydistill.config.training import TrainingSection
from raydistill.training.schedule import Steps, learning_rate_factor, plan_steps
from raydistill.training.step import build_scheduler


def factors(schedule: str, total: int = 10, warmup: float = 0.2) -> list[float]:
    return [
        learning_rate_factor(s, total=total, warmup_fraction=warmup, schedule=schedule)
        for s in range(total)
    ]


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("constant", lambda x: 1.0),
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: (1 + math.cos(math.pi * x)) / 2),
    ],
)
def test_learning_rate_follows_the_formula(schedule: str, formula: object) -> None:
    """A schedule that ends early, or at the peak, wastes the run's last epochs."""
    expected = [0.5, 1.0, *(formula(k / 8) for k in range(8))]  # type: ignore[operator]
    assert factors(schedule) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_step_learns_something(schedule: str, warmup: float) -> None:
    """A first or last step at rate 0 is thrown away, in a short run a visible share."""
    assert all(0.0 < factor <= 1.0 for factor in factors(schedule, 7, warmup))


def test_the_optimizer_gets_the_factor_of_its_step() -> None:
    """Off by one, the warm-up begins a step late and the run never ends where it should."""
    training = TrainingSection(learning_rate=0.5, warmup_fraction=0.2, schedule="linear")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = build_scheduler(optimizer, training, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * factor for factor in factors("linear")])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Steps(9, 3, 3, 3)),
        ({"max_steps": 5}, Steps(5, 3, 3, 3)),
        ({"max_steps": 50}, Steps(9, 3, 3, 3)),
        ({"evaluate_every_steps": 2}, Steps(9, 3, 2, 2)),
        ({"evaluate_every_steps": 4, "checkpoint_every_steps": 1}, Steps(9, 3, 4, 1)),
    ],
)
def test_steps_are_resolved(options: dict[str, int], expected: Steps) -> None:
    """A run one step short leaves rows of the last epoch unseen."""
    training = TrainingSection(epochs=3, batch_rows=4, learning_rate=0.1, **options)
    assert plan_steps(training, 10) == expected


def test_the_last_step_is_evaluated_and_saved() -> None:
    """A run whose last steps are neither measured nor saved did them for nothing."""
    steps = Steps(total=7, per_epoch=3, evaluate_every=3, checkpoint_every=2)
    assert [s for s in range(1, 8) if steps.evaluate_at(s)] == [3, 6, 7]
    assert [s for s in range(1, 8) if steps.checkpoint_at(s)] == [2, 3, 4, 6, 7]
