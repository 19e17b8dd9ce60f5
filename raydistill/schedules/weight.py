"""Course of a term's weight over the run: a factor of the configured weight, from the steps done."""

import bisect
import math

from raydistill.config.schedules import (
    ConstantWeight,
    CosineWeight,
    LinearDecayWeight,
    LinearGrowthWeight,
    StepWeight,
    WarmupWeight,
    WeightSchedule,
)

__all__ = ["checked_progress", "falling_wave", "weight_factor"]


def weight_factor(schedule: WeightSchedule, progress: float) -> float:
    r"""Factor of a term's configured weight at one optimizer step.

    .. math::
        \text{constant:}\quad & f = 1 \\
        \text{linear_decay:}\quad & f = 1 - x \\
        \text{linear_growth:}\quad & f = x \\
        \text{cosine:}\quad & f = (1 + \cos \pi x) / 2, \quad \text{or } (1 - \cos \pi x) / 2
            \text{ if rising} \\
        \text{warmup:}\quad & f = \min(1,\, x / \texttt{fraction}) \\
        \text{step:}\quad & f = \texttt{factors}_i \text{ from } x = \texttt{at}_i \text{ on},
            \text{ 1 before}

    with :math:`x` the progress: optimizer steps done *before* the step, over all steps of the run. The first
    step has :math:`x = 0`, the last :math:`(\text{total} - 1) / \text{total}`: a schedule's end lies one
    step behind the last. A schedule that starts at 0 leaves its term out of the first step.

    The factor *multiplies* the configured weight, at every step anew. TextBrewer's schedules of the same
    names assign :math:`x` or :math:`1 - x` to the weight itself after each step: a weight of 7 counts in
    the first step and is lost, so its ``linear_decay`` is that of weight 1 from the second step on.

    Args:
        schedule: As configured.
        progress: :math:`x`, from 0 to 1.

    Returns:
        The factor, 0 or more; a number, no tensor: nothing is learned here.

    Raises:
        ValueError: ``progress`` is not between 0 and 1.

    Example:
        >>> cosine = CosineWeight(kind="cosine")
        >>> [round(7.0 * weight_factor(cosine, step / 4), 3) for step in range(4)]
        [7.0, 5.975, 3.5, 1.025]
        >>> step = StepWeight(kind="step", at=[0.5, 0.8], factors=[0.1, 0.01])
        >>> [weight_factor(step, x) for x in (0.0, 0.49, 0.5, 0.8)]
        [1.0, 1.0, 0.1, 0.01]

    See Also:
        :func:`raydistill.schedules.temperature.scheduled_temperature`, with the same progress.

    References:
        Yang et al., *TextBrewer*, 2020, arXiv:2002.12620, ``linear_decay`` and ``linear_growth``; there
        :math:`x` is counted after the step.
    """
    x = checked_progress(progress)
    match schedule:
        case ConstantWeight():
            return 1.0
        case LinearDecayWeight():
            return 1.0 - x
        case LinearGrowthWeight():
            return x
        case CosineWeight():
            return falling_wave(1.0 - x if schedule.rising else x)
        case WarmupWeight():
            return min(1.0, x / schedule.fraction)
        case StepWeight():
            return [1.0, *schedule.factors][bisect.bisect_right(schedule.at, x)]


def falling_wave(x: float) -> float:
    r"""Half a wave from 1 to 0, :math:`(1 + \cos \pi x) / 2`.

    Example:
        >>> [round(falling_wave(x), 3) for x in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.854, 0.5, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * x))


def checked_progress(progress: float) -> float:
    """The progress, if it is one.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must lie between 0 and 1, got {progress}.")
    return progress
