"""Rows of the contract table: losses on scores of candidates and on embeddings."""

from itertools import combinations
from math import log2

import numpy as np

from tests.contract.table import Row, V, log_softmax, scores, sigmoid, softmax

SQUARED = "scale_by_temperature_squared"
SCHEMES = ("ndcg_loss2pp", "ndcg_loss2", "lambdarank")


def keep_where_first_counts(tensor, keep):
    """Of one row's scores: without the first candidate there is no margin."""
    return tensor[keep] if keep[0] else tensor[:0]


def ranknet(s, t, _):
    """Pair by pair, in the order of the values."""
    rows = zip(s[0], t[0], strict=True)
    return np.array(
        [[of_pair(a, b, i, j) for i, j in combinations(range(len(a)), 2)] for a, b in rows]
    )


def of_pair(s, t, i, j):
    if t[i] == t[j]:
        return 0.0
    winner, loser = (i, j) if t[i] > t[j] else (j, i)
    return np.logaddexp(0, s[loser] - s[winner])


def soft_ranknet(s, t, _):
    rows = zip(s[0], t[0], strict=True)
    return np.array(
        [[of_soft_pair(a, b, i, j) for i, j in combinations(range(len(a)), 2)] for a, b in rows]
    )


def of_soft_pair(s, t, i, j):
    p = sigmoid(np.clip(t[i] - t[j], -700, 700))
    return p * np.logaddexp(0, s[j] - s[i]) + (1 - p) * np.logaddexp(0, s[i] - s[j])


def listnet(s, t, _):
    return -(softmax(t[0]) * log_softmax(s[0])).sum(-1)


def relevance_cross_entropy(s, t, _):
    y = np.maximum(t[0], 0)
    mass = y.sum(-1, keepdims=True)
    return -(y / np.where(mass == 0, 1, mass) * log_softmax(s[0])).sum(-1)


def in_batch_cross_entropy(s, t, _, tau=1.0):
    """Row by row, one relevant passage after the other."""
    found = []
    for scores_, relevance in zip(s[0] / tau, t[0], strict=True):
        rest = scores_[relevance <= 0]
        each = [np.logaddexp.reduce([own, *rest]) - own for own in scores_[relevance > 0]]
        found.append(np.mean(each) if each else 0.0)
    return np.array(found)


def kl(t, s):
    """Of two arrays of scores, softened already."""
    return (softmax(t) * (log_softmax(t) - log_softmax(s))).sum(-1)


def margin_mse(s, t, _):
    return ((s[0][:, :1] - s[0][:, 1:]) - (t[0][:, :1] - t[0][:, 1:])) ** 2


def lambda_loss(scheme, gains, mu=10.0):
    """As the paper says it, by loops over one row after another."""

    def values(s, t, _):
        return np.array([of_row(a, b) for a, b in zip(s[0].tolist(), t[0].tolist(), strict=True)])

    def of_row(s, t):
        worth = gains(t)
        best = sum(g / log2(1 + k) for k, g in enumerate(sorted(worth, reverse=True), start=1))
        order = sorted(range(len(s)), key=lambda i: (-s[i], i))
        rank = {i: place for place, i in enumerate(order, start=1)}
        total = 0.0
        for i in range(len(s)):
            for j in range(len(s)):
                if t[i] > t[j]:
                    apart = abs(rank[i] - rank[j])
                    rho = abs(1 / log2(1 + rank[i]) - 1 / log2(1 + rank[j]))
                    delta = abs(1 / log2(1 + apart) - 1 / log2(2 + apart))
                    weight = {
                        "lambdarank": rho,
                        "ndcg_loss2": delta,
                        "ndcg_loss2pp": rho + mu * delta,
                    }
                    change = abs(worth[i] - worth[j]) / best if best else 0.0
                    total += weight[scheme] * change * np.logaddexp(0, s[j] - s[i]) / np.log(2)
        return total

    return values


def reciprocal_rank(t):
    return [1 / (1 + sum(other > mine for other in t)) for mine in t]


def softmax_gain(t):
    return softmax(np.array(t)).tolist()


def exponential(t):
    return [2.0 ** max(mine, 0) - 1 for mine in t]


RANKING = [
    Row(
        "relevance_cross_entropy",
        relevance_cross_entropy,
        inputs=scores,
        equal_is=None,  # it ends where all the mass is on what is relevant
        shift_invariant=None,  # the student's shift changes nothing, the relevance's does
    ),
    Row(
        "in_batch_cross_entropy",
        in_batch_cross_entropy,
        inputs=scores,
        equal_is=None,  # it ends where what is relevant is infinitely ahead
        shift_invariant=None,  # the student's shift changes nothing, the relevance's does
    ),
    Row(
        "in_batch_cross_entropy",
        lambda s, t, _: in_batch_cross_entropy(s, t, _, 0.5),
        {"temperature": 0.5},
        inputs=scores,
        equal_is=None,
        shift_invariant=None,
    ),
    Row("ranknet", ranknet, inputs=scores, equal_is=None, shift_invariant=True),
    Row(
        "ranknet",
        soft_ranknet,
        {"soft": True},
        inputs=scores,
        equal_is=lambda t: soft_ranknet(t, t, None),
        shift_invariant=True,
    ),
    Row(
        "listnet",
        listnet,
        inputs=scores,
        equal_is=lambda t: listnet(t, t, None),
        shift_invariant=True,
    ),
    *(
        Row(
            "lambda_loss",
            lambda_loss(scheme, reciprocal_rank),
            {"scheme": scheme, "gains": "reciprocal_rank"},
            inputs=scores,
            equal_is=None,  # the order is right there, and margins may still grow
            shift_invariant=True,
        )
        for scheme in SCHEMES
    ),
    Row(
        "lambda_loss",
        lambda_loss("ndcg_loss2pp", softmax_gain, 2.0),
        {"gains": "softmax", "mu": 2.0},
        inputs=scores,
        equal_is=None,
        shift_invariant=True,
    ),
    Row(
        "lambda_loss",
        lambda_loss("lambdarank", exponential),
        {"scheme": "lambdarank", "gains": "exponential"},
        inputs=scores,
        equal_is=None,
        shift_invariant=None,  # the student's shift changes nothing, the grades' does
        half=20.0,  # the formula here has no way around 2**2000
    ),
    Row(
        "score_kl",
        lambda s, t, _: 9 * kl(t[0] / 3, s[0] / 3),
        {"temperature": 3.0},
        inputs=scores,
        shift_invariant=True,
        softened=SQUARED,
    ),
    Row(
        "score_kl",
        lambda s, t, _: 0.25 * kl(t[0] / 5, s[0] / 0.5),
        {"temperature": 0.5, "teacher_temperature": 5.0},
        inputs=scores,
        equal_is=None,  # equal scores are not equal distributions
        shift_invariant=True,
    ),
    Row(
        "margin_mse",
        margin_mse,
        inputs=scores,
        shift_invariant=True,
        slice=keep_where_first_counts,
    ),
    Row("embedding_mse", lambda s, t, _: ((s[0] - t[0]) ** 2).sum(-1) / V, shift_invariant=False),
    Row("embedding_l2", lambda s, t, _: ((s[0] - t[0]) ** 2).sum(-1) ** 0.5, shift_invariant=False),
    Row(
        "embedding_cos",
        lambda s, t, _: (
            1 - (s[0] * t[0]).sum(-1) / np.sqrt((s[0] ** 2).sum(-1) * (t[0] ** 2).sum(-1))
        ),
        shift_invariant=False,
    ),
]
