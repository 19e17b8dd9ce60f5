"""How long an answer takes, and how large the thing is that gives it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Latency", "measure_latency", "model_size"]


@dataclass(frozen=True)
class Latency:
    """Time of one call with a fixed number of rows.

    Attributes:
        median_ms: Of all timed calls.
        p95_ms: 95 % of the calls were not slower; interpolated.
        rows_per_s: Rows of a call over the median.
    """

    median_ms: float
    p95_ms: float
    rows_per_s: float


def measure_latency(
    predict: Callable[[list[Any]], object],
    rows: Sequence[Any],
    *,
    batch_rows: int,
    repeats: int,
    warmup: int,
) -> Latency:
    """Time calls one after the other, each with the next rows, starting over at the end.

    Every call is timed from submission until the result exists: on a GPU the device is waited for
    before and after. Compare models only on the same rows, as longer texts take longer.

    Args:
        predict: Takes a list of rows; its result is thrown away.
        rows: What to answer; repeated when there are fewer than ``batch_rows``.
        batch_rows: Rows a call, at least 1.
        repeats: Timed calls, at least 1.
        warmup: Calls before them that are not timed, 0 or more.

    Returns:
        Median and 95th percentile in milliseconds, and throughput.

    Raises:
        ValueError: no rows, or a number is too small.

    Example:
        >>> latency = measure_latency(len, ["a", "b"], batch_rows=4, repeats=3, warmup=1)
        >>> latency.median_ms <= latency.p95_ms
        True
    """
    bounds = {"batch_rows": (batch_rows, 1), "repeats": (repeats, 1), "warmup": (warmup, 0)}
    for name, (value, least) in bounds.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    if not rows:
        raise ValueError("rows must hold at least one row, got none.")

    times_ms = []
    for call in range(warmup + repeats):
        first = call * batch_rows
        batch = [rows[index % len(rows)] for index in range(first, first + batch_rows)]
        _wait_for_device()
        begin = time.perf_counter()
        predict(batch)
        _wait_for_device()
        if call >= warmup:
            times_ms.append(1000.0 * (time.perf_counter() - begin))
    median_ms = statistics.median(times_ms)
    p95_ms = float(torch.tensor(times_ms, dtype=torch.float64).quantile(0.95))
    return Latency(median_ms, p95_ms, 1000.0 * batch_rows / max(median_ms, 1e-9))


def model_size(module: nn.Module) -> tuple[int, int]:
    """Parameters, and the bytes that they and the buffers take in memory; shared ones count once.

    Example:
        >>> model_size(nn.Linear(3, 2))
        (8, 32)
    """
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    return sum(p.numel() for p in parameters), sum(t.numel() * t.element_size() for t in tensors)


def _wait_for_device() -> None:
    # is_initialized: a process that has not touched the GPU must not start doing so here.
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
