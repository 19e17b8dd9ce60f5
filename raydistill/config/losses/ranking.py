"""Terms over the candidates of a query, of task.kind: reranking."""

from typing import ClassVar, Literal

from raydistill.config.base import Positive
from raydistill.config.losses.base import LossBase
from raydistill.config.schedules import TemperatureSetting

__all__ = [
    "GroupLoss",
    "LambdaLoss",
    "ListNetLoss",
    "MarginMSELoss",
    "RankNetLoss",
    "RelevanceCrossEntropyLoss",
    "ScoreKLLoss",
]


Against = Literal["teachers", "labels"]


class _OfTeachers(LossBase):
    against: ClassVar[Against] = "teachers"


class _OfEither(LossBase):
    against: Against = "teachers"
    """Whose order is learnt: the teachers' scores, or the relevance in the data. Groups without a relevant
    candidate do not count then."""


class RelevanceCrossEntropyLoss(LossBase):
    """Cross-entropy of the relevant candidates among all of a query (InfoNCE over the group).

    Groups without a relevant candidate do not count.
    """

    against: ClassVar[Against] = "labels"
    kind: Literal["relevance_cross_entropy"]
    """Which loss this is."""


class ScoreKLLoss(_OfTeachers):
    """Kullback-Leibler divergence of the student from the teachers, over a query's candidates."""

    kind: Literal["score_kl"]
    """Which loss this is."""
    temperature: TemperatureSetting = 1.0
    """Divides the student's scores; larger is softer. A number, linear or cosine."""
    teacher_temperature: Positive | None = None
    """Divides the teachers' scores; null: as the student's."""
    scale_by_temperature_squared: bool = True
    """Multiply by temperature squared, so that gradients keep their size."""


class RankNetLoss(_OfEither):
    """Cross-entropy of who of two candidates is ahead, for every pair of a query's."""

    kind: Literal["ranknet"]
    """Which loss this is."""
    soft: bool = False
    """The teachers' own probability of who is ahead, not their order."""


class ListNetLoss(_OfEither):
    """Cross-entropy of the candidate that comes first; holds the teachers' entropy."""

    kind: Literal["listnet"]
    """Which loss this is."""


class LambdaLoss(_OfEither):
    """Pairs of candidates, weighed by what they matter to the ranking's NDCG."""

    kind: Literal["lambda_loss"]
    """Which loss this is."""
    scheme: Literal["ndcg_loss2pp", "ndcg_loss2", "lambdarank"] = "ndcg_loss2pp"
    """How ranks weigh a pair."""
    gains: Literal["reciprocal_rank", "softmax", "exponential"] = "reciprocal_rank"
    """What a score is worth; exponential is for grades, so for against: labels."""
    mu: Positive = 10.0
    """Of ndcg_loss2pp."""


class MarginMSELoss(_OfTeachers):
    """Squared error of the margin between a query's first candidate, a relevant one, and each other."""

    kind: Literal["margin_mse"]
    """Which loss this is."""


GroupLoss = (
    RelevanceCrossEntropyLoss | ScoreKLLoss | RankNetLoss | ListNetLoss | LambdaLoss | MarginMSELoss
)
"""Those that see the candidates of a query beside each other."""
