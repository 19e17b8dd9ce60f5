"""Rows of the contract table: losses on logits, and with hard labels."""

import numpy as np
import torch

from tests.contract.table import (
    Inputs,
    Row,
    V,
    hard,
    log_softmax,
    normal,
    positions,
    rows_of,
    sigmoid,
    softmax,
)


def cross_entropy(s, t, _):
    return -np.take_along_axis(log_softmax(s[0]), t[0][..., None], -1)[..., 0]


def kl(p, q):
    """Of two arrays of probabilities."""
    return (p * (np.log(p) - np.log(q))).sum(-1)


def jensen_shannon(s, t, _):
    p, q = softmax(t[0] / 3), softmax(s[0] / 3)
    m = 0.3 * p + 0.7 * q
    return 9 * (0.3 * kl(p, m) + 0.7 * kl(q, m))


def decoupled(alpha, beta, tau):
    """Each position by itself, the label's class cut out."""

    def of_one(z, y):
        log_p = log_softmax(z / tau)
        rest = np.delete(log_p, y)
        log_rest = rest.max() + np.log(np.exp(rest - rest.max()).sum())
        return np.array([log_p[y], log_rest]), log_softmax(np.delete(z / tau, y))

    def values(s, t, labels):
        flat = []
        for zs, zt, y in zip(
            s[0].reshape(-1, V), t[0].reshape(-1, V), labels.reshape(-1), strict=True
        ):
            (two_s, rest_s), (two_t, rest_t) = of_one(zs, y), of_one(zt, y)
            first = (np.exp(two_t) * (two_t - two_s)).sum()
            second = (np.exp(rest_t) * (rest_t - rest_s)).sum()
            flat.append(tau**2 * (alpha * first + beta * second))
        return np.array(flat).reshape(labels.shape)

    return values


def dist(inter, intra, factor, tau):
    """With NumPy's own coefficient."""

    def values(s, t, _):
        q, p = softmax(s[0] / tau), softmax(t[0] / tau)
        rows = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
        classes = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
        return factor * (inter * rows + intra * classes.mean())

    return values


def yes_no(x):
    """Two probabilities from one number, and their logarithms without overflow."""
    p = sigmoid(x)
    return np.stack([p, 1 - p], -1), np.stack([-np.logaddexp(0, -x), -np.logaddexp(0, x)], -1)


def binary_soft_cross_entropy(tau, factor):
    def values(s, t, _):
        (p, _), (_, log_q) = yes_no(t[0] / tau), yes_no(s[0] / tau)
        return -factor * (p * log_q).sum(-1).mean(-1)

    return values


def binary_forward_kl(s, t, _):
    (p, log_p), (_, log_q) = yes_no(t[0] / 3), yes_no(s[0] / 3)
    return 9 * (p * (log_p - log_q)).sum(-1).mean(-1)


def binary_cross_entropy(s, t, _):
    each = np.where(t[0] == 1, np.logaddexp(0, -s[0]), np.logaddexp(0, s[0]))
    return np.nanmean(np.where(t[0] == -100, np.nan, each), -1)


def some_classes(seed: int, shape: tuple[int, ...] = (3, 2)) -> Inputs:
    """Logits; a yes, a no or nothing for each class, but something for one of them."""
    (student,), _, labels = positions(seed, shape)
    known = normal(2 * seed + 1, *shape, V)
    target = torch.where(known < -2, -100, (known > 0).long())
    return [student], [target.scatter(-1, labels.unsqueeze(-1), 1)], labels


def numbers(seed: int, shape: tuple[int, ...] = (3, 2)) -> Inputs:
    """One number a position, and another as its label."""
    return [normal(2 * seed, *shape)], [normal(2 * seed + 1, *shape)], None


def soft_label(threshold, sharpening):
    """The power, not a softmax."""

    def values(s, t, _):
        p = softmax(t[0])
        sharper = p ** (1 / sharpening)
        sharper = sharper / sharper.sum(-1, keepdims=True)
        each = -(sharper * log_softmax(s[0])).sum(-1)
        return np.where(p.max(-1) >= threshold, each, 0.0)

    return values


