r"""Pairs of candidates, weighed by what they matter to the ranking's NDCG.

Dimensions: ``B`` rows (a query each), ``N`` candidates of a row.
Symbols: :math:`s` the student's scores, :math:`t` the teacher's, :math:`D(r) = \log_2(1 + r)` the discount
of rank :math:`r = 1, 2, \dots`
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raydistill.losses.scores import counted_scores, log_softmax_counted

__all__ = ["GAINS", "SCHEMES", "lambda_loss", "weighted_pairs"]

SCHEMES = ("ndcg_loss2pp", "ndcg_loss2", "lambdarank")
"""How ranks weigh a pair."""
GAINS = ("reciprocal_rank", "softmax", "exponential")
"""What a teacher's score is worth."""


def lambda_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    scheme: str = "ndcg_loss2pp",
    gains: str = "reciprocal_rank",
    mu: float = 10.0,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of who of two candidates is ahead, weighed by the two places in the ranking.

    .. math::
        \ell = \sum_{t_i > t_j} w_{ij} \, |G_i - G_j| \, \log_2\big(1 + e^{-(s_i - s_j)}\big), \qquad
        G_i = g_i \Big/ \sum_k \frac{g_{(k)}}{D(k)}

    with :math:`g_{(1)} \ge g_{(2)} \ge \dots` the gains in the best order, and, for the ranks :math:`r` that
    the student gives now, 1 for its highest score (of equal ones, for the first),

    .. math::
        \texttt{lambdarank}: \; w_{ij} = \rho_{ij} = \Big|\frac{1}{D(r_i)} - \frac{1}{D(r_j)}\Big|, \qquad
        \texttt{ndcg\_loss2}: \; w_{ij} = \delta_{ij} =
        \Big|\frac{1}{D(|r_i - r_j|)} - \frac{1}{D(|r_i - r_j| + 1)}\Big|

    and :math:`\rho_{ij} + \mu \, \delta_{ij}` for ``ndcg_loss2pp``. Gradients flow through the scores in
    the logarithm only; gains, ranks and weights are constants.

    A teacher's scores are no grades, so what one is worth is to be chosen:

    - ``reciprocal_rank``: :math:`g_i = 1 / (1 + \#\{j : t_j > t_i\})`. The order only; equal scores share the
      better place. For scores of any scale or sign.
    - ``softmax``: :math:`g = \mathrm{softmax}(t)`. For logits; where the teacher is sure of one candidate,
      the order of the others hardly counts.
    - ``exponential``: :math:`g_i = 2^{\max(t_i, 0)} - 1`, as for grades 0, 1, 2, … Scores below 0 are
      all worth nothing.

    For students that are judged by the top of their list. Weights jump when two candidates change
    places, so the value is no measure of progress between steps; NDCG itself is.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        teacher_scores: Same shape; no gradient flows into it.
        scheme: ``"ndcg_loss2pp"``, ``"ndcg_loss2"`` or ``"lambdarank"``.
        gains: ``"reciprocal_rank"``, ``"softmax"`` or ``"exponential"``.
        mu: :math:`\mu > 0`, of ``ndcg_loss2pp`` alone.
        mask: Bool, ``[B, N]``, True = counts. None: all count.

    Returns:
        Bits per row, weighted, ``[B]`` (``[0]`` if ``N`` is 0), float32 (float64 if a side is), never
        negative, 0 in rows where the teacher prefers none. Not reduced: divide the sum by the number
        of rows with a candidate.

    Raises:
        ValueError: ``scheme`` or ``gains`` is not known, or ``mu`` is not a positive finite number.
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[0.0, 1.0]])
        >>> teacher = torch.tensor([[2.0, 1.0]])
        >>> lambda_loss(student, teacher, scheme="lambdarank").round(decimals=4)
        tensor([0.2658])

    See Also:
        :func:`~raydistill.losses.ranking.ranknet`, all pairs alike.

    References:
        Wang, Li, Golbandi, Bendersky, Najork, *The LambdaLoss Framework for Ranking Metric Optimization*,
        CIKM 2018, doi:10.1145/3269206.3271784: LambdaRank, NDCG-Loss2 and NDCG-Loss2++, with
        ``exponential`` gains of grades; the other two are for teachers. sentence-transformers' ``LambdaLoss``:
        ``exponential``, divided by the pairs that the teacher orders, not by rows.
    """
    values, preferred = weighted_pairs(
        student_scores, teacher_scores, mask, scheme=scheme, gains=gains, mu=mu
    )
    if values.shape[-1] == 0:
        return student_scores.flatten().to(values.dtype)  # nothing to divide by, and a graph
    return torch.where(preferred, values, 0.0).sum((1, 2))  # [B, N, N] -> [B]


def weighted_pairs(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor | None,
    *,
    scheme: str = "ndcg_loss2pp",
    gains: str = "reciprocal_rank",
    mu: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Of every ordered pair: its weighted cross-entropy in bits, and whether the teacher prefers its first.

    Returns:
        Values and bool, ``[B, N, N]`` each; values say nothing where the second is False.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}.")
    if not (math.isfinite(mu) and mu > 0):
        raise ValueError(f"mu must be a positive finite number, got {mu}.")
    student, teacher, counted = counted_scores(student_scores, teacher_scores, mask)
    preferred = teacher.unsqueeze(2) > teacher.unsqueeze(1)  # [B, N, N]: i before j
    preferred = preferred & counted.unsqueeze(2) & counted.unsqueeze(1)
    gain = _normalised_gains(teacher, counted, gains)
    weights = _weights(_ranks(student.detach(), counted), scheme, mu).to(student.dtype)
    weights = weights * (gain.unsqueeze(2) - gain.unsqueeze(1)).abs()
    margins = student.unsqueeze(2) - student.unsqueeze(1)
    return weights * -logsigmoid(margins) / math.log(2), preferred


def _normalised_gains(teacher: Tensor, counted: Tensor, gains: str) -> Tensor:
    """What candidates are worth, divided by the DCG of the best order, ``[B, N]``; 0 where not counted."""
    if gains == "reciprocal_rank":
        above = (teacher.unsqueeze(1) > teacher.unsqueeze(2)) & counted.unsqueeze(1)
        worth = 1 / (1 + above.sum(-1)).to(teacher.dtype)
    elif gains == "softmax":
        worth = log_softmax_counted(teacher, counted, 1.0).exp()
    elif gains == "exponential":
        grade = teacher.clamp(min=0)  # 0 where not counted
        # Both divided by 2**top, which the norm takes out again: a grade of 200 is no float32.
        top = grade.amax(-1, keepdim=True) if grade.shape[1] else grade
        worth = torch.exp2(grade - top) - torch.exp2(-top)
    else:
        raise ValueError(f"gains must be one of {', '.join(GAINS)}, got {gains!r}.")
    worth = worth.masked_fill(~counted, 0.0)
    places = torch.arange(1, worth.shape[1] + 1, device=worth.device)
    best = (worth.sort(-1, descending=True).values / _discount(places).to(worth.dtype)).sum(
        -1, keepdim=True
    )
    return worth / torch.where(best > 0, best, 1.0)


def _ranks(scores: Tensor, counted: Tensor) -> Tensor:
    """1 for the highest score that counts, of equal ones for the first; those that do not count come last."""
    order = scores.masked_fill(~counted, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return order.argsort(-1) + 1  # the inverse of a permutation


def _weights(ranks: Tensor, scheme: str, mu: float) -> Tensor:
    """What the places of two candidates make of their pair, ``[B, N, N]``."""
    first, second = ranks.unsqueeze(2), ranks.unsqueeze(1)
    rho = (1 / _discount(first) - 1 / _discount(second)).abs()
    if scheme == "lambdarank":
        return rho
    apart = (first - second).abs().clamp(min=1)  # 0 only from itself, which no pair is
    delta = 1 / _discount(apart) - 1 / _discount(apart + 1)
    return delta if scheme == "ndcg_loss2" else rho + mu * delta


def _discount(ranks: Tensor) -> Tensor:
    """By how much less the gain at a rank counts, in float64: differences of it are small."""
    return torch.log2(1 + ranks.double())
