"""How far the student is from the right class: per position, not reduced.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32

__all__ = ["IGNORED_LABEL", "cross_entropy"]

IGNORED_LABEL = -100
"""The label of a position that has none, as in torch and transformers."""


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy with the hard label.

    .. math:: \ell = -\log q_y, \qquad q = \mathrm{softmax}(z^{S})

    The truth beside what the teachers think of it; needs labels, asks nothing of a teacher. The
    zeros at ignored positions are placeholders: averaging over them too makes the loss smaller,
    so use ``labels != IGNORED_LABEL`` as the mask. Logits that are NaN at an ignored position give
    the value 0 but a gradient of NaN; :func:`~raydistill.losses.reduction.select_counted` first.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        labels: Integer classes, ``[...]``, ``0 … V-1``, or -100: ignored.

    Returns:
        Nats per position, ``[...]``, float32 (float64 for float64 logits), never negative, 0 where
        ignored. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: labels are not integers, not one per position, or not a class.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        >>> cross_entropy(logits, torch.tensor([0, -100])).round(decimals=4)
        tensor([0.2395, 0.0000])

    See Also:
        :func:`~raydistill.losses.divergence.soft_cross_entropy`, with a distribution as the target.

    References:
        :func:`torch.nn.functional.cross_entropy`, equal to it with ``reduction="none"``.
    """
    _require_labels(student_logits, labels)
    counted = labels != IGNORED_LABEL
    log_q = torch.log_softmax(at_least_float32(student_logits), dim=-1)  # [..., V]
    index = torch.where(counted, labels, 0).long()  # -100 is no index
    log_q_y = log_q.gather(-1, index.unsqueeze(-1)).squeeze(-1)  # [..., V] -> [...]
    return torch.where(counted, -log_q_y, 0.0)


def _require_labels(student_logits: Tensor, labels: Tensor) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise SignalError(f"labels must be integers, got {labels.dtype}.")
    if labels.shape != student_logits.shape[:-1]:
        raise SignalError(
            f"labels must be one per position, shape {list(student_logits.shape[:-1])}, "
            f"got {list(labels.shape)}."
        )
    # Before the gather: on a GPU an index out of range kills the process, not the call.
    num_classes = student_logits.shape[-1]
    wrong = (labels != IGNORED_LABEL) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        raise SignalError(
            f"labels must lie between 0 and {num_classes - 1}, or be {IGNORED_LABEL} (ignored), "
            f"got {labels[wrong][0].item()}. The student has {num_classes} classes."
        )
