r"""Several teachers of labels that do not exclude each other, or of numbers: label by label.

Every row and label is a position of its own. A yes or no is a choice between two classes with the logits
0 and z, since :math:`\sigma(z)` is the second part of their softmax; so all that weighs and combines
distributions does the same here, with positions ``[B, C]`` of two classes each. A teacher that does not
know a label says nothing about it: it has the weight 0 there, and the others' weights make up for it.

Dimensions: B rows, C labels, M teachers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from raydistill.ensemble import combine_log_p, gate_loss, routed
from raydistill.losses import IGNORED_LABEL
from raydistill.tasks import Batch
from raydistill.terms.soft import SoftMatch
from raydistill.terms.view import View
from raydistill.terms.weighting import TeacherWeighting, Weighed

__all__ = ["by_position", "gate_values", "known_columns", "label_values", "weigh_labels", "yes_no"]


def yes_no(logits: Tensor) -> Tensor:
    """Logits of two classes, no and yes: ``[...] -> [..., 2]``."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def known_columns(columns: Mapping[str, Sequence[int]]) -> Tensor | None:
    """Which teacher knows which label, ``[M, C]`` bool; None: all know all."""
    known = torch.tensor([[column >= 0 for column in one] for one in columns.values()])
    return None if known.all() else known


def weigh_labels(
    weighting: TeacherWeighting,
    logits: Tensor,
    labels: Tensor,
    *,
    known: Tensor | None,
    answered: Tensor | None,
    step: int,
) -> Weighed:
    """What each teacher counts in each row and label.

    Args:
        weighting: As configured.
        logits: Of the teachers, ``[M, B, C]``; not read where one does not know the label.
        labels: ``[B, C]``, 1 or 0, NaN where it is not known.
        known: ``[M, C]`` bool; None: all know all labels.
        answered: ``[M, B]`` bool; None: all answer all rows.
        step: Optimizer steps done.
    """
    there = None
    if known is not None or answered is not None:
        there = torch.ones(logits.shape, dtype=torch.bool, device=logits.device)
        there = there if known is None else there & known.to(logits.device).unsqueeze(1)
        there = there if answered is None else there & answered.unsqueeze(-1)
    weighed: Weighed = weighting(yes_no(logits), _classes(labels), there, step)
    if not isinstance(weighed.weights, Tensor):
        return weighed
    by_label = weighed.weights
    heard = (by_label != 0).any(0)  # [B, C]
    rows = by_label.sum(-1) / heard.sum(-1).clamp(min=1)  # [M, B]: the mean over labels
    return replace(weighed, weights=rows, by_label=by_label)


def by_position(
    weights: Tensor, known: Tensor | None, batch: Batch
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """What :class:`~raydistill.terms.weighting.Seen` takes, with every label of a row as a row.

    Args:
        weights: Of labels, ``[M, B, C]``.
        known: Which teacher knows which label, ``[M, C]`` bool; None: all know all.
        batch: The rows.
    """
    heard = (weights != 0).any(0) & batch.counts.unsqueeze(-1)
    counts = batch.counts.repeat_interleave(weights.shape[-1])
    abstained = None
    if known is not None:
        abstained = ~known.to(weights.device).unsqueeze(1).expand(weights.shape)
        if batch.route is not None:
            abstained = abstained & routed(batch.route, len(weights)).unsqueeze(-1)
        abstained = abstained.flatten(1)
    return weights.detach().flatten(1), abstained, heard.flatten(), counts


def label_values(
    match: SoftMatch,
    view: View,
    *,
    combine: Literal["probabilities", "logits", "log_probabilities", "best", "losses"],
    temperature: float | Tensor,
) -> Tensor:
    r"""Values of one soft loss, ``[B]``: means over the labels that any teacher knows.

    The target is :math:`\tau` times the log-odds of the teachers' combined, softened probability. That is
    the mean of their logits unless probabilities are combined; and always, for losses on numbers.

    Args:
        match: The term.
        view: Student and teachers.
        combine: How several teachers become one.
        temperature: A number.
    """
    entry, student = match.entry, view.student.logits
    options: dict[str, Any] = dict(match.options)
    if "temperature" in entry.options:
        options["temperature"] = temperature
    teachers = view.teacher_logits(standardize=False, shift=False)  # [M, B, C]
    weights = _of_labels(view, teachers)
    heard = (weights != 0).any(0)  # [B, C]

    def values(target: Tensor) -> Tensor:
        if entry.name == "custom":  # sees all labels of a row, and its value is one of the row
            return entry.function(student, target, **options).unsqueeze(-1).expand(heard.shape)
        # One label is a position of one class, so its mean over classes is its value.
        return entry.function(student.unsqueeze(-1), target.unsqueeze(-1), **options)

    if len(teachers) == 1:
        found = values(teachers[0])
    elif combine == "losses":
        each = [
            torch.where(weight == 0, 0.0, weight * values(logits))
            for weight, logits in zip(weights, teachers, strict=True)
        ]
        found = torch.stack(each).sum(0)
    elif view.of_probabilities(entry) and combine in ("probabilities", "best"):
        log_p = combine_log_p(yes_no(teachers), weights, temperature=temperature, space=combine)
        found = values(temperature * (log_p[..., 1] - log_p[..., 0]))
    else:
        found = values(torch.where(weights == 0, 0.0, weights * teachers).sum(0))
    return _mean(found, heard)


def gate_values(learned: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """What a gate learns from, ``[B]``: means over the labels that are known.

    Args:
        learned: Its weights, ``[M, B, C]``.
        logits: Of the teachers, ``[M, B, C]``.
        labels: ``[B, C]``, 1 or 0, NaN where it is not known.
    """
    known = ~labels.isnan() & (learned != 0).any(0)
    return _mean(gate_loss(learned, yes_no(logits), _classes(labels)), known)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Over the labels of each row, ``[B, C] -> [B]``; 0 where none counts."""
    return torch.where(counted, values, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)


def _of_labels(view: View, like: Tensor) -> Tensor:
    """Weights ``[M, B, C]``."""
    if view.label_weights is not None:
        return view.label_weights
    weights = view.weights
    assert not isinstance(weights, Tensor), "weights that differ do so by label"
    return like.new_tensor(weights).view(-1, 1, 1).expand(like.shape)


def _classes(labels: Tensor) -> Tensor:
    """Classes no and yes, ``[B, C]`` int64, -100 where it is not known."""
    return torch.where(labels.isnan(), IGNORED_LABEL, labels).long()
