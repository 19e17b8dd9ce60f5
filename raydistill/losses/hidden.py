"""How far the student's hidden states are from the teachers': per position, and summed over all at once.

Dimensions: ``D`` hidden width, ``N`` positions, ``...`` any number of positions (``[B]`` for one vector a row,
``[B, S]`` for one a token).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.reduction import expand_mask

__all__ = ["hidden_mse", "hidden_mse_sum"]


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
    return (at_least_float32(student_hidden) - teacher).square().mean(-1)


def hidden_mse_sum(
    student_hidden: Tensor,
    teacher_hidden: Sequence[Tensor],
    weights: Sequence[float],
    mask: Tensor | None = None,
) -> Tensor:
    r"""Weighted sum of `hidden_mse` over several teachers and the positions that count.

    .. math:: \sum_k w_k \sum_i m_i \frac{1}{D} \sum_d (h^S_{id} - h^{T_k}_{id})^2

    The same as summing :func:`hidden_mse`, but matching hidden states is the dearest part of a step
    beside the model itself: here all teachers of one layer share one pass over the student's
    states, and one tensor of their size is kept for the backward pass instead of one a teacher.

    Args:
        student_hidden: ``[N, D]``, any floating dtype, after the projection if there is one.
        teacher_hidden: Same shape each, any floating dtype; no gradient flows into them.
        weights: One a teacher.
        mask: Bool, ``[N]``, True = counts; what is left out is not read, NaN included. None: all count.

    Returns:
        Squared units of the states, a scalar, float32 (float64 if the student's is).

    Raises:
        SignalError: two shapes differ, or the mask is not bool or does not fit.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> hidden_mse_sum(student, [teacher, student], [0.5, 2.0])
        tensor(7.2500)

    References:
        As :func:`hidden_mse`.
    """
    for teacher in teacher_hidden:
        require_same_shape(
            student_hidden,
            teacher,
            "Hidden states",
            "Where only the widths differ, set `projection: linear`.",
        )
    if mask is not None:
        mask = expand_mask(mask, student_hidden.shape[:1])
    total: Tensor = _WeightedSquares.apply(  # type: ignore[no-untyped-call]
        at_least_float32(student_hidden), mask, tuple(weights), *teacher_hidden
    )
    return total


class _WeightedSquares(torch.autograd.Function):
    """Forward, the slopes of all teachers are added into one tensor, which is all that backward needs."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        mask: Tensor | None,
        weights: tuple[float, ...],
        *teachers: Tensor,
    ) -> Tensor:
        if mask is not None and not mask.is_cuda and mask.all():
            mask = None
        total = student.new_zeros(())
        slopes = torch.zeros_like(student) if ctx.needs_input_grad[0] else None
        for weight, teacher in zip(weights, teachers, strict=True):
            difference = student - teacher
            if mask is not None:
                difference.masked_fill_(~mask.unsqueeze(-1), 0.0)
            total += weight * torch.linalg.vector_norm(difference, dim=1).square_().sum()
            if slopes is not None:
                slopes.add_(difference, alpha=weight)
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return total.div_(student.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        others = [None] * (len(ctx.needs_input_grad) - 1)
        return slopes * (grads[0] * (2 / slopes.shape[1])), *others
