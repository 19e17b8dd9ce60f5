"""Student and teachers in common classes, where rows are questions with windows.

Dimensions: B rows, U units of all rows, C classes of the row that has most, M teachers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.models.spans import NEVER, lay_out, merge, merge_targets
from raydistill.signals import TeacherSignal
from raydistill.tasks import Batch

__all__ = ["CommonClasses", "common_classes"]


@dataclass(frozen=True)
class CommonClasses:
    """What all say about the rows, in classes that all have; of windows about the two sides of each row.

    Attributes:
        student: Logits ``[B, C]``; of windows ``[2 B, C]``.
        teachers: Logits ``[M, B, C]``; None: there are none.
        number: Of the classes of each row; others are padding. None: all rows have all.
    """

    student: Tensor
    teachers: Tensor | None = None
    number: Tensor | None = None


def common_classes(
    student: Tensor,
    batch: Batch,
    signals: Mapping[str, TeacherSignal],
    temperatures: Mapping[str, float],
) -> CommonClasses:
    """Merge the units that one of the models has no start, or no end, of.

    Args:
        student: Its logits in its own classes, ``[2 B, C]``.
        batch: Of questions with windows.
        signals: The teachers' answers.
        temperatures: What divides each teacher's logits first; those not named: 1.

    Raises:
        SignalError: An answer is about other units than those of the batch.
    """
    spans = batch.spans
    assert spans is not None, "the batch is of windows"
    row, device = spans.units.row, student.device
    _, kept = lay_out(
        spans.mapped[:, :2].float(),
        student.new_zeros(len(batch.row_ids), 4),
        spans.mapped[:, :2],
        row,
    )
    found = []
    for name, signal in signals.items():
        mapped = _mapped(batch, name, signal).to(device)
        rest = signal.rest
        assert rest is not None, "whoever asks about spans asks for it"
        logits, own = lay_out(
            signal.logits.to(device).float(),
            rest.to(device).float(),
            mapped[:, :2],
            row,
            scale=temperatures.get(name, 1.0),
        )
        found.append(logits)
        kept = kept & own
    target = merge_targets(kept)
    teachers = torch.stack([merge(logits, target) for logits in found])
    # What a scale made of a padding is padding again.
    return CommonClasses(merge(student, target), teachers.masked_fill(~kept, NEVER), kept.sum(1))


def _mapped(batch: Batch, name: str, signal: TeacherSignal) -> Tensor:
    """Which units a teacher has pieces of, ``[U, 3]``.

    Raises:
        SignalError: It answered about other units.
    """
    spans, mapped = batch.spans, signal.mapped
    assert spans is not None, "the batch is of windows"
    if mapped is None or mapped.dim() == 1:
        raise SignalError(f"teachers.{name} did not answer about units, which it was asked about.")
    row = spans.units.row.cpu()
    own = torch.bincount(row, minlength=len(batch.row_ids))
    theirs = torch.from_numpy(signal.lengths).to(own)
    if not torch.equal(own, theirs):
        place = int((own != theirs).nonzero()[0])
        raise SignalError(
            f"teachers.{name} answered {int(theirs[place])} units for row {batch.row_ids[place]}, which has "
            f"{int(own[place])}."
        )
    unseen = spans.shared.cpu() & ~mapped[:, 2].cpu()
    if unseen.any():
        place = int(row[unseen.nonzero()[0]])
        raise SignalError(
            f"teachers.{name} has no piece of a unit of row {batch.row_ids[place]}, which its tokenizer had when "
            "the run began. Is its tokenizer the same on every node?"
        )
    return mapped
