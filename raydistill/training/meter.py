"""Means over the steps since the last log, and where the time went."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

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
        self._steps_with = torch.zeros(len(self._names) + 1, dtype=torch.float64)
        self._norm, self._rate = 0.0, 0.0

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

    def add(self, metrics: StepMetrics, rate: float, first: int = 0) -> None:
        """One step, at a learning rate.

        Args:
            metrics: Of the step.
            rate: The learning rate.
            first: Place of its first term among the names.
        """
        there = [0, *range(first + 1, first + 1 + len(metrics.terms))]
        self._sums[there] += torch.cat([metrics.loss.reshape(1), metrics.terms]).cpu().double()
        self._steps_with[there] += 1
        self._norm, self._rate = float(metrics.grad_norm), rate
        self._rows += metrics.rows

    def means(self, feed: Feed, seen: Mapping[str, Seen]) -> dict[str, float]:
        """Since the last call; every worker must call it at the same step.

        Args:
            feed: Where answers come from.
            seen: What teachers counted, by what stands before their names; begins anew.
        """
        rows = self._rows - self._logged_rows
        numbers = [float(rows), *(float(one.rows) for one in seen.values())]
        sums = [one.sums for one in seen.values()]
        totals = torch.cat([self._sums, torch.tensor(numbers, dtype=torch.float64), *sums])
        for one in seen.values():
            one.clear()
        if self._world > 1:
            totals = totals.to(self._device)
            dist.all_reduce(totals)
        places = iter(totals.tolist())
        loss = next(places)
        terms = list(islice(places, len(self._names)))
        all_rows = next(places)
        weighed_rows = list(islice(places, len(seen)))
        steps, *steps_with = self._steps_with.tolist()
        elapsed = max(1e-9, self._now_s - self._logged_s)
        wait = feed.wait_s - self._logged_wait_s
        values = {
            "train/loss": loss / steps,
            **{
                f"train/losses/{name}": total / times
                for name, total, times in zip(self._names, terms, steps_with, strict=True)
                if times
            },
            "train/learning_rate": self._rate,
            "train/grad_norm": self._norm,
            "train/samples_per_s": all_rows / elapsed,
            "train/teacher_wait_fraction": min(1.0, wait / elapsed),
        }
        for (before, one), weighed in zip(seen.items(), weighed_rows, strict=True):
            weights = zip(one.names, islice(places, len(one.names)), strict=True)
            found = {f"train/teacher_weight/{before}{name}": total for name, total in weights}
            if weighed > 0:
                values |= {name: total / weighed for name, total in found.items()}
        self._logged_s, self._logged_wait_s = self._now_s, feed.wait_s
        self._logged_rows = self._rows
        self._clear()
        return values

    def summary(self, feed: Feed, seen: Mapping[str, Seen]) -> Mapping[str, float]:
        """This attempt as a whole: times as this worker saw them, counts over all workers."""
        elapsed = max(1e-9, self._now_s)
        counts: dict[str, float] = dict(feed.figures())
        counts |= {
            f"teachers/{before}{name}/{one.unit}_abstained": n
            for before, one in seen.items()
            for name, n in one.abstained.items()
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
