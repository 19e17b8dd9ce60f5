"""The term on adversarial examples: find a move of the embeddings, then learn where it leads.

Teachers are asked about the text as it is. What they say holds for what the student sees nearby: its answer
at the moved embeddings is compared with theirs (or with its own, or with the label). A move is found
without gradients of weights; only the last pass, at the move, teaches.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from raydistill.config.adversarial import PGDSection, VATSection
from raydistill.losses import masked_sum
from raydistill.tasks import Batch
from raydistill.terms.attack import ascend, directions, probe, radii
from raydistill.terms.by_label import label_values
from raydistill.terms.hard import HardMatch, count_labels, hard_sum
from raydistill.terms.plan import AdversarialMatch
from raydistill.terms.soft import SoftMatch, soft_values
from raydistill.terms.view import View

__all__ = ["adversarial_sum", "count_adversarial"]

Combine = Literal["probabilities", "logits", "log_probabilities", "best", "losses"]


def count_adversarial(match: AdversarialMatch, batch: Batch, heard: Tensor) -> Tensor:
    """What :func:`adversarial_sum` sums over: rows; against numbers every one of them.

    Args:
        match: The term.
        batch: The rows.
        heard: Bool ``[B]``, rows that count and that any teacher says something about.
    """
    if isinstance(match.target, HardMatch):
        return count_labels(match.target, batch)
    return (batch.counts if match.against == "self" else heard).sum()


def adversarial_sum(
    match: AdversarialMatch, view: View, *, combine: Combine, seed: int, step: int
) -> Tensor:
    """The loss at moved embeddings, summed over what counts, a scalar.

    Args:
        match: The term.
        view: Student and teachers.
        combine: How several teachers become one.
        seed: Of first directions.
        step: Optimizer steps done.
    """
    nearby, mask = view.student.nearby, view.batch.token_mask
    assert nearby is not None, "the student can be asked again wherever there is such a term"
    total = _total(match, view, nearby.logits_at, combine)
    section, like = match.section, nearby.embeddings
    radius = radii(like, mask, section.epsilon)
    if isinstance(section, VATSection):
        start = directions(view.batch.row_ids, mask, like.shape[-1], seed=seed, step=step)
        move = probe(total, radius, mask, start, steps=section.steps, length=section.probe)
    else:
        steps, size = (
            (section.steps, section.step_size) if isinstance(section, PGDSection) else (1, 1.0)
        )
        move = ascend(total, radius, mask, like, steps=steps, step_size=size)
    return total(move.detach())


def _total(
    match: AdversarialMatch, view: View, logits_at: Callable[[Tensor], Tensor], combine: Combine
) -> Callable[[Tensor], Tensor]:
    """The sum of the rows' losses as a function of the move."""
    target, batch = match.target, view.batch
    clean = view.student.logits.detach()

    def total(move: Tensor) -> Tensor:
        logits = logits_at(move)
        if isinstance(target, HardMatch):
            return hard_sum(target, logits, batch)
        if match.against == "self":
            return masked_sum(_from_own(target, logits, clean, view), batch.counts)
        moved = replace(view, student=replace(view.student, logits=logits))
        values_of = soft_values if view.task == "text_classification" else label_values
        temperature = match.section.temperature
        return masked_sum(
            values_of(target, moved, combine=combine, temperature=temperature), view.heard
        )

    return total


def _from_own(match: SoftMatch, logits: Tensor, clean: Tensor, view: View) -> Tensor:
    """How far an answer is from the one to the text as it is, ``[B]``."""
    options = dict(match.options)
    if "temperature" in match.entry.options:
        options["temperature"] = match.temperature
    if view.task == "text_classification":
        return match.entry.function(logits, clean, **options)
    # Each label by itself, as against teachers.
    return match.entry.function(logits.unsqueeze(-1), clean.unsqueeze(-1), **options).mean(-1)
