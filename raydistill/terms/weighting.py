"""How much each teacher counts in each row of a micro-batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydistill.alignment import known_labels
from raydistill.config.ensemble import (
    AgreementWeighting,
    ConfidenceWeighting,
    GateWeighting,
    LabelWeighting,
    StochasticWeighting,
    WeightingSection,
)
from raydistill.ensemble import (
    Gate,
    agreement_weights,
    chosen_weights,
    confidence_weights,
    fixed_weights,
    gate_features,
    label_cross_entropy_weights,
    routed,
    stochastic_choice,
)
from raydistill.tasks import Batch

__all__ = ["Seen", "TeacherWeighting", "Weighed", "abstaining", "answering"]


@dataclass(frozen=True)
class Weighed:
    """Weights of a micro-batch.

    Attributes:
        weights: Numbers if they are the same in all rows, else ``[M, B]``, without gradient.
        learned: ``[M, B]`` with the gate's gradient, if there is a gate.
        by_label: ``[M, B, C]``, where they differ and labels do not exclude each other. Then learned has
            that shape too, and weights are means over the labels.
    """

    weights: Sequence[float] | Tensor
    learned: Tensor | None = None
    by_label: Tensor | None = None


class Seen:
    """What teachers counted since the last look, in rows that count; plain sums, not part of a checkpoint.

    Args:
        names: Of the teachers.
        partial: Whether any of them may abstain.
    """

    def __init__(self, names: Sequence[str], *, partial: bool = False) -> None:
        self.names = list(names)
        self.unit = "rows"
        self.abstained = dict.fromkeys(names if partial else (), 0)
        """Rows (or labels in rows) that a teacher said nothing about, since the beginning."""
        self.clear()

    def clear(self) -> None:
        """Begin anew with the weights."""
        self.sums = torch.zeros(len(self.names), dtype=torch.float64)
        self.rows = 0

    def add(self, weights: Tensor, abstained: Tensor | None, heard: Tensor, counts: Tensor) -> None:
        """One micro-batch.

        Args:
            weights: ``[M, B]``.
            abstained: Bool ``[M, B]``, as of :func:`abstaining`.
            heard: Bool ``[B]``, rows that count and that any teacher says something about.
            counts: Bool ``[B]``, rows that count.
        """
        self.sums += weights[:, heard].sum(1).double().cpu()
        self.rows += int(heard.sum())
        if abstained is not None:
            numbers = (abstained & counts).sum(1).tolist()
            for name, number in zip(self.abstained, numbers, strict=True):
                self.abstained[name] += number


def answering(batch: Batch, columns: Mapping[str, Sequence[int]]) -> Tensor | None:
    """Which teachers are heard about which rows, ``[M, B]`` bool; None: all about all.

    A teacher that does not know all of the task's classes abstains in rows whose label it does not
    know. Rows without a label it answers, with no probability for those classes. Where labels do not
    exclude each other it answers all rows, see :mod:`raydistill.terms.by_label`. Where rows have
    routes only the teacher that a row goes to is heard about it. Of words a teacher is heard about those
    that its tokenizer makes pieces of; one that does not know all tags says nothing about words without
    a tag, since its "outside" means the others too.

    Args:
        batch: The rows.
        columns: Of each teacher the column of each class, -1 where it has none.
    """
    masks = [_knowing(batch, columns), batch.answered]
    if batch.route is not None:
        masks.append(routed(batch.route, len(columns)))
    there = [mask for mask in masks if mask is not None]
    return torch.stack(there).all(0) if there else None


def abstaining(batch: Batch, columns: Mapping[str, Sequence[int]]) -> Tensor | None:
    """Which teachers ought to be heard about which rows and do not know their label, ``[M, B]``; None: none.

    Args:
        batch: The rows. Who is not heard for a row's route does not abstain.
        columns: Of each teacher the column of each class, -1 where it has none.
    """
    known = _knowing(batch, columns)
    if known is None:
        return None
    ought = ~known if batch.answered is None else ~known & batch.answered
    return ought if batch.route is None else ought & routed(batch.route, len(columns))


def _knowing(batch: Batch, columns: Mapping[str, Sequence[int]]) -> Tensor | None:
    """Which teachers know which rows' label, ``[M, B]``; None: all know all, or labels have their own say."""
    everything = all(column >= 0 for one in columns.values() for column in one)
    if batch.labels.dim() > 1 or everything:
        return None
    known = torch.stack([known_labels(batch.labels, one) for one in columns.values()])
    if batch.words is None:
        return known
    whole = torch.tensor([min(one) >= 0 for one in columns.values()], device=known.device)
    return known & (whole.unsqueeze(1) | (batch.labels >= 0))


class TeacherWeighting(nn.Module):
    """The configured weighting; holds the gate, if that is what learns.

    Args:
        section: As configured.
        base: Weight of each teacher, summing to 1.
        seed: Of choices.
        partial: Whether any of them may abstain.
    """

    def __init__(
        self,
        section: WeightingSection,
        base: Mapping[str, float],
        seed: int,
        *,
        partial: bool = False,
    ) -> None:
        super().__init__()
        self.section, self.base, self.seed = section, list(base.values()), seed
        self.seen = Seen(list(base), partial=partial)
        self.gate: Gate | None = None
        if isinstance(section, GateWeighting) and self.base:
            self.gate = Gate(2 * len(self.base), self.base)

    def forward(
        self, logits: Tensor, labels: Tensor, answered: Tensor | None, step: int
    ) -> Weighed:
        """The weights of a micro-batch.

        Args:
            logits: Of the teachers, ``[M, B, C]``; not read where one does not answer. Any number of
                dimensions may stand for the rows.
            labels: Hard labels, ``[B]``.
            answered: Bool ``[M, B]``; None: all answer.
            step: Optimizer steps done.
        """
        section, base = self.section, self.base
        if isinstance(section, StochasticWeighting):
            index = stochastic_choice(base, seed=self.seed, step=step)
            base = chosen_weights(index, len(base)).tolist()
        everywhere = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        there = everywhere if answered is None else answered
        match section:
            case ConfidenceWeighting():
                options = {"temperature": section.temperature, "sharpness": section.sharpness}
                return Weighed(confidence_weights(logits, base, there, **options))
            case AgreementWeighting():
                options = {"temperature": section.temperature, "sharpness": section.sharpness}
                return Weighed(agreement_weights(logits, base, there, **options))
            case LabelWeighting():
                return Weighed(label_cross_entropy_weights(logits, labels, base, there))
            case GateWeighting() if self.gate is not None:
                learned = self.gate(gate_features(logits, there), there)
                return Weighed(learned.detach(), learned)
        if answered is None:
            return Weighed(base)
        weights = fixed_weights(base, answered)
        # What the one that was drawn does not know the others teach.
        rest = fixed_weights(self.base, answered)
        return Weighed(torch.where(weights.sum(0) == 0, rest, weights))
