"""Terms over the candidates of a query, of task.kind: reranking and retrieval."""

from typing import ClassVar, Literal

from raydistill.config.base import Positive
from raydistill.config.losses.base import LossBase
from raydistill.config.schedules import TemperatureSetting

__all__ = [
    "GroupLoss",
    "InBatchCrossEntropyLoss",
    "LambdaLoss",
    "ListNetLoss",
    "MarginMSELoss",
    "RankNetLoss",
    "RelevanceCrossEntropyLoss",
    "ScoreKLLoss",
]


Against = Literal["teachers", "labels"]
Among = Literal["candidates", "block"]


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


class InBatchCrossEntropyLoss(LossBase):
    """Cross-entropy of a relevant passage among all of the block's queries (multiple negatives ranking).

    Of task.kind: retrieval. The passages of training.block_queries queries are seen beside each other, the
    listed negatives included; what is known to be relevant for a query is no negative of it.
    """

    against: ClassVar[Against] = "labels"
    among: ClassVar[Among] = "block"
    kind: Literal["in_batch_cross_entropy"]
    """Which loss this is."""
    temperature: Positive = 1.0
    """Divides the scores, which have task.scale already."""


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
    among: Among = "candidates"
    """candidates: those of the query. block: with task.kind: retrieval, the passages of all queries that are seen
    beside each other (training.block_queries), as far as teachers embed texts."""


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
    RelevanceCrossEntropyLoss
    | InBatchCrossEntropyLoss
    | ScoreKLLoss
    | RankNetLoss
    | ListNetLoss
    | LambdaLoss
    | MarginMSELoss
)
"""Those that see the candidates of a query beside each other."""
