r"""How far the student's distribution is from the teacher's: per position, not reduced.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
Symbols: :math:`z^S, z^T` logits, :math:`\tau` temperature, :math:`p` teacher's, :math:`q` student's
distribution, both softened.

Each loss comes twice: from the teacher's logits, and ``…_from_log_p`` from log-probabilities that
are softened already, which is what :mod:`raydistill.ensemble` makes of several teachers. The first
is the second applied to :math:`\log \mathrm{softmax}(z^T/\tau)`.
"""

import math

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape

__all__ = [
    "forward_kl",
    "forward_kl_from_log_p",
    "soft_cross_entropy",
    "soft_cross_entropy_from_log_p",
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
        :func:`forward_kl`, which is 0 at equality; :func:`soft_cross_entropy_from_log_p`.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 2. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``kd_ce_loss``: this one without the factor.
    """
    _require_same_classes(student_logits, teacher_logits)
    return soft_cross_entropy_from_log_p(
        student_logits,
        _log_softmax(teacher_logits, _checked(temperature, teacher_logits)),
        temperature=temperature,
        scale_by_temperature_squared=scale_by_temperature_squared,
    )


def soft_cross_entropy_from_log_p(
    student_logits: Tensor,
    log_p: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Cross-entropy of the student under a distribution that is softened already.

    .. math:: \ell = -\tau^2 \sum_v p_v \log q_v, \qquad q = \mathrm{softmax}(z^{S}/\tau)

    For several teachers, combined. ``temperature`` softens the student only and must be the one
    that ``log_p`` was made with: nothing here can tell.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        log_p: Log-probabilities, same shape; no gradient flows into it. ``-inf`` (:math:`p_v = 0`)
            is allowed and contributes nothing.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        As :func:`soft_cross_entropy`: ``[...]``, at least float32, not reduced.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> log_p = torch.tensor([[0.5, 0.5, 0.0]]).log()
        >>> soft_cross_entropy_from_log_p(torch.zeros(1, 3), log_p).round(decimals=4)
        tensor([1.0986])

    See Also:
        :func:`raydistill.ensemble.combine_log_p`, which makes ``log_p``.

    References:
        As :func:`soft_cross_entropy`.
    """
    _require_same_classes(student_logits, log_p)
    log_p = at_least_float32(log_p).detach()
    tau = _checked(temperature, student_logits)
    log_q = _log_softmax(student_logits, tau)  # [..., V]
    values = -_expectation(log_p.exp(), log_q)  # [..., V] -> [...]
    return values * tau**2 if scale_by_temperature_squared else values


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
        :func:`soft_cross_entropy`, the same gradient; :func:`forward_kl_from_log_p`.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 2 (there as a cross-entropy: same gradient).
    """
    _require_same_classes(student_logits, teacher_logits)
    return forward_kl_from_log_p(
        student_logits,
        _log_softmax(teacher_logits, _checked(temperature, teacher_logits)),
        temperature=temperature,
        scale_by_temperature_squared=scale_by_temperature_squared,
    )


def forward_kl_from_log_p(
    student_logits: Tensor,
    log_p: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Kullback-Leibler divergence of the student from a distribution that is softened already.

    .. math::
        \ell = \tau^2 \sum_v p_v \,(\log p_v - \log q_v), \qquad q = \mathrm{softmax}(z^{S}/\tau)

    For several teachers, combined. ``temperature`` softens the student only and must be the one
    that ``log_p`` was made with: nothing here can tell.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        log_p: Log-probabilities, same shape; no gradient flows into it. ``-inf`` (:math:`p_v = 0`)
            is allowed and contributes nothing.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        As :func:`forward_kl`: ``[...]``, at least float32, not reduced.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> log_p = torch.tensor([[0.5, 0.5, 0.0]]).log()
        >>> forward_kl_from_log_p(torch.zeros(1, 3), log_p).round(decimals=4)
        tensor([0.4055])

    See Also:
        :func:`raydistill.ensemble.combine_log_p`, which makes ``log_p``.

    References:
        As :func:`forward_kl`.
    """
    _require_same_classes(student_logits, log_p)
    log_p = at_least_float32(log_p).detach()
    tau = _checked(temperature, student_logits)
    log_q = _log_softmax(student_logits, tau)  # [..., V]
    values = _expectation(log_p.exp(), log_p - log_q)  # [..., V] -> [...]
    return values * tau**2 if scale_by_temperature_squared else values


def _expectation(p: Tensor, x: Tensor) -> Tensor:
    """Sum of p·x over the classes, where p = 0 contributes 0 even if x is infinite or NaN."""
    return torch.where(p == 0, 0.0, p * x).sum(dim=-1)


def _log_softmax(logits: Tensor, tau: float | Tensor) -> Tensor:
    """Log-probabilities of softened logits, in float32 or more."""
    per_class = tau.unsqueeze(-1) if isinstance(tau, Tensor) else tau  # [...] -> [..., 1]
    return torch.log_softmax(at_least_float32(logits) / per_class, dim=-1)


def _checked(temperature: float | Tensor, logits: Tensor) -> float | Tensor:
    """The temperature, if it is positive and finite; a tensor's dtype must not widen the result."""
    if not isinstance(temperature, Tensor):
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a positive finite number, got {temperature}.")
        return temperature
    if temperature.dim() > 0 and temperature.shape != logits.shape[:-1]:
        raise SignalError(
            f"temperature must be a number or one per position, shape {list(logits.shape[:-1])}, "
            f"got {list(temperature.shape)}."
        )
    wrong = ~(torch.isfinite(temperature) & (temperature > 0))
    if wrong.any():
        raise ValueError(
            "temperature must be positive and finite at every position, "
            f"got {temperature[wrong][0].item()}."
        )
    return temperature.to(torch.promote_types(logits.dtype, torch.float32))


def _require_same_classes(student_logits: Tensor, teacher: Tensor) -> None:
    require_same_shape(
        student_logits,
        teacher,
        "Logits",
        "Distillation of logits needs the same classes; use a hidden-state loss, or map them.",
    )
