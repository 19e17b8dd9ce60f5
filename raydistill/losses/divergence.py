r"""How far the student's distribution is from the teacher's: per position, not reduced.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
Symbols: :math:`z^S, z^T` logits, :math:`\tau` temperature, :math:`p` teacher's, :math:`q` student's
distribution, both softened.

The teacher's side may be several teachers': :math:`\tau \log p` of a distribution :math:`p` that is
softened already, as :mod:`raydistill.ensemble` makes it, is a set of logits like any other; classes with
:math:`p_v = 0` have the logit ``-inf`` there and contribute nothing.
"""

import math

import torch
from torch import Tensor

from raydistill.losses.softening import (
    checked_temperature,
    expectation,
    log_softmax,
    require_same_classes,
    scaled,
)

__all__ = [
    "forward_kl",
    "jensen_shannon",
    "reverse_kl",
    "soft_cross_entropy",
    "total_variation",
]


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Cross-entropy of the student under the teacher's distribution, softened.

    .. math::
        \ell = -\tau^2 \sum_v p_v \log q_v, \qquad
        p = \mathrm{softmax}(z^{T}/\tau),\; q = \mathrm{softmax}(z^{S}/\tau)

    Same gradient as :func:`forward_kl`, a little less work. Its value is not a distance: at
    equality it is the teacher's entropy, so it does not reach 0 and cannot be compared between
    teachers. The factor :math:`\tau^2` keeps gradients of the same size when the temperature
    changes; without it (TextBrewer's ``ce``) the weight of this term has to grow with
    :math:`\tau^2`.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``. Larger is softer.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), at
        least the teacher's entropy. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> soft_cross_entropy(student, teacher, temperature=2.0).round(decimals=4)
        tensor([4.1799])

    See Also:
        :func:`forward_kl`, which is 0 at equality.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 2. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``kd_ce_loss``: this one without the factor.
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    return scaled(-expectation(log_p.exp(), log_q), tau, scale_by_temperature_squared)


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Kullback-Leibler divergence of the student from the teacher, softened.

    .. math::
        \ell = \tau^2 \sum_v p_v \,(\log p_v - \log q_v), \qquad
        p = \mathrm{softmax}(z^{T}/\tau),\; q = \mathrm{softmax}(z^{S}/\tau)

    Mean-seeking: the student is punished where the teacher has mass and it has none; a student too
    small for all of the teacher's modes spreads between them. The factor :math:`\tau^2` keeps
    gradients of the same size when the temperature changes.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``. 1 leaves both
            distributions as they are; larger is softer.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), never
        negative (to rounding), 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> forward_kl(student, teacher, temperature=2.0).round(decimals=4)
        tensor([0.0991])

    See Also:
        :func:`soft_cross_entropy`, the same gradient; :func:`reverse_kl`, which seeks a mode;
        :func:`jensen_shannon`, which is bounded.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 2 (there as a cross-entropy: same gradient).
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    values = expectation(log_p.exp(), log_p - log_q)  # [..., V] -> [...]
    return scaled(values, tau, scale_by_temperature_squared)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Kullback-Leibler divergence of the teacher from the student, softened.

    .. math::
        \ell = \tau^2 \sum_v q_v \,(\log q_v - \log p_v), \qquad
        p = \mathrm{softmax}(z^{T}/\tau),\; q = \mathrm{softmax}(z^{S}/\tau)

    Mode-seeking: the student is punished where it has mass and the teacher has none, so a small one
    settles on what the teacher is sure of and leaves the rest. For a teacher whose doubts are noise, or a
    vocabulary whose tail a student cannot hold. Early in training its gradient is small where the
    student has no mass yet; mixed with :func:`forward_kl` it starts better.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), never
        negative (to rounding), 0 where both agree, infinite where the student has mass and a teacher's
        logit is ``-inf``. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> reverse_kl(student, teacher, temperature=2.0).round(decimals=4)
        tensor([0.0914])

    See Also:
        :func:`forward_kl`, the other direction; :func:`jensen_shannon`, between the two.

    References:
        Gu, Dong, Wei, Huang, *MiniLLM*, ICLR 2024, arXiv:2306.08543, section 2.1: why this direction.
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    values = expectation(log_q.exp(), log_q - log_p)  # [..., V] -> [...]
    return scaled(values, tau, scale_by_temperature_squared)


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.5,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence, softened.

    .. math::
        \ell = \tau^2 \big[\beta \, \mathrm{KL}(p \,\|\, m) + (1 - \beta) \, \mathrm{KL}(q \,\|\, m)\big],
        \qquad m = \beta p + (1 - \beta) q

    with :math:`p` the teacher: the convention of GKD and TRL, where small :math:`\beta` behaves like
    ``beta`` times the forward KL and large like ``1 - beta`` times the reverse. KDFlow counts the other way
    round: its ``beta`` is ``1 - beta`` here. Bounded by :math:`\tau^2 \log 2` at 0.5, so a few rows
    on which the two contradict each other do not rule a step.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        beta: Weight of the teacher in the mixture, between 0 and 1, both excluded (there it is 0).
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Nats per position (times :math:`\tau^2`), ``[...]``, float32 (float64 if a side is), never
        negative (to rounding), 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number, or ``beta`` not inside 0 and 1.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> jensen_shannon(student, teacher, temperature=2.0).round(decimals=4)
        tensor([0.0237])

    See Also:
        :func:`forward_kl`, :func:`reverse_kl`.

    References:
        Agarwal et al., *On-Policy Distillation of Language Models* (GKD), ICLR 2024, arXiv:2306.13649,
        section 2, formula 1.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie between 0 and 1, both excluded, got {beta}.")
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    # Where both are -inf, logaddexp has no slope; the class adds nothing, so any finite value will do.
    neither = torch.isneginf(log_p) & torch.isneginf(log_q)
    log_m = torch.logaddexp(
        log_p + math.log(beta), torch.where(neither, 0.0, log_q) + math.log1p(-beta)
    )
    of_teacher = expectation(log_p.exp(), log_p - log_m)
    of_student = expectation(log_q.exp(), log_q - log_m)
    values = beta * of_teacher + (1 - beta) * of_student
    return scaled(values, tau, scale_by_temperature_squared)


