"""What a search varies, how it chooses, when it stops, and what becomes of the winner."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from raydistill.config.base import (
    NonNegative,
    Positive,
    PositiveInt,
    Section,
    Whole,
    WholeNonNegative,
    one_sentence,
)

__all__ = [
    "AshaStopper",
    "Budget",
    "ChoiceParameter",
    "FinalSection",
    "GridParameter",
    "IntegerParameter",
    "LogUniformParameter",
    "MedianStopper",
    "ObjectiveSection",
    "Parameter",
    "PbtSection",
    "SearchSection",
    "SpacePath",
    "SubsetsParameter",
    "TuningSection",
    "UniformParameter",
]

SpacePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
"""A setting by its path, `losses.1.temperature`."""
_Share = Annotated[Positive, Field(le=1)]


class _Parameter(Section):
    when: dict[SpacePath, Any] = {}
    """Only where other parameters have these values (or one of those in a list); elsewhere the setting
    stays as the configuration has it."""


class _Range(_Parameter):
    low: float
    """Smallest value."""
    high: float
    """Largest value."""


class UniformParameter(_Range):
    """A number, all alike likely."""

    kind: Literal["uniform"]
    """A number, all alike likely."""
    step: Positive | None = None
    """Only `low` and multiples of it above, as far as they go; null: any number."""


class LogUniformParameter(_Range):
    """A positive number whose logarithm is uniform."""

    kind: Literal["loguniform"]
    """A positive number whose logarithm is uniform."""


class IntegerParameter(_Parameter):
    """A whole number, `low` and `high` among them."""

    kind: Literal["randint"]
    """A whole number, `low` and `high` among them."""
    low: Whole
    """Smallest value."""
    high: Whole
    """Largest value."""


class ChoiceParameter(_Parameter):
    """One of some values, of whatever the setting may be: numbers, names, layer maps, whole sections."""

    kind: Literal["choice"]
    """One of some values, of whatever the setting may be: numbers, names, layer maps, whole sections."""
    values: list[Any]
    """What there is to choose from; two at least."""


class GridParameter(_Parameter):
    """Each of some values in turn."""

    kind: Literal["grid"]
    """Each of some values in turn, with all those of other grids: a search of kind grid tries all
    combinations, one of kind random goes through them and draws the rest."""
    values: list[Any]
    """Which."""


class SubsetsParameter(_Parameter):
    """Some of the teachers; only at the path `teachers`."""

    kind: Literal["subsets"]
    """Some of the teachers; only at the path `teachers`. Weights, temperatures, routes and layer maps of the
    others go with them, and losses whose layers are theirs alone."""
    min: PositiveInt = 1
    """How many at least."""
    max: PositiveInt | None = None
    """How many at most; null: all."""


Parameter = Annotated[
    UniformParameter
    | LogUniformParameter
    | IntegerParameter
    | ChoiceParameter
    | GridParameter
    | SubsetsParameter,
    Field(discriminator="kind"),
]


class SearchSection(Section):
    """How values are chosen."""

    kind: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: Optuna's, by what earlier trials found, for one objective or several. random: by chance.
    grid: all combinations of choices and grids."""
    seed: WholeNonNegative = 0
    """Of what is chosen. With `concurrent: 1` the same trials come in every search, resumed or not."""
    startup_trials: PositiveInt = 8
    """tpe: trials chosen by chance before it learns from them."""


class ObjectiveSection(Section):
    """What a trial is judged by."""

    metric: str | None = None
    """A metric of the validation rows, or of the student: student/parameters, student/disk_bytes,
    student/latency_ms (one row), student/latency_ms_32 (32 rows). Never one of the test rows. Null:
    that of training.select_by."""
    goal: Literal["max", "min", "auto"] = "auto"
    """auto: as the metric is better."""
    limit: float | None = None
    """The winner keeps to it: at most that much, or at least where more is better. Null: none."""


