r"""From embeddings of a query and its candidates to scores, which losses on scores compare.

Dimensions: ``B`` rows (a query each), ``N`` candidates of a row, ``D`` width of an embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from raydistill.config.ranking import Similarity
from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32
from raydistill.losses.reduction import expand_mask

__all__ = ["SIMILARITIES", "PairScorer", "similarity"]

SIMILARITIES = ("dot", "cos", "euclidean", "manhattan")
"""How alike two embeddings are; larger is more alike."""


def similarity(
    query: Tensor, candidates: Tensor, kind: str = "dot", *, mask: Tensor | None = None
) -> Tensor:
    r"""How alike a query and each of its own candidates are.

    .. math::
        \texttt{dot}: \; \sum_d q_d c_d \qquad
        \texttt{cos}: \; \frac{\sum_d q_d c_d}{\|q\|_2 \, \|c\|_2} \qquad
        \texttt{euclidean}: \; -\|q - c\|_2 \qquad
        \texttt{manhattan}: \; -\|q - c\|_1

    Larger is more alike, distances being negative, so that a softmax or an order of them means the same
    for all four. A cosine lies within -1 and 1: as the student's side of
    :func:`~raydistill.losses.scores.score_kl` it needs a temperature of a few hundredths, or its
    softmax stays flat.

    Args:
        query: ``[B, D]``, any floating dtype.
        candidates: ``[B, N, D]``; each query is compared with its own row only.
        kind: ``"dot"``, ``"cos"``, ``"euclidean"`` or ``"manhattan"``.
        mask: Bool, ``[B, N]``, True = counts. Other candidates are not read, NaN included. None: all count.

    Returns:
        ``[B, N]``, float32 (float64 if a side is), with gradients into both; 0 where a candidate does
        not count. At distance 0 the gradient of a distance is 0.

    Raises:
        ValueError: ``kind`` is not known.
        SignalError: shapes do not fit, or the mask is not bool or does not fit.

    Example:
        >>> query = torch.tensor([[1.0, 0.0]])
        >>> candidates = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
        >>> similarity(query, candidates)
        tensor([[2., 0.]])
        >>> similarity(query, candidates, "manhattan")
        tensor([[-1., -2.]])

    See Also:
        :func:`~raydistill.losses.scores.score_kl`, :func:`~raydistill.losses.scores.margin_mse`.

    References:
        sentence-transformers' ``pairwise_dot_score``, ``pairwise_cos_sim``, ``pairwise_euclidean_sim`` and
        ``pairwise_manhattan_sim``, of a query and one column of candidates each.
    """
    if kind not in SIMILARITIES:
        raise ValueError(f"kind must be one of {', '.join(SIMILARITIES)}, got {kind!r}.")
    if query.dim() != 2 or candidates.dim() != 3 or query.shape != candidates.shape[::2]:  # noqa: PLR2004
        raise SignalError(
            "query and candidates must be [B, D] and [B, N, D], "
            f"got {list(query.shape)} and {list(candidates.shape)}."
        )
    own = at_least_float32(query).unsqueeze(1)  # [B, D] -> [B, 1, D]
    others = at_least_float32(candidates)
    counted = None if mask is None else expand_mask(mask, others.shape[:2])
    if counted is not None:
        others = torch.where(counted.unsqueeze(-1), others, 0.0)
    if kind == "cos":
        own, others = normalize(own, dim=-1), normalize(others, dim=-1)
    if kind in {"dot", "cos"}:
        scores = (own * others).sum(-1)  # [B, N, D] -> [B, N]
    else:
        order = 2 if kind == "euclidean" else 1
        scores = -torch.linalg.vector_norm(own - others, ord=order, dim=-1)
    return scores if counted is None else torch.where(counted, scores, 0.0)


@dataclass(frozen=True)
class PairScorer:
    """From embeddings of queries and passages to scores, as one model has them.

    Attributes:
        similarity: How they are compared.
        scale: Multiplies it.

    Example:
        >>> queries, passages = torch.eye(2), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> PairScorer("cosine").pairs(queries, passages)
        tensor([0.6000, 1.0000])
        >>> PairScorer("dot", 2.0).matrix(queries, passages)
        tensor([[6., 0.],
                [8., 2.]])
    """

    similarity: Similarity
    scale: float = 1.0

    def pairs(self, queries: Tensor, passages: Tensor) -> Tensor:
        """Each query with its own passage, ``[R, D]`` twice to ``[R]``."""
        kind = "cos" if self.similarity == "cosine" else "dot"
        return self.scale * similarity(queries, passages.unsqueeze(1), kind).squeeze(1)

    def matrix(self, queries: Tensor, passages: Tensor) -> Tensor:
        """Each query with each passage, ``[Q, D]`` and ``[P, D]`` to ``[Q, P]``."""
        return self.products(self.as_compared(queries), self.as_compared(passages))

    def as_compared(self, embeddings: Tensor) -> Tensor:
        """Embeddings as products take them, ``[N, D]``: of length 1 for a cosine."""
        wide = at_least_float32(embeddings)
        return normalize(wide, dim=-1) if self.similarity == "cosine" else wide

    def products(self, queries: Tensor, passages: Tensor) -> Tensor:
        """As :meth:`matrix`, of what :meth:`as_compared` gave: many queries share its work on passages."""
        scores: Tensor = self.scale * (queries @ passages.T)
        return scores
