"""How several teachers become one."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import NonNegative, Positive, Section

__all__ = [
    "AgreementWeighting",
    "ConfidenceWeighting",
    "EnsembleSection",
    "FixedWeighting",
    "GateWeighting",
    "LabelWeighting",
    "RoutingWeighting",
    "StochasticWeighting",
    "ValidationWeighting",
    "WeightingSection",
]


class FixedWeighting(Section):
    """The same in every row: `ensemble.weights`."""

    kind: Literal["fixed"] = "fixed"
    """Which way this is."""


class ValidationWeighting(Section):
    """By each teacher's score on held-out rows, the same in every row: e to the power of sharpness times score.

    Scores that are not written are measured on the validation split before training starts, each
    teacher's on the rows whose label it knows; a resumed run keeps the weights of its beginning.
    """

    kind: Literal["validation"]
    """Which way this is."""
    scores: Annotated[dict[str, float], Field(min_length=1)] | None = None
    """Of every teacher, e.g. its accuracy on the validation split (`raydistill evaluate`). Null: they are
    measured."""
    metric: str | None = None
    """What is measured, a metric of the task; null: the first of them (accuracy, micro_f1, rmse). Whether
    smaller is better is known."""
    sharpness: NonNegative = 20.0
    """How much a difference counts: at 20 a lead of .05 weighs 2.7 times."""
    greater_is_better: bool = True
    """False if scores are losses; of measured ones the metric says it."""


class ConfidenceWeighting(Section):
    """Row by row, more for teachers that are sure (low entropy)."""

    kind: Literal["confidence"]
    """Which way this is."""
    temperature: Positive = 1.0
    """What their distributions are softened with before they are judged."""
    sharpness: NonNegative = 1.0
    """0: ensemble.weights as they are."""


class LabelWeighting(Section):
    """Row by row, more for teachers that give the label more probability (CA-MKD).

    Rows without a label: ensemble.weights.
    """

    kind: Literal["label_cross_entropy"]
    """Which way this is."""


class AgreementWeighting(Section):
    """Row by row, more for teachers that say what the others say; from three teachers on."""

    kind: Literal["agreement"]
    """Which way this is."""
    temperature: Positive = 1.0
    """What their distributions are softened with before they are compared."""
    sharpness: NonNegative = 1.0
    """0: ensemble.weights as they are."""


class GateWeighting(Section):
    """Row by row, by a small gate that foresees from the teachers' answers who will be right.

    It learns from labelled rows, with a loss of its own.
    """

    kind: Literal["gate"]
    """Which way this is."""
    weight: Positive = 1.0
    """Of its loss in the sum."""
    learning_rate: Positive = 0.01
    """Of its parameters."""


class StochasticWeighting(Section):
    """One teacher for a whole step, drawn by `ensemble.weights`, the same after a resume.

    All are asked all the same: their answers are kept for the next epoch. What the drawn one does not
    know (missing_labels: abstain) the others teach.
    """

    kind: Literal["stochastic"]
    """Which way this is."""


class RoutingWeighting(Section):
    """One teacher for each row, named by a column of the data: a language, a source, a domain.

    A row whose teacher abstains (`missing_labels`) has none. All teachers are asked for all rows all the
    same: their answers are kept in the store, for any other routes.
    """

    kind: Literal["routing"]
    """Which way this is."""
    column: str
    """Column of every split whose cells, texts or numbers, say where a row goes."""
    routes: dict[str, str] = {}
    """Cell to teacher, e.g. {zh: e5, en: minilm}. A cell that is a teacher's name goes to that teacher."""
    others: Literal["refuse", "all"] = "refuse"
    """Rows with any other cell, empty ones too. refuse: they are a fault. all: all teachers speak, by
    `ensemble.weights`."""


WeightingSection = Annotated[
    FixedWeighting
    | ValidationWeighting
    | ConfidenceWeighting
    | LabelWeighting
    | AgreementWeighting
    | GateWeighting
    | StochasticWeighting
    | RoutingWeighting,
    Field(discriminator="kind"),
]


class EnsembleSection(Section):
    """How several teachers become one soft target."""

    combine: Literal["probabilities", "logits", "log_probabilities", "best", "losses"] = (
        "probabilities"
    )
    """probabilities: mean of the softened distributions. logits: mean of the logits before the
    softmax (TextBrewer's). log_probabilities: the same, safe for logits far from 0. best: in each row
    the teacher of the largest weight alone. losses: one loss a teacher, summed. Of
    multi_label_classification all that is done label by label, each a yes or no with a sigmoid; of
    regression there are losses and, by every other word, the mean of the numbers."""
    weights: dict[str, Positive] = {}
    """Relative weight of each teacher, normalised to a sum of 1; teachers not named count 1."""
    temperatures: dict[str, Positive] = {}
    """Divides one teacher's logits before anything else, for those that are more or less sure than they
    ought to be; teachers not named: 1."""
    weighting: WeightingSection = FixedWeighting()
    """How weights differ from row to row (of multi_label_classification, from label to label too). Weights
    of losses on features are the same ones."""
