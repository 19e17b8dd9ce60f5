"""What the objective is made of, plain enough to travel to the workers, and when a step is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raydistill.alignment import ProjectionSpec
from raydistill.config.adversarial import AdversarialSection, VATSection
from raydistill.config.ensemble import FixedWeighting, WeightingSection
from raydistill.config.schedules import BalancingSection, NoBalancing, WeightSchedule
from raydistill.config.task import TaskKind
from raydistill.losses import PairScorer
from raydistill.schedules import Stage, stage_at
from raydistill.signals import Ask
from raydistill.terms.features import FeatureMatch, asked_of
from raydistill.terms.groups import GroupMatch
from raydistill.terms.hard import HardMatch
from raydistill.terms.soft import SoftMatch

__all__ = ["AdversarialMatch", "Moment", "ObjectivePlan", "Term"]

_FIXED, _UNBALANCED = FixedWeighting(), NoBalancing(kind="none")


@dataclass(frozen=True)
class Term:
    """One item of ``losses``, resolved.

    Attributes:
        name: ``0.cross_entropy``: its place and kind, as it is logged.
        match: What is computed.
        weight: Factor in the sum.
        schedule: How that changes; None: not at all.
    """

    name: str
    match: HardMatch | SoftMatch | FeatureMatch | GroupMatch
    weight: float = 1.0
    schedule: WeightSchedule | None = None


@dataclass(frozen=True)
class AdversarialMatch:
    """The term on adversarial examples.

    Attributes:
        section: How they are made, and the term's weight.
        target: The loss at them.
    """

    section: AdversarialSection
    target: SoftMatch | HardMatch

    @property
    def against(self) -> Literal["teachers", "labels", "self"]:
        """What the student's answer is compared with."""
        return "self" if isinstance(self.section, VATSection) else self.section.against


@dataclass(frozen=True)
class ObjectivePlan:
    """Everything the objective needs to know, plain enough to travel to the workers.

    Attributes:
        terms: In the order of the configuration.
        weights: Of the teachers, by name, summing to 1.
        columns: For each teacher the column of each of the student's classes; -1 where it has none.
        asks: What every teacher is asked for.
        combine: How several teachers become one target.
        temperatures: What divides each teacher's logits first; those not named: 1.
        weighting: How the weights of teachers differ from row to row.
        balancing: How terms of different scale are brought to one.
        projections: To be learned.
        group_rows: Rows that losses across rows see beside each other.
        stages: Parts of the run with terms of their own; none: all terms throughout.
        seed: Of first values, and of choices.
        task: What the outputs of student and teachers mean.
        adversarial: The term on adversarial examples, behind all others; None: there is none.
        scorer: What makes scores of the student's embeddings; None: it does not embed.
        scorers: The same of teachers that embed texts.
    """

    terms: tuple[Term, ...]
    weights: Mapping[str, float]
    columns: Mapping[str, tuple[int, ...]]
    asks: Mapping[str, Ask]
    combine: Literal["probabilities", "logits", "log_probabilities", "best", "losses"] = (
        "probabilities"
    )
    temperatures: Mapping[str, float] = field(default_factory=dict)
    weighting: WeightingSection = _FIXED
    balancing: BalancingSection = _UNBALANCED
    projections: tuple[ProjectionSpec, ...] = ()
    group_rows: int = 16
    stages: tuple[Stage, ...] = ()
    seed: int = 0
    task: TaskKind = "text_classification"
    adversarial: AdversarialMatch | None = None
    scorer: PairScorer | None = None
    scorers: Mapping[str, PairScorer] = field(default_factory=dict)

    @property
    def student_hidden(self) -> bool:
        """Whether the student's hidden states are needed."""
        matches = [t.match for t in self.terms if isinstance(t.match, FeatureMatch)]
        return any(not match.on_maps and match.states == "hidden" for match in matches)

    @property
    def student_inside(self) -> frozenset[str]:
        """What of the student's queries, keys and values is needed: ``query.3``."""
        matches = [t.match for t in self.terms if isinstance(t.match, FeatureMatch)]
        return frozenset(name for match in matches for name in match.inside)

    @property
    def student_attention(self) -> bool:
        """Whether the student's attention maps are needed."""
        return any(isinstance(t.match, FeatureMatch) and t.match.on_maps for t in self.terms)

    def active(self, step: int) -> frozenset[int]:
        """Places in :attr:`names` of what counts at a step; what else needs teachers where they are asked."""
        names = self.names
        if not self.stages:
            return frozenset(range(len(names)))
        terms = stage_at(self.stages, step).terms
        asked = bool(self.asks_at(step))
        alone = self.adversarial is not None and self.adversarial.against != "teachers"
        others = {
            place
            for place in range(len(self.terms), len(names))
            if asked or (alone and names[place] == "adversarial")
        }
        return terms | others

    def adversarial_at(self, step: int) -> bool:
        """Whether adversarial examples are made at a step."""
        return self.adversarial is not None and len(self.names) - 1 in self.active(step)

    def asks_at(self, step: int) -> Mapping[str, Ask]:
        """What every teacher is asked for at a step; nobody, if no term of its stage has teachers."""
        if len(self.stages) < 2:  # noqa: PLR2004 - one stage is the whole run
            return self.asks
        terms = [self.terms[place].match for place in stage_at(self.stages, step).terms]
        if all(_on_labels(match) for match in terms):
            return {}
        return {
            name: asked_of(name, terms, ask.dtype, ask.logits or "texts")
            for name, ask in self.asks.items()
        }

    @property
    def names(self) -> list[str]:
        """Of all that :meth:`Objective.forward` sums, as it is logged."""
        own = [term.name for term in self.terms]
        own += ["gate"] if self.weighting.kind == "gate" else []
        return own + (["adversarial"] if self.adversarial is not None else [])


def _on_labels(match: object) -> bool:
    """Whether a term asks no teacher."""
    return isinstance(match, HardMatch) or (
        isinstance(match, GroupMatch) and match.against == "labels"
    )


@dataclass(frozen=True)
class Moment:
    """When in a run.

    Attributes:
        step: Optimizer steps done.
        total: Of the run.
    """

    step: int = 0
    total: int = 1

    @property
    def progress(self) -> float:
        """Share of the run that is done, from 0 to below 1."""
        return self.step / self.total
