r"""Weights that are known before any teacher answers: by validation, by lot, by the row's kind.

Dimensions: ``M`` teachers, ``B`` rows. A teacher whose weight is 0 need not be asked at all. What comes
out as one weight per teacher goes through :func:`~raydistill.ensemble.weighting.fixed_weights`, which
leaves out those that did not answer.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raydistill.ensemble.inputs import require_sharpness
from raydistill.errors import SignalError

__all__ = ["chosen_weights", "routed", "stochastic_choice", "validation_weights"]

_DRAW_BITS = 53
"""As many as a float holds."""


def validation_weights(
    scores: Mapping[str, float], *, sharpness: float, greater_is_better: bool
) -> dict[str, float]:
    r"""Weights by what each teacher scored on held-out rows.

    .. math::
        w_i = \frac{e^{\pm s \, v_i}}{\sum_j e^{\pm s \, v_j}}

    with + where a greater score is better. A softmax: adding a number to all scores changes nothing,
    and the sharpness is in one over the unit of the score: with :math:`s = 20` a teacher that is 0.05
    of accuracy better weighs e = 2.7 times as much. Choose the rows that score teachers among
    those that neither they nor the student were trained on.

    Args:
        scores: One per teacher, by name; all of one metric on the same rows.
        sharpness: :math:`s \ge 0`; at 0 all weigh the same, large follows the best alone.
        greater_is_better: True for an accuracy, False for a loss.

    Returns:
        One weight per teacher, sum 1, in the order of ``scores``.

    Raises:
        ValueError: there are no scores, one is not finite, or the sharpness is negative.

    Example:
        >>> accuracy = {"wide": 0.9, "deep": 0.8}
        >>> weights = validation_weights(accuracy, sharpness=20.0, greater_is_better=True)
        >>> {name: round(weight, 4) for name, weight in weights.items()}
        {'wide': 0.8808, 'deep': 0.1192}
    """
    require_sharpness(sharpness)
    if not scores:
        raise ValueError("scores must hold at least one teacher's, got none.")
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"scores must be finite numbers, got {score} for {name!r}.")
    sign = 1.0 if greater_is_better else -1.0
    best = max(sign * score for score in scores.values())
    # The gap first: sharpness times a large score may overflow.
    relative = {
        name: math.exp(-sharpness * (best - sign * score)) for name, score in scores.items()
    }
    total = math.fsum(relative.values())
    return {name: weight / total for name, weight in relative.items()}


def stochastic_choice(base: Sequence[float], *, seed: int, step: int) -> int:
    r"""One teacher for a whole step, drawn by the base weights.

    .. math::
        P(i) = \frac{b_i}{\sum_j b_j}

    The targets agree with a mean of losses on average, with more noise. (All teachers are asked all the
    same: another epoch draws another one, and their answers are kept.) The draw is a hash of seed and step, so it is the same in
    every process, on every machine, and after a resume; no generator has to be saved.

    Args:
        base: One per teacher, zero or more, not all zero. A teacher with 0 is never drawn.
        seed: Of the run.
        step: Number of the optimiser's step; micro-batches of a step share the teacher.

    Returns:
        Index of the teacher.

    Raises:
        ValueError: there are no weights, all are 0, or one is negative or not finite.

    Example:
        >>> [stochastic_choice([0.5, 0.25, 0.25], seed=7, step=step) for step in range(8)]
        [0, 1, 0, 2, 2, 1, 1, 0]

    See Also:
        :func:`chosen_weights`, which makes weights of it.

    References:
        Fukuda, Suzuki, Kurata, Thomas, Cui, Ramabhadran, *Efficient Knowledge Distillation from an
        Ensemble of Teachers*, Interspeech 2017: the teacher is switched from mini-batch to mini-batch.
    """
    sound = all(math.isfinite(weight) and weight >= 0 for weight in base)
    if not sound or not any(base):
        raise ValueError(f"base weights must be finite, zero or more, not all 0, got {list(base)}.")
    digest = hashlib.sha256(f"teacher of a step:{seed}:{step}".encode()).digest()
    draw = (int.from_bytes(digest[:8], "big") >> (64 - _DRAW_BITS)) / 2**_DRAW_BITS  # [0, 1)
    largest = max(base)  # the sum of large weights may overflow
    shares = [weight / largest for weight in base]
    mark = draw * math.fsum(shares)
    for index in range(len(shares)):
        if mark < math.fsum(shares[: index + 1]):
            return index
    return max(index for index, share in enumerate(shares) if share > 0)  # mark rounded up


def chosen_weights(index: int, num_teachers: int) -> Tensor:
    """Weight 1 for one teacher, 0 for the others.

    Args:
        index: Of the teacher.
        num_teachers: ``M``.

    Returns:
        ``[M]``, float32, for :func:`~raydistill.ensemble.weighting.fixed_weights`: rows that the
        teacher did not answer then have no target.

    Raises:
        ValueError: there is no such teacher.

    Example:
        >>> chosen_weights(1, 3)
        tensor([0., 1., 0.])
    """
    if not 0 <= index < num_teachers:
        raise ValueError(f"index must lie between 0 and {num_teachers - 1}, got {index}.")
    weights = torch.zeros(num_teachers)
    weights[index] = 1.0
    return weights


def routed(route: Tensor, num_teachers: int) -> Tensor:
    r"""Which teachers speak about which rows, where the data says whose row it is.

    .. math::
        A = \begin{cases} \{r\} & r \ge 0 \\ \{1, \dots, M\} & r = -1 \end{cases}

    with :math:`r` the place of the row's teacher, or -1. For specialists: of a language, a source, a
    domain. The other teachers count as silent in the row,
    whatever they answered. If the row's own teacher abstains the row has no target: the others are not
    asked in its place, since the route says that they do not know.

    Args:
        route: Integer, ``[B]``: place of the row's teacher, or -1: all of them. Values are not checked,
            as that would wait for the device; another number selects nobody.
        num_teachers: ``M``.

    Returns:
        Bool, ``[M, B]``, for :func:`~raydistill.ensemble.weighting.fixed_weights`.

    Raises:
        SignalError: the route is not integer.

    Example:
        >>> routed(torch.tensor([1, -1]), 2)
        tensor([[False,  True],
                [ True,  True]])
    """
    if route.is_floating_point() or route.is_complex() or route.dtype == torch.bool:
        raise SignalError(f"route must be integers, got {route.dtype}.")
    places = torch.arange(num_teachers, device=route.device).view(-1, *[1] * route.dim())
    return (route == places) | (route == -1)
