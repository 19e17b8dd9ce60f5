"""How far the student's hidden states are from the teachers': one by one, and summed over all at once.

Dimensions: ``D`` hidden width, ``N`` positions, ``...`` any number of positions (``[B]`` for one vector a row,
``[B, S]`` for one a token).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.reduction import expand_mask
from raydistill.losses.tokens import counted_mask, zero_uncounted

__all__ = ["cos", "hidden_mse", "hidden_mse_sum", "pkd", "unit_length"]

_PROJECT = "Where only the widths differ, set `projection: linear`."
_COSINE_EPS = 1e-12


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
        :func:`raydistill.alignment.build_projection`, where widths differ; :func:`cos`, which does not see
        the length.

    References:
        Romero et al., *FitNets: Hints for Thin Deep Nets*, 2014, arXiv:1412.6550, section 2.2: the hint
        loss, after a projection of the student, is :math:`D / 2` times this one. Jiao et al., *TinyBERT*,
        2019, arXiv:1909.10351, section 3.1, formula 8. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``hid_mse_loss``: the same, masked or not.
    """
    require_same_shape(
        student_hidden,
        teacher_hidden,
        "Hidden states",
        "Where only the widths differ, set `projection: linear`.",
    )
    teacher = at_least_float32(teacher_hidden).detach()
    return (at_least_float32(student_hidden) - teacher).square().mean(-1)


def cos(student_hidden: Tensor, teacher_hidden: Tensor) -> Tensor:
    r"""One minus the cosine between two hidden states.

    .. math::
        \ell = 1 - \frac{h^S \cdot h^T}{\sqrt{(\|h^S\|^2 + \epsilon)\,(\|h^T\|^2 + \epsilon)}},
        \qquad \epsilon = 10^{-12}

    Teaches the direction of a state and leaves its length free, so the teacher's scale need not be
    taken over; its basis must. Near the teacher's direction it is half the squared angle. At a zero
    vector the value is 1 and the slope steep (up to :math:`10^6`), but finite.

    Args:
        student_hidden: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_hidden: Same shape; no gradient flows into it.

    Returns:
        No unit, per position, ``[...]``, 0 to 2, float32 (float64 if a side is), 0 (to rounding)
        where both point the same way. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ.

    Example:
        >>> import torch
        >>> student = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[4.0, 3.0], [1.0, 0.0]])
        >>> cos(student, teacher).round(decimals=4)
        tensor([0.0400, 1.0000])

    See Also:
        :func:`pkd`, twice this for one vector a row; :func:`hidden_mse`, which sees the length too.

    References:
        Sanh, Debut, Chaumond, Wolf, *DistilBERT*, 2019, arXiv:1910.01108, section 2. Yang et al.,
        *TextBrewer*, 2020, arXiv:2002.12620, ``cos_loss``: the same, as is
        :func:`torch.nn.functional.cosine_embedding_loss` with the target 1, whose epsilon this is.
    """
    require_same_shape(student_hidden, teacher_hidden, "Hidden states", _PROJECT)
    student = at_least_float32(student_hidden)
    teacher = at_least_float32(teacher_hidden).detach()
    squares = student.square().sum(-1), teacher.square().sum(-1)
    # Two roots, not one of the product, which overflows sooner.
    lengths = (squares[0] + _COSINE_EPS).sqrt() * (squares[1] + _COSINE_EPS).sqrt()
    return 1 - (student * teacher).sum(-1) / lengths


def pkd(student_hidden: Tensor, teacher_hidden: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Squared distance between two vectors of length 1, one a row.

    .. math::
        \ell = \sum_d \Big(\frac{h^S_d}{\|h^S\|} - \frac{h^T_d}{\|h^T\|}\Big)^2
             = 2 - 2 \cos(h^S, h^T)

    For the vector that stands for a row, as the first token does in BERT: how a text is summed up,
    layer after layer, without the lengths, which differ between layers by more than what is said.
    Of states of all tokens the first that counts is taken, so padding on the left does no harm. A zero
    vector stays zero: the value is then 1, the gradient finite.

    Args:
        student_hidden: Vectors ``[B, D]``, or states of all tokens ``[B, L, D]``; any floating dtype,
            after the projection if there is one.
        teacher_hidden: Same shape; no gradient flows into it.
        mask: Bool, True = counts: ``[B]`` for vectors, ``[B, L]`` for states; what is left out is not
            read, NaN included. None: all count.

    Returns:
        No unit, per row, ``[B]``, 0 to 4, float32 (float64 if a side is), 0 (to rounding) where both
        point the same way and in rows where nothing counts; of rows of no length and no mask, ``[0]``.
        Not reduced: the mean is over rows with a token that counts.

    Raises:
        SignalError: the two shapes differ, are neither of the two kinds, or the mask is not bool or
            does not fit.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[3.0, 4.0], [9.0, 9.0]], [[1.0, 0.0], [1.0, 2.0]]])
        >>> teacher = torch.tensor([[[8.0, 6.0], [0.0, 1.0]], [[0.0, 1.0], [2.0, 4.0]]])
        >>> pkd(student, teacher).round(decimals=4)
        tensor([0.0800, 2.0000])
        >>> pkd(student, teacher, mask=torch.tensor([[True, True], [False, True]])).round(
        ...     decimals=4
        ... )
        tensor([0.0800, 0.0000])

    See Also:
        :func:`cos`, half of it for every token.

    References:
        Sun, Cheng, Gan, Liu, *Patient Knowledge Distillation for BERT Model Compression*, EMNLP 2019,
        arXiv:1908.09355, section 3.2 (summed over rows and layers there). Yang et al., *TextBrewer*,
        2020, arXiv:2002.12620, ``pkd_loss``: always the first position, whatever the mask; see
        :func:`~raydistill.losses.textbrewer.peer_pkd`.
    """
    require_same_shape(student_hidden, teacher_hidden, "Hidden states", _PROJECT)
    student, teacher = _one_a_row(student_hidden, mask), _one_a_row(teacher_hidden.detach(), mask)
    return (unit_length(student) - unit_length(teacher)).square().sum(-1)


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors, ``[..., D]``, divided by their length; a zero vector stays, with a finite gradient."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(lengths > 0, lengths, 1.0)


def _one_a_row(states: Tensor, mask: Tensor | None) -> Tensor:
    """The first vector that counts of every row, ``[B, D]``; 0 where none does."""
    if states.dim() not in (2, 3):
        raise SignalError(
            "Hidden states must be vectors [rows, width] or states [rows, tokens, width], "
            f"got {list(states.shape)}."
        )
    counts = counted_mask(mask, states.shape[:-1], states.device)
    if states.dim() == 2:  # noqa: PLR2004 - [B, D]
        return zero_uncounted(states, counts)
    if states.shape[1] == 0:  # no first token to be found
        nothing = at_least_float32(states).sum(1)  # [B, 0, D] -> [B, D], zeros
        return nothing[:0] if mask is None else nothing
    first = counts.int().argmax(1)  # of equal ones the first
    vectors = states[torch.arange(len(states), device=states.device), first]
    return zero_uncounted(vectors, counts.any(1))


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
