"""What changes while the student is trained: weights of terms, temperatures, and their balance."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from raydistill.config.base import Fraction, NonNegative, Positive, Section, WholeNonNegative

__all__ = [
    "BalancingSection",
    "ConstantWeight",
    "CosineTemperature",
    "CosineWeight",
    "CurriculumTemperature",
    "CwsmTemperature",
    "FlswTemperature",
    "LinearDecayWeight",
    "LinearGrowthWeight",
    "LinearTemperature",
    "NoBalancing",
    "RelativeBalancing",
    "StepTemperature",
    "StepWeight",
    "TemperatureSetting",
    "UncertaintyBalancing",
    "WarmupWeight",
    "WeightSchedule",
]


def _above_zero(value: float) -> float:
    if value == 0:
        raise ValueError("must be above 0")
    return value


def _below_one(value: float) -> float:
    if value == 1:
        raise ValueError("must be below 1")
    return value


_Inside = Annotated[Fraction, AfterValidator(_above_zero), AfterValidator(_below_one)]


# ---- weights


class ConstantWeight(Section):
    """The configured weight throughout."""

    kind: Literal["constant"]
    """Which schedule this is."""


class LinearDecayWeight(Section):
    """From the configured weight at the first step in a straight line to 0 after the last."""

    kind: Literal["linear_decay"]
    """Which schedule this is."""


class LinearGrowthWeight(Section):
    """From 0 at the first step in a straight line to the configured weight after the last."""

    kind: Literal["linear_growth"]
    """Which schedule this is."""


class CosineWeight(Section):
    """Half a wave between the configured weight and 0: slow, fast, slow."""

    kind: Literal["cosine"]
    """Which schedule this is."""
    rising: bool = False
    """False: from the configured weight to 0. True: from 0 to the configured weight."""


class WarmupWeight(Section):
    """From 0 in a straight line to the configured weight, which then stays."""

    kind: Literal["warmup"]
    """Which schedule this is."""
    fraction: Annotated[Fraction, AfterValidator(_above_zero)] = 0.1
    """Share of the steps in which it grows."""


def _rising(at: list[float]) -> list[float]:
    if any(later <= earlier for earlier, later in pairwise(at)):
        raise ValueError("must be in rising order")
    return at


class StepWeight(Section):
    """The configured weight times a factor that jumps."""

    kind: Literal["step"]
    """Which schedule this is."""
    at: Annotated[list[_Inside], Field(min_length=1)]
    """Where in the run, as shares of the steps, in order: 0.5 is half-way."""
    factors: Annotated[list[NonNegative], Field(min_length=1)]
    """Of the configured weight, from there on; one for each of `at`. Before the first it is 1."""

    @field_validator("at")
    @classmethod
    def _in_order(cls, at: list[float]) -> list[float]:
        return _rising(at)

    @field_validator("factors")
    @classmethod
    def _one_each(cls, factors: list[float], info: ValidationInfo) -> list[float]:
        at = info.data.get("at")
        if at is not None and len(factors) != len(at):
            raise ValueError(f"must hold one factor for each of at, {len(at)}")
        return factors


WeightSchedule = Annotated[
    ConstantWeight
    | LinearDecayWeight
    | LinearGrowthWeight
    | CosineWeight
    | WarmupWeight
    | StepWeight,
    Field(discriminator="kind"),
]
"""Course of a term's weight over the run; multiplies the configured weight."""


# ---- temperatures


class LinearTemperature(Section):
    """In a straight line from one temperature at the first step to another after the last."""

    kind: Literal["linear"]
    """Which schedule this is."""
    start: Positive
    """At the first step."""
    end: Positive
    """After the last."""


class CosineTemperature(Section):
    """Half a wave from one temperature at the first step to another after the last."""

    kind: Literal["cosine"]
    """Which schedule this is."""
    start: Positive
    """At the first step."""
    end: Positive
    """After the last."""


class StepTemperature(Section):
    """One temperature after another, at once."""

    kind: Literal["step"]
    """Which schedule this is."""
    start: Positive
    """At the first step."""
    at: Annotated[list[_Inside], Field(min_length=1)]
    """Where in the run, as shares of the steps, in order: 0.5 is half-way."""
    temperatures: Annotated[list[Positive], Field(min_length=1)]
    """From there on; one for each of `at`."""

    @field_validator("at")
    @classmethod
    def _in_order(cls, at: list[float]) -> list[float]:
        return _rising(at)

    @field_validator("temperatures")
    @classmethod
    def _one_each(cls, temperatures: list[float], info: ValidationInfo) -> list[float]:
        at = info.data.get("at")
        if at is not None and len(temperatures) != len(at):
            raise ValueError(f"must hold one temperature for each of at, {len(at)}")
        return temperatures


