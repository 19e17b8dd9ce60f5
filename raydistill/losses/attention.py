r"""How far the student's attention maps are from the teachers': per pair of tokens, or per token that asks.

Dimensions: ``B`` rows, ``H`` heads, ``L`` tokens; of a map ``[..., L, L]`` a line is a token that asks and
sums to 1 over the tokens it asks. Symbols: :math:`A` a map, :math:`i` the token that asks, :math:`j` the
one that is asked.

Maps are probabilities, as Hugging Face returns them. Cut to the tokens that count they are not
normalised again: what a model gives to padding (nothing, if it was told of it) is left out.
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.tokens import counted_mask, pair_mask

__all__ = [
    "FLOOR",
    "attention_ce",
    "attention_ce_mean",
    "attention_mse",
    "attention_mse_sum",
]

FLOOR = 1e-9
"""Least probability of which a logarithm is taken: no pair costs more than 20.7 nats."""
_SAME_HEADS = "Where the numbers of heads differ, use attention_mse_sum or attention_ce_mean."


def attention_mse(
    student_maps: Tensor, teacher_maps: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    r"""Mean over heads of the squared difference of two attention maps, one value a pair of tokens.

    .. math:: \ell_{ij} = \frac{1}{H} \sum_h (A^S_{hij} - A^T_{hij})^2

    Head by head: head 3 of the student has to do what head 3 of the teacher does, so the numbers of
    heads must agree. Probabilities of long rows are small and their squares smaller: a mean over the
    pairs falls with the length, and the weight of this term has to be large. Scores will do as well
    as probabilities; TinyBERT takes them.

    Args:
        student_maps: ``[B, H, L, L]``, any floating dtype.
        teacher_maps: Same shape; no gradient flows into it.
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Squared units of the maps, per pair of tokens, ``[B, L, L]``, float32 (float64 if a side is),
        never negative, 0 where both agree and where a token of the pair does not count. Not reduced:
        the mean is over the pairs that count.

    Raises:
        SignalError: shapes that differ or are no maps, or a mask that is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
        >>> teacher = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]])
        >>> attention_mse(student, teacher)
        tensor([[[0.2500, 0.2500],
                 [0.0000, 0.0000]]])

    See Also:
        :func:`attention_mse_sum`, for any number of heads; :func:`attention_ce`, for probabilities.

    References:
        Jiao et al., *TinyBERT*, 2019, arXiv:1909.10351, section 3.1, formula 7 (on scores). Yang et al.,
        *TextBrewer*, 2020, arXiv:2002.12620, ``att_mse_loss``: the same with a mask; without one it
        drops negative entries, see :func:`~raydistill.losses.textbrewer.peer_attention_mse`.
    """
    require_same_shape(student_maps, teacher_maps, "Attention maps", _SAME_HEADS)
    student, teacher, _ = _counted(student_maps, teacher_maps, mask, with_heads=True)
    return (student - teacher).square().mean(1)  # [B, H, L, L] -> [B, L, L]


def attention_mse_sum(
    student_maps: Tensor, teacher_maps: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    r"""Squared difference of two attention maps, each summed over its heads, one value a pair of tokens.

    .. math:: \ell_{ij} = \Big(\sum_h A^S_{hij} - \sum_h A^T_{hij}\Big)^2

    What all heads together look at, whichever head does it. The numbers of heads may differ; the sums
    of probabilities are then of different size (a line sums to H), which no student can mend:
    for probabilities :func:`attention_ce_mean` is the better one there.

    Args:
        student_maps: ``[B, H_S, L, L]``, or ``[B, L, L]``: summed already; any floating dtype.
        teacher_maps: ``[B, H_T, L, L]`` or ``[B, L, L]``; no gradient flows into it.
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Squared units of the maps, per pair of tokens, ``[B, L, L]``, float32 (float64 if a side is),
        never negative, 0 where both agree and where a token of the pair does not count. Not reduced:
        the mean is over the pairs that count.

    Raises:
        SignalError: rows or tokens that differ, shapes that are no maps, or a mask that is not bool or
            does not fit.

    Example:
        >>> student = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]])
        >>> teacher = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
        >>> attention_mse_sum(student, teacher)
        tensor([[[1., 1.],
                 [0., 0.]]])

    See Also:
        :func:`attention_mse`, head by head.

    References:
        Yang et al., *TextBrewer*, 2020, arXiv:2002.12620, ``att_mse_sum_loss``: the same with a mask;
        without one see :func:`~raydistill.losses.textbrewer.peer_attention_mse_sum`.
    """
    student, teacher, _ = _counted(student_maps, teacher_maps, mask)
    one = student.sum(1) if student.dim() == 4 else student  # noqa: PLR2004 - [B, H, L, L]
    other = teacher.sum(1) if teacher.dim() == 4 else teacher  # noqa: PLR2004 - likewise
    return (one - other).square()


def attention_ce(
    student_maps: Tensor,
    teacher_maps: Tensor,
    *,
    scores: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Mean over heads of the cross-entropy of two attention maps, one value a token that asks.

    .. math:: \ell_i = -\frac{1}{H} \sum_h \sum_j A^T_{hij} \log \max(A^S_{hij}, 10^{-9})

    Head by head, and as a distribution: a student that never looks where the teacher does pays for
    it, however long the row. Its least value is the teacher's entropy, so it does not reach 0. With
    ``scores=True`` both sides are scores, and :math:`A` is their softmax over the tokens that count;
    then no floor is needed, and a student whose probability is 0 in its own precision still learns.

    Args:
        student_maps: ``[B, H, L, L]``, probabilities, or scores with ``scores=True``; any floating
            dtype.
        teacher_maps: Same shape; no gradient flows into it.
        scores: Whether both sides are scores before the softmax (``-inf`` for what is never asked).
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Nats per token that asks, ``[B, L]``, float32 (float64 if a side is), never negative for
        probabilities, 0 where the token does not count. Not reduced: the mean is over the tokens that
        count.

    Raises:
        SignalError: shapes that differ or are no maps, or a mask that is not bool or does not fit.

    Example:
        >>> student = torch.tensor([[[[0.8, 0.2], [0.5, 0.5]]]])
        >>> teacher = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]])
        >>> attention_ce(student, teacher).round(decimals=4)
        tensor([[0.9163, 0.6931]])

    See Also:
        :func:`attention_ce_mean`, for any number of heads.

    References:
        Wang et al., *MiniLM*, 2020, arXiv:2002.10957, section 3.1 (as a divergence: same gradient). Yang
        et al., *TextBrewer*, 2020, arXiv:2002.12620, ``att_ce_loss``: on scores, with a softmax over
        padding too, see :func:`~raydistill.losses.textbrewer.peer_attention_ce`.
    """
    require_same_shape(student_maps, teacher_maps, "Attention maps", _SAME_HEADS)
    student, teacher, counts = _counted(student_maps, teacher_maps, mask, with_heads=True)
    return _cross_entropy(student, teacher, counts.unsqueeze(1), scores).mean(1)  # -> [B, L]


