r"""How likely the teacher's states are under a Gaussian around the student's.

Dimensions: ``D`` hidden width, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

import math

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape

__all__ = ["initial_raw_variance", "vid"]

_FLOOR = 1e-5
_INITIAL_VARIANCE = 5.0


def vid(
    student_hidden: Tensor, teacher_hidden: Tensor, *, raw_variance: Tensor | None = None
) -> Tensor:
    r"""Negative log-likelihood of the teacher's states, Gaussian around the student's.

    .. math::
        \ell = \frac{1}{D} \sum_d \Big[ \log \sigma_d + \frac{(t_d - \mu_d)^2}{2 \sigma_d^2} \Big],
        \qquad \sigma_d^2 = \log(1 + e^{\rho_d}) + 10^{-5}

    with :math:`\mu` the student's state, :math:`t` the teacher's and :math:`\rho` the raw variance, a
    parameter that is learned with the student. A squared error that learns which coordinates can be
    had: where the teacher's state does not follow from the student's, the variance grows and the
    coordinate stops to matter. May be negative. Without ``raw_variance`` the variance is 5 everywhere,
    and this is a tenth of :func:`~raydistill.losses.hidden.hidden_mse` and a constant.

    Args:
        student_hidden: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_hidden: Same shape; no gradient flows into it.
        raw_variance: :math:`\rho`, ``[D]``; gradient flows into it. None: as
            :func:`initial_raw_variance` gives it.

    Returns:
        Nats per coordinate (without the constant :math:`\tfrac12 \log 2 \pi`) per position, ``[...]``,
        float32 (float64 if a side is), at least :math:`\tfrac12 \log 10^{-5}`; where both agree, the mean
        of :math:`\log \sigma`. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ, or the raw variance has not one number per coordinate.

    Example:
        >>> student = torch.tensor([[1.0, 2.0]])
        >>> teacher = torch.tensor([[1.0, 0.0]])
        >>> vid(student, teacher).round(decimals=4)
        tensor([1.0047])

    See Also:
        :func:`~raydistill.losses.hidden.hidden_mse`, all coordinates alike.

    References:
        Ahn, Hu, Damianou, Lawrence, Dai, *Variational Information Distillation for Knowledge Transfer*,
        CVPR 2019, arXiv:1904.05835, section 2, with the mean over coordinates in
        place of the sum; start value and floor of the variance as in the authors' code.
    """
    require_same_shape(
        student_hidden,
        teacher_hidden,
        "Hidden states",
        "Where only the widths differ, set `projection: linear`.",
    )
    student, teacher = at_least_float32(student_hidden), at_least_float32(teacher_hidden).detach()
    width = student.shape[-1]
    if raw_variance is None:
        raw_variance = initial_raw_variance(width).to(student)
    if raw_variance.shape != (width,):
        raise SignalError(
            f"raw_variance must have one number per coordinate, shape [{width}], "
            f"got {list(raw_variance.shape)}."
        )
    # In the states' precision, so that a parameter does not widen the result.
    variance = torch.nn.functional.softplus(raw_variance.to(student.dtype)) + _FLOOR
    return 0.5 * (variance.log() + (teacher - student).square() / variance).mean(-1)


def initial_raw_variance(width: int) -> Tensor:
    """Raw variances to start from, ``[width]`` float64: a variance of 5 in every coordinate.

    Example:
        >>> initial_raw_variance(2).round(decimals=4)
        tensor([4.9932, 4.9932], dtype=torch.float64)
    """
    raw = math.log(math.expm1(_INITIAL_VARIANCE - _FLOOR))
    return torch.full((width,), raw, dtype=torch.float64)
