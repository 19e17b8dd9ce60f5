r"""What is minimised.

.. math::
    L = \sum_i w_i \, \frac{\sum_{x \in B} \ell_i(x)}{n_i(B)}

over the terms i of ``losses``. B is the *global* batch: all micro-batches of all workers of one
optimizer step. :math:`n_i(B)` counts what term i averages over: rows with a label, rows, or tokens.
The objective gives sums and counts; who holds the whole batch divides. So the value does not depend
on how the batch was cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from raydistill.alignment import Projections, ProjectionSpec
from raydistill.config.losses import (
    CrossEntropyLoss,
    HiddenMSELoss,
    LossSection,
    SoftLoss,
)
from raydistill.ensemble import combine_log_p
from raydistill.errors import NotFiniteError, SignalError
from raydistill.losses import (
    IGNORED_LABEL,
    cross_entropy,
    forward_kl,
    forward_kl_from_log_p,
    hidden_mse_sum,
    masked_sum,
    soft_cross_entropy,
    soft_cross_entropy_from_log_p,
)
from raydistill.models import pool_hidden
from raydistill.signals import Ask, HiddenAsk, TeacherSignal
from raydistill.tasks import Batch

__all__ = ["HiddenPair", "Objective", "ObjectivePlan", "Term"]

_FROM_LOGITS = {"soft_cross_entropy": soft_cross_entropy, "forward_kl": forward_kl}
_FROM_LOG_P = {
    "soft_cross_entropy": soft_cross_entropy_from_log_p,
    "forward_kl": forward_kl_from_log_p,
}


@dataclass(frozen=True)
class HiddenPair:
    """One pair of hidden states that is compared.

    Attributes:
        teacher: Its name.
        student_layer: 0 the embeddings, k after block k.
        teacher_layer: Likewise.
        projection: Key of its projection; None compares directly.
    """

    teacher: str
    student_layer: int
    teacher_layer: int
    projection: str | None


@dataclass(frozen=True)
class Term:
    """One item of ``losses``, resolved.

    Attributes:
        name: ``0.cross_entropy``: its place and kind, as it is logged.
        loss: As configured.
        pairs: For hidden losses.
    """

    name: str
    loss: LossSection
    pairs: tuple[HiddenPair, ...] = ()


@dataclass(frozen=True)
class ObjectivePlan:
    """Everything the objective needs to know, plain enough to travel to the workers.

    Attributes:
        terms: In the order of the configuration.
        combine: ``probabilities``, ``logits`` or ``losses``.
        weights: Of the teachers, by name, summing to 1.
        columns: For each teacher the column of each of the student's classes.
        asks: What every teacher is asked for.
        projections: To be learned.
        seed: Of their first values.
    """

    terms: tuple[Term, ...]
    combine: Literal["probabilities", "logits", "losses"]
    weights: Mapping[str, float]
    columns: Mapping[str, tuple[int, ...]]
    asks: Mapping[str, Ask]
    projections: tuple[ProjectionSpec, ...]
    seed: int

    @property
    def student_hidden(self) -> bool:
        """Whether the student's hidden states are needed."""
        return any(term.pairs for term in self.terms)


