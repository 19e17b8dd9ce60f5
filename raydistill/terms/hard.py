"""Terms on labels alone, and which rows have a label."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from raydistill.losses import LossEntry, has_label, masked_sum
from raydistill.tasks import Batch

__all__ = ["HardMatch", "count_labels", "hard_sum", "labelled_rows"]


@dataclass(frozen=True)
class HardMatch:
    """A term on logits and labels alone.

    Attributes:
        entry: The loss.
        options: Of its function.
    """

    entry: LossEntry
    options: Mapping[str, Any] = field(default_factory=dict)


def labelled_rows(labels: Tensor) -> Tensor:
    """Rows with a label, ``[B]`` bool: a class, or any of several classes or numbers.

    Args:
        labels: ``[B]`` integers, or ``[B, C]`` floating numbers.
    """
    return has_label(labels, "classes") if labels.is_floating_point() else has_label(labels)


def hard_sum(match: HardMatch, logits: Tensor, batch: Batch) -> Tensor:
    """Sum of a loss over all that has a label.

    Args:
        match: The term.
        logits: Of the student, ``[B, C]``.
        batch: The rows.
    """
    values = match.entry.function(logits, batch.labels, **match.options)
    return masked_sum(values, _counted(match.entry, batch))


def count_labels(match: HardMatch, batch: Batch) -> Tensor:
    """What :func:`hard_sum` sums over: rows; of numbers every one of them."""
    return _counted(match.entry, batch).sum()


def _counted(entry: LossEntry, batch: Batch) -> Tensor:
    there = has_label(batch.labels, entry.label)
    counts = batch.counts if there.dim() == 1 else batch.counts.unsqueeze(-1)
    return there & counts
