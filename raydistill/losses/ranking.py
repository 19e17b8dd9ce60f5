r"""How far the student's order of candidates is from the teacher's: over pairs, and over the list.

Dimensions: ``B`` rows (a query each), ``N`` candidates of a row, ``P = N(N-1)/2`` pairs of them.
Symbols: :math:`s` the student's scores, :math:`t` the teacher's.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raydistill.losses.scores import counted_scores, log_softmax_counted

__all__ = ["listnet", "ranked_pairs", "ranknet", "relevance_cross_entropy"]


def ranknet(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    soft: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of who of two candidates is ahead, for every pair of a row.

    .. math::
        \ell_{ij} = \log\big(1 + e^{-(s_i - s_j)}\big) \quad \text{where}\ t_i > t_j, \qquad
        \ell_{ij} = 0 \quad \text{where}\ t_i = t_j

    Reads the teacher's order and nothing else: for teachers whose scores have no scale, like a large
    language model that answers a permutation. It does not end where both agree: every margin
    may still grow, and two candidates that the teacher finds nearly equal are pulled apart as hard as any.
    With ``soft`` the target is the teacher's own probability instead,

    .. math::
        \ell_{ij} = -\bar P \log \sigma(s_i - s_j) - (1 - \bar P) \log \sigma(s_j - s_i), \qquad
        \bar P = \sigma(t_i - t_j)

    which ends at the teacher's margins and is ½ for a tie; the teacher's scores have to be logits then.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        teacher_scores: Same shape; no gradient flows into it.
        soft: Whether the target is the teacher's probability, not its order.
        mask: Bool, ``[B, N]``, True = counts. A pair counts where both candidates do. None: all count.

    Returns:
        Nats per pair :math:`i < j`, ``[B, P]`` in the order (0, 1), (0, 2), …, (1, 2), …; float32 (float64
        if a side is), never negative, 0 where a pair does not count. Not reduced: divide the sum by
        :math:`\sum_b n_b (n_b - 1) / 2` for :math:`n_b` candidates that count. Ties count there, so that the
        denominator does not depend on the teacher.

    Raises:
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 1.0]])
        >>> teacher = torch.tensor([[3.0, 2.0, 1.0]])
        >>> ranknet(student, teacher).round(decimals=4)
        tensor([[0.1269, 0.3133, 1.3133]])

    See Also:
        :func:`~raydistill.losses.lambda_loss.lambda_loss`, which weighs pairs by what they matter at the
        top; :func:`~raydistill.losses.scores.margin_mse`, for the margins themselves.

    References:
        Burges et al., *Learning to Rank using Gradient Descent*, ICML 2005: ``soft``, any target
        probability, ½ for a tie. Sun et al., *Is ChatGPT Good at Search?*, EMNLP 2023, arXiv:2304.09542,
        on permutation distillation: the default, there summed over pairs.
        sentence-transformers' ``RankNetLoss``: in bits, and divided by the pairs without ties.
    """
    values, preferred, both = ranked_pairs(student_scores, teacher_scores, mask, soft=soft)
    return torch.where(both if soft else preferred, values, 0.0)


