r"""How the student's probabilities vary with the teacher's: over the classes, and over the rows.

Dimensions: ``N`` rows that are looked at together, ``V`` classes.
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.softening import (
    checked_temperature,
    log_softmax,
    require_same_classes,
    scaled,
)

__all__ = ["dist"]


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Correlation instead of equality: of each row over its classes, of each class over the rows.

    .. math::
        \ell_i = \tau^2 \Big[ \lambda_{\mathrm{inter}} \, \big(1 - \rho(q_{i \cdot}, p_{i \cdot})\big)
        + \lambda_{\mathrm{intra}} \, \frac{1}{V} \sum_v \big(1 - \rho(q_{\cdot v}, p_{\cdot v})\big) \Big]

    with :math:`\rho` Pearson's coefficient, :math:`p = \mathrm{softmax}(z^{T}/\tau)` and
    :math:`q = \mathrm{softmax}(z^{S}/\tau)`. The student has to prefer what the teacher prefers, in
    proportion, and need not be as sure; for a teacher so much larger that its probabilities are out of
    reach. The second part asks which rows have more of a class, so it depends on what is in the group,
    and is the same for all its rows. With fewer than two rows it is 0.

    A coefficient does not care how small the differences are, so its slope does not shrink as :math:`\tau`
    grows: with the factor, which the authors have, the term grows with :math:`\tau^2`; without it, it
    stays as it is.

    Where a row or a class of the teacher does not vary there is nothing to follow: it adds 0. Where only
    the student's does not, it adds 1, with a slope towards the teacher's.

    Args:
        student_logits: Unnormalised scores, ``[N, V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        inter_weight: Weight of the correlation over classes.
        intra_weight: Weight of the correlation over rows.
        temperature: :math:`\tau > 0`, a number or one per row, ``[N]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        One per row, 0 to twice the sum of both weights (times :math:`\tau^2`), ``[N]``, float32 (float64 if
        a side is), never negative (to rounding), 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ or are not ``[N, V]``, or the temperatures are not one per row.

    Example:
        >>> student = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]).log()
        >>> teacher = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]).log()
        >>> dist(student, teacher).round(decimals=4)
        tensor([3.2619, 3.2619])
        >>> dist(student[:1], teacher[:1]).round(decimals=4)
        tensor([1.9286])

    See Also:
        :func:`raydistill.losses.softening.standardize_logits`, which forgives the range of logits too.

    References:
        Huang, You, Wang, Qian, Xu, *Knowledge Distillation from A Stronger Teacher*, NeurIPS 2022,
        arXiv:2205.10536, section 4. Their code adds 1e-8 to the product of the deviations, which hides
        classes of very small probability; here they count like others.
    """
    require_same_classes(student_logits, teacher_logits)
    if student_logits.dim() != 2:  # noqa: PLR2004 - rows and classes
        raise SignalError(f"dist compares rows, [N, V], got {list(student_logits.shape)}.")
    tau = checked_temperature(temperature, teacher_logits)
    q = log_softmax(student_logits, tau).exp()
    p = log_softmax(teacher_logits.detach(), tau).exp()
    values = inter_weight * _distance(q, p, dim=1)  # [N, V] -> [N]
    if len(q) > 1:
        values = values + intra_weight * _distance(q, p, dim=0).mean()  # [N, V] -> [V] -> []
    return scaled(values, tau, scale_by_temperature_squared)


def _distance(q: Tensor, p: Tensor, dim: int) -> Tensor:
    """1 - Pearson's coefficient along a dimension; 0 where p does not vary."""
    student, _ = _direction(q, dim)
    teacher, constant = _direction(p, dim)
    return torch.where(constant, 0.0, 1 - (student * teacher).sum(dim))


def _direction(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Centred, and of length 1 where they vary; and whether they do not."""
    # The coefficient does not see a factor, and squares of small probabilities would be 0.
    largest = values.detach().amax(dim, keepdim=True)
    relative = values / torch.where(largest == 0, 1.0, largest)
    centred = relative - relative.mean(dim, keepdim=True)
    square = centred.square().sum(dim, keepdim=True)
    # What rounding, of logits of some tens too, leaves of equal numbers is no direction, nor may it be
    # blown up to one.
    rounding = 64 * torch.finfo(values.dtype).eps
    constant = square <= values.shape[dim] * rounding**2
    return centred / torch.where(constant, 1.0, square).sqrt(), constant.squeeze(dim)
