r"""Heads with a sigmoid, where each class is a yes or no of its own: per position, not reduced.

Dimensions: ``V`` classes, ``...`` any number of positions (``[B]``, ``[B, S]``).
Symbols: :math:`z^S, z^T` logits, :math:`\sigma` the sigmoid, :math:`\tau` temperature,
:math:`p_v` teacher's, :math:`q_v` student's probability that class v is there. They need not sum to 1: a
distribution that was combined from several softmaxes, :math:`\tau \log p`, is no set of logits here.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raydistill.errors import SignalError
from raydistill.losses.hard_label import known_classes
from raydistill.losses.inputs import at_least_float32
from raydistill.losses.softening import (
    checked_temperature,
    expectation,
    require_same_classes,
    scaled,
)

__all__ = ["binary_cross_entropy", "binary_forward_kl", "binary_soft_cross_entropy"]


def binary_cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy with labels of several classes at once, each there or not.

    .. math::
        \ell = -\frac{1}{|K|} \sum_{v \in K} \big[y_v \log q_v + (1 - y_v) \log (1 - q_v)\big], \qquad
        q = \sigma(z^S)

    with :math:`K` the classes whose label is known. Where few of many classes are there, the mean is
    mostly about saying no. A position with one known class weighs as much as one with all of them.
    One with none gives 0 as a placeholder and does not count: take
    ``has_label(labels, "classes")`` of :mod:`raydistill.losses.hard_label` as the mask of the mean.

    Args:
        student_logits: One score a class, ``[..., V]``, any floating dtype.
        labels: Same shape; 0 or 1 (or between them), floating, integer or bool. -100 or NaN: not known.

    Returns:
        Nats per position and class, ``[...]``, float32 (float64 for float64 logits), never negative, 0
        where nothing is known. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ, or a label is neither between 0 and 1 nor -100 nor NaN.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0, 9.0], [0.0, 0.0, 0.0]])
        >>> labels = torch.tensor([[1, 0, -100], [-100, -100, -100]])
        >>> binary_cross_entropy(logits, labels).round(decimals=4)
        tensor([0.2201, 0.0000])

    See Also:
        :func:`binary_soft_cross_entropy`, with a teacher;
        :func:`raydistill.losses.hard_label.cross_entropy`, where exactly one class is right.

    References:
        :func:`torch.nn.functional.binary_cross_entropy_with_logits`: where all labels are known, its
        mean over the classes.
    """
    if labels.shape != student_logits.shape:
        raise SignalError(
            f"labels must be one per class, shape {list(student_logits.shape)}, "
            f"got {list(labels.shape)}."
        )
    known = known_classes(labels)
    log_q = _yes_no(student_logits, 1.0)  # [..., V, 2]
    y = torch.where(known, labels.detach().to(log_q.dtype), 0.0)
    wrong = (y < 0) | (y > 1)
    if wrong.any():
        raise SignalError(
            f"labels must be 0 or 1, or -100 or NaN (not known), got {y[wrong][0].item():g}."
        )
    each = -expectation(torch.stack([y, 1 - y], dim=-1), log_q)  # [..., V, 2] -> [..., V]
    number = known.sum(-1).clamp(min=1)
    return torch.where(known, each, 0.0).sum(-1) / number  # [..., V] -> [...]


def binary_soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Cross-entropy of the student under the teacher, each class a yes or no, softened.

    .. math::
        \ell = -\tau^2 \, \frac{1}{V} \sum_v \big[p_v \log q_v + (1 - p_v) \log (1 - q_v)\big], \qquad
        p = \sigma(z^{T}/\tau),\; q = \sigma(z^{S}/\tau)

    For heads where several classes may be there at once. Same gradient as :func:`binary_forward_kl`; at
    equality it is the teacher's entropy. The mean over classes keeps the size of the term when classes
    are added, and so each of them counts less. A constant added to all logits changes all probabilities
    here, and is seen.

    Args:
        student_logits: One score a class, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``. Larger is softer: all
            probabilities move towards a half.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position and class (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), at
        least the teacher's entropy. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 0.0]])
        >>> binary_soft_cross_entropy(student, teacher).round(decimals=4)
        tensor([0.9100])

    See Also:
        :func:`binary_forward_kl`, which is 0 at equality; :func:`binary_cross_entropy`, with labels.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015, arXiv:1503.02531,
        section 2, with every class a softmax over the logits :math:`z_v` and 0.
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    values = -expectation(log_p.exp(), log_q).mean(-1)  # [..., V, 2] -> [..., V] -> [...]
    return scaled(values, tau, scale_by_temperature_squared)


def binary_forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Kullback-Leibler divergence of the student from the teacher, each class a yes or no, softened.

    .. math::
        \ell = \tau^2 \, \frac{1}{V} \sum_v \Big[p_v \log \frac{p_v}{q_v}
        + (1 - p_v) \log \frac{1 - p_v}{1 - q_v}\Big], \qquad
        p = \sigma(z^{T}/\tau),\; q = \sigma(z^{S}/\tau)

    For heads where several classes may be there at once: a softmax would make them compete, and what a
    teacher says of the second class would depend on how sure it is of the first. The mean over classes
    keeps the size of the term when classes are added, and so each of them counts less.

    Args:
        student_logits: One score a class, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``. Larger is softer: all
            probabilities move towards a half.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position and class (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is),
        never negative (to rounding), 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 0.0]])
        >>> binary_forward_kl(student, teacher).round(decimals=4)
        tensor([0.2169])

    See Also:
        :func:`binary_soft_cross_entropy`, the same gradient; :func:`binary_cross_entropy`, with labels;
        :func:`raydistill.losses.divergence.forward_kl`, where classes exclude each other.

    References:
        Yang et al., *Multi-Label Knowledge Distillation*, ICCV 2023, arXiv:2308.06453, on logits:
        one against all (there summed over the classes, without the temperature).
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    values = expectation(log_p.exp(), log_p - log_q).mean(-1)  # [..., V, 2] -> [..., V] -> [...]
    return scaled(values, tau, scale_by_temperature_squared)


def _softened(
    student_logits: Tensor, teacher_logits: Tensor, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Logarithms of q and p of yes and no, the latter without gradient."""
    require_same_classes(student_logits, teacher_logits)
    return _yes_no(student_logits, tau), _yes_no(teacher_logits.detach(), tau)


def _yes_no(logits: Tensor, tau: float | Tensor) -> Tensor:
    """Log-probabilities that a class is there and that it is not, ``[..., V, 2]``."""
    per_class = tau.unsqueeze(-1) if isinstance(tau, Tensor) else tau  # [...] -> [..., 1]
    z = at_least_float32(logits) / per_class
    return torch.stack([logsigmoid(z), logsigmoid(-z)], dim=-1)
