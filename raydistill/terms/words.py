"""Whether teachers and batch speak of the same words."""

from collections.abc import Mapping

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.signals import TeacherSignal
from raydistill.tasks import Batch

__all__ = ["require_like_words"]


def require_like_words(batch: Batch, signals: Mapping[str, TeacherSignal]) -> None:
    """Refuse answers about other words than those of the batch.

    Whose tokenizer makes pieces of which words was found out before the run began, since denominators
    need it before any answer comes. A teacher that says something else would be averaged over words
    that it did not answer.

    Args:
        batch: Of words.
        signals: The teachers' answers.

    Raises:
        SignalError: With the first row that differs.
    """
    words = batch.words
    assert words is not None, "the batch is of words"
    row_of = words.row.cpu()
    own = torch.bincount(row_of, minlength=len(batch.row_ids))
    for place, (name, signal) in enumerate(signals.items()):
        theirs = torch.from_numpy(signal.lengths).to(own)
        if not torch.equal(own, theirs):
            row = int((own != theirs).nonzero()[0])
            raise SignalError(
                f"teachers.{name} answered {int(theirs[row])} words for row {batch.row_ids[row]}, which has "
                f"{int(own[row])}."
            )
        found = signal.mapped
        if found is None:
            raise SignalError(
                f"teachers.{name} answered about texts, where words were asked about."
            )
        wrong = (_expected(batch, place, words.mapped) & ~found.to(words.row.device)).cpu()
        if wrong.any():
            row = int(row_of[wrong.nonzero()[0]])
            raise SignalError(
                f"teachers.{name} has no piece of a word of row {batch.row_ids[row]}, which its tokenizer had when "
                "the run began. Is its tokenizer the same on every node?"
            )


def _expected(batch: Batch, teacher: int, mapped: Tensor) -> Tensor:
    """Words that count and that a teacher ought to answer, ``[U]``."""
    return mapped if batch.answered is None else mapped & batch.answered[teacher]
