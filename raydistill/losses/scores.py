r"""How far the student's scores of candidates are from the teacher's: as distributions, and as margins.

Dimensions: ``B`` rows (a query each), ``N`` candidates of a row, in any order unless said otherwise.
Symbols: :math:`s` the student's scores, :math:`t` the teacher's. Candidates that do not count are neither
read nor touched: a row without them gives the same value and the same gradients.

Both losses see the differences of scores within a row only: a constant added to a row changes nothing.
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.reduction import expand_mask
from raydistill.losses.softening import checked_temperature, log_softmax

__all__ = ["counted_scores", "log_softmax_counted", "margin_mse", "score_kl"]


def score_kl(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    teacher_temperature: float | Tensor | None = None,
    scale_by_temperature_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Kullback-Leibler divergence over the candidates of a row, softened on each side by its own temperature.

    .. math::
        \ell = \tau_S^2 \sum_i p_i \,(\log p_i - \log q_i), \qquad
        p = \mathrm{softmax}(t / \tau_T),\; q = \mathrm{softmax}(s / \tau_S)

    The whole list at once, with the teacher's certainty: for an embedder or a reranker that learns from
    a cross-encoder. The two sides rarely have the same scale (a cosine lies within 1, a cross-encoder's
    score within 10 or 20), hence two temperatures: choose each near the spread of that side's own scores. A
    spread of more than a hundred temperatures leaves one candidate, and the rest of the order is
    lost. The factor is the student's temperature: it keeps the size of the student's gradients.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        teacher_scores: Same shape; no gradient flows into it.
        temperature: :math:`\tau_S > 0`, a number or one per row, ``[B]``. Larger is softer.
        teacher_temperature: :math:`\tau_T > 0`, likewise. None: as the student's.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau_S^2`.
        mask: Bool, ``[B, N]``, True = counts. None: all count.

    Returns:
        Nats per row (times :math:`\tau_S^2`), ``[B]`` (``[0]`` if ``N`` is 0), float32 (float64 if a side
        is), never negative (to rounding), 0 where both distributions agree and in rows with fewer than
        two candidates. Not reduced: divide the sum by the number of rows with a candidate.

    Raises:
        ValueError: a temperature is not a positive finite number.
        SignalError: the shapes differ or are not ``[B, N]``, the mask is not bool or does not fit, or
            the temperatures are not one per row.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[20.0, 10.0, 0.0]])
        >>> score_kl(student, teacher, temperature=2.0, teacher_temperature=20.0).round(decimals=4)
        tensor([0.0991])

    See Also:
        :func:`~raydistill.losses.ranking.listnet`, the same gradient at temperature 1;
        :func:`margin_mse`, which keeps the teacher's scale;
        :func:`~raydistill.losses.divergence.forward_kl`, over classes.

    References:
        Lin, Yang, Lin, *Distilling Dense Representations for Ranking using Tightly-Coupled Teachers*, 2020,
        arXiv:2010.11386. sentence-transformers' ``DistillKLDivLoss``: the mean over rows of this.
    """
    student, teacher, counted = counted_scores(student_scores, teacher_scores, mask)
    tau = checked_temperature(temperature, student)
    if teacher_temperature is None:
        teacher_tau = tau
    else:
        teacher_tau = checked_temperature(teacher_temperature, teacher)
    if student.shape[1] == 0:
        return student.flatten()  # no candidate, no row: nothing to divide by, and a graph
    log_q = log_softmax_counted(student, counted, tau)
    log_p = log_softmax_counted(teacher, counted, teacher_tau)
    p = log_p.exp().masked_fill(~counted, 0.0)
    values = torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1)  # [B, N] -> [B]
    return values * tau**2 if scale_by_temperature_squared else values


