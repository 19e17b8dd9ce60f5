r"""Several teachers' logits -> one distribution, as log-probabilities.

Dimensions: ``M`` teachers, ``B`` rows, ``V`` classes. Symbols: :math:`z_i` logits and :math:`w_i`
weight of teacher i, :math:`\tau` temperature, :math:`p` the combined distribution.

The third way of the configuration, ``losses``, needs nothing here: the objective adds up one loss
per teacher, :math:`\sum_i w_i \ell_i`. For a cross-entropy or a forward KL divergence that is the
mean of probabilities up to a constant: same gradient, M times the work; it serves other losses.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from raydistill.errors import ConfigError, Fault, SignalError

__all__ = ["combine_log_p", "normalise_weights"]

_SUM_TOLERANCE = 1e-6


def combine_log_p(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    temperature: float = 1.0,
    space: Literal["probabilities", "logits"] = "probabilities",
) -> Tensor:
    r"""The teachers' mean distribution, softened, as log-probabilities.

    .. math::
        \text{probabilities:}\quad & \log p = \log \sum_i w_i \,\mathrm{softmax}(z_i/\tau) \\
        \text{logits:}\quad & \log p = \log \mathrm{softmax}\Big(\sum_i w_i z_i/\tau\Big)

    ``probabilities`` is a vote: where teachers disagree, each keeps its mass and the target shows
    the doubt; a teacher with larger logits is not louder. Choose it unless you have a reason.
    ``logits`` is the normalised *geometric* mean: one teacher that gives a class next to nothing
    vetoes it, and a teacher whose logits are larger weighs more than its weight says. Choose it
    when the teachers are alike (seeds of one model), or to repeat TextBrewer's
    ``MultiTeacherDistiller``, which takes the plain mean of logits.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, any floating dtype, the same
            shape and order of classes; no gradient flows into them.
        weights: One per teacher, positive, sum 1; see :func:`normalise_weights`. The order of the
            teachers does not matter beyond rounding.
        temperature: :math:`\tau > 0`, the one the student is softened with too.
        space: What is averaged.

    Returns:
        Log-probabilities, ``[B, V]``, float32 (float64 if a teacher's are); ``exp`` sums to 1 over
        ``V``. With one teacher both spaces give its log-softmax.

    Raises:
        ValueError: the temperature, the weights or the space are not of that kind.
        SignalError: the teachers' shapes differ.

    Example:
        >>> wide, deep = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> combine_log_p([wide, deep], [0.5, 0.5]).exp().round(decimals=4)
        tensor([[0.6904, 0.3096]])
        >>> combine_log_p([wide, deep], [0.5, 0.5], space="logits").exp().round(decimals=4)
        tensor([[0.7311, 0.2689]])

    See Also:
        :func:`raydistill.losses.forward_kl_from_log_p`, which takes the result.

    References:
        Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015,
        arXiv:1503.02531, section 1: arithmetic or geometric mean of the teachers' distributions.
        You, Xu, Xu, Tao, *Learning from Multiple Teacher Networks*, KDD 2017: mean of softened
        probabilities. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620: mean of logits.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a positive finite number, got {temperature}.")
    stacked = _stack(logits) / temperature  # [M, B, V]
    w = _weights_like(stacked, weights)  # [M, 1, 1]
    if space == "probabilities":
        return torch.logsumexp(w.log() + torch.log_softmax(stacked, dim=-1), dim=0)
    if space == "logits":
        return torch.log_softmax((w * stacked).sum(dim=0), dim=-1)
    raise ValueError(f"space must be 'probabilities' or 'logits', got {space!r}.")


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


def _stack(logits: Sequence[Tensor]) -> Tensor:
    """All teachers in one tensor, at least float32, without gradient."""
    if not logits:
        raise ValueError("logits must hold at least one teacher's, got none.")
    shapes = [list(one.shape) for one in logits]
    if any(shape != shapes[0] for shape in shapes):
        raise SignalError(
            f"Logits of all teachers must have the same shape to be combined, got {shapes}. "
            "Map their classes to the student's, or combine losses instead."
        )
    dtype = torch.float32
    for one in logits:
        dtype = torch.promote_types(dtype, one.dtype)
    return torch.stack([one.detach().to(dtype) for one in logits])


def _weights_like(stacked: Tensor, weights: Sequence[float]) -> Tensor:
    """The weights as a column against ``[M, ..., V]``."""
    if len(weights) != len(stacked):
        raise ValueError(
            f"weights must be one per teacher, got {len(weights)} for {len(stacked)} teachers."
        )
    positive = all(math.isfinite(weight) and weight > 0 for weight in weights)
    if not positive or abs(math.fsum(weights) - 1.0) > _SUM_TOLERANCE:
        raise ValueError(
            f"weights must be positive and sum to 1, got {list(weights)}. Use normalise_weights."
        )
    return stacked.new_tensor(weights).view(-1, *[1] * (stacked.dim() - 1))
