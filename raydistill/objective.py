r"""What is minimised.

.. math::
    L = \sum_i w_i \, \frac{\sum_{x \in B} \ell_i(x)}{n_i(B)}

over the terms i of ``losses``. B is the *global* batch: all micro-batches of all workers of one
optimizer step. :math:`n_i(B)` counts what term i averages over: rows with a label, rows, tokens, or pairs
of tokens. The objective gives sums and counts; who holds the whole batch divides. So the value does not
depend on how the batch was cut.

How one term is computed stands in :mod:`raydistill.terms`, the formulas in :mod:`raydistill.losses`, how
weights change during a run and what balances them in :mod:`raydistill.schedules`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raydistill.alignment import Projections, in_outputs
from raydistill.config.adversarial import AdversarialSection
from raydistill.config.ensemble import GateWeighting
from raydistill.config.schedules import (
    CurriculumTemperature,
    RelativeBalancing,
    UncertaintyBalancing,
)
from raydistill.config.task import EXCLUSIVE, HEADS
from raydistill.ensemble import gate_loss
from raydistill.errors import NotFiniteError
from raydistill.losses import initial_raw_variance, masked_sum
from raydistill.schedules import (
    LearnedTemperature,
    RelativeBalance,
    UncertaintyBalance,
    weight_factor,
)
from raydistill.signals import TeacherSignal
from raydistill.tasks import Batch
from raydistill.terms import (
    CommonClasses,
    FeatureMatch,
    GroupMatch,
    HardMatch,
    Moment,
    ObjectivePlan,
    SoftMatch,
    StudentOutputs,
    TeacherWeighting,
    Term,
    View,
    Weighed,
    abstaining,
    adversarial_sum,
    answering,
    attention_sum,
    by_position,
    common_classes,
    count_adversarial,
    count_features,
    count_groups,
    count_labels,
    gate_values,
    group_sum,
    hard_sum,
    known_columns,
    label_values,
    labelled_rows,
    learned_key,
    require_like_words,
    soft_values,
    states_sum,
    temperature_of,
    weigh_labels,
)

__all__ = ["Learned", "Moment", "Objective", "ObjectivePlan", "Term"]


@dataclass(frozen=True)
class Learned:
    """A parameter beside the student's.

    Attributes:
        parameter: Itself.
        learning_rate: Its own.
        weight_decay: Its own.
    """

    parameter: nn.Parameter
    learning_rate: float
    weight_decay: float


class Objective(nn.Module):
    """(student's outputs, batch, signals) -> one sum a term. Holds all that is learned beside the student.

    Args:
        plan: Terms, teachers, projections.
    """

    def __init__(self, plan: ObjectivePlan) -> None:
        super().__init__()
        self.plan = plan
        self.projections = Projections(plan.projections, seed=plan.seed)
        partial = any(min(columns) < 0 for columns in plan.columns.values())
        self.weighting = TeacherWeighting(plan.weighting, plan.weights, plan.seed, partial=partial)
        self._exclusive = plan.task in EXCLUSIVE
        self._known = None if self._exclusive else known_columns(plan.columns)
        if not self._exclusive:
            self.weighting.seen.unit = "labels"
        if HEADS[plan.task] in ("words", "spans"):
            self.weighting.seen.unit = HEADS[plan.task]
        self._last: tuple[Weighed, Tensor, Batch] | None = None
        self.temperatures = nn.ModuleDict()
        self.learned = nn.ParameterDict()
        for place, term in enumerate(plan.terms):
            self._prepare(place, term.match)
        number = len(plan.names)
        self.balance: UncertaintyBalance | RelativeBalance | None = None
        match plan.balancing:
            case UncertaintyBalancing():
                self.balance = UncertaintyBalance(number)
            case RelativeBalancing(main=main, max_factor=most, momentum=momentum):
                self.balance = RelativeBalance(
                    number, main=main, max_factor=most, momentum=momentum
                )

    def _prepare(self, place: int, match: object) -> None:
        """What a term learns beside the student and its projections."""
        if isinstance(match, SoftMatch) and isinstance(match.temperature, CurriculumTemperature):
            setting = match.temperature
            self.temperatures[str(place)] = LearnedTemperature(
                start=setting.start,
                minimum=setting.minimum,
                maximum=setting.maximum,
                strength=setting.reverse,
                rise_fraction=setting.rise_fraction,
            )
        if isinstance(match, FeatureMatch) and match.entry.name == "vid":
            for pair in match.pairs:
                start = initial_raw_variance(pair.width).float()
                self.learned[learned_key(match.name, pair)] = nn.Parameter(start)

    def weights(self, moment: Moment) -> list[float]:
        """Of the terms at one step, schedules included; 0 for those of other stages."""
        active = self.plan.active(moment.step)
        found = [
            term.weight * _factor(term, moment) if place in active else 0.0
            for place, term in enumerate(self.plan.terms)
        ]
        gate, adversarial = self.plan.weighting, self.plan.adversarial
        if gate.kind == "gate":
            found.append(gate.weight if len(self.plan.terms) in active else 0.0)
        if adversarial is not None:
            weight = adversarial.section.weight * _factor(adversarial.section, moment)
            found.append(weight if len(found) in active else 0.0)
        return found

    def counts(self, batch: Batch) -> Tensor:
        """What a batch adds to the denominator of each term, ``[terms]`` float64."""
        heard = self._heard(batch, self._answering(batch))
        labelled = labelled_rows(batch.labels)
        numbers = []
        for term in self.plan.terms:
            match term.match:
                case HardMatch():
                    numbers.append(count_labels(term.match, batch))
                case SoftMatch(entry=entry):
                    numbers.append((heard & labelled if "labels" in entry.needs else heard).sum())
                case FeatureMatch():
                    numbers.append(count_features(term.match, batch, heard))
                case GroupMatch():
                    numbers.append(count_groups(term.match, batch, heard))
        if self.plan.weighting.kind == "gate":
            numbers.append((heard & labelled).sum())
        if self.plan.adversarial is not None:
            numbers.append(count_adversarial(self.plan.adversarial, batch, heard))
        return torch.stack(numbers).double()

    def _answering(self, batch: Batch) -> Tensor | None:
        """Which teachers are heard about which rows, ``[M, B]``; None: all about all."""
        by_column = self.plan.weighting.kind == "routing"
        assert (batch.route is not None) == by_column, "whoever reads the data reads the routes"
        return answering(batch, self.plan.columns)

    @staticmethod
    def _heard(batch: Batch, answered: Tensor | None) -> Tensor:
        """Bool ``[B]``: rows that count and that any teacher says something about."""
        return batch.counts if answered is None else batch.counts & answered.any(0)

    def forward(
        self,
        student: StudentOutputs,
        batch: Batch,
        signals: Mapping[str, TeacherSignal],
        moment: Moment,
    ) -> Tensor:
        """Sums over what counts in this micro-batch, ``[terms]`` float32, unweighted, not divided.

        Args:
            student: What it says about the rows.
            batch: The rows.
            signals: The teachers' answers for the same rows.
            moment: Of the step.
        """
        answered = self._answering(batch)
        heard, labelled = self._heard(batch, answered), labelled_rows(batch.labels)
        common = self._in_common(student.logits, batch, signals)
        logits = common.teachers
        weighed = self._weigh(logits, batch, answered, moment)
        self._last = weighed, heard, batch
        view = View(
            replace(student, logits=common.student), batch, heard, signals, logits, weighed.weights, self.plan.group_rows, answered,
            weighed.by_label, self.plan.task, common.number, self.plan.scorer, self.plan.temperatures,
        )  # fmt: skip
        values_of = soft_values if self._exclusive else label_values
        sums: list[Tensor] = []
        active = self.plan.active(moment.step)
        for place, term in enumerate(self.plan.terms):
            match = term.match
            if place not in active:
                sums.append(student.logits.new_zeros(()))
            elif isinstance(match, HardMatch):
                sums.append(hard_sum(match, student.logits, batch))
            elif isinstance(match, SoftMatch):
                learned = self._learned_temperature(place)
                tau = temperature_of(match, view, moment.progress, learned)
                values = values_of(match, view, combine=self.plan.combine, temperature=tau)
                counted = heard & labelled if "labels" in match.entry.needs else heard
                sums.append(masked_sum(values, counted))
            elif isinstance(match, GroupMatch):
                combine, progress = self.plan.combine, moment.progress
                sums.append(group_sum(match, view, combine=combine, progress=progress))
            elif match.on_maps:
                sums.append(attention_sum(match, view))
            else:
                sums.append(states_sum(match, view, self.projections, self.learned))
        if weighed.learned is not None and logits is not None:
            loss_of = gate_loss if self._exclusive else gate_values
            values = loss_of(weighed.learned, logits, batch.labels)
            sums.append(masked_sum(values, heard & labelled))
        elif self.plan.weighting.kind == "gate":
            sums.append(student.logits.new_zeros(()))
        if self.plan.adversarial is not None and len(sums) in active:
            drawn = {"seed": self.plan.seed, "step": moment.step}
            combine = self.plan.combine
            sums.append(adversarial_sum(self.plan.adversarial, view, combine=combine, **drawn))
        elif self.plan.adversarial is not None:
            sums.append(student.logits.new_zeros(()))
        return torch.stack(sums)

    def _learned_temperature(self, place: int) -> nn.Module | None:
        key = str(place)
        return self.temperatures[key] if key in self.temperatures else None  # noqa: SIM401 - it has no get

    def _in_common(
        self, student: Tensor, batch: Batch, signals: Mapping[str, TeacherSignal]
    ) -> CommonClasses:
        """Logits of student and teachers in the same classes: the student's, or of windows those that all have."""
        if not signals:
            return CommonClasses(student)
        if batch.spans is not None:
            return common_classes(student, batch, signals, self.plan.temperatures)
        if batch.words is not None:
            require_like_words(batch, signals)
        place, missing = student.device, -torch.inf if self._exclusive else 0.0
        logits = torch.stack([
            in_outputs(
                self.plan.task, signal.logits.to(place).float(), self.plan.columns[name], missing
            )
            / self.plan.temperatures.get(name, 1.0)
            for name, signal in signals.items()
        ])  # fmt: skip
        return CommonClasses(student, logits)

    def _weigh(
        self, logits: Tensor | None, batch: Batch, answered: Tensor | None, moment: Moment
    ) -> Weighed:
        """What each teacher counts."""
        if logits is None:
            return Weighed([])
        if self._exclusive:
            weighed: Weighed = self.weighting(logits, batch.labels, answered, moment.step)
            return weighed
        return weigh_labels(
            self.weighting,
            logits,
            batch.labels,
            known=self._known,
            answered=answered,
            step=moment.step,
        )

    def note_weights(self) -> None:
        """Take the last micro-batch into the record of what teachers counted."""
        assert self._last is not None, "a forward pass comes first"
        weighed, heard, batch = self._last
        if weighed.by_label is not None:
            self.weighting.seen.add(*by_position(weighed.by_label, self._known, batch))
        elif isinstance(weighed.weights, Tensor):
            abstained = abstaining(batch, self.plan.columns)
            self.weighting.seen.add(weighed.weights.detach(), abstained, heard, batch.counts)

    def total(self, terms: Tensor, moment: Moment, batch: Batch, counts: Tensor) -> Tensor:
        """This micro-batch's share of what is minimised, a scalar.

        Args:
            terms: Its shares of the terms' values, ``[terms]``.
            moment: Of the step.
            batch: Its rows.
            counts: What each term averages over in the whole step.
        """
        weights = terms.new_tensor(self.weights(moment))
        if isinstance(self.balance, UncertaintyBalance):
            share = self.counts(batch).to(terms) / counts.clamp(min=1.0)
            balanced: Tensor = self.balance(terms, weights, share)
            return balanced
        if self.balance is not None:
            weights = self.balance(weights)
        return (weights * terms).sum()

    @property
    def balance_needs_values(self) -> bool:
        """Whether :meth:`update_balance` must follow each step."""
        return isinstance(self.balance, RelativeBalance)

    def update_balance(self, values: Tensor, counts: Tensor, moment: Moment) -> None:
        """Take in the terms' values of a step that is done, over all workers."""
        if isinstance(self.balance, RelativeBalance):
            active = self.plan.active(moment.step)
            there = [place in active for place in range(len(values))]
            self.balance.update(values, (counts > 0) & torch.tensor(there, device=counts.device))

    def learns(self, rate: float, decay: float) -> Iterator[Learned]:
        """All that is learned here, with rates.

        Args:
            rate: Of projections without one of their own, and of all that has no rate.
            decay: Of matrices of projections without one of their own, and of the gate.
        """
        for spec in self.projections.specs:
            own = decay if spec.weight_decay is None else spec.weight_decay
            for parameter in self.projections.by_key[spec.key].parameters():
                keeps = parameter.ndim > 1 and spec.kind != "orthogonal"
                yield Learned(parameter, spec.learning_rate or rate, own if keeps else 0.0)
        gate = self.plan.weighting
        if isinstance(gate, GateWeighting):
            for parameter in self.weighting.parameters():
                yield Learned(parameter, gate.learning_rate, decay)
        for place, module in self.temperatures.items():
            match = self.plan.terms[int(place)].match
            setting = getattr(match, "temperature", None)
            own = setting.learning_rate if isinstance(setting, CurriculumTemperature) else rate
            for parameter in module.parameters():
                yield Learned(parameter, own, 0.0)
        for parameter in self.learned.parameters():
            yield Learned(parameter, rate, 0.0)
        if isinstance(self.plan.balancing, UncertaintyBalancing) and self.balance is not None:
            for parameter in self.balance.parameters():
                yield Learned(parameter, self.plan.balancing.learning_rate, 0.0)

    def require_finite(self, sums: Tensor, batch: Batch) -> None:
        """Raise NotFiniteError naming the term and the rows of a micro-batch."""
        bad = (~torch.isfinite(sums)).nonzero().flatten().tolist()
        if bad:
            names = ", ".join(f"losses.{self.plan.names[i]}" for i in bad)
            raise NotFiniteError(
                names, batch.row_ids, "Lower training.learning_rate, or train in float32."
            )


def _factor(term: Term | AdversarialSection, moment: Moment) -> float:
    return 1.0 if term.schedule is None else weight_factor(term.schedule, moment.progress)
