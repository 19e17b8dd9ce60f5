"""Terms that read the student's logits: against the label, and against the teachers'."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from raydistill.config.base import Fraction, NonNegative, Positive
from raydistill.config.losses.base import LossBase
from raydistill.config.schedules import TemperatureSetting

__all__ = [
    "BinaryCrossEntropyLoss",
    "BinaryForwardKLLoss",
    "BinarySoftCrossEntropyLoss",
    "CrossEntropyLoss",
    "DecoupledKDLoss",
    "DistLoss",
    "ForwardKLLoss",
    "HardLoss",
    "JensenShannonLoss",
    "LogitMSELoss",
    "MSELoss",
    "ReverseKLLoss",
    "SoftCrossEntropyLoss",
    "SoftLabelLoss",
    "SoftLoss",
    "TotalVariationLoss",
]


class CrossEntropyLoss(LossBase):
    """Cross-entropy with the hard label; rows without a label do not count."""

    kind: Literal["cross_entropy"]
    """Which loss this is."""


class BinaryCrossEntropyLoss(LossBase):
    """Cross-entropy with labels that are each there or not; rows without labels do not count."""

    kind: Literal["binary_cross_entropy"]
    """Which loss this is."""


class MSELoss(LossBase):
    """Squared error of the number that is the label; rows without a label do not count."""

    kind: Literal["mse"]
    """Which loss this is."""


class _Tempered(LossBase):
    temperature: TemperatureSetting = 1.0
    """Divides the logits of both sides; larger is softer. A number, or a schedule."""


class _FromTeachers(_Tempered):
    standardize: bool = False
    """Give the logits of both sides mean 0 and deviation 1 first, so that their range does not count."""
    probability_shift: bool = False
    """In labelled rows swap each teacher's largest logit with that of the label, so that its mistakes
    are not learnt."""


class _Softened(_FromTeachers):
    scale_by_temperature_squared: bool = True
    """Multiply by temperature squared, so that gradients keep their size."""


class _EachClass(_Tempered):
    scale_by_temperature_squared: bool = True
    """Multiply by temperature squared, so that gradients keep their size."""


class BinarySoftCrossEntropyLoss(_EachClass):
    """Cross-entropy with the teachers, each label a yes or no; holds their entropy."""

    kind: Literal["binary_soft_cross_entropy"]
    """Which loss this is."""


class BinaryForwardKLLoss(_EachClass):
    """Kullback-Leibler divergence from the teachers, each label a yes or no; 0 where both agree."""

    kind: Literal["binary_forward_kl"]
    """Which loss this is."""


class SoftCrossEntropyLoss(_Softened):
    """Cross-entropy with the teachers' distribution; holds their entropy, so not 0 at equality."""

    kind: Literal["soft_cross_entropy"]
    """Which loss this is."""


class ForwardKLLoss(_Softened):
    """Kullback-Leibler divergence of the student from the teachers; 0 where both agree."""

    kind: Literal["forward_kl"]
    """Which loss this is."""


class ReverseKLLoss(_Softened):
    """Kullback-Leibler divergence of the teachers from the student: settles on what they are sure of."""

    kind: Literal["reverse_kl"]
    """Which loss this is."""


def _inside(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("must lie between 0 and 1, both excluded")
    return value


class JensenShannonLoss(_Softened):
    """Between the two: bounded."""

    kind: Literal["jensen_shannon"]
    """Which loss this is."""
    beta: Annotated[float, AfterValidator(_inside)] = 0.5
    """Weight of the teachers in the mixture (GKD's and TRL's convention; KDFlow's is 1 - beta)."""


class TotalVariationLoss(_FromTeachers):
    """Share of probability that would have to move."""

    kind: Literal["total_variation"]
    """Which loss this is."""
    scale_by_temperature: bool = True
    """Multiply by the temperature, so that gradients keep their size."""


class LogitMSELoss(_Softened):
    """Mean squared error of logits, or of numbers; of several teachers against the mean of theirs."""

    kind: Literal["logit_mse"]
    """Which loss this is."""


class DecoupledKDLoss(_Softened):
    """The divergence in two parts: of the true class against all others, and among the others.

    Rows without a label do not count.
    """

    kind: Literal["decoupled_kd"]
    """Which loss this is."""
    alpha: NonNegative = 1.0
    """Of the part of the true class."""
    beta: NonNegative = 8.0
    """Of the part among the others."""


class DistLoss(_Softened):
    """Correlations of predictions: over the classes of a row, and over the rows of a class."""

    kind: Literal["dist"]
    """Which loss this is."""
    inter_weight: NonNegative = 1.0
    """Of the correlation over the classes of each row."""
    intra_weight: NonNegative = 1.0
    """Of the correlation over rows, in groups of training.group_rows."""


class SoftLabelLoss(LossBase):
    """Cross-entropy with the teachers' sharpened distribution, in rows of which they are sure."""

    kind: Literal["soft_label"]
    """Which loss this is."""
    standardize: bool = False
    """Give the logits of both sides mean 0 and deviation 1 first, so that their range does not count."""
    probability_shift: bool = False
    """In labelled rows swap each teacher's largest logit with that of the label, so that its mistakes
    are not learnt."""
    threshold: Fraction = 0.8
    """Least probability of the teachers' best class; rows of which they are less sure add nothing."""
    sharpening: Positive = 0.5
    """Below 1 makes the teachers surer than they are, above 1 less sure; near 0 only their best class
    counts."""


HardLoss = CrossEntropyLoss | BinaryCrossEntropyLoss | MSELoss
"""Those that compare the student with labels."""
SoftLoss = (
    SoftCrossEntropyLoss
    | ForwardKLLoss
    | ReverseKLLoss
    | JensenShannonLoss
    | TotalVariationLoss
    | LogitMSELoss
    | DecoupledKDLoss
    | DistLoss
    | SoftLabelLoss
    | BinarySoftCrossEntropyLoss
    | BinaryForwardKLLoss
)
"""Those that compare the student's logits with the teachers'."""
