r"""One of the student's layers against a mixture of all of the teacher's.

Dimensions: ``N`` layers of the teacher, ``D`` width, ``...`` any number of positions.
"""

import math

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32

__all__ = ["layer_attention"]


def layer_attention(student_hidden: Tensor, teacher_layers: Tensor) -> Tensor:
    r"""Mean squared error between a student's state and a mixture of all the teacher's layers.

    .. math::
        \ell = \frac{1}{D} \sum_d \Big(h^S_d - \sum_n a_n h^{T_n}_d\Big)^2, \qquad
        a = \mathrm{softmax}_n\Big(\frac{h^S \cdot h^{T_n}}{\sqrt{D}}\Big)

    No pairs of layers have to be chosen, and no layer of the teacher is skipped: a student's state
    attends to the layers of the same position that it is like already. The gradient flows through the
    weights too, so a state can also come closer by looking elsewhere; with layers of very different
    norm the one of largest norm takes all the weight.

    Args:
        student_hidden: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_layers: ``[..., N, D]``, all layers of the same position; no gradient flows into it.

    Returns:
        Squared units of the states per position, ``[...]``, float32 (float64 if a side is), never
        negative, 0 where the mixture is the student's state. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the teacher's shape is not the student's with one more dimension of layers, or there
            is no layer.

    Example:
        >>> student = torch.tensor([1.0])
        >>> teacher = torch.tensor([[0.0], [math.log(3.0)]])
        >>> layer_attention(student, teacher).round(decimals=4)  # weights 1/4 and 3/4
        tensor(0.0310)

    See Also:
        :func:`~raydistill.losses.hidden.hidden_mse`, one layer with one.

    References:
        Passban, Wu, Rezagholizadeh, Liu, *ALP-KD: Attention-Based Layer Projection for Knowledge
        Distillation*, AAAI 2021, arXiv:2012.14022. Products are divided by the root of the
        width, as in attention; layers are not put into buckets first.
    """
    shape = student_hidden.shape
    if (
        teacher_layers.dim() != len(shape) + 1
        or teacher_layers.shape[:-2] != shape[:-1]
        or teacher_layers.shape[-1] != shape[-1]
        or teacher_layers.shape[-2] == 0
    ):
        raise SignalError(
            "Layers of the teacher must be the student's positions × layers × width, "
            f"{[*shape[:-1], 'N', shape[-1]]}, got {list(teacher_layers.shape)}. Where only the widths "
            "differ, set `projection: linear`."
        )
    student = at_least_float32(student_hidden)
    layers = at_least_float32(teacher_layers).detach()
    products = (student.unsqueeze(-2) * layers).sum(-1)  # [..., N]
    weights = torch.softmax(products / math.sqrt(shape[-1]), dim=-1)
    mixture = (weights.unsqueeze(-1) * layers).sum(-2)  # [..., D]
    return (student - mixture).square().mean(-1)