class _Dynamic(Section):
    base: Positive
    """Where every row agrees with the mean over the rows seen together."""
    beta: NonNegative = 1.0
    """How far rows may stray from `base`; 0: not at all."""
    minimum: Annotated[Positive, Field(validate_default=True)] = 0.1
    """No temperature falls below this."""

    @field_validator("minimum")
    @classmethod
    def _not_above_base(cls, minimum: float, info: ValidationInfo) -> float:
        base = info.data.get("base")
        if base is not None and minimum > base:
            raise ValueError(f"must not exceed base = {base:g}")
        return minimum


class FlswTemperature(_Dynamic):
    """One a row: lower where the student's logits point elsewhere than the teacher's.

    Rows are compared with the mean over a group, see training.group_rows.
    """

    kind: Literal["flsw"]
    """Which schedule this is."""
    gamma: NonNegative = 1.0
    """Exponent of the distance between the two: larger looks at the farthest rows only."""


class CwsmTemperature(_Dynamic):
    """One a row: lower where the student is unsure.

    Rows are compared with the mean over a group, see training.group_rows.
    """

    kind: Literal["cwsm"]
    """Which schedule this is."""


class CurriculumTemperature(Section):
    """Learned against the student: the temperature at which it is farthest from the teacher."""

    kind: Literal["learned"]
    """Which schedule this is."""
    minimum: Positive = 1.0
    """It stays above this."""
    maximum: Annotated[Positive, Field(validate_default=True)] = 21.0
    """It stays below this."""
    start: Annotated[Positive, Field(validate_default=True)] = 15.62
    """At the first step."""
    reverse: Positive = 1.0
    """What its gradient, reversed, is multiplied by when it has risen to its full size."""
    rise_fraction: Fraction = 0.04
    """Share of the steps in which that grows from 0; 0: full size from the first step."""
    learning_rate: Positive = 0.01
    """Of what is learned; the student's would hardly move it."""

    @field_validator("maximum")
    @classmethod
    def _above_minimum(cls, maximum: float, info: ValidationInfo) -> float:
        minimum = info.data.get("minimum")
        if minimum is not None and maximum <= minimum:
            raise ValueError(f"must be greater than minimum = {minimum:g}")
        return maximum

    @field_validator("start")
    @classmethod
    def _between(cls, start: float, info: ValidationInfo) -> float:
        low, high = info.data.get("minimum"), info.data.get("maximum")
        if low is not None and high is not None and not low < start < high:
            raise ValueError(
                f"must lie between minimum = {low:g} and maximum = {high:g}, both excluded"
            )
        return start


def _temperature_kind(value: Any) -> str | None:
    """A number is not tried as a section, nor a section as a number: one complaint, not six."""
    if not isinstance(value, dict):
        return str(getattr(value, "kind", "number"))
    return None if value.get("kind") is None else str(value["kind"])


TemperatureSetting = Annotated[
    Annotated[Positive, Tag("number")]
    | Annotated[LinearTemperature, Tag("linear")]
    | Annotated[CosineTemperature, Tag("cosine")]
    | Annotated[StepTemperature, Tag("step")]
    | Annotated[FlswTemperature, Tag("flsw")]
    | Annotated[CwsmTemperature, Tag("cwsm")]
    | Annotated[CurriculumTemperature, Tag("learned")],
    Discriminator(_temperature_kind),
]
"""A number, or how the temperature changes: with the steps done, from row to row, or by learning."""


# ---- balance


class NoBalancing(Section):
    """Terms count as their weights say."""

    kind: Literal["none"]
    """Which way this is."""


class UncertaintyBalancing(Section):
    """One learned factor a term, smaller for terms that stay large.

    In the long run it undoes `weight` and its schedule: a term's share settles whatever it was.
    """

    kind: Literal["uncertainty"]
    """Which way this is."""
    learning_rate: Positive = 0.01
    """Of the factors; the student's would hardly move them."""


class RelativeBalancing(Section):
    """Every term is scaled to the size of one of them: weights are then shares of the sum."""

    kind: Literal["relative"]
    """Which way this is."""
    main: WholeNonNegative = 0
    """The term that keeps its scale, by its place under `losses`, counted from 0."""
    max_factor: Positive = 1e4
    """No term is made larger by more than this, however small it is."""
    momentum: Annotated[Fraction, AfterValidator(_below_one)] = 0.9
    """Share of the past in the sizes that are compared; 0: only the step before."""


BalancingSection = Annotated[
    NoBalancing | UncertaintyBalancing | RelativeBalancing, Field(discriminator="kind")
]
"""How terms of different scale are brought to one."""
