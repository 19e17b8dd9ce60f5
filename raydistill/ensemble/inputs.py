"""What combining and weighting do with their arguments first: shapes, precision, who is read.

Dimensions: ``M`` teachers, ``V`` classes, ``...`` any number of rows (``[B]``, ``[B, S]``).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.softening import IGNORED_LABEL, require_labels

__all__ = [
    "base_column",
    "checked_labels",
    "entropy_share",
    "require_answered",
    "require_sharpness",
    "softened",
    "softmax_of_answered",
    "stack_logits",
]


def stack_logits(logits: Sequence[Tensor] | Tensor) -> Tensor:
    """All teachers in one tensor, ``[M, ..., V]``, at least float32, without gradient.

    Args:
        logits: One tensor per teacher, ``[..., V]``, or all in one, ``[M, ..., V]``; never written to.

    Raises:
        ValueError: there are no teachers.
        SignalError: the teachers' shapes differ, or the one tensor has no dimension for them.
    """
    if isinstance(logits, Tensor) and logits.dim() < 2:  # noqa: PLR2004 - [M, V] at least
        raise SignalError(
            f"Logits of all teachers in one tensor must be [M, ..., V], got {list(logits.shape)}."
        )
    if len(logits) == 0:
        raise ValueError("logits must hold at least one teacher's, got none.")
    if isinstance(logits, Tensor):
        return logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
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


def softened(
    stacked: Tensor,
    read: Tensor,
    temperature: float | Tensor = 1.0,
    teacher_temperatures: Sequence[float] | None = None,
) -> Tensor:
    r"""Logits divided by :math:`\tau \tau_i`, a new tensor; 0 where a teacher is not read.

    Args:
        stacked: ``[M, ..., V]``.
        read: Bool, ``[M, ...]`` or 1 in a dimension. What a teacher left where it is not, NaN
            included, reaches nothing.
        temperature: A number, or one per row, ``[...]``.
        teacher_temperatures: One per teacher; None: 1 each.

    Raises:
        ValueError: a temperature is not a positive finite number, or they are not one per teacher.
        SignalError: the temperatures are not one per row.
    """
    tau = _per_row(temperature, stacked)
    if teacher_temperatures is not None:
        if len(teacher_temperatures) != len(stacked):
            raise ValueError(
                "teacher_temperatures must be one per teacher, got "
                f"{len(teacher_temperatures)} for {len(stacked)} teachers."
            )
        for own in teacher_temperatures:
            _require_positive(own, "teacher_temperatures")
        per_teacher = stacked.new_tensor(list(teacher_temperatures))
        tau = tau * per_teacher.view(-1, *[1] * (stacked.dim() - 1))  # [M, 1..., 1]
    return (stacked / tau).masked_fill_(~read.unsqueeze(-1), 0.0)


def base_column(base: Sequence[float] | Tensor, answered: Tensor) -> Tensor:
    """Base weights against ``[M, ...]``, float64; relative, so they need not sum to 1.

    Args:
        base: One per teacher, zero or more. Values of a tensor are not checked: that would wait
            for the device.
        answered: ``[M, ...]``; says how many teachers there are, and where.

    Raises:
        ValueError: they are not one per teacher, negative or not finite.
    """
    if len(base) != len(answered) or (isinstance(base, Tensor) and base.dim() != 1):
        got = list(base.shape) if isinstance(base, Tensor) else len(base)
        raise ValueError(
            f"base must be one weight per teacher, got {got} for {len(answered)} teachers."
        )
    if isinstance(base, Tensor):
        column = base.detach().to(device=answered.device, dtype=torch.float64)
    else:
        if not all(math.isfinite(weight) and weight >= 0 for weight in base):
            raise ValueError(f"base weights must be finite, zero or more, got {list(base)}.")
        column = torch.tensor(list(base), device=answered.device, dtype=torch.float64)
    return column.view(-1, *[1] * (answered.dim() - 1))


def require_answered(answered: Tensor, rows: Sequence[int] | None = None) -> None:
    """Refuse a mask that does not say for every teacher and row whether it answered.

    Args:
        answered: Bool, ``[M, ...]``.
        rows: The shape that it must have; None: any, with a dimension for the teachers.

    Raises:
        SignalError: it is not bool, or has another shape.
    """
    if answered.dtype != torch.bool:
        raise SignalError(f"answered must be bool (True = answered), got {answered.dtype}.")
    if answered.dim() == 0 or (rows is not None and list(answered.shape) != list(rows)):
        wanted = "[M, ...]" if rows is None else list(rows)
        raise SignalError(
            f"answered must have one entry per teacher and row, shape {wanted}, "
            f"got {list(answered.shape)}."
        )


def require_sharpness(sharpness: float) -> None:
    """Refuse a sharpness that would turn the order of the teachers round.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not (math.isfinite(sharpness) and sharpness >= 0):
        raise ValueError(f"sharpness must be a finite number, zero or more, got {sharpness}.")


def checked_labels(labels: Tensor, stacked: Tensor) -> Tensor:
    """The labels as an index into ``[M, ..., V]``, ``[M, ..., 1]``; 0 where there is none.

    Raises:
        SignalError: labels are not integers, not one per row, or not a class.
    """
    require_labels(stacked[0], labels)
    index = torch.where(labels == IGNORED_LABEL, 0, labels).long()
    return index.expand(stacked.shape[:-1]).unsqueeze(-1)


def entropy_share(p: Tensor) -> Tensor:
    """Entropy over that of the uniform distribution, 0 to 1, ``[..., V] -> [...]``.

    Args:
        p: Probabilities, zeros allowed. A single class has the entropy 0.
    """
    largest = math.log(p.shape[-1]) if p.shape[-1] > 1 else 1.0
    entropy: Tensor = torch.special.entr(p).sum(-1)
    return entropy / largest


def softmax_of_answered(scores: Tensor, answered: Tensor) -> Tensor:
    """Softmax over the teachers that answered, ``[M, ...]``; a column of zeros where none did.

    Args:
        scores: ``[M, ...]``; not read where not answered. A score of -inf gives weight 0.
        answered: Bool, the same shape.
    """
    scores = scores.masked_fill(~answered, -torch.inf)
    top = scores.detach().amax(0)
    share = (scores - torch.where(top == -torch.inf, 0.0, top)).exp()
    total = share.sum(0)
    return share / torch.where(total == 0, 1.0, total)  # NaN stays NaN, and is seen


def _per_row(temperature: float | Tensor, stacked: Tensor) -> Tensor:
    """The temperature against ``[M, ..., V]``."""
    if not isinstance(temperature, Tensor):
        _require_positive(temperature, "temperature")
        # A tensor: on a GPU a number is turned into its reciprocal, whose bits are others than
        # those of a division by one temperature per row.
        return torch.full((), temperature, dtype=stacked.dtype, device=stacked.device)
    if temperature.dim() > 0 and temperature.shape != stacked.shape[1:-1]:
        raise SignalError(
            f"temperature must be a number or one per row, shape {list(stacked.shape[1:-1])}, "
            f"got {list(temperature.shape)}."
        )
    tau = temperature.detach().to(device=stacked.device, dtype=stacked.dtype)
    return tau.unsqueeze(-1) if tau.dim() else tau


def _require_positive(temperature: float, name: str) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"{name} must be a positive finite number, got {temperature}.")
