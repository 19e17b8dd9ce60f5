r"""Several teachers' logits -> one distribution, as log-probabilities.

Dimensions: ``M`` teachers, ``B`` rows, ``V`` classes. Symbols: :math:`z_i` logits and :math:`w_i`
weight of teacher i, :math:`\tau` temperature, :math:`p` the combined distribution.

A weight may differ from row to row, and 0 means that this teacher says nothing about this row: its
logits are not read, so they may be NaN. See :mod:`raydistill.ensemble.weighting` for ways to choose
weights.

One more way of the configuration, ``losses``, needs nothing here: the objective adds up one loss
per teacher, :math:`\sum_i w_i \ell_i`. For a cross-entropy or a forward KL divergence that is the
mean of probabilities up to a constant: same gradient, M times the work; it serves other losses.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from raydistill.ensemble.inputs import softened, stack_logits
from raydistill.errors import ConfigError, Fault, SignalError

__all__ = ["Space", "answered", "combine_log_p", "log_mixture", "normalise_weights"]

Space = Literal["probabilities", "logits", "log_probabilities", "best"]
"""What is averaged."""

_SUM_TOLERANCE = 1e-6


def combine_log_p(
    logits: Sequence[Tensor] | Tensor,
    weights: Sequence[float] | Tensor,
    *,
    temperature: float | Tensor = 1.0,
    teacher_temperatures: Sequence[float] | None = None,
    space: Space = "probabilities",
) -> Tensor:
    r"""The teachers' common distribution, softened, as log-probabilities.

    .. math::
        \text{probabilities:}\quad & \log p = \log \sum_i w_i \,\mathrm{softmax}(u_i),
            \qquad u_i = z_i / (\tau \, \tau_i) \\
        \text{logits:}\quad & \log p = \log \mathrm{softmax}\Big(\sum_i w_i u_i\Big) \\
        \text{log\_probabilities:}\quad & \log p =
            \log \mathrm{softmax}\Big(\sum_i w_i \log \mathrm{softmax}(u_i)\Big) \\
        \text{best:}\quad & \log p = \log \mathrm{softmax}(u_k), \qquad k = \arg\max_i w_i

    ``probabilities`` is a vote: where teachers disagree, each keeps its mass and the target shows
    the doubt; a teacher with larger logits is not louder. Choose it unless you have a reason.

    ``logits`` is the normalised *geometric* mean: one teacher that gives a class next to nothing
    vetoes it, and a teacher whose logits are larger weighs more than its weight says. Choose it
    when the teachers are alike (seeds of one model), or to repeat TextBrewer's
    ``MultiTeacherDistiller``, which takes the plain mean of logits.

    ``log_probabilities`` is the same distribution as ``logits``, always, whatever the weights and
    the temperatures: a log-softmax takes one number off all classes of a row, and the softmax that
    follows does not see it. It differs by rounding only: each teacher's offset is gone before the
    sum, so it is the exacter one where logits lie far from 0 (scores of 10,000 and more). Choose it
    for that, or to say what is meant.

    ``best`` follows in each row the teacher with the largest weight, alone (of equals the first),
    and hands no gradient to the weights. Choose it with weights that differ by row; with fixed ones
    it is one teacher.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, any floating dtype, the same
            shape and order of classes; or all in one, ``[M, B, V]``. No gradient flows into them.
        weights: One per teacher, numbers or ``[M]``; or one per teacher and row, ``[M, B]``. Zero or
            more, sum 1 over the teachers; gradients flow into a tensor that wants them. Where a
            weight is 0 the teacher is not read, in value and gradient. Where all are 0 the row has
            no target: see Returns. Numbers are checked, a tensor's values are not, as that would
            wait for the device; NaN among them gives a row of NaN. The order of the teachers does not matter beyond rounding.
        temperature: :math:`\tau > 0`, the one the student is softened with too, a number or one per
            row, ``[B]``.
        teacher_temperatures: :math:`\tau_i > 0`, one per teacher, on top of it: for teachers that
            are more or less sure than they ought to be. None: 1 each.
        space: What is averaged.

    Returns:
        Log-probabilities, ``[B, V]``, float32 (float64 if a teacher's are); ``exp`` sums to 1 over
        ``V``. A row without any teacher holds zeros: a placeholder that is finite and no
        distribution; mask it with :func:`answered`. With one teacher every space gives its
        log-softmax.

    Raises:
        ValueError: a temperature, the weights or the space are not of that kind.
        SignalError: the teachers' shapes differ, or a tensor of weights or temperatures does not
            fit them.

    Example:
        >>> wide, deep = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> combine_log_p([wide, deep], [0.5, 0.5]).exp().round(decimals=4)
        tensor([[0.6904, 0.3096]])
        >>> combine_log_p([wide, deep], [0.5, 0.5], space="logits").exp().round(decimals=4)
        tensor([[0.7311, 0.2689]])
        >>> silent = torch.tensor([[float("nan"), 0.0]])
        >>> by_row = torch.tensor([[1.0], [0.0]])
        >>> combine_log_p([wide, silent], by_row).exp().round(decimals=4)
        tensor([[0.8808, 0.1192]])

    See Also:
        :mod:`raydistill.ensemble.weighting`, which makes weights;
        :mod:`raydistill.losses.divergence`, whose functions take :math:`\tau \log p` as logits.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 1: arithmetic or geometric mean of the teachers' distributions.
        You, Xu, Xu, Tao, *Learning from Multiple Teacher Networks*, KDD 2017: mean of softened
        probabilities. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620: mean of logits. Guo et al.,
        *On Calibration of Modern Neural Networks*, ICML 2017, arXiv:1706.04599, section 4.2: one
        temperature per model.
    """
    if space not in get_args(Space):
        known = ", ".join(repr(name) for name in get_args(Space))
        raise ValueError(f"space must be one of {known}, got {space!r}.")
    stacked = stack_logits(logits)  # [M, B, V]
    w = _weights_like(stacked, weights)  # [M, B] or [M, 1]
    read = w != 0  # NaN is not 0: it is read, and seen
    u = softened(stacked, read, temperature, teacher_temperatures)
    if space == "probabilities":
        log_p = log_mixture(w, torch.log_softmax(u, dim=-1))
    elif space == "best":
        best = w.detach().argmax(0, keepdim=True).unsqueeze(-1)  # [1, B, 1]
        log_p = torch.log_softmax(u.gather(0, best.expand(1, *u.shape[1:]))[0], dim=-1)
        log_p = torch.where(w.isnan().any(0).unsqueeze(-1), torch.nan, log_p)  # else unseen here
    elif space == "logits":
        log_p = _geometric(w, u)
    else:  # what is not read is 0 in all classes, so that its weight has no slope, not even rounding
        each = torch.log_softmax(u, dim=-1).masked_fill(~read.unsqueeze(-1), 0.0)
        log_p = _geometric(w, each)
    return torch.where(read.any(0).unsqueeze(-1), log_p, 0.0)


def answered(weights: Tensor) -> Tensor:
    """Which rows have a target: those in which any teacher has a weight.

    Args:
        weights: ``[M, B]`` or ``[M, ...]``.

    Returns:
        Bool, ``[B]`` or ``[...]``: the mask for a loss against :func:`combine_log_p`.

    Example:
        >>> answered(torch.tensor([[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]])).tolist()
        [True, True, False]
    """
    return (weights != 0).any(0)


def log_mixture(weights: Tensor, log_p: Tensor) -> Tensor:
    r"""Logarithm of a weighted sum of probabilities, with a gradient for the weights.

    .. math:: \log \sum_i w_i \, p_i

    Without :math:`\log w_i`, whose slope at 0 is infinite, and with finite gradients where a sum is 0.

    Args:
        weights: ``[M, ...]`` or 1 in a dimension; where 0, ``log_p`` is not read.
        log_p: ``[M, ..., V]``, detached; not NaN.

    Returns:
        ``[..., V]``; -inf, with gradient 0, where no teacher with a weight has any mass.

    Example:
        >>> log_p = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]]]).log()
        >>> log_mixture(torch.tensor([[1.0], [0.0]]), log_p).exp()
        tensor([[0.7500, 0.2500]])
    """
    log_p = log_p.masked_fill(weights.unsqueeze(-1) == 0, -torch.inf)
    top = log_p.amax(0)  # [..., V]
    top = torch.where(top == -torch.inf, 0.0, top)  # -inf - -inf is NaN
    mass = (weights.unsqueeze(-1) * (log_p - top).exp()).sum(0)
    there = mass != 0
    return torch.where(there, torch.where(there, mass, 1.0).log() + top, -torch.inf)


def normalise_weights(names: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    """Relative weights of the teachers -> weights that sum to 1.

    Args:
        names: All teachers, in the order of the configuration.
        given: Relative weights by name; teachers without one count 1.0.

    Returns:
        One weight per teacher, in the order of ``names``.

    Raises:
        ConfigError: there are no teachers, a weight names none of them, or is not positive and
            finite; all faults.

    Example:
        >>> normalise_weights(["wide", "deep"], {"wide": 3.0})
        {'wide': 0.75, 'deep': 0.25}
    """
    if not names:
        raise ConfigError.of("teachers", "must hold at least one teacher.")
    known = ", ".join(sorted(names))
    faults = [
        Fault(f"ensemble.weights.{name}", f"names no teacher. Teachers: {known}.")
        for name in given
        if name not in names
    ] + [
        Fault(f"ensemble.weights.{name}", f"must be a positive finite number, got {weight}.")
        for name, weight in given.items()
        if not (math.isfinite(weight) and weight > 0)
    ]
    if faults:
        raise ConfigError(faults)
    relative = {name: float(given.get(name, 1.0)) for name in names}
    largest = max(relative.values())  # first: the sum of large weights may overflow
    total = math.fsum(weight / largest for weight in relative.values())
    return {name: weight / largest / total for name, weight in relative.items()}


def _geometric(w: Tensor, u: Tensor) -> Tensor:
    """Log-softmax of the weighted sum; a class that a teacher excludes (-inf) stays excluded.

    Excluded ones take no part in the sum, as the gradient of w * -inf is NaN, and are filled in once
    more at the end, which keeps out the NaN that the gradient of p * log p is there.
    """
    excluded = u == -torch.inf
    total = (w.unsqueeze(-1) * u.masked_fill(excluded, 0.0)).sum(0)  # [M, B, V] -> [B, V]
    by_any = excluded.any(0)
    log_p = torch.log_softmax(total.masked_fill(by_any, -torch.inf), dim=-1)
    return log_p.masked_fill(by_any, -torch.inf)


def _weights_like(stacked: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """The weights against the rows of ``[M, ..., V]``: ``[M, ...]``, or ``[M, 1...]``."""
    if isinstance(weights, Tensor):
        if weights.shape not in (stacked.shape[:1], stacked.shape[:-1]):
            raise SignalError(
                f"weights must be one per teacher, shape {list(stacked.shape[:1])}, or one per "
                f"teacher and row, shape {list(stacked.shape[:-1])}, got {list(weights.shape)}."
            )
        w = weights.to(device=stacked.device, dtype=stacked.dtype)
        return w.view(-1, *[1] * (stacked.dim() - 2)) if w.dim() == 1 else w
    if len(weights) != len(stacked):
        raise ValueError(
            f"weights must be one per teacher, got {len(weights)} for {len(stacked)} teachers."
        )
    sound = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if not sound or abs(math.fsum(weights) - 1.0) > _SUM_TOLERANCE:
        raise ValueError(
            f"weights must not be negative and must sum to 1, got {list(weights)}. "
            "Use normalise_weights."
        )
    return stacked.new_tensor(list(weights)).view(-1, *[1] * (stacked.dim() - 2))
