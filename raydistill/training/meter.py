"""Means over the steps since the last log, and where the time went."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from raydistill.pipeline import Feed
from raydistill.terms import Seen
from raydistill.training.step import StepMetrics

__all__ = ["Meter"]


class Meter:
    """One worker's measurements.

    Args:
        names: Of the terms.
        world: Number of workers.
        device: Where sums over workers are made.
        seconds_before: Training time of earlier attempts.
    """

    def __init__(
        self, names: Sequence[str], *, world: int, device: torch.device, seconds_before: float
    ) -> None:
        self._names, self._world, self._device = list(names), world, device
        self._before = seconds_before
        self._begin = time.perf_counter()
        self._away_s = 0.0
        self._rows = 0
        # At the last log:
        self._logged_s, self._logged_wait_s, self._logged_rows = 0.0, 0.0, 0
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(len(self._names) + 1, dtype=torch.float64)
        self._steps, self._norm, self._rate = 0, 0.0, 0.0

    @property
    def _now_s(self) -> float:
        return time.perf_counter() - self._begin - self._away_s

    @property
    def seconds(self) -> float:
        """Training time, evaluation and saving left out, earlier attempts included."""
        return self._before + self._now_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in this block does not count as training."""
        begin = time.perf_counter()
        yield
        self._away_s += time.perf_counter() - begin

    def add(self, metrics: StepMetrics, rate: float) -> None:
        """One step, at a learning rate."""
        self._sums += torch.cat([metrics.loss.reshape(1), metrics.terms]).cpu().double()
        self._steps += 1
        self._norm, self._rate = float(metrics.grad_norm), rate
        self._rows += metrics.rows

    def means(self, feed: Feed, seen: Seen) -> dict[str, float]:
        """Since the last call; every worker must call it at the same step.

        Args:
            feed: Where answers come from.
            seen: What teachers counted; begins anew.
        """
        rows = self._rows - self._logged_rows
        both = torch.tensor([float(rows), float(seen.rows)], dtype=torch.float64)
        totals = torch.cat([self._sums, seen.sums, both])
        seen.clear()
        if self._world > 1:
            totals = totals.to(self._device)
            dist.all_reduce(totals)
        loss, *others, all_rows, weighed_rows = totals.tolist()
        terms, weights = others[: len(self._names)], others[len(self._names) :]
        elapsed = max(1e-9, self._now_s - self._logged_s)
        wait = feed.wait_s - self._logged_wait_s
        values = {
            "train/loss": loss / self._steps,
            **{
                f"train/losses/{name}": total / self._steps
                for name, total in zip(self._names, terms, strict=True)
            },
            "train/learning_rate": self._rate,
            "train/grad_norm": self._norm,
            "train/samples_per_s": all_rows / elapsed,
            "train/teacher_wait_fraction": min(1.0, wait / elapsed),
        }
        if weighed_rows > 0:
            values |= {
                f"train/teacher_weight/{name}": total / weighed_rows
                for name, total in zip(seen.names, weights, strict=True)
            }
        self._logged_s, self._logged_wait_s = self._now_s, feed.wait_s
        self._logged_rows = self._rows
        self._clear()
        return values

    def summary(self, feed: Feed, seen: Seen) -> Mapping[str, float]:
        """This attempt as a whole: times as this worker saw them, counts over all workers."""
        elapsed = max(1e-9, self._now_s)
        counts: dict[str, float] = dict(feed.figures())
        counts |= {
            f"teachers/{name}/{seen.unit}_abstained": n for name, n in seen.abstained.items()
        }
        if self._world > 1:
            everybody: list[dict[str, float]] = [{}] * self._world
            dist.all_gather_object(everybody, counts)
            counts = {name: sum(one[name] for one in everybody) for name in counts}
        return {
            "train/samples_per_s": self._rows * self._world / elapsed,
            "train/teacher_wait_fraction": min(1.0, feed.wait_s / elapsed),
            "train/seconds": self.seconds,
            **counts,
        }