def listnet(
    student_scores: Tensor, teacher_scores: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    r"""Cross-entropy of the candidate that comes first, over the list.

    .. math::
        \ell = -\sum_i p_i \log q_i, \qquad p = \mathrm{softmax}(t),\; q = \mathrm{softmax}(s)

    With :math:`p_i` the probability that candidate :math:`i` is the first of the list. One pass over the
    list where pairs need :math:`N^2`; what the teacher finds unlikely to be first is hardly looked
    at. Same gradient as :func:`~raydistill.losses.scores.score_kl` at temperature 1; its value
    at equality is the teacher's entropy.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        teacher_scores: Same shape; no gradient flows into it.
        mask: Bool, ``[B, N]``, True = counts. None: all count.

    Returns:
        Nats per row, ``[B]`` (``[0]`` if ``N`` is 0), float32 (float64 if a side is), at least the
        teacher's entropy, 0 in rows with fewer than two candidates. Not reduced: divide the sum by the
        number of rows with a candidate.

    Raises:
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> listnet(student, teacher).round(decimals=4)
        tensor([0.9091])

    See Also:
        :func:`~raydistill.losses.scores.score_kl`, 0 at equality and with temperatures.

    References:
        Cao, Qin, Liu, Tsai, Li, *Learning to Rank: From Pairwise Approach to Listwise Approach*, ICML
        2007, with the top one probability. sentence-transformers' ``ListNetLoss``: the mean over
        rows of this.
    """
    student, teacher, counted = counted_scores(student_scores, teacher_scores, mask)
    if student.shape[1] == 0:
        return student.flatten()  # no candidate, no row: nothing to divide by, and a graph
    log_q = log_softmax_counted(student, counted, 1.0)
    p = log_softmax_counted(teacher, counted, 1.0).exp().masked_fill(~counted, 0.0)
    return torch.where(p == 0, 0.0, -p * log_q).sum(-1)  # [B, N] -> [B]


def relevance_cross_entropy(
    student_scores: Tensor, relevance: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    r"""Cross-entropy of the relevant candidates among all of a row.

    .. math::
        \ell = -\sum_i \frac{y_i}{\sum_j y_j} \log q_i, \qquad q = \mathrm{softmax}(s)

    with :math:`y` the relevance, 0 for none; of grades larger ones get more of the mass. With one relevant
    candidate it is the negative log-likelihood of that one against the others, the usual loss of rerankers
    and embedders (InfoNCE over listed negatives). It ends where relevant candidates take all the
    probability, so margins grow without end; and relevant ones that are not known to be so are pushed down as
    hard as any.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        relevance: Same shape; below 0 is as 0. No gradient flows into it.
        mask: Bool, ``[B, N]``, True = counts. None: all count.

    Returns:
        Nats per row, ``[B]`` (``[0]`` if ``N`` is 0), float32 (float64 if a side is), never negative, 0
        in rows without a relevant candidate. Not reduced: divide the sum by the number of rows with a
        candidate.

    Raises:
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> relevance = torch.tensor([[1.0, 0.0, 0.0]])
        >>> relevance_cross_entropy(student, relevance).round(decimals=4)
        tensor([0.2395])

    See Also:
        :func:`listnet`, whose target is a softmax of scores; :func:`~raydistill.losses.lambda_loss.lambda_loss`,
        for grades and the top of the list.

    References:
        Bruch, Wang, Bendersky, Najork, *An Analysis of the Softmax Cross Entropy Loss for
        Learning-to-Rank with Binary Relevance*, ICTIR 2019, doi:10.1145/3341981.3344221. FlagEmbedding's
        rerankers, with one relevant candidate, the first: the mean over rows of this.
    """
    student, target, counted = counted_scores(student_scores, relevance, mask)
    if student.shape[1] == 0:
        return student.flatten()  # no candidate, no row: nothing to divide by, and a graph
    log_q = log_softmax_counted(student, counted, 1.0)
    target = target.clamp(min=0)
    mass = target.sum(-1, keepdim=True)
    share = target / torch.where(mass == 0, 1.0, mass)
    return torch.where(share == 0, 0.0, -share * log_q).sum(-1)  # [B, N] -> [B]


def ranked_pairs(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor | None,
    *,
    soft: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every pair ``i < j``: its cross-entropy, whether the teacher prefers one of it, whether it counts.

    Returns:
        Values, bool, bool, ``[B, P]`` each; values of pairs without preference say nothing unless ``soft``.
    """
    student, teacher, counted = counted_scores(student_scores, teacher_scores, mask)
    width = student.shape[1]
    i, j = torch.triu_indices(width, width, offset=1, device=student.device)
    both = counted[:, i] & counted[:, j]  # [B, N] -> [B, P]
    ahead, behind = teacher[:, i] > teacher[:, j], teacher[:, i] < teacher[:, j]
    margin = student[:, i] - student[:, j]
    if soft:
        first = torch.sigmoid(teacher[:, i] - teacher[:, j])
        values = -first * logsigmoid(margin) - (1 - first) * logsigmoid(-margin)
    else:
        values = -logsigmoid(torch.where(behind, -margin, margin))
    return values, (ahead | behind) & both, both
