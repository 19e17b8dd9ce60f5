r"""A temperature that is learned against the student.

Symbols: :math:`\tau` temperature, :math:`\theta` what is learned, :math:`\lambda` strength of the reversal,
:math:`x` progress, see :func:`raydistill.schedules.weight.weight_factor`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.losses.inputs import at_least_float32
from raydistill.schedules.weight import checked_progress, falling_wave

__all__ = ["LearnedTemperature", "reversal_strength", "reverse_gradient"]


def reversal_strength(progress: float, *, strength: float, rise_fraction: float) -> float:
    r"""How strongly the gradient of a learned temperature is reversed at one optimizer step.

    .. math:: \lambda = \texttt{strength} \cdot \tfrac{1}{2} \big(1 - \cos(\pi \min(1,\, x / r))\big), \qquad
              r = \texttt{rise\_fraction}

    Args:
        progress: :math:`x`, steps done before this one over all steps, from 0 to 1.
        strength: :math:`\lambda` from :math:`x = r` on.
        rise_fraction: :math:`r`, from 0 to 1; 0 is ``strength`` from the first step on.

    Returns:
        :math:`\lambda`, a number; 0 at the first step unless :math:`r` is 0.

    Raises:
        ValueError: ``progress`` is not between 0 and 1.

    Example:
        >>> [reversal_strength(x, strength=1.0, rise_fraction=0.5) for x in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.5, 1.0, 1.0]

    References:
        As :class:`LearnedTemperature`.
    """
    x = checked_progress(progress)
    if x >= rise_fraction:
        return strength
    return strength * falling_wave(1.0 - x / rise_fraction)


def reverse_gradient(tensor: Tensor, strength: float) -> Tensor:
    r"""The tensor itself, whose gradient comes back multiplied by :math:`-\texttt{strength}`.

    What is behind it *climbs* the loss that everything else descends.

    Args:
        tensor: Any shape.
        strength: :math:`\lambda`; 0 stops the gradient (it is 0, not none), -1 lets it through.

    Returns:
        Same shape, dtype and values.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> reverse_gradient(x, 0.5).square().sum().backward()
        >>> x.grad
        tensor([-3.])

    References:
        Ganin, Lempitsky, *Unsupervised Domain Adaptation by Backpropagation*, ICML 2015, arXiv:1409.7495,
        section 3.
    """
    found: Tensor = _Reversed.apply(tensor, strength)  # type: ignore[no-untyped-call]
    return found


class LearnedTemperature(nn.Module):
    r"""One temperature for all rows, learned against the student.

    .. math:: \tau = \texttt{minimum} + (\texttt{maximum} - \texttt{minimum})\, \sigma(\theta), \qquad
              \theta \leftarrow \theta + \eta\, \lambda(x)\, \partial L / \partial \theta

    The student descends the loss, :math:`\theta` climbs it: the temperature goes to where the student is
    farthest from the teacher, slowly first, as :math:`\lambda` grows (:func:`reversal_strength`). A curriculum
    without a schedule to search for. It needs a loss whose value can be compared between temperatures: one
    *with* the factor :math:`\tau^2`, as in the paper's code. Without it nearly every loss is larger at a lower
    temperature, and the temperature only falls.

    :math:`\theta` is a parameter: the optimizer must hold it, without weight decay (which would pull it to the
    middle of its range), and with a learning rate of its own: at 1e-4 Adam moves :math:`\theta` by about 0.1 in
    1000 steps, and :math:`\tau` by a fortieth of its range at most. Adam also divides by the gradient's own size,
    which leaves little of :math:`\lambda`; SGD keeps it. The gradient is a sum over rows: cutting a batch into
    micro-batches or workers changes nothing.

    Args:
        start: :math:`\tau` before the first step, between the bounds.
        minimum: Lower bound, > 0, not reached.
        maximum: Upper bound, not reached.
        strength: :math:`\lambda` when it has risen.
        rise_fraction: Share of the run in which it rises.

    Raises:
        ValueError: the three temperatures are not in the order 0 < minimum < start < maximum.

    Example:
        >>> module = LearnedTemperature(
        ...     start=4.0, minimum=1.0, maximum=21.0, strength=1.0, rise_fraction=0.04
        ... )
        >>> round(module(progress=0.5).item(), 4)
        4.0
        >>> [name for name, _ in module.named_parameters()]
        ['theta']

    See Also:
        :func:`raydistill.schedules.flsw_temperature`, one temperature a row without learning.

    References:
        Li, Li, Yang, Zhao, Song, Luo, Li, Yang, *Curriculum Temperature for Knowledge Distillation* (CTKD), AAAI
        2023, arXiv:2211.16231, the global form, and its code: range 1 to 21, :math:`\theta = 1` at the start, so
        :math:`\tau = 15.62`, :math:`\lambda` from 0 to 1 over 10 of 240 epochs. Here :math:`\lambda` is taken at every
        step and from 0 on, there once an epoch, counted from 1; there SGD with a rate of 0.05 moves
        :math:`\theta` with the student. The form with a temperature for each row is not here.
    """

    def __init__(
        self,
        *,
        start: float,
        minimum: float,
        maximum: float,
        strength: float,
        rise_fraction: float,
    ) -> None:
        super().__init__()
        if not (math.isfinite(maximum) and 0 < minimum < start < maximum):
            raise ValueError(
                "temperatures must be in the order 0 < minimum < start < maximum, "
                f"got {minimum}, {start} and {maximum}."
            )
        self.minimum, self.maximum = minimum, maximum
        self.strength, self.rise_fraction = strength, rise_fraction
        # One dimension, not none: FSDP2 does not take scalars.
        theta = math.log((start - minimum) / (maximum - start))
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float32))

    def forward(self, progress: float) -> Tensor:
        r"""The temperature of a step, to be given to a loss as it is.

        Args:
            progress: Steps done before this one over all steps, from 0 to 1.

        Returns:
            :math:`\tau`, a tensor of no dimension, at least float32, whose gradient is reversed.

        Raises:
            ValueError: ``progress`` is not between 0 and 1.
        """
        strength = reversal_strength(
            progress, strength=self.strength, rise_fraction=self.rise_fraction
        )
        wide = at_least_float32(self.theta)
        theta = reverse_gradient(wide, strength)
        return self.minimum + (self.maximum - self.minimum) * torch.sigmoid(theta).squeeze(0)


class _Reversed(torch.autograd.Function):
    """Identity forward, times -strength backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None
