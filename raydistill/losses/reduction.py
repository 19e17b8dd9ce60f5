"""From one value per position to one number: the only denominator in the package.

A step is cut into micro-batches and workers, each with its own number of counted positions. The
mean over all of them is ``sum of all sums / count of all``, not a mean of means; so each part
computes ``masked_sum(values, mask) / count`` with the *global* count, and the parts add up.
(DDP averages gradients over workers: multiply by the number of workers.)

NaN under the mask: both functions here never read what does not count, in value and in the
gradient *at* ``values``. They cannot undo what happened before: if ``values`` came out of NaN
logits, the backward of that computation multiplies the gradient 0 by NaN, which is NaN. So
:func:`select_counted` comes first, then the loss, then the sum; :func:`~.catalog.build_loss` does.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32

__all__ = ["expand_mask", "masked_mean", "masked_sum", "select_counted"]


def expand_mask(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """The mask at full size: as many dimensions as ``shape``, sizes equal or 1.

    Stricter than broadcasting on purpose: a ``[B]`` mask against ``[B, S]`` would be read as
    ``[S]`` whenever ``B == S``, in silence.

    Args:
        mask: Bool, True = counts.
        shape: Of the positions, ``[...]``.

    Returns:
        Bool, of that shape; a view.

    Raises:
        SignalError: the mask is not bool, or does not fit.

    Example:
        >>> expand_mask(torch.tensor([[True], [False]]), (2, 3)).tolist()
        [[True, True, True], [False, False, False]]
    """
    if mask.dtype != torch.bool:
        raise SignalError(
            f"mask must be bool (True = counts), got {mask.dtype}. "
            "Write `mask != 0` for one of 0 and 1."
        )
    sizes = zip(mask.shape, shape, strict=False)
    if mask.dim() != len(shape) or any(own not in (1, size) for own, size in sizes):
        raise SignalError(
            f"mask must have one entry per position, shape {list(shape)} or 1 in a dimension, "
            f"got {list(mask.shape)}."
        )
    return mask.expand(tuple(shape))


def select_counted(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Only the positions that count, in one row each; for use before a loss, not after it.

    What is left out takes no part in the computation: NaN there reaches neither value nor
    gradient, and the softmax over padding is saved. On a GPU this waits for the mask.

    Args:
        mask: Bool, ``[...]``, True = counts.
        tensors: ``[..., *]`` each, with the mask's dimensions in front.

    Returns:
        ``[num_counted, *]`` each, in the order given.

    Raises:
        SignalError: the mask is not bool, or does not fit one of the tensors.

    Example:
        >>> hidden = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [5.0, 6.0]])
        >>> select_counted(torch.tensor([True, False, True]), hidden)[0].tolist()
        [[1.0, 2.0], [5.0, 6.0]]
    """
    return tuple(
        tensor[expand_mask(mask, tensor.shape[: mask.dim()])]  # [..., *] -> [num_counted, *]
        for tensor in tensors
    )


def masked_sum(values: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Sum over the positions that count.

    .. math:: \sum_i m_i \ell_i

    Args:
        values: One per position, ``[...]``.
        mask: Bool, same number of dimensions, sizes equal or 1; True = counts. None: all count.

    Returns:
        Scalar, at least float32; 0 with a zero gradient (not none) when nothing counts, so that
        a worker whose micro-batch is all padding still takes part in the exchange of gradients.

    Raises:
        SignalError: the mask is not bool, or does not fit.

    Example:
        >>> values = torch.tensor([1.0, float("nan"), 3.0])
        >>> masked_sum(values, torch.tensor([True, False, True]))
        tensor(4.)

    See Also:
        :func:`select_counted`, for NaN in what ``values`` were computed from.
    """
    values = at_least_float32(values)
    if mask is not None:
        # where, not values * mask: NaN * 0 is NaN.
        values = torch.where(expand_mask(mask, values.shape), values, 0.0)
    return values.sum()


def masked_mean(
    values: Tensor, mask: Tensor | None = None, count: float | Tensor | None = None
) -> Tensor:
    r"""Mean over the positions that count, or this part's share of a mean over more of them.

    .. math:: \frac{1}{n} \sum_i m_i \ell_i, \qquad n = \texttt{count}\ \text{or}\ \sum_i m_i

    Without ``count`` the mean over this tensor. With it the share: the shares of all micro-batches
    and workers add up to the mean over everything, however it was cut.

    Args:
        values: One per position, ``[...]``.
        mask: Bool, same number of dimensions, sizes equal or 1; True = counts. None: all count.
        count: Counted positions over all workers and micro-batches, a number or a 0-d tensor.

    Returns:
        Scalar, at least float32; 0 with a zero gradient (not none) when nothing counts.

    Raises:
        ValueError: ``count`` is a number, and negative or not finite.
        SignalError: the mask is not bool, or does not fit.

    Example:
        >>> values = torch.tensor([1.0, float("nan"), 3.0])
        >>> masked_mean(values, torch.tensor([True, False, True]))
        tensor(2.)
        >>> masked_mean(values[:1], count=2) + masked_mean(values[2:], count=2)
        tensor(2.)

    See Also:
        :func:`masked_sum`, the numerator; :func:`select_counted`, for NaN further up.
    """
    total = masked_sum(values, mask)
    if count is None:
        count = values.numel() if mask is None else expand_mask(mask, values.shape).sum()
    if isinstance(count, Tensor):
        count = count.to(total)
        return total / torch.where(count == 0, 1.0, count)  # NaN stays NaN, and is seen
    if not (math.isfinite(count) and count >= 0):
        raise ValueError(f"count must be a finite number, zero or more, got {count}.")
    return total / (count or 1.0)
