r"""The divergence in two parts, how sure the teacher is of the label and what it thinks of the rest.

Per position, not reduced. Dimensions: ``V`` classes, ``...`` any number of positions.
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.hard_label import has_label
from raydistill.losses.inputs import at_least_float32
from raydistill.losses.softening import (
    checked_temperature,
    expectation,
    log_softmax,
    require_labels,
    require_same_classes,
    scaled,
)

__all__ = ["decoupled_kd"]


def decoupled_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Divergence of the label against the rest, and of the rest among itself, weighted apart.

    .. math::
        \ell = \tau^2 \Big[ \alpha \Big( p_y \log \frac{p_y}{q_y}
        + (1 - p_y) \log \frac{1 - p_y}{1 - q_y} \Big)
        + \beta \sum_{v \ne y} \hat p_v \log \frac{\hat p_v}{\hat q_v} \Big], \qquad
        \hat p_v = \frac{p_v}{1 - p_y},\; \hat q_v = \frac{q_v}{1 - q_y}

    with y the label, :math:`p = \mathrm{softmax}(z^{T}/\tau)` and :math:`q = \mathrm{softmax}(z^{S}/\tau)`.
    With :math:`\alpha = 1` and :math:`\beta = 1 - p_y` it is
    :func:`~raydistill.losses.divergence.forward_kl`: that one hardly looks at the other classes where the
    teacher is sure, which is where they say most. Here they weigh the same everywhere. With the default
    :math:`\beta` the values, and gradients, are several times those of the divergence: lower the weight
    of the term, or the rate. With a teacher that is often wrong, or two classes (where the second part
    is 0), there is nothing to gain.

    Zeros where there is no label are placeholders; see :func:`~raydistill.losses.hard_label.cross_entropy`.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, two classes or more, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        labels: Integer classes, ``[...]``, ``0 … V-1``, or -100: none.
        alpha: Weight of the label against the rest.
        beta: Weight of the rest among itself.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``. Larger is softer.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), never
        negative (to rounding) for weights that are not, 0 where both agree or there is no label. Not
        reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, there are fewer than two classes, labels are not integers, not
            one per position or not a class, or the temperatures are not one per position.

    Example:
        >>> student = torch.zeros(2, 3)
        >>> teacher = torch.tensor([[0.5, 0.375, 0.125], [0.5, 0.375, 0.125]]).log()
        >>> decoupled_kd(student, teacher, labels=torch.tensor([0, -100])).round(decimals=4)
        tensor([1.1054, 0.0000])

    See Also:
        :func:`raydistill.losses.divergence.forward_kl`, which needs no labels;
        :func:`raydistill.losses.softening.shift_probability`, for a teacher that is wrong.

    References:
        Zhao, Cui, Song, Qiu, Liang, *Decoupled Knowledge Distillation*, CVPR 2022, arXiv:2203.08679,
        section 3, formula 7. Their code takes logits of the label as 1000 smaller; here it is left out.
    """
    require_same_classes(student_logits, teacher_logits)
    if student_logits.shape[-1] < 2:  # noqa: PLR2004 - the label and a rest
        raise SignalError(
            f"decoupled_kd needs two classes or more, got {list(student_logits.shape)}."
        )
    require_labels(student_logits, labels)
    tau = checked_temperature(temperature, teacher_logits)
    counted = has_label(labels)
    index = torch.where(counted, labels, 0).long().unsqueeze(-1)  # -100 is no index
    own = torch.zeros_like(student_logits, dtype=torch.bool).scatter(-1, index, True)
    log_q, log_q_rest = _two_parts(student_logits, own, index, tau)
    log_p, log_p_rest = _two_parts(teacher_logits.detach(), own, index, tau)
    of_label = expectation(log_p.exp(), log_p - log_q)
    # A teacher that excludes all other classes says nothing about them, which is not NaN.
    silent = own | torch.isneginf(at_least_float32(teacher_logits.detach()))
    p_rest = log_p_rest.exp().masked_fill(silent, 0.0)
    of_rest = expectation(p_rest, log_p_rest - log_q_rest)
    values = scaled(alpha * of_label + beta * of_rest, tau, scale_by_temperature_squared)
    return torch.where(counted, values, 0.0)


def _two_parts(
    logits: Tensor, own: Tensor, index: Tensor, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the label and of all the rest, ``[..., 2]``; and of each among the rest."""
    log_all = log_softmax(logits, tau)
    # Not log(1 - p): where p rounds to 1 that is infinite, and the rest is lost.
    log_not_own = log_all.masked_fill(own, -torch.inf).logsumexp(-1, keepdim=True)
    log_two = torch.cat([log_all.gather(-1, index), log_not_own], dim=-1)
    return log_two, log_softmax(logits.masked_fill(own, -torch.inf), tau)