def margin_mse(
    student_scores: Tensor, teacher_scores: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    r"""Squared error of the margin between the first candidate and each other one.

    .. math:: \ell_k = \big((s_0 - s_k) - (t_0 - t_k)\big)^2, \qquad k = 1 \dots N - 1

    The first candidate is the positive by custom; nothing depends on it being one. The student takes over
    the teacher's differences, not its scores, so it is free to choose where its own lie; but the
    scale is the teacher's, and a student whose scores are bounded (a cosine) cannot reach the
    margins of a cross-encoder: :func:`score_kl` then, or a teacher scaled down.

    Args:
        student_scores: ``[B, N]``, any floating dtype; the candidates that others are compared with
            come first.
        teacher_scores: Same shape; or margins :math:`t_0 - t_k` themselves, ``[B, N-1]``, or ``[B]``
            where ``N`` is 2. No gradient flows into it.
        mask: Bool, ``[B, N]``, True = counts. A pair counts where both of its candidates do; a row
            whose first candidate does not count has none. None: all count.

    Returns:
        Squared units of the scores per pair, ``[B, N-1]``, float32 (float64 if a side is), never
        negative, 0 where the margins agree or a pair does not count. Not reduced: divide the sum by
        the number of pairs that count.

    Raises:
        SignalError: the shapes do not fit, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[3.0, 1.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.5, 0.0]])
        >>> margin_mse(student, teacher)
        tensor([[2.2500, 1.0000]])
        >>> margin_mse(student, torch.tensor([[0.5, 2.0]]))
        tensor([[2.2500, 1.0000]])

    See Also:
        :func:`score_kl`, which is free of the scale; :func:`~raydistill.losses.ranking.ranknet`, of
        everything but the order.

    References:
        Hofstätter, Althammer, Schröder, Sertkan, Hanbury, *Improving Efficient Neural Ranking Models with
        Cross-Architecture Knowledge Distillation*, 2020, arXiv:2010.02666. sentence-transformers'
        ``MarginMSELoss``, of embeddings and of cross-encoders: the mean over pairs of this.
    """
    rows, width = _sizes(student_scores)
    student, teacher = at_least_float32(student_scores), at_least_float32(teacher_scores).detach()
    counted = _counted(student, mask)
    student = torch.where(counted, student, 0.0)
    if teacher.shape == student.shape:
        teacher = torch.where(counted, teacher, 0.0)
        margins = teacher[:, :1] - teacher[:, 1:]  # [B, N] -> [B, N-1]
    elif teacher.shape == (rows, width - 1):
        margins = teacher
    elif teacher.shape == (rows,) and width == 2:  # noqa: PLR2004 - one pair
        margins = teacher.unsqueeze(1)
    else:
        raise SignalError(
            f"teacher_scores must be scores {[rows, width]} or margins {[rows, max(0, width - 1)]} for "
            f"student_scores {[rows, width]}, got {list(teacher.shape)}."
        )
    pairs = counted[:, :1] & counted[:, 1:]
    difference = student[:, :1] - student[:, 1:] - torch.where(pairs, margins, 0.0)
    return torch.where(pairs, difference.square(), 0.0)


def counted_scores(
    student_scores: Tensor, teacher_scores: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in float32 or more, 0 where a candidate does not count, and the mask, all True if None.

    The teacher's without gradient. What does not count is taken out before any arithmetic, so NaN
    there reaches neither a value nor a gradient.

    Raises:
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.
    """
    _sizes(student_scores)
    require_same_shape(
        student_scores,
        teacher_scores,
        "Scores",
        "Both have to score the same candidates; pad rows and set `mask` where their numbers differ.",
    )
    student, teacher = at_least_float32(student_scores), at_least_float32(teacher_scores).detach()
    counted = _counted(student, mask)
    return torch.where(counted, student, 0.0), torch.where(counted, teacher, 0.0), counted


def log_softmax_counted(scores: Tensor, counted: Tensor, tau: float | Tensor) -> Tensor:
    """Log-probabilities over the candidates that count, ``[B, N]``; 0 at the others."""
    # A row of nothing but padding has no softmax: it gets that of zeros, which nobody reads. NaN would not
    # be read either, but stop a run under torch.autograd.detect_anomaly.
    ruled_out = ~counted & counted.any(-1, keepdim=True)
    log_p = log_softmax(scores.masked_fill(ruled_out, -torch.inf), tau)
    return log_p.masked_fill(~counted, 0.0)


def _sizes(scores: Tensor) -> tuple[int, int]:
    """Rows and candidates."""
    if scores.dim() != 2:  # noqa: PLR2004 - rows, candidates
        raise SignalError(f"scores must be [rows, candidates], got {list(scores.shape)}.")
    return scores.shape[0], scores.shape[1]


def _counted(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, or one that is all True."""
    if mask is None:
        return torch.ones_like(scores, dtype=torch.bool)
    counted = expand_mask(mask, scores.shape)
    # Its units are counted from the mask alone, which has to say how many candidates there are.
    if mask.shape != scores.shape:
        raise SignalError(
            f"mask must have one entry per candidate, shape {list(scores.shape)}, got {list(mask.shape)}."
        )
    return counted
