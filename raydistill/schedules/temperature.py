r"""Temperatures that change with the steps done, or from row to row.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
Symbols: :math:`z^S, z^T` logits, :math:`\tau` temperature, :math:`x` progress, see
:func:`raydistill.schedules.weight.weight_factor`.
"""

import bisect
import math

import torch
from torch import Tensor

from raydistill.config.schedules import CosineTemperature, LinearTemperature, StepTemperature
from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32
from raydistill.schedules.weight import checked_progress, falling_wave

__all__ = [
    "cwsm_temperature",
    "flsw_temperature",
    "scheduled_temperature",
]

_NORM_EPS = 1e-4  # TextBrewer's, both
_CONFIDENCE_EPS = 1e-3


def scheduled_temperature(
    setting: float | LinearTemperature | CosineTemperature | StepTemperature, progress: float
) -> float:
    r"""The temperature of one optimizer step, the same for all rows.

    .. math::
        \text{linear:}\quad & \tau = (1 - x)\, \texttt{start} + x\, \texttt{end} \\
        \text{cosine:}\quad & \tau = \texttt{end} + (\texttt{start} - \texttt{end}) (1 + \cos \pi x) / 2 \\
        \text{step:}\quad & \tau = \texttt{temperatures}_i \text{ from } x = \texttt{at}_i \text{ on}, \texttt{ start} \text{ before}

    Falling, it shows the teacher's doubts first and its decisions last, as annealed distillation does. Leave
    the loss's factor :math:`\tau^2` on, else gradients change their size with the temperature.

    Args:
        setting: As configured; a number is itself throughout.
        progress: :math:`x`, steps done before this one over all steps, from 0 to 1. The last step is
            one short of 1, so ``end`` is approached and not reached.

    Returns:
        :math:`\tau`, a number.

    Raises:
        ValueError: ``progress`` is not between 0 and 1.

    Example:
        >>> linear = LinearTemperature(kind="linear", start=8, end=2)
        >>> [scheduled_temperature(linear, step / 4) for step in range(4)]
        [8.0, 6.5, 5.0, 3.5]

    References:
        Jafari, Rezagholizadeh, Sharma, Ghodsi, *Annealing Knowledge Distillation*, EACL 2021,
        arXiv:2104.07163: a falling temperature, there in whole numbers and with another loss.
    """
    x = checked_progress(progress)
    if isinstance(setting, int | float):
        return float(setting)
    if isinstance(setting, StepTemperature):
        return [setting.start, *setting.temperatures][bisect.bisect_right(setting.at, x)]
    share = 1.0 - x if isinstance(setting, LinearTemperature) else falling_wave(x)
    return share * setting.start + (1.0 - share) * setting.end


def flsw_temperature(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    base: float,
    beta: float,
    gamma: float,
    minimum: float,
) -> Tensor:
    r"""One temperature a position: lower where the student points elsewhere than the teacher.

    .. math::
        \tau_i = \max\big(\texttt{minimum},\; \texttt{base} + \beta (\bar w - w_i)\big), \qquad
        w_i = (1 - \hat z^S_i \cdot \hat z^T_i)^\gamma, \quad
        \hat z = \frac{z}{\lVert z \rVert + 10^{-4}}

    with :math:`\bar w` the mean over the positions present. Where the two disagree the target is sharpened, so
    that the student gets the decision; where they agree it is softened, for the finer shades. "Focal loss
    style weights".

    The mean makes it depend on *which positions are seen together*: a row's temperature changes with the
    micro-batch it is in, so with the size of micro-batches and the number of workers, unless whoever calls keeps
    the same rows together (``training.group_rows``). Padding must be cut out first, see :func:`raydistill.losses.select_counted`. A position alone gets ``base``. The cosine is that of
    raw logits: a constant added to a row, which changes no probability, changes its temperature; log-probabilities
    of several teachers are therefore another input than their mean logits, and ``-inf`` among them gives NaN.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype; no gradient flows into it.
        teacher_logits: Same shape; no gradient flows into it.
        base: Temperature of a position whose weight is the mean; > 0.
        beta: 0 or more. 0 gives ``base`` everywhere.
        gamma: 0 or more.
        minimum: > 0. Without it the temperature can be 0 or less, which turns the teacher's ranking round.

    Returns:
        Temperatures, ``[...]``, float32 (float64 if a side is), at least ``minimum``, without gradient.

    Raises:
        ValueError: an option is out of its range.
        SignalError: the two shapes differ.

    Example:
        >>> student = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> flsw_temperature(student, teacher, base=4.0, beta=1.0, gamma=1.0, minimum=0.1).round(
        ...     decimals=4
        ... )
        tensor([4.4999, 3.5001])

    See Also:
        :func:`cwsm_temperature`, which looks at the student alone.

    References:
        Wen, Lai, Qian, *Preparing Lessons: Improve Knowledge Distillation with Better Supervision*, 2019,
        arXiv:1911.07471, dynamic temperature distillation. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``flsw``: this rule without the lower bound; there a rounding error below 0 in ``1 - cos`` becomes NaN
        under a broken exponent, here it is 0.
    """
    _require_options(base=base, beta=beta, gamma=gamma, minimum=minimum)
    if student_logits.shape != teacher_logits.shape:
        raise SignalError(
            f"Logits of student and teacher must have the same shape, got {list(student_logits.shape)} "
            f"and {list(teacher_logits.shape)}. For different classes use temperature: a number, or cwsm."
        )
    cosine = (_direction(student_logits) * _direction(teacher_logits)).sum(-1)  # [..., V] -> [...]
    return _around_mean((1.0 - cosine).clamp(min=0.0) ** gamma, base, beta, minimum)