class Objective(nn.Module):
    """(student's outputs, batch, signals) -> one sum a term. Holds the projections.

    Args:
        plan: Terms, teachers, projections.
    """

    def __init__(self, plan: ObjectivePlan) -> None:
        super().__init__()
        self.plan = plan
        self.projections = Projections(plan.projections, seed=plan.seed)

    def counts(self, batch: Batch) -> Tensor:
        """What a batch adds to the denominator of each term, ``[terms]`` float64."""
        rows = batch.counts
        numbers = []
        for term in self.plan.terms:
            if isinstance(term.loss, CrossEntropyLoss):
                numbers.append((rows & (batch.labels != IGNORED_LABEL)).sum())
            elif isinstance(term.loss, HiddenMSELoss) and term.loss.positions == "all":
                numbers.append((rows.unsqueeze(1) & batch.token_mask).sum())
            else:
                numbers.append(rows.sum())
        return torch.stack(numbers).double()

    def forward(
        self,
        logits: Tensor,
        hidden_states: Sequence[Tensor] | None,
        batch: Batch,
        signals: Mapping[str, TeacherSignal],
    ) -> Tensor:
        """Sums over what counts in this micro-batch, ``[terms]`` float32, unweighted, not divided.

        Args:
            logits: Of the student, ``[B, C]``.
            hidden_states: Of the student, ``[B, S, D]`` each, index 0 the embeddings.
            batch: The rows.
            signals: The teachers' answers for the same rows.
        """
        teacher_logits = {
            name: signal.logits.to(logits.device).float()[:, list(self.plan.columns[name])]
            for name, signal in signals.items()
        }
        sums = []
        for term in self.plan.terms:
            loss = term.loss
            if isinstance(loss, CrossEntropyLoss):
                mask = batch.counts & (batch.labels != IGNORED_LABEL)
                sums.append(masked_sum(cross_entropy(logits, batch.labels), mask))
            elif isinstance(loss, HiddenMSELoss):
                if hidden_states is None:
                    raise SignalError(f"losses.{term.name} needs the student's hidden states.")
                sums.append(self._hidden(term, loss, hidden_states, batch, signals))
            else:
                sums.append(masked_sum(self._soft(loss, logits, teacher_logits), batch.counts))
        return torch.stack(sums)

    def _soft(self, loss: SoftLoss, logits: Tensor, teachers: Mapping[str, Tensor]) -> Tensor:
        """One soft term, ``[B]``, by the ensemble's way of combining."""
        temperature, squared = loss.temperature, loss.scale_by_temperature_squared
        weights = [self.plan.weights[name] for name in teachers]
        if self.plan.combine == "losses":
            single = _FROM_LOGITS[loss.kind]
            values = [
                weight
                * single(logits, z, temperature=temperature, scale_by_temperature_squared=squared)
                for weight, z in zip(weights, teachers.values(), strict=True)
            ]
            return torch.stack(values).sum(0)
        log_p = combine_log_p(
            list(teachers.values()), weights, temperature=temperature, space=self.plan.combine
        )
        return _FROM_LOG_P[loss.kind](
            logits, log_p, temperature=temperature, scale_by_temperature_squared=squared
        )

    def _hidden(
        self,
        term: Term,
        loss: HiddenMSELoss,
        hidden_states: Sequence[Tensor],
        batch: Batch,
        signals: Mapping[str, TeacherSignal],
    ) -> Tensor:
        """Sum over teachers of weight times sum over its pairs; a scalar, summed over positions."""
        mask = batch.token_mask
        counts = batch.counts
        if loss.positions == "all":
            counts = counts.repeat_interleave(mask.sum(1))
        total = hidden_states[0].new_zeros((), dtype=torch.float32)
        # Once a layer, however many teachers: gathering tokens costs as much as comparing them.
        pooled = {
            layer: pool_hidden(hidden_states[layer], mask, loss.positions)
            for layer in dict.fromkeys(pair.student_layer for pair in term.pairs)
        }
        matched: dict[tuple[int, str | None], list[HiddenPair]] = {}
        for pair in term.pairs:
            matched.setdefault((pair.student_layer, pair.projection), []).append(pair)
        for (layer, projection), pairs in matched.items():
            student, teachers = pooled[layer], []
            for pair in pairs:
                states = signals[pair.teacher].hidden(HiddenAsk(pair.teacher_layer, loss.positions))
                if len(states) != len(student):
                    raise SignalError(
                        f"losses.{term.name}: teachers.{pair.teacher} has {len(states)} tokens for rows "
                        f"{batch.row_ids[0]}…, the student {len(student)}. Both must tokenize alike; else "
                        "use positions: first or mean."
                    )
                teachers.append(states.to(student.device))
            if projection is not None:
                student = self.projections(projection, student)
            weights = [self.plan.weights[pair.teacher] for pair in pairs]
            total = total + hidden_mse_sum(student, teachers, weights, counts)
        return total

    def require_finite(self, sums: Tensor, batch: Batch) -> None:
        """Raise NotFiniteError naming the term and the rows of a micro-batch."""
        bad = (~torch.isfinite(sums)).nonzero().flatten().tolist()
        if bad:
            names = ", ".join(f"losses.{self.plan.terms[i].name}" for i in bad)
            raise NotFiniteError(
                names, batch.row_ids, "Lower training.learning_rate, or train in float32."
            )
