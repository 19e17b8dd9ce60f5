r"""Whether a query finds what is relevant for it among the passages of other queries too.

Dimensions: ``B`` rows (a query each), ``N`` passages that all of them are compared with.
"""

import torch
from torch import Tensor

from raydistill.losses.scores import counted_scores
from raydistill.losses.softening import checked_temperature

__all__ = ["in_batch_cross_entropy"]


def in_batch_cross_entropy(
    student_scores: Tensor,
    relevance: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of each relevant passage against all that are not relevant, its own query's or another's.

    .. math::
        \ell = -\frac{1}{|P|} \sum_{i \in P} \log \frac{e^{s_i / \tau}}{e^{s_i / \tau} + \sum_{j \in N} e^{s_j / \tau}}

    with P the passages that are relevant for the row and N the others. The usual loss of embedders: whatever was
    read for other queries serves as negatives, at no cost but a product. A relevant passage is no negative of
    another one, unlike in :func:`~raydistill.losses.ranking.relevance_cross_entropy`; but one that nobody
    knows to be relevant is, and the more rows there are, the more of those. Of a cosine, which
    lies within 1, the temperature should be some hundredths.

    Args:
        student_scores: ``[B, N]``, any floating dtype.
        relevance: Same shape, above 0 where a passage is relevant. No gradient flows into it.
        temperature: :math:`\tau > 0`, divides the scores. Small looks at the nearest only.
        mask: Bool, ``[B, N]``, True = counts. None: all count.

    Returns:
        Nats per row, ``[B]`` (``[0]`` if ``N`` is 0), float32 (float64 if a side is), never negative, 0
        in rows without a relevant passage. Not reduced: divide the sum by the number of rows with a
        passage that counts.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the shapes differ or are not ``[B, N]``, or the mask is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> relevance = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> in_batch_cross_entropy(student, relevance).round(decimals=4)
        tensor([0.2201, 0.5514])

    See Also:
        :func:`~raydistill.losses.ranking.relevance_cross_entropy`, over a query's own candidates;
        :func:`~raydistill.losses.scores.score_kl`, which has a teacher say how relevant the others are.

    References:
        Henderson et al., *Efficient Natural Language Response Suggestion for Smart Reply*, 2017,
        arXiv:1705.00652, section 4.4. van den Oord, Li, Vinyals, *Representation Learning with Contrastive
        Predictive Coding*, 2018, arXiv:1807.03748, section 2.3. sentence-transformers'
        ``MultipleNegativesRankingLoss``, with one relevant passage a row and scores times its ``scale``: the
        mean over rows of this.
    """
    student, target, counted = counted_scores(student_scores, relevance, mask)
    tau = checked_temperature(temperature, student)
    if student.shape[1] == 0:
        return student.flatten()  # no passage, no row: nothing to divide by, and a graph
    scores, relevant = student / tau, (target > 0) & counted
    # A row without a negative has none to be confused with; -inf throughout would be NaN in the backward pass.
    others = counted & ~relevant
    some = others.any(-1, keepdim=True)
    negatives = scores.masked_fill(~others & some, -torch.inf).logsumexp(-1, keepdim=True)
    negatives = torch.where(some, negatives, -torch.inf)
    values = torch.nn.functional.softplus(negatives - scores)  # [B, N]
    number = relevant.sum(-1)
    total = torch.where(relevant, values, 0.0).sum(-1)
    return total / torch.where(number == 0, 1, number)