def attention_ce_mean(
    student_maps: Tensor,
    teacher_maps: Tensor,
    *,
    scores: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of two attention maps, each averaged over its heads, one value a token that asks.

    .. math::
        \ell_i = -\sum_j \bar A^T_{ij} \log \max(\bar A^S_{ij}, 10^{-9}), \qquad
        \bar A_{ij} = \frac{1}{H} \sum_h A_{hij}

    Where a token looks, whichever head does it; the numbers of heads may differ. Its least value is
    the teacher's entropy. With ``scores=True`` the scores are averaged, and :math:`\bar A` is the
    softmax of the mean over the tokens that count.

    Args:
        student_maps: ``[B, H_S, L, L]``, or ``[B, L, L]``: averaged already; probabilities, or scores
            with ``scores=True``; any floating dtype.
        teacher_maps: ``[B, H_T, L, L]`` or ``[B, L, L]``, likewise; no gradient flows into it.
        scores: Whether both sides are scores before the softmax (``-inf`` for what is never asked).
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Nats per token that asks, ``[B, L]``, float32 (float64 if a side is), never negative for
        probabilities, 0 where the token does not count. Not reduced: the mean is over the tokens that
        count.

    Raises:
        SignalError: rows or tokens that differ, shapes that are no maps, or a mask that is not bool or
            does not fit.

    Example:
        >>> student = torch.tensor([[[[1.0, 0.0], [0.8, 0.2]], [[0.0, 1.0], [0.2, 0.8]]]])
        >>> teacher = torch.tensor([[[0.3, 0.7], [1.0, 0.0]]])
        >>> attention_ce_mean(student, teacher).round(decimals=4)
        tensor([[0.6931, 0.6931]])

    See Also:
        :func:`attention_ce`, head by head.

    References:
        Yang et al., *TextBrewer*, 2020, arXiv:2002.12620, ``att_ce_mean_loss``: on scores, see
        :func:`~raydistill.losses.textbrewer.peer_attention_ce_mean`.
    """
    student, teacher, counts = _counted(student_maps, teacher_maps, mask)
    one = student.mean(1) if student.dim() == 4 else student  # noqa: PLR2004 - [B, H, L, L]
    other = teacher.mean(1) if teacher.dim() == 4 else teacher  # noqa: PLR2004 - likewise
    return _cross_entropy(one, other, counts, scores)


def _counted(
    student: Tensor, teacher: Tensor, mask: Tensor | None, *, with_heads: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides, 0 for pairs that do not count, and the tokens that do, ``[B, L]``."""
    for maps in (student, teacher):
        if maps.dim() not in ((4,) if with_heads else (3, 4)) or maps.shape[-1] != maps.shape[-2]:
            shape = "[rows, heads, tokens, tokens]"
            also = "" if with_heads else ", or without heads"
            raise SignalError(f"Attention maps must be {shape}{also}, got {list(maps.shape)}.")
    if (student.shape[0], student.shape[-1]) != (teacher.shape[0], teacher.shape[-1]):
        raise SignalError(
            "Attention maps of student and teacher must have the same rows and tokens, got "
            f"{list(student.shape)} and {list(teacher.shape)}. Both sides must tokenize alike."
        )
    counts = counted_mask(mask, (student.shape[0], student.shape[-1]), student.device)
    pairs = pair_mask(counts)
    sides = [
        torch.where(pairs.unsqueeze(1) if maps.dim() == 4 else pairs, at_least_float32(maps), 0.0)  # noqa: PLR2004
        for maps in (student, teacher.detach())
    ]
    return sides[0], sides[1], counts


def _cross_entropy(student: Tensor, teacher: Tensor, counts: Tensor, scores: bool) -> Tensor:
    """Over the tokens that are asked, ``[..., L, L]`` -> ``[..., L]``; ``counts`` is ``[..., L]``."""
    if scores:
        ignored = ~counts.unsqueeze(-2)  # as tokens that are asked
        # The least number, not -inf: in a row where nothing counts a softmax of -inf is NaN.
        log_q = student.masked_fill(ignored, torch.finfo(student.dtype).min).log_softmax(-1)
        p = teacher.masked_fill(ignored, torch.finfo(teacher.dtype).min).softmax(-1)
    else:
        log_q, p = student.clamp(min=FLOOR).log(), teacher
    values = -torch.where(p == 0, 0.0, p * log_q).sum(-1)
    return torch.where(counts, values, 0.0)
