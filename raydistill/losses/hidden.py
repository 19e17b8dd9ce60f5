"""How far the student's hidden states are from the teacher's: per position, not reduced.

Dimensions: ``D`` hidden width, ``...`` any number of positions (``[B]`` for one vector a row,
``[B, S]`` for one a token).
"""

from typing import Any

import torch
from torch import Tensor

from raydistill.losses.inputs import at_least_float32, require_same_shape

__all__ = ["hidden_mse"]


def hidden_mse(student_hidden: Tensor, teacher_hidden: Tensor) -> Tensor:
    r"""Mean squared error between two hidden states.

    .. math:: \ell = \frac{1}{D} \sum_d (h^S_d - h^T_d)^2

    Teaches *how* the teacher represents a token, not only what it concludes. Reads every
    coordinate: the student has to take over the teacher's scale and basis, so widths must agree and
    states of different scale need a projection in between. Reduced over a mask it is
    :math:`\sum m (S - T)^2 / (\sum m \cdot D)`.

    Args:
        student_hidden: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_hidden: Same shape; no gradient flows into it.

    Returns:
        Squared units of the states per position, ``[...]``, float32 (float64 if a side is), never
        negative, 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> hidden_mse(student, teacher)
        tensor([ 2.0000, 12.5000])

    See Also:
        :func:`raydistill.alignment.build_projection`, where widths differ.

    References:
        Jiao et al., *TinyBERT*, 2019, arXiv:1909.10351, section 3.1, formula 8. Yang et al.,
        *TextBrewer*, 2020, arXiv:2002.12620, ``hidden_mse_loss``: the same, masked or not.
    """
    require_same_shape(
        student_hidden,
        teacher_hidden,
        "Hidden states",
        "Where only the widths differ, set `projection: linear`.",
    )
    teacher = at_least_float32(teacher_hidden).detach()
    values: Tensor = _MeanSquare.apply(at_least_float32(student_hidden) - teacher)  # type: ignore[no-untyped-call]
    return values


class _MeanSquare(torch.autograd.Function):
    """Mean of squares over the last dimension, ``[..., D]`` to ``[...]``.

    It is the dearest part of matching hidden states beside the model itself; written out, it makes
    one tensor of that size forward and one backward instead of two and three.
    """

    @staticmethod
    def forward(ctx: Any, difference: Tensor) -> Tensor:
        ctx.save_for_backward(difference)
        norm: Tensor = torch.linalg.vector_norm(difference, dim=-1)
        return norm.square_().div_(difference.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        difference: Tensor = ctx.saved_tensors[0]
        return difference * (grads[0] * (2 / difference.shape[-1])).unsqueeze(-1)