def total_variation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature: bool = True,
) -> Tensor:
    r"""Total variation distance between the two distributions, softened.

    .. math::
        \ell = \tau \, \tfrac{1}{2} \sum_v |p_v - q_v|, \qquad
        p = \mathrm{softmax}(z^{T}/\tau),\; q = \mathrm{softmax}(z^{S}/\tau)

    The share of probability that would have to move; what a metric of agreement sees. No logarithm, so no
    class of small probability can rule it; the price is a slope that does not grow with the distance.
    Being of first order in the difference, it keeps its gradient's size with :math:`\tau`, not
    :math:`\tau^2`.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature: Whether to multiply by :math:`\tau`.

    Returns:
        Probability per position (times :math:`\tau`), ``[...]``, 0 to 1 (times :math:`\tau`), float32
        (float64 if a side is), 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> total_variation(student, teacher).round(decimals=4)
        tensor([0.1382])

    See Also:
        :func:`jensen_shannon`, bounded too, and smooth at equality.

    References:
        Wen, Li, Du, Mou, *f-Divergence Minimization for Sequence-Level Knowledge Distillation*, ACL 2023,
        arXiv:2307.15190, section 3.2 (there without the factor).
    """
    tau = checked_temperature(temperature, teacher_logits)
    log_q, log_p = _softened(student_logits, teacher_logits, tau)
    values = 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)
    return values * tau if scale_by_temperature else values


def _softened(
    student_logits: Tensor, teacher_logits: Tensor, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Logarithms of q and p, the latter without gradient."""
    require_same_classes(student_logits, teacher_logits)
    return log_softmax(student_logits, tau), log_softmax(teacher_logits.detach(), tau)
