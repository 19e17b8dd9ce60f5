r"""What is done to logits before they are compared: temperature, standardisation, a swap towards the label.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

import math

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32, require_same_shape

__all__ = [
    "IGNORED_LABEL",
    "checked_temperature",
    "expectation",
    "log_softmax",
    "require_labels",
    "require_same_classes",
    "scaled",
    "shift_probability",
    "standardize_logits",
]

IGNORED_LABEL = -100
"""The label of a position that has none, as in torch and transformers."""
_EPS = 1e-7


def log_softmax(logits: Tensor, tau: float | Tensor) -> Tensor:
    """Log-probabilities of softened logits, ``[..., V]``, in float32 or more."""
    per_class = tau.unsqueeze(-1) if isinstance(tau, Tensor) else tau  # [...] -> [..., 1]
    return torch.log_softmax(at_least_float32(logits) / per_class, dim=-1)


def checked_temperature(temperature: float | Tensor, logits: Tensor) -> float | Tensor:
    """The temperature, if it is positive and finite; a tensor's dtype must not widen the result.

    Args:
        temperature: A number, a tensor of one, or one per position, ``[...]``.
        logits: ``[..., V]``.

    Raises:
        ValueError: it is not positive and finite.
        SignalError: it is not one per position.
    """
    if not isinstance(temperature, Tensor):
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a positive finite number, got {temperature}.")
        return temperature
    if temperature.dim() > 0 and temperature.shape != logits.shape[:-1]:
        raise SignalError(
            f"temperature must be a number or one per position, shape {list(logits.shape[:-1])}, "
            f"got {list(temperature.shape)}."
        )
    wrong = ~(torch.isfinite(temperature) & (temperature > 0))
    if wrong.any():
        raise ValueError(
            "temperature must be positive and finite at every position, "
            f"got {temperature[wrong][0].item()}."
        )
    temperature = temperature.to(torch.promote_types(logits.dtype, torch.float32))
    # A tensor of one number has no position: as if it were that number.
    return temperature.expand(logits.shape[:-1]) if temperature.dim() == 0 else temperature


def expectation(p: Tensor, x: Tensor) -> Tensor:
    """Sum of p·x over the classes; where p = 0 nothing is added, even if x is infinite or NaN."""
    # x is replaced, not p·x: the slope of the product with respect to p is x.
    return (p * torch.where(p == 0, 0.0, x)).sum(dim=-1)  # [..., V] -> [...]


def scaled(values: Tensor, tau: float | Tensor, squared: bool) -> Tensor:
    """Times the squared temperature, if so."""
    return values * tau**2 if squared else values


def standardize_logits(logits: Tensor) -> Tensor:
    r"""Logits with mean 0 and standard deviation 1 over the classes.

    .. math:: \tilde z = \frac{z - \bar z}{\sigma(z) + 10^{-7}}, \qquad
              \sigma(z)^2 = \frac{1}{V - 1} \sum_v (z_v - \bar z)^2

    Before a softmax on both sides: the student then has to match the teacher's logits in their
    proportions, not in their range, which a small student cannot reach. The temperature becomes the
    only thing that decides how peaked the two distributions are.

    Args:
        logits: ``[..., V]``, any floating dtype.

    Returns:
        Same shape, at least float32; 0 (to rounding) where all classes have the same logit.

    Raises:
        SignalError: there are fewer than two classes.

    Example:
        >>> standardize_logits(torch.tensor([1.0, 2.0, 3.0])).round(decimals=4)
        tensor([-1.,  0.,  1.])

    References:
        Sun, Ren, Li, Wang, Cao, *Logit Standardization in Knowledge Distillation*, CVPR 2024,
        arXiv:2403.01427, algorithm 1.
    """
    if logits.shape[-1] < 2:  # noqa: PLR2004 - a deviation needs two
        raise SignalError(
            f"logits must have two classes or more to be standardized, got {list(logits.shape)}."
        )
    logits = at_least_float32(logits)
    centred = logits - logits.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (logits.shape[-1] - 1)
    # What rounding leaves of equal logits is no deviation, and where there is none sqrt has no slope:
    # such a row is only centred, so that a student that starts with zeros can leave them.
    rounding = 8 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(-1, keepdim=True)
    constant = variance <= rounding.square()
    deviation = torch.where(constant, 1.0, variance).sqrt()
    return centred / (deviation + _EPS)


def shift_probability(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    r"""The teacher's logits with the largest swapped with that of the true class.

    .. math:: \tilde z_y = \max_v z_v, \quad \tilde z_{\arg\max z} = z_y

    So that a teacher that is wrong still teaches its doubts, but not its mistake. Where it is right,
    and where the label is -100, nothing changes.

    Args:
        teacher_logits: ``[..., V]``, any floating dtype.
        labels: Integer classes, ``[...]``, ``0 … V-1``, or -100.

    Returns:
        Same shape and dtype, without gradient; the argument is left as it is.

    Raises:
        SignalError: labels are not integers, not one per position, or not a class.

    Example:
        >>> logits = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
        >>> shift_probability(logits, torch.tensor([1, -100])).tolist()
        [[1.0, 3.0, 0.0], [3.0, 1.0, 0.0]]

    References:
        Wen, Lai, Qian, *Preparing Lessons: Improve Knowledge Distillation with Better Supervision*,
        2019, arXiv:1911.07471, section 3.2. Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``probability_shift``: the same where labels are classes; there it cannot be used with a mask,
        and a label of -1 hits the last class.
    """
    require_labels(teacher_logits, labels)
    logits = teacher_logits.detach()
    top_value, top = logits.max(-1, keepdim=True)
    index = torch.where(labels == IGNORED_LABEL, top.squeeze(-1), labels).long().unsqueeze(-1)
    own = logits.gather(-1, index)
    return logits.scatter(-1, top, own).scatter(-1, index, top_value)


def require_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse labels that are no classes, one per position, of these logits.

    Raises:
        SignalError: what is wrong, and the first that is.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise SignalError(f"labels must be integers, got {labels.dtype}.")
    if labels.shape != logits.shape[:-1]:
        raise SignalError(
            f"labels must be one per position, shape {list(logits.shape[:-1])}, "
            f"got {list(labels.shape)}."
        )
    # Before a gather: on a GPU an index out of range kills the process, not the call.
    num_classes = logits.shape[-1]
    wrong = (labels != IGNORED_LABEL) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        raise SignalError(
            f"labels must lie between 0 and {num_classes - 1}, or be {IGNORED_LABEL} (ignored), "
            f"got {labels[wrong][0].item()}. The student has {num_classes} classes."
        )


def require_same_classes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Refuse logits of two shapes.

    Raises:
        SignalError: both shapes, and the way out.
    """
    require_same_shape(
        student_logits,
        teacher_logits,
        "Logits",
        "Distillation of logits needs the same classes; use a hidden-state loss, or map them.",
    )