class AshaStopper(Section):
    """Asynchronous successive halving: at each mark only the better part goes on."""

    kind: Literal["asha"]
    """Asynchronous successive halving: at each mark only the better part goes on."""
    min_share: _Share = 0.25
    """Share of its steps that every trial may do."""
    reduction: Annotated[float, Field(gt=1)] = 2.0
    """One in so many goes on, and so many times later is the next mark."""


class MedianStopper(Section):
    """Ends a trial that is worse than the median of the others so far."""

    kind: Literal["median"]
    """Ends a trial that is worse than the median of the others so far."""
    min_share: _Share = 0.25
    """Share of its steps that every trial may do."""
    min_trials: PositiveInt = 3
    """How many others there must be."""


class PbtSection(Section):
    """Population-based training: after each round the worst go on from the best, a little changed."""

    kind: Literal["pbt"]
    """Population-based training: after each round the worst go on from the weights of the best, with
    its temperatures and weights a little changed."""
    rounds: Annotated[int, Field(ge=2)] = 4
    """How many parts the steps are cut into."""
    exchange: Annotated[Positive, Field(le=0.5)] = 0.25
    """Share of the population that is replaced after a round."""
    factors: list[Positive] = Field(default=[0.8, 1.25], min_length=1)
    """A setting that is taken over is multiplied by one of these, within its range."""


class Budget(Section):
    """What a search may take; when it is used up no further trial starts, and those that run end."""

    seconds: Positive | None = None
    """Of all its sittings together. Null: no limit."""
    cost: Positive | None = None
    """Of the trials: their seconds times what their workers hold. Null: no limit."""
    cpu_hour: NonNegative = 0.0
    """What a CPU costs in an hour."""
    gpu_hour: NonNegative = 0.0
    """What a GPU costs in an hour."""


class FinalSection(Section):
    """What is done with the winner."""

    seeds: PositiveInt = 1
    """The winner and the recipe as it was written are trained so often, each time with another seed, and
    measured on all of evaluation.splits."""
    register_model: bool = True
    """Its best student becomes a version of tracking.registered_model."""


Stopper = Annotated[AshaStopper | MedianStopper | PbtSection, Field(discriminator="kind")]


class TuningSection(Section):
    """A search over settings of this configuration, `raydistill tune`; other commands do not look at it."""

    space: dict[SpacePath, Parameter] = Field(min_length=1)
    """What varies, by path: `losses.1.temperature: {kind: uniform, low: 1, high: 8}`."""
    search: SearchSection = SearchSection()
    """How values are chosen."""
    objectives: list[ObjectiveSection] = Field(default=[ObjectiveSection()], min_length=1)
    """One, or several: then the trials that none is better than in all of them are the front, and the
    winner is the one that is best in the first."""
    trials: PositiveInt = 16
    """How many, the configuration as it is written among them: it is trial 0. Of a grid at most so many."""
    concurrent: Annotated[
        PositiveInt | Literal["auto"], one_sentence("must be a number, 1 or more, or auto")
    ] = "auto"
    """Trials at the same time. auto: as many as there is room for, which a cluster that grows does not say."""
    seeds_per_trial: PositiveInt = 1
    """Runs of a trial, each with another seed; it is judged by their mean."""
    stopper: Stopper | None = None
    """Ends trials that do not promise much, by the first objective of validation rows; or, kind: pbt,
    exchanges them. Null: none."""
    budget: Budget = Budget()
    """What the search may take."""
    answers: Literal["auto", "filled", "served"] = "auto"
    """filled: the teachers answer all rows before the first trial, each once, and leave room for students.
    served: they stay as long as the search and answer what trials ask. auto: filled, where all rows are
    known and the store has no limit."""
    max_failures: WholeNonNegative = 2
    """How often a trial whose process or node was lost is started again; it goes on from its checkpoint."""
    final: FinalSection | None = None
    """Null: the winner is named, not trained again."""

    @property
    def finite(self) -> bool:
        """Whether there are only so many combinations."""
        return all(p.kind in ("choice", "grid", "subsets") for p in self.space.values())

    @property
    def conditions(self) -> Mapping[str, Mapping[str, Any]]:
        """What must be so for a parameter to count, by path."""
        return {path: parameter.when for path, parameter in self.space.items()}
