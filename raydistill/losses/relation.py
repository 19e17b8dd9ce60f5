r"""How tokens are related to each other on the two sides, as distributions.

Dimensions: ``B`` rows, ``L`` tokens, ``D_S`` and ``D_T`` the widths of the sides, ``A`` relation heads.
"""

import math

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.tokens import counted_mask, zero_uncounted

__all__ = ["relation_kl"]


def relation_kl(
    student_states: Tensor,
    teacher_states: Tensor,
    *,
    relation_heads: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Divergence between relations of tokens with tokens, one value a token.

    .. math::
        \ell_i = \frac{1}{A} \sum_a \sum_j R^T_{aij} (\log R^T_{aij} - \log R^S_{aij}), \qquad
        R_{aij} = \mathrm{softmax}_j \Big(\frac{x_{ai} \cdot x_{aj}}{\sqrt{D / A}}\Big)

    with :math:`x_{ai}` the :math:`a`-th of :math:`A` equal parts of token :math:`i`'s vector.
    Which tokens a token is near to, by each side's own coordinates: no basis is taken over, and no
    projection is needed, whatever the widths. For queries, keys or values of an attention layer, as
    in MiniLMv2, or hidden states. A softmax sees differences of products: for states of large norm
    a token's product with itself takes all of it, and there is nothing left to learn; more heads, or
    normalised states, soften it.

    Args:
        student_states: ``[B, L, D_S]``, any floating dtype.
        teacher_states: ``[B, L, D_T]``; no gradient flows into it.
        relation_heads: :math:`A \ge 1`, into how many parts vectors are cut; divides both widths.
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included, and takes no
            part in the softmax. None: all count.

    Returns:
        Nats per token, ``[B, L]``, float32 (float64 if a side is), never negative (to rounding), 0 where
        both agree and where the token does not count. Not reduced: the mean is over the tokens that
        count.

    Raises:
        SignalError: rows or tokens that differ, a width that ``relation_heads`` does not divide, or a
            mask that is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[[0.0], [0.0]]])
        >>> teacher = torch.tensor([[[0.0], [1.0]]])
        >>> relation_kl(student, teacher).round(decimals=4)
        tensor([[0.0000, 0.1109]])

    See Also:
        :func:`~raydistill.losses.gram.nst`, the products themselves.

    References:
        Wang, Bao, Huang, Dong, Wei, *MiniLMv2*, 2021, arXiv:2012.15828, section 3.1; with the values of
        attention and as many parts as attention heads, the value relation of Wang et al., *MiniLM*,
        2020, arXiv:2002.10957, section 3.2.
    """
    if (
        student_states.dim() != 3  # noqa: PLR2004 - [B, L, D]
        or teacher_states.dim() != 3  # noqa: PLR2004 - likewise
        or student_states.shape[:2] != teacher_states.shape[:2]
    ):
        raise SignalError(
            "States of student and teacher must be [rows, tokens, width] with the same rows and tokens, "
            f"got {list(student_states.shape)} and {list(teacher_states.shape)}. Both sides must "
            "tokenize alike."
        )
    counts = counted_mask(mask, student_states.shape[:2], student_states.device)
    log_q = _log_relations(student_states, counts, relation_heads)  # [B, A, L, L]
    log_p = _log_relations(teacher_states.detach(), counts, relation_heads)
    p = log_p.exp()
    values = torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1).mean(1)
    return torch.where(counts, values, 0.0)


def _log_relations(states: Tensor, counts: Tensor, heads: int) -> Tensor:
    """Logarithms of relations to the tokens that count, ``[B, A, L, L]``."""
    width = states.shape[-1]
    if heads < 1 or width % heads:
        raise SignalError(
            f"relation_heads must divide the widths of student and teacher, got {heads} for {width}."
        )
    parts = (
        zero_uncounted(states, counts).reshape(*counts.shape, heads, width // heads).transpose(1, 2)
    )
    products = parts @ parts.transpose(-1, -2) / math.sqrt(width // heads)
    ignored = ~counts[:, None, None, :]
    # The least number, not -inf: in a row where nothing counts a softmax of -inf is NaN.
    return products.masked_fill(ignored, torch.finfo(products.dtype).min).log_softmax(-1)
