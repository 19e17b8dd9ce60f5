"""Rows of tokens: which count, how many values that leaves, and zeros for what does not.

A loss over sequences sees padding. Padding is replaced before any arithmetic: NaN in it then reaches
neither value nor gradient, which a mask that is multiplied in afterwards would not prevent.

Dimensions: ``B`` rows, ``L`` tokens of the longest row, ``D`` hidden width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32

__all__ = ["counted_mask", "num_pairs", "num_rows", "num_tokens", "pair_mask", "zero_uncounted"]


def counted_mask(mask: Tensor | None, shape: Sequence[int], device: torch.device) -> Tensor:
    """The mask itself, if it is bool and has one entry per token; all True where none is given.

    Args:
        mask: Bool, True = counts, or None.
        shape: ``[B, L]``, or ``[B]`` where a row is one vector.
        device: Of the mask that is made where none is given.

    Raises:
        SignalError: the mask is not bool, or of another shape.
    """
    if mask is None:
        return torch.ones(tuple(shape), dtype=torch.bool, device=device)
    if mask.dtype != torch.bool or tuple(mask.shape) != tuple(shape):
        raise SignalError(
            f"mask must be bool (True = counts) with one entry per token, shape {list(shape)}, "
            f"got {mask.dtype} of shape {list(mask.shape)}."
        )
    return mask


def pair_mask(counts: Tensor) -> Tensor:
    """Pairs of tokens that both count, ``[B, L]`` -> ``[B, L, L]``."""
    return counts.unsqueeze(-1) & counts.unsqueeze(-2)


def zero_uncounted(states: Tensor, counts: Tensor) -> Tensor:
    """States, ``[..., D]``, at least float32, 0 where the mask, ``[...]``, is False."""
    return torch.where(counts.unsqueeze(-1), at_least_float32(states), 0.0)


def num_rows(mask: Tensor) -> Tensor:
    """Rows with a token that counts, a scalar; of ``[B]``, the rows that count.

    Example:
        >>> num_rows(torch.tensor([[False, True], [False, False]]))
        tensor(1)
    """
    return mask.any(-1).sum() if mask.dim() > 1 else mask.sum()


def num_tokens(mask: Tensor) -> Tensor:
    """Tokens that count, a scalar.

    Example:
        >>> num_tokens(torch.tensor([[True, True], [True, False]]))
        tensor(3)
    """
    return mask.sum()


def num_pairs(mask: Tensor) -> Tensor:
    """Pairs of tokens of the same row that both count, a scalar; a token with itself is one.

    Example:
        >>> num_pairs(torch.tensor([[True, True], [True, False]]))
        tensor(5)
    """
    return mask.sum(-1).square().sum()
