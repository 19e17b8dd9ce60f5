"""How far the student is from the right class: per position, not reduced. And what counts as a label.

Dimensions: ``V`` classes or vocabulary, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

from typing import Literal

import torch
from torch import Tensor

from raydistill.losses.inputs import at_least_float32
from raydistill.losses.softening import IGNORED_LABEL, require_labels

__all__ = ["cross_entropy", "has_label", "known_classes"]


def has_label(labels: Tensor, kind: Literal["class", "classes", "number"] = "class") -> Tensor:
    """Which positions have a label: the mask that the mean of a loss on labels needs.

    Args:
        labels: ``[...]``; of ``classes``, ``[..., V]``.
        kind: ``class``: an integer, -100 is none. ``classes``: a yes or no for each, of which one has to
            be known. ``number``: NaN is none.

    Returns:
        Bool, ``[...]``.

    Example:
        >>> has_label(torch.tensor([3, -100])).tolist()
        [True, False]
        >>> has_label(torch.tensor([[1, -100], [-100, -100]]), "classes").tolist()
        [True, False]
        >>> has_label(torch.tensor([-100.0, torch.nan]), "number").tolist()
        [True, False]
    """
    if kind == "number":
        return ~labels.isnan()
    if kind == "classes":
        return known_classes(labels).any(-1)
    return labels != IGNORED_LABEL


def known_classes(labels: Tensor) -> Tensor:
    """Of labels that are a yes or no for each class, ``[..., V]``, which are neither -100 nor NaN."""
    return (labels != IGNORED_LABEL) & ~labels.isnan()


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy with the hard label.

    .. math:: \ell = -\log q_y, \qquad q = \mathrm{softmax}(z^{S})

    The truth beside what the teachers think of it; needs labels, asks nothing of a teacher. The
    zeros at ignored positions are placeholders: averaging over them too makes the loss smaller,
    so use :func:`has_label` as the mask. Logits that are NaN at an ignored position give
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
    require_labels(student_logits, labels)
    counted = has_label(labels)
    log_q = torch.log_softmax(at_least_float32(student_logits), dim=-1)  # [..., V]
    index = torch.where(counted, labels, 0).long()  # -100 is no index
    log_q_y = log_q.gather(-1, index.unsqueeze(-1)).squeeze(-1)  # [..., V] -> [...]
    return torch.where(counted, -log_q_y, 0.0)