def cwsm_temperature(student_logits: Tensor, *, base: float, beta: float, minimum: float) -> Tensor:
    r"""One temperature a position: lower where the student is unsure.

    .. math::
        \tau_i = \max\big(\texttt{minimum},\; \texttt{base} + \beta (\bar w - w_i)\big), \qquad
        w_i = \frac{1}{\max_v q_{iv} + 10^{-3}}, \quad q = \mathrm{softmax}(z^S)

    with :math:`\bar w` the mean over the positions present. "Confidence weighted by the student's maximum". With
    many classes :math:`w` reaches :math:`V` at the start of training, so temperatures far from ``base``, at
    ``minimum`` and below it were it not for the bound: choose ``beta`` near ``base / V`` there.

    The mean makes it depend on *which positions are seen together*: a row's temperature changes with the
    micro-batch it is in, so with the size of micro-batches and the number of workers, unless whoever calls keeps
    the same rows together (``training.group_rows``). Padding must be cut out first, see :func:`raydistill.losses.select_counted`. A position alone gets ``base``.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype; no gradient flows into it.
        base: Temperature of a position whose weight is the mean; > 0.
        beta: 0 or more. 0 gives ``base`` everywhere.
        minimum: > 0. Without it the temperature can be 0 or less, which turns the teacher's ranking round.

    Returns:
        Temperatures, ``[...]``, float32 (float64 stays), at least ``minimum``, without gradient.

    Raises:
        ValueError: an option is out of its range.

    Example:
        A student that is unsure of one row and sure of the other; -2.47 without the bound:

        >>> student = torch.zeros(2, 8)
        >>> student[1, 0] = 100.0
        >>> cwsm_temperature(student, base=1.0, beta=1.0, minimum=0.1).round(decimals=4)
        tensor([0.1000, 4.4688])

    See Also:
        :func:`flsw_temperature`, which looks at the teacher too.

    References:
        Wen, Lai, Qian, *Preparing Lessons: Improve Knowledge Distillation with Better Supervision*, 2019,
        arXiv:1911.07471, dynamic temperature distillation. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``cwsm``: this rule without the lower bound.
    """
    _require_options(base=base, beta=beta, minimum=minimum)
    largest = torch.softmax(at_least_float32(student_logits.detach()), dim=-1).amax(-1)
    return _around_mean(1.0 / (largest + _CONFIDENCE_EPS), base, beta, minimum)


def _direction(logits: Tensor) -> Tensor:
    """Divided by their length, which is never 0."""
    wide = at_least_float32(logits.detach())
    length: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / (length + _NORM_EPS)


def _around_mean(weight: Tensor, base: float, beta: float, minimum: float) -> Tensor:
    """Positions of larger weight below ``base``, of smaller above it."""
    tau: Tensor = base + beta * (weight.mean() - weight)
    return tau.clamp(min=minimum)


def _require_options(*, base: float, minimum: float, **others: float) -> None:
    for name, value in {"base": base, "minimum": minimum}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value}.")
    for name, value in others.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number, zero or more, got {value}.")
