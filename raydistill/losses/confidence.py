r"""Soft labels of teachers that are sure, made surer: per position, not reduced.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

import torch
from torch import Tensor

from raydistill.losses.softening import expectation, log_softmax, require_same_classes

__all__ = ["soft_label"]


def soft_label(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    threshold: float = 0.8,
    sharpening: float = 0.5,
) -> Tensor:
    r"""Cross-entropy with the teachers' sharpened distribution where they are sure; 0 elsewhere.

    .. math::
        \ell = -\big[\max_v p_v \ge \theta\big] \sum_v \tilde p_v \log q_v, \qquad
        \tilde p_v = \frac{p_v^{1/s}}{\sum_w p_w^{1/s}}

    with :math:`p = \mathrm{softmax}(z^T)`, :math:`q = \mathrm{softmax}(z^S)`, the threshold
    :math:`\theta` and the sharpening temperature :math:`s`. Soft label distillation: for rows that nobody
    labelled and that may be noise, such as augmented ones, of which a teacher's doubts say less than its
    certainty. Unlike a temperature, :math:`s` acts on the teachers' side alone, so the student is drawn
    to be surer than they are; 1 leaves them as they are, near 0 only their best class counts (a pseudo
    label). A mean over rows counts those below the threshold as 0, as UDA and FixMatch do: the term is
    weak while teachers are sure of little. A student that must be calibrated had better have
    :func:`~raydistill.losses.divergence.forward_kl`.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        threshold: :math:`\theta`, 0 to 1: least probability of the teachers' best class. 0: all count.
        sharpening: :math:`s > 0`: below 1 sharpens, above softens.

    Returns:
        Nats per position, ``[...]``, float32 (float64 if a side is), never negative, 0 where the teachers
        are less sure. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``threshold`` is not between 0 and 1, or ``sharpening`` is not positive.
        SignalError: the two shapes differ.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
        >>> soft_label(student, teacher, threshold=0.6).round(decimals=4)
        tensor([0.2494, 0.0000])

    See Also:
        :func:`~raydistill.losses.divergence.soft_cross_entropy`, which this is with ``threshold`` 0 and
        ``sharpening`` 1.

    References:
        Xie, Dai, Hovy, Luong, Le, *Unsupervised Data Augmentation for Consistency Training*, NeurIPS 2020,
        arXiv:1904.12848, section 2.3 (there a consistency with the model's own answer). Sohn et al.,
        *FixMatch*, NeurIPS 2020, arXiv:2001.07685, formula 4: the threshold and what the mean is over.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}.")
    if not sharpening > 0:
        raise ValueError(f"sharpening must be a positive finite number, got {sharpening}.")
    require_same_classes(student_logits, teacher_logits)
    log_p, log_q = log_softmax(teacher_logits.detach(), 1.0), log_softmax(student_logits, 1.0)
    sharper = log_softmax(log_p, sharpening)
    sure = log_p.exp().amax(-1) >= threshold
    return torch.where(sure, -expectation(sharper.exp(), log_q), 0.0)  # [..., V] -> [...]
