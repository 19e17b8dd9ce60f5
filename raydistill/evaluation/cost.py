"""What a model costs: floating-point operations of a row, and how long batches take. No Ray here."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raydistill.signals import Request

__all__ = ["Latency", "count_flops", "latency_of", "percentiles"]

_WARM_UP = 2
_LEAST = 10  # passes that count, however long they take


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a batch, tokenizing included.

    Attributes:
        p50: The median.
        p90: Nine of ten are faster.
        p99: Of fewer than a hundred passes near the slowest.
        passes: That were timed.
    """

    p50: float
    p90: float
    p99: float
    passes: int


def percentiles(seconds: Sequence[float]) -> Latency:
    """Of timed passes, warm ones only.

    Example:
        >>> percentiles([0.001, 0.002, 0.003]).p50
        2.0
    """
    p50, p90, p99 = np.percentile(np.asarray(seconds) * 1000, [50, 90, 99]).tolist()
    return Latency(p50, p90, p99, len(seconds))


def latency_of(
    run: Callable[[Request], Any], requests: Iterable[Request], *, budget_s: float
) -> Latency:
    """Time a model: two passes to warm up, then all requests, or those that fit into the budget, at least ten.

    Args:
        run: One pass.
        requests: Batches.
        budget_s: After it no further pass begins.
    """
    seconds: list[float] = []
    start = time.perf_counter()
    for request in requests:
        begin = time.perf_counter()
        if len(seconds) >= _WARM_UP + _LEAST and begin - start > budget_s:
            break
        run(request)
        seconds.append(time.perf_counter() - begin)
    return percentiles(seconds[_WARM_UP:])


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of what is run: of products of matrices, a multiplication and an addition each.

    Attention is computed step by step for it, since the fused kernels of CPUs are not counted; those of recurrent
    layers are counted here by the shapes of their weights.

    Args:
        run: A pass of a torch module.
    """
    fused_cells = {
        torch.ops.aten.mkldnn_rnn_layer: _of_cells,  # an LSTM on a CPU
        torch.ops.aten._cudnn_rnn: _of_layers,  # an LSTM or GRU on a GPU
    }
    counter = FlopCounterMode(display=False, custom_mapping=fused_cells)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return int(counter.get_total_flops())


def _of_cells(
    inputs: Sequence[int], first: Sequence[int], second: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of one direction of an LSTM: the shapes of tokens ``[S, B, E]`` and of its two matrices of weights."""
    tokens = inputs[0] * inputs[1]
    return 2 * tokens * (first[0] * first[1] + second[0] * second[1])


def _of_layers(inputs: Sequence[int], weights: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    """Of all layers and directions at once: the shapes of tokens ``[..., E]`` and of all weights, biases too.

    Every matrix meets every token once, whatever cell it is of.
    """
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(w) for w in weights if len(w) > 1)
