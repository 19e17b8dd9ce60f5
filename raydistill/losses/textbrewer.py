r"""TextBrewer's own reductions, where they are not ours with other options.

For comparisons with results of that library (0.2.1, Yang et al., 2020, arXiv:2002.12620), reached with
``build_loss(name, parity="textbrewer")``. What is odd about them is kept: that is what they are for.

Dimensions: ``B`` rows, ``H`` heads, ``L`` tokens, padding included, ``D`` width. Symbols: :math:`m` the
mask, :math:`n_b` the tokens of row b that count, :math:`S, T` the two sides.
"""

import torch
from torch import Tensor

from raydistill.losses.attention import attention_mse, attention_mse_sum
from raydistill.losses.gram import Layers, nst, two_layers
from raydistill.losses.hidden import pkd
from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.reduction import masked_mean
from raydistill.losses.tokens import counted_mask, num_pairs, num_tokens, pair_mask

__all__ = [
    "peer_attention_ce",
    "peer_attention_ce_mean",
    "peer_attention_mse",
    "peer_attention_mse_sum",
    "peer_nst",
    "peer_pkd",
]

_WITH_HEADS = 4
"""Dimensions of a map with heads, ``[B, H, L, L]``."""
_LEAST = -1e-3
"""Entries up to this are taken for those of padding, where there is no mask."""


def peer_pkd(student_hidden: Tensor, teacher_hidden: Tensor, _mask: Tensor | None) -> Tensor:
    r"""``pkd_loss``: the first position of every row, padding or not; the mask is not looked at.

    .. math:: \frac{1}{B} \sum_b \sum_d \Big(\frac{S_{b0d}}{\|S_{b0}\|} - \frac{T_{b0d}}{\|T_{b0}\|}\Big)^2

    Zero vectors, which are NaN there, stay zero here. ``[B, D]`` is taken as it is.
    """
    student, teacher = (
        states[:, 0] if states.dim() == 3 else states  # noqa: PLR2004 - [B, L, D]
        for states in (student_hidden, teacher_hidden)
    )
    return pkd(student, teacher).mean()


def peer_nst(student_layers: Layers, teacher_layers: Layers, mask: Tensor | None) -> Tensor:
    r"""``mmd_loss``: with a mask products are divided by the padded length, not by the width.

    .. math::
        \frac{\sum_b \sum_{ij} m_{bi} m_{bj} (G^S_{bij} - G^T_{bij})^2}{\sum_b n_b^2}, \qquad
        G_b = \frac{1}{L} X_{b0} X_{b1}^\top

    Without one it is the mean of ours: :math:`1 / D` in place of :math:`1 / L`.
    """
    if mask is None:
        return nst(student_layers, teacher_layers).mean()
    sides = []
    for layers in (student_layers, teacher_layers):
        first, second = two_layers(layers)
        sides.append(
            (at_least_float32(first) * (first.shape[2] / first.shape[1]), at_least_float32(second))
        )
    return masked_mean(nst(sides[0], sides[1], mask=mask), count=num_pairs(mask))


def peer_attention_mse(student_maps: Tensor, teacher_maps: Tensor, mask: Tensor | None) -> Tensor:
    r"""``att_mse_loss``: without a mask entries up to -0.001 are 0 on both sides.

    .. math:: \frac{1}{B H L^2} \sum_{bhij} (\tilde S_{bhij} - \tilde T_{bhij})^2, \qquad
              \tilde x = x \, [x > -0.001]

    With one it is the mean of ours over the pairs that count.
    """
    if mask is not None:
        return masked_mean(
            attention_mse(student_maps, teacher_maps, mask=mask), count=num_pairs(mask)
        )
    return attention_mse(_clipped(student_maps), _clipped(teacher_maps)).mean()


def peer_attention_mse_sum(
    student_maps: Tensor, teacher_maps: Tensor, mask: Tensor | None
) -> Tensor:
    r"""``att_mse_sum_loss``: without a mask sums over heads up to -0.001 are 0 on both sides.

    .. math:: \frac{1}{B L^2} \sum_{bij} (\tilde S_{bij} - \tilde T_{bij})^2, \qquad
              \tilde x = x \, [x > -0.001], \quad x_{bij} = \sum_h x_{bhij}

    With one it is the mean of ours over the pairs that count.
    """
    if mask is not None:
        return masked_mean(
            attention_mse_sum(student_maps, teacher_maps, mask=mask), count=num_pairs(mask)
        )
    student, teacher = (
        maps.sum(1) if maps.dim() == _WITH_HEADS else maps
        for maps in (at_least_float32(student_maps), at_least_float32(teacher_maps))
    )
    return attention_mse_sum(_clipped(student), _clipped(teacher)).mean()


def peer_attention_ce(
    student_scores: Tensor, teacher_scores: Tensor, mask: Tensor | None, **_fixed: object
) -> Tensor:
    r"""``att_ce_loss``: of scores; the softmax is over all tokens, padding too.

    .. math:: -\frac{1}{H \sum_b n_b} \sum_{bhij} m_{bi} m_{bj} \,
              \mathrm{softmax}_j(T_{bhij}) \log \mathrm{softmax}_j(S_{bhij})

    Without a mask the mean over ``B``, ``H`` and all tokens, without the tokens for which
    :math:`T_{bhij} \le -0.001`: any negative score. Probabilities go through a second softmax.
    """
    return _of_scores(student_scores, teacher_scores, mask)


def peer_attention_ce_mean(
    student_scores: Tensor, teacher_scores: Tensor, mask: Tensor | None, **_fixed: object
) -> Tensor:
    r"""``att_ce_mean_loss``: as :func:`peer_attention_ce` of scores averaged over heads.

    .. math:: -\frac{1}{\sum_b n_b} \sum_{bij} m_{bi} m_{bj} \,
              \mathrm{softmax}_j(\bar T_{bij}) \log \mathrm{softmax}_j(\bar S_{bij}), \qquad
              \bar x_{bij} = \frac{1}{H} \sum_h x_{bhij}

    Without a mask as there, the rule of -0.001 applied to the averages. ``[B, L, L]`` is taken as it is.
    """
    student, teacher = (
        maps.mean(1, keepdim=True) if maps.dim() == _WITH_HEADS else maps.unsqueeze(1)
        for maps in (at_least_float32(student_scores), at_least_float32(teacher_scores))
    )
    return _of_scores(student, teacher, mask)


def _of_scores(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over heads and tokens that ask, ``[B, H, L, L]`` -> a scalar."""
    require_same_shape(student, teacher, "Attention maps", "Use attention_ce_mean.")
    teacher = at_least_float32(teacher).detach()
    terms = teacher.softmax(-1) * at_least_float32(student).log_softmax(-1)
    if mask is None:
        return -torch.where(teacher <= _LEAST, 0.0, terms).sum(-1).mean()
    counts = counted_mask(mask, (len(student), student.shape[-1]), student.device)
    terms = torch.where(pair_mask(counts).unsqueeze(1), terms, 0.0)
    return masked_mean(-terms.sum(-1).mean(1), count=num_tokens(counts))


def _clipped(maps: Tensor) -> Tensor:
    return torch.where(maps <= _LEAST, 0.0, maps)
