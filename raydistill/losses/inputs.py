"""What every loss does with its arguments before the formula: precision and shapes."""

import torch
from torch import Tensor

from raydistill.errors import SignalError

__all__ = ["at_least_float32", "require_same_shape"]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays, so that gradients can be checked in it.

    Example:
        >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
        >>> at_least_float32(torch.ones(1, dtype=torch.float64)).dtype
        torch.float64
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def require_same_shape(student: Tensor, teacher: Tensor, what: str, remedy: str) -> None:
    """Refuse a pair that would broadcast, or fail inside torch with nobody's name in the message.

    Raises:
        SignalError: the two shapes differ; ``what`` they are, both shapes, and the ``remedy``.
    """
    if student.shape != teacher.shape:
        raise SignalError(
            f"{what} of student and teacher must have the same shape, got {list(student.shape)} "
            f"and {list(teacher.shape)}. {remedy}"
        )
