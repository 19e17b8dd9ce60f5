r"""What flows from one layer to the next: products of two layers' states, compared between the sides.

Dimensions: ``B`` rows, ``L`` tokens, ``D`` and ``D'`` the widths of the two layers.
Symbols: :math:`X_0, X_1` the states of a row in the two layers, a token a line, and :math:`n` its
number of tokens that count.
"""

from collections.abc import Sequence

from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import require_same_shape
from raydistill.losses.tokens import counted_mask, zero_uncounted

__all__ = ["Layers", "fsp", "nst", "two_layers"]

Layers = Tensor | Sequence[Tensor]
"""The states of two layers; a single tensor stands for both."""


def fsp(student_layers: Layers, teacher_layers: Layers, *, mask: Tensor | None = None) -> Tensor:
    r"""Mean squared error between the flow matrices of two layers, one value a row.

    .. math::
        \ell = \frac{1}{D D'} \sum_{d, d'} (G^S_{dd'} - G^T_{dd'})^2, \qquad
        G = \frac{1}{n} X_0^\top X_1

    How coordinates of one layer go with coordinates of another, summed over the tokens: what the
    layers between the two do, not what they say at one place. The order of tokens is not seen, and
    rows may be of any length; coordinates are seen, so widths must agree, layer by layer, and a
    projection of the student goes before. Of fourth order in the states: where their scale is far
    from 1, the weight of this term has to make up for it.

    Args:
        student_layers: Two tensors, ``[B, L, D]`` and ``[B, L, D']``, any floating dtype, after the
            projection if there is one; a single tensor stands for both.
        teacher_layers: Same shapes; no gradient flows into them.
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Fourth power of the states' unit, per row, ``[B]``, float32 (float64 if a side is), never
        negative, 0 where both agree and in rows without a token; of rows of no length and no mask,
        ``[0]``. Not reduced: the mean is over rows that have a token.

    Raises:
        SignalError: not two layers, shapes that differ, or a mask that is not bool or does not fit.

    Example:
        >>> import torch
        >>> student = [torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]])]
        >>> teacher = [torch.tensor([[[1.0], [1.0]]]), torch.tensor([[[3.0], [4.0]]])]
        >>> fsp(student, teacher)
        tensor([4.])

    See Also:
        :func:`nst`, products of tokens, where widths may differ.

    References:
        Yim, Joo, Bae, Kim, *A Gift from Knowledge Distillation*, CVPR 2017, section 3.2 (there over the
        pixels of feature maps, with a sum of squares). Yang et al., *TextBrewer*, 2020,
        arXiv:2002.12620, ``fsp_loss``: the same, masked or not, where every row has a token.
    """
    student, teacher = two_layers(student_layers), two_layers(teacher_layers)
    for ours, others in zip(student, teacher, strict=True):
        require_same_shape(
            ours,
            others,
            "Hidden states",
            "Where only the widths differ, set `projection: linear`, or use nst.",
        )
    counts = counted_mask(mask, student[0].shape[:2], student[0].device)
    difference = _flow(student, counts) - _flow(_detached(teacher), counts)  # [B, D, D']
    values = difference.square().mean((1, 2))
    # A row of no length has no token, and without a mask every value stands for a row that has.
    return values[:0] if mask is None and counts.shape[1] == 0 else values


def nst(student_layers: Layers, teacher_layers: Layers, *, mask: Tensor | None = None) -> Tensor:
    r"""Squared difference between products of tokens with tokens, one value a pair of tokens.

    .. math::
        \ell_{ij} = (G^S_{ij} - G^T_{ij})^2, \qquad G = \frac{1}{D} X_0 X_1^\top

    Which tokens are alike, by each side's own coordinates: no basis is taken over, and no projection
    is needed, whatever the widths. With one layer for both it is the Gram matrix of the row's
    tokens. The scale of the states is seen, in fourth order: states of a student and a teacher that
    differ in scale differ in every product.

    Args:
        student_layers: Two tensors, ``[B, L, D_S]``, any floating dtype; a single tensor stands for
            both.
        teacher_layers: Two, ``[B, L, D_T]``, or one; no gradient flows into them.
        mask: Bool, ``[B, L]``, True = counts; what is left out is not read, NaN included. None: all
            count.

    Returns:
        Fourth power of the states' unit, per pair of tokens, ``[B, L, L]``, float32 (float64 if a side
        is), never negative, 0 where both agree and where a token of the pair does not count. Not
        reduced: the mean is over the pairs that count.

    Raises:
        SignalError: not two layers, rows or tokens that differ in number, widths of one side's layers
            that differ, or a mask that is not bool or does not fit.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[1.0], [2.0]]])
        >>> teacher = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
        >>> nst(student, teacher)
        tensor([[[0., 1.],
                 [1., 9.]]])

    See Also:
        :func:`~raydistill.losses.relation.relation_kl`, products through a softmax;
        :func:`fsp`, products of coordinates.

    References:
        Huang, Wang, *Like What You Like: Knowledge Distill via Neuron Selectivity Transfer*, 2017,
        arXiv:1707.01219, section 4, with the polynomial kernel; there neurons are compared over
        places, here tokens over coordinates, and states are not normalised. Yang et al., *TextBrewer*,
        2020, arXiv:2002.12620, ``mmd_loss``: the same without a mask; with one, see
        :func:`~raydistill.losses.textbrewer.peer_nst`.
    """
    student, teacher = two_layers(student_layers), two_layers(teacher_layers)
    if student[0].shape[:2] != teacher[0].shape[:2]:
        raise SignalError(
            "Hidden states of student and teacher must have the same rows and tokens, got "
            f"{list(student[0].shape)} and {list(teacher[0].shape)}. Both sides must tokenize alike."
        )
    counts = counted_mask(mask, student[0].shape[:2], student[0].device)
    return (_products(student, counts) - _products(_detached(teacher), counts)).square()


def two_layers(layers: Layers) -> tuple[Tensor, Tensor]:
    """The two layers of one side.

    Raises:
        SignalError: there are not two, or their rows and tokens differ.
    """
    first, *rest = (layers, layers) if isinstance(layers, Tensor) else layers
    if len(rest) != 1 or first.dim() != 3 or rest[0].dim() != 3:  # noqa: PLR2004 - [B, L, D]
        shapes = [list(layer.shape) for layer in (first, *rest)]
        raise SignalError(f"layers must be one or two tensors [rows, tokens, width], got {shapes}.")
    if first.shape[:2] != rest[0].shape[:2]:
        raise SignalError(
            "layers of one side must have the same rows and tokens, got "
            f"{list(first.shape)} and {list(rest[0].shape)}."
        )
    return first, rest[0]


def _detached(layers: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return layers[0].detach(), layers[1].detach()


def _flow(layers: tuple[Tensor, Tensor], counts: Tensor) -> Tensor:
    """Products of coordinates over the tokens that count, ``[B, D, D']``."""
    first, second = (zero_uncounted(layer, counts) for layer in layers)
    num_counted = counts.sum(1).clamp(min=1).view(-1, 1, 1)
    return first.transpose(1, 2) @ second / num_counted


def _products(layers: tuple[Tensor, Tensor], counts: Tensor) -> Tensor:
    """Products of tokens over the coordinates, ``[B, L, L]``."""
    if layers[0].shape != layers[1].shape:
        raise SignalError(
            "layers of one side must have the same width, got "
            f"{list(layers[0].shape)} and {list(layers[1].shape)}."
        )
    first, second = (zero_uncounted(layer, counts) for layer in layers)
    return first @ second.transpose(1, 2) / first.shape[2]