SQUARED = "scale_by_temperature_squared"
THREE = {"temperature": 3.0}
LOGITS = [
    Row("cross_entropy", cross_entropy, inputs=hard, equal_is=None, shift_invariant=True),
    Row(
        "soft_cross_entropy",
        lambda s, t, _: -9 * (softmax(t[0] / 3) * log_softmax(s[0] / 3)).sum(-1),
        THREE,
        equal_is=lambda t: -9 * (softmax(t[0] / 3) * log_softmax(t[0] / 3)).sum(-1),
        shift_invariant=True,
        softened=SQUARED,
    ),
    Row(
        "soft_cross_entropy",
        lambda s, t, _: -(softmax(t[0] / 3) * log_softmax(s[0] / 3)).sum(-1),
        {**THREE, SQUARED: False},
        equal_is=lambda t: -(softmax(t[0] / 3) * log_softmax(t[0] / 3)).sum(-1),
        shift_invariant=True,
    ),
    Row(
        "forward_kl",
        lambda s, t, _: 9 * kl(softmax(t[0] / 3), softmax(s[0] / 3)),
        THREE,
        shift_invariant=True,
        softened=SQUARED,
    ),
    Row(
        "soft_label",
        soft_label(0.0, 1.0),
        {"threshold": 0.0, "sharpening": 1.0},
        equal_is=lambda t: -(softmax(t[0]) * log_softmax(t[0])).sum(-1),
        shift_invariant=True,
    ),
    Row(
        "soft_label",
        soft_label(0.6, 0.4),
        {"threshold": 0.6, "sharpening": 0.4},
        equal_is=None,
        shift_invariant=True,
    ),
    Row(
        "reverse_kl",
        lambda s, t, _: 9 * kl(softmax(s[0] / 3), softmax(t[0] / 3)),
        THREE,
        shift_invariant=True,
        softened=SQUARED,
    ),
    Row(
        "jensen_shannon",
        jensen_shannon,
        {"beta": 0.3, **THREE},
        shift_invariant=True,
        softened=SQUARED,
    ),
    Row(
        "total_variation",
        lambda s, t, _: 3 * 0.5 * np.abs(softmax(t[0] / 3) - softmax(s[0] / 3)).sum(-1),
        THREE,
        shift_invariant=True,
        softened="scale_by_temperature",
    ),
    Row(
        "logit_mse",
        lambda s, t, _: ((s[0] - t[0]) ** 2).mean(-1),
        THREE,
        shift_invariant=False,
        softened=SQUARED,
    ),
    Row(
        "logit_mse",
        lambda s, t, _: ((s[0] / 3 - t[0] / 3) ** 2).mean(-1),
        {**THREE, SQUARED: False},
        shift_invariant=False,
    ),
    Row("decoupled_kd", decoupled(1, 8, 1), shift_invariant=True, softened=SQUARED),
    Row(
        "decoupled_kd",
        decoupled(0.5, 2, 3),
        {"alpha": 0.5, "beta": 2.0, **THREE},
        shift_invariant=True,
        softened=SQUARED,
    ),
    # Not `softened`: a coefficient keeps its slope by itself. Half precision near one-hot is no question of
    # the formula: a class that is 0 in float32 does not vary, in NumPy's float64 it does.
    Row("dist", dist(1, 1, 1, 1), inputs=rows_of, shift_invariant=True, half=1.0),
    Row(
        "dist",
        dist(0.5, 2, 9, 3),
        {"inter_weight": 0.5, "intra_weight": 2.0, **THREE},
        inputs=rows_of,
        shift_invariant=True,
        half=1.0,
    ),
    Row(
        "binary_cross_entropy",
        binary_cross_entropy,
        inputs=some_classes,
        equal_is=None,
        shift_invariant=False,
    ),
    Row(
        "binary_soft_cross_entropy",
        binary_soft_cross_entropy(3, 9),
        THREE,
        equal_is=lambda t: binary_soft_cross_entropy(3, 9)(t, t, None),
        shift_invariant=False,
        softened=SQUARED,
    ),
    Row(
        "binary_soft_cross_entropy",
        binary_soft_cross_entropy(3, 1),
        {**THREE, SQUARED: False},
        equal_is=lambda t: binary_soft_cross_entropy(3, 1)(t, t, None),
        shift_invariant=False,
    ),
    Row("binary_forward_kl", binary_forward_kl, THREE, shift_invariant=False, softened=SQUARED),
    Row("mse", lambda s, t, _: (s[0] - t[0]) ** 2, inputs=numbers, shift_invariant=False),
]
