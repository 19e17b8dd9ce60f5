"""Losses on scores of candidates and on embeddings."""

import math

from torch import Tensor

from raydistill.losses.embedding import embedding_cos, embedding_l2, embedding_mse
from raydistill.losses.entry import LossEntry, Peer, flag, one_of, positive, temperature
from raydistill.losses.in_batch import in_batch_cross_entropy
from raydistill.losses.lambda_loss import GAINS, SCHEMES, lambda_loss, weighted_pairs
from raydistill.losses.ranking import (
    listnet,
    ranked_pairs,
    ranknet,
    relevance_cross_entropy,
)
from raydistill.losses.reduction import masked_mean
from raydistill.losses.scores import margin_mse, score_kl

__all__ = ["RANKING"]

_SCORES = "4·N"
_EMBEDDING = "4·D"
_PEER = "sentence-transformers"


def _rows(mask: Tensor) -> Tensor:
    """Rows with a candidate."""
    return mask.any(-1).sum()


def _pairs(mask: Tensor) -> Tensor:
    """Pairs of candidates of the same row."""
    num_candidates = mask.sum(-1)
    return (num_candidates * (num_candidates - 1) // 2).sum()


def _margins(mask: Tensor) -> Tensor:
    """Pairs of a row's first candidate and another."""
    return (mask[:, :1] & mask[:, 1:]).sum()


def _temperature_or_none(value: object) -> str | None:
    """As the other side's, or a temperature of its own."""
    return None if value is None else temperature(value)


def _ranknet_of_preferred(
    student: Tensor, teacher: Tensor, mask: Tensor | None, *, soft: bool = False
) -> Tensor:
    """In bits, and ties do not count."""
    values, preferred, _ = ranked_pairs(student, teacher, mask, soft=soft)
    return masked_mean(values, preferred) / math.log(2)


def _lambda_loss_of_preferred(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None,
    *,
    scheme: str = "ndcg_loss2pp",
    gains: str = "exponential",
    mu: float = 10.0,
) -> Tensor:
    """The mean over pairs of the whole batch, in which a row with more candidates weighs more."""
    return masked_mean(*weighted_pairs(student, teacher, mask, scheme=scheme, gains=gains, mu=mu))


RANKING: tuple[LossEntry, ...] = (
    LossEntry(
        name="relevance_cross_entropy",
        function=relevance_cross_entropy,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_rows,
        tail=0,
    ),
    LossEntry(
        name="in_batch_cross_entropy",
        function=in_batch_cross_entropy,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_rows,
        tail=0,
        options={"temperature": positive},
        parity={_PEER: Peer()},
    ),
    LossEntry(
        name="ranknet",
        function=ranknet,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_pairs,
        tail=0,
        options={"soft": flag},
        parity={_PEER: Peer({"soft": False}, _ranknet_of_preferred)},
    ),
    LossEntry(
        name="listnet",
        function=listnet,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_rows,
        tail=0,
        parity={_PEER: Peer()},
    ),
    LossEntry(
        name="lambda_loss",
        function=lambda_loss,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_rows,
        tail=0,
        options={"scheme": one_of(*SCHEMES), "gains": one_of(*GAINS), "mu": positive},
        parity={_PEER: Peer({"gains": "exponential"}, _lambda_loss_of_preferred)},
    ),
    LossEntry(
        name="score_kl",
        function=score_kl,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_rows,
        tail=0,
        options={
            "temperature": temperature,
            "teacher_temperature": _temperature_or_none,
            "scale_by_temperature_squared": flag,
        },
        parity={_PEER: Peer({"scale_by_temperature_squared": True})},
    ),
    LossEntry(
        name="margin_mse",
        function=margin_mse,
        needs=frozenset({"scores"}),
        cost=_SCORES,
        over="sequences",
        units=_margins,
        tail=0,
        parity={_PEER: Peer()},
    ),
    LossEntry(
        name="embedding_mse",
        function=embedding_mse,
        needs=frozenset({"embeddings"}),
        cost=_EMBEDDING,
        parity={_PEER: Peer()},
    ),
    LossEntry(
        name="embedding_l2",
        function=embedding_l2,
        needs=frozenset({"embeddings"}),
        cost=_EMBEDDING,
        parity={_PEER: Peer()},
    ),
    LossEntry(
        name="embedding_cos",
        function=embedding_cos,
        needs=frozenset({"embeddings"}),
        cost=_EMBEDDING,
        parity={_PEER: Peer()},
    ),
)
"""Of every loss for ranking and retrieval its entry, in reading order."""
