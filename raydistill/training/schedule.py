"""How many steps, when to evaluate, and the learning rate at each: pure functions."""

import math
from dataclasses import dataclass

from raydistill.config.training import TrainingSection
from raydistill.data.order import steps_per_epoch

__all__ = ["Steps", "learning_rate_factor", "plan_steps"]

_EVALUATIONS = 10  # of a run that has no epochs


@dataclass(frozen=True)
class Steps:
    """When what happens, in optimizer steps done.

    Attributes:
        total: Steps of the run.
        per_epoch: Steps of one pass; None: of a stream nobody knows.
        evaluate_every: Evaluate after so many, and after the last.
        checkpoint_every: Save after so many, and whenever evaluated.
    """

    total: int
    per_epoch: int | None
    evaluate_every: int
    checkpoint_every: int

    def evaluate_at(self, done: int) -> bool:
        """Whether to evaluate when ``done`` steps are done."""
        return done % self.evaluate_every == 0 or done == self.total

    def checkpoint_at(self, done: int) -> bool:
        """Whether to save when ``done`` steps are done."""
        return done % self.checkpoint_every == 0 or self.evaluate_at(done)


def plan_steps(training: TrainingSection, num_rows: int | None) -> Steps:
    """Resolve epochs and steps for a number of rows; None: a stream, which `max_steps` ends."""
    if num_rows is None:
        assert training.max_steps is not None
        evaluate = training.evaluate_every_steps or -(-training.max_steps // _EVALUATIONS)
        save = training.checkpoint_every_steps or evaluate
        return Steps(training.max_steps, None, evaluate, save)
    per_epoch = steps_per_epoch(num_rows, training.batch_rows)
    total = training.epochs * per_epoch
    if training.max_steps is not None:
        total = min(total, training.max_steps)
    evaluate = training.evaluate_every_steps or per_epoch
    return Steps(total, per_epoch, evaluate, training.checkpoint_every_steps or evaluate)


def learning_rate_factor(step: int, *, total: int, warmup_fraction: float, schedule: str) -> float:
    r"""Factor of the peak learning rate for optimizer step ``step``, counted from 0.

    Linear growth over the first :math:`w = \lfloor \text{warmup} \cdot \text{total} \rfloor` steps,
    :math:`(s + 1) / w`; then 1 for ``constant``, :math:`1 - x` for ``linear``,
    :math:`(1 + \cos \pi x) / 2` for ``cosine``, with :math:`x = (s - w) / (\text{total} - w)`.

    Example:
        >>> [
        ...     round(learning_rate_factor(s, total=4, warmup_fraction=0.5, schedule="linear"), 2)
        ...     for s in range(4)
        ... ]
        [0.5, 1.0, 1.0, 0.5]
    """
    warmup = int(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
