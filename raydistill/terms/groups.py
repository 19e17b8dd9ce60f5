r"""Terms over the candidates of a query: scores beside each other, against teachers or relevance.

Or over the passages of a whole block of queries, see :mod:`raydistill.terms.block`.

Dimensions: B rows of a batch, G queries in it, N candidates of the query that has most, M teachers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from raydistill.config.schedules import CosineTemperature, LinearTemperature, StepTemperature
from raydistill.ensemble import combine_log_p
from raydistill.errors import SignalError
from raydistill.losses import LossEntry, PairScorer
from raydistill.schedules import scheduled_temperature
from raydistill.tasks import Batch
from raydistill.terms.block import Block
from raydistill.terms.view import View

__all__ = ["GroupMatch", "count_groups", "group_sum"]

_NUMBERS = frozenset({"margin_mse"})
"""Losses that keep the teachers' scale: of several the target is the mean of scores, not of distributions."""


@dataclass(frozen=True)
class GroupMatch:
    """A term on scores of a query's candidates.

    Attributes:
        entry: The loss.
        options: Of its function, without temperature.
        temperature: A number, or how it changes over the run; for losses that have one.
        against: What the student's scores are compared with.
        among: What a query is seen beside: its own candidates, or the passages of its block.
        queries: Of a block.
        embedding: Of a block, the teachers that can score it: names, and what makes scores of their embeddings.
    """

    entry: LossEntry
    options: Mapping[str, Any] = field(default_factory=dict)
    temperature: float | LinearTemperature | CosineTemperature | StepTemperature = 1.0
    against: Literal["teachers", "labels"] = "teachers"
    among: Literal["candidates", "block"] = "candidates"
    queries: int = 1
    embedding: Mapping[str, PairScorer] = field(default_factory=dict)


class _Groups:
    """Rows of a batch as a matrix with a row for each query.

    Args:
        group: Number of each row's query, rising, ``[B]``.
        counted: Rows that count, ``[B]``.
    """

    def __init__(self, group: Tensor, counted: Tensor) -> None:
        number = int(group[-1]) + 1
        sizes = torch.bincount(group, minlength=number)
        places = torch.arange(len(group), device=group.device)
        self._group, self._place = group, places - (sizes.cumsum(0) - sizes)[group]
        self._shape = number, int(sizes.max())
        self.mask = self.matrix(counted)

    def matrix(self, values: Tensor) -> Tensor:
        """``[..., B]`` as ``[..., G, N]``, 0 where a query has no more candidates."""
        out = values.new_zeros((*values.shape[:-1], *self._shape))
        out[..., self._group, self._place] = values
        return out

    def student(self, view: View) -> Tensor:
        """Its scores, ``[G, N]``."""
        return self.matrix(view.student.logits[:, 0])

    def labels(self, batch: Batch) -> Tensor:
        """How relevant candidates are, ``[G, N]``."""
        return self.matrix(batch.labels[:, 0])


def count_groups(match: GroupMatch, batch: Batch, heard: Tensor) -> Tensor:
    """How many values of a term count in a batch, a scalar.

    Args:
        match: The term.
        batch: The rows.
        heard: Rows that count and that any teacher says something about, ``[B]``.
    """
    groups = _groups(match, batch, heard if match.against == "teachers" else batch.counts)
    assert match.entry.units is not None, "all losses on scores have units"
    return match.entry.units(_counted(match, groups, batch))


def group_sum(
    match: GroupMatch,
    view: View,
    *,
    combine: Literal["probabilities", "logits", "log_probabilities", "best", "losses"],
    progress: float,
) -> Tensor:
    r"""A term summed over what counts, a scalar.

    Of several teachers the target is :math:`\tau \log p` with p their common distribution over the candidates,
    so every loss takes several as it takes one; where the scale of scores matters it is their weighted mean.
    With ``losses`` it is :math:`\sum_i w_i \ell_i`.

    Args:
        match: The term.
        view: Student and teachers.
        combine: How several teachers become one.
        progress: Share of the run that is done.
    """
    batch, entry = view.batch, match.entry
    options = dict(match.options)
    if "temperature" in entry.options:
        options["temperature"] = scheduled_temperature(match.temperature, progress)
    key = f"{match.against} {match.among}"
    if key not in view.laid_out:
        counted = view.heard if match.against == "teachers" else batch.counts
        view.laid_out[key] = _groups(match, batch, counted)
    groups: _Groups | Block = view.laid_out[key]
    mask = _counted(match, groups, batch)
    student = groups.student(view)

    def summed(target: Tensor) -> Tensor:
        return entry.function(student, target, mask=mask, **options).sum()

    if match.against == "labels":
        return summed(groups.labels(batch))
    teachers, weights = _teachers(match, groups, view)
    if len(teachers) == 1:
        return summed(teachers[0])
    if combine == "losses":
        return torch.stack(
            [w * summed(one) for w, one in zip(weights, teachers, strict=True)]
        ).sum()
    if entry.name in _NUMBERS or combine in ("logits", "log_probabilities"):
        return summed(torch.einsum("m,mgn->gn", teachers.new_tensor(weights), teachers))
    own = options.get("teacher_temperature") or options.get("temperature", 1.0)
    ruled_out = ~mask & mask.any(
        -1, keepdim=True
    )  # a query that does not count keeps a distribution
    log_p = combine_log_p(
        teachers.masked_fill(ruled_out, -torch.inf), weights, temperature=own, space=combine
    )
    return summed((own * log_p).masked_fill(~mask, 0.0))


def _teachers(
    match: GroupMatch, groups: _Groups | Block, view: View
) -> tuple[Tensor, Sequence[float]]:
    """Scores of those that have any, ``[M, G, N]``, and what each counts, summing to 1."""
    weights = view.weights
    assert not isinstance(weights, Tensor), "the candidates of a query have the same teachers"
    if isinstance(groups, _Groups):
        scores = view.teacher_logits(standardize=False, shift=False)[..., 0]
        return groups.matrix(scores), weights
    by_name = dict(zip(view.signals, weights, strict=True))
    own = [by_name[name] for name in match.embedding]
    total = sum(own)
    scores = groups.teachers(view, list(match.embedding), match.embedding)
    # A step may have drawn one that reads pairs: all others speak then.
    return scores, [w / total if total else 1 / len(own) for w in own]


def _groups(match: GroupMatch, batch: Batch, counted: Tensor) -> _Groups | Block:
    if match.among == "block":
        return Block(batch, counted, match.queries)
    if batch.group is None:
        raise SignalError("a loss over the candidates of a query needs rows in groups.")
    return _Groups(batch.group, counted)


def _counted(match: GroupMatch, groups: _Groups | Block, batch: Batch) -> Tensor:
    """Which candidates count, ``[G, N]``; against labels those that are judged, beside a relevant one."""
    if match.against == "teachers":
        return groups.mask
    if isinstance(groups, Block):
        relevant = (groups.labels(batch) > 0) & groups.mask
        return groups.mask & relevant.any(-1, keepdim=True)
    labels = batch.labels[:, 0]
    known = groups.mask & groups.matrix(~labels.isnan())
    relevant = groups.matrix(labels > 0) & known
    return known & relevant.any(-1, keepdim=True)
