"""Rows of the contract table: losses on hidden states and attention maps."""

import itertools

import numpy as np

from tests.contract.table import (
    Inputs,
    Row,
    V,
    keep_last_two,
    log_softmax,
    normal,
    probability_maps,
    rows_of,
    softmax,
    states,
    two_layers,
)


def score_maps(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Attention scores, ``[B, H, L, L]`` with H = 2."""
    batch, length = shape
    sizes = (batch, 2, length, length)
    return [normal(2 * seed, *sizes)], [normal(2 * seed + 1, *sizes)], None


def maps_of_other_heads(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Attention probabilities, of two heads and of three."""
    batch, length = shape
    one, other = (
        normal(2 * seed, batch, 2, length, length),
        normal(2 * seed + 1, batch, 3, length, length),
    )
    return [one.softmax(-1)], [other.softmax(-1)], None


def maps_without_heads(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Attention probabilities, ``[B, L, L]``."""
    (one,), (other,), _ = probability_maps(seed, shape)
    return [one[:, 0]], [other[:, 0]], None


def states_of_other_width(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Hidden states of widths 6 and 8."""
    return [normal(2 * seed, *shape, 6)], [normal(2 * seed + 1, *shape, 8)], None


def layers_of_other_width(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Two layers of width 5 and two of width 7."""
    student = [normal(4 * seed + k, *shape, V) for k in (0, 1)]
    return student, [normal(4 * seed + k, *shape, 7) for k in (2, 3)], None


def rows_of_other_width(seed: int, shape: tuple[int, ...] = (6,)) -> Inputs:
    """Vectors of widths 5 and 7, one a row."""
    return [normal(2 * seed, *shape, V)], [normal(2 * seed + 1, *shape, 7)], None


def all_layers(seed: int, shape: tuple[int, ...] = (3, 2)) -> Inputs:
    """States, and those of three layers of the teacher."""
    return [normal(2 * seed, *shape, V)], [normal(2 * seed + 1, *shape, 3, V)], None


def length(x):
    return np.sqrt((x * x).sum(-1))


def cosine(x, y):
    return (x * y).sum(-1) / (length(x) * length(y))


def huber(x):
    x = np.abs(x)
    return np.minimum(x, 1) * (x - np.minimum(x, 1) / 2)


def fsp(s, t, _):
    one, other = (np.einsum("bld,ble->bde", *side) / side[0].shape[1] for side in (s, t))
    return ((one - other) ** 2).mean((1, 2))


def nst(s, t, _):
    sides = ((side[0], side[-1]) for side in (s, t))
    one, other = (np.einsum("bid,bjd->bij", *side) / side[0].shape[2] for side in sides)
    return (one - other) ** 2


def relation_kl(heads):
    def values(s, t, _):
        total = 0
        for head in range(heads):
            logs = []
            for x in (s[0], t[0]):
                width = x.shape[-1] // heads
                part = x[..., head * width : (head + 1) * width]
                logs.append(log_softmax(np.einsum("bid,bjd->bij", part, part) / width**0.5))
            total = total + (np.exp(logs[1]) * (logs[1] - logs[0])).sum(-1)
        return total / heads

    return values


def rkd_distance(s, t, _):
    rows = len(s[0])
    psi = []
    for x in (s[0], t[0]):
        distance = {(i, j): length(x[i] - x[j]) for i, j in itertools.permutations(range(rows), 2)}
        mean = sum(distance.values()) / len(distance)
        psi.append({pair: value / mean for pair, value in distance.items()})
    return np.array(
        [
            np.mean([huber(psi[0][i, j] - psi[1][i, j]) for j in range(rows) if j != i])
            for i in range(rows)
        ]
    )


def rkd_angle(s, t, _):
    def at(vertex):
        others = [i for i in range(len(s[0])) if i != vertex]
        for i, k in itertools.permutations(others, 2):
            one, other = (cosine(x[i] - x[vertex], x[k] - x[vertex]) for x in (s[0], t[0]))
            yield huber(one - other)

    return np.array([np.mean(list(at(vertex))) for vertex in range(len(s[0]))])


def contrastive(temperature):
    def values(s, t, _):
        cosines = np.array([[cosine(x, y) for y in t[0]] for x in s[0]])
        return -np.diag(log_softmax(cosines / temperature))

    return values


def layer_attention(s, t, _):
    weights = softmax(np.einsum("...d,...nd->...n", s[0], t[0]) / V**0.5)
    return ((s[0] - np.einsum("...n,...nd->...d", weights, t[0])) ** 2).mean(-1)


def ce_of_scores(s, t, _):
    return -(softmax(t[0]) * log_softmax(s[0])).sum(-1).mean(1)


def ce_of_mean_scores(s, t, _):
    return -(softmax(t[0].mean(1)) * log_softmax(s[0].mean(1))).sum(-1)


def ce_of_means(s, t, _):
    one, other = (x[0].mean(1) if x[0].ndim == 4 else x[0] for x in (s, t))
    return -(other * np.log(one)).sum(-1)


def mse_of_sums(s, t, _):
    one, other = (x[0].sum(1) if x[0].ndim == 4 else x[0] for x in (s, t))
    return (one - other) ** 2


SCORES = {"scores": True}
MAPS = {"inputs": probability_maps, "slice": keep_last_two, "half": 1.0}
# On probabilities a cross-entropy has a slope at equality, across the lines that sum to 1; and a
# logarithm of 10000 is no loss.
CE_MAPS = {"slice": keep_last_two, "half": 1.0, "equal_is": None, "extreme": False}
CE_SCORES = {"inputs": score_maps, "slice": keep_last_two, "half": 20.0, "shift_invariant": True}
FEATURES = [
    Row(
        "hidden_mse",
        lambda s, t, _: ((s[0] - t[0]) ** 2).sum(-1) / V,
        shift_invariant=False,
    ),
    Row("cos", lambda s, t, _: 1 - cosine(s[0], t[0]), shift_invariant=False),
    Row(
        "vid",
        lambda s, t, _: np.mean(0.5 * np.log(5) + (t[0] - s[0]) ** 2 / 10, -1),
        equal_is=lambda t: np.asarray(0.5 * np.log(5)),
        shift_invariant=False,
        never_negative=False,
    ),
    Row(
        "pkd",
        lambda s, t, _: 2 - 2 * cosine(s[0][:, 0], t[0][:, 0]),
        inputs=states,
        shift_invariant=False,
    ),
    # Of fourth order: of larger states the slope is beyond float16, whatever is inside.
    Row("fsp", fsp, inputs=two_layers, shift_invariant=False, half=5.0),
    Row("nst", nst, inputs=two_layers, shift_invariant=False, half=5.0),
    Row("nst", nst, inputs=states, shift_invariant=False, half=5.0),
    Row("nst", nst, inputs=layers_of_other_width, equal_is=None, shift_invariant=False, half=5.0),
    Row("relation_kl", relation_kl(1), inputs=states, shift_invariant=False),
    Row(
        "relation_kl",
        relation_kl(2),
        {"relation_heads": 2},
        inputs=states_of_other_width,
        equal_is=None,
        shift_invariant=False,
    ),
    # Not extreme: there the table gives both sides the same shape.
    Row(
        "layer_attention",
        layer_attention,
        inputs=all_layers,
        equal_is=None,
        shift_invariant=False,
        extreme=False,
    ),
    Row("rkd_distance", rkd_distance, inputs=rows_of),
    Row("rkd_distance", rkd_distance, inputs=rows_of_other_width, equal_is=None),
    Row("rkd_angle", rkd_angle, inputs=rows_of),
    Row("rkd_angle", rkd_angle, inputs=rows_of_other_width, equal_is=None),
    Row("contrastive", contrastive(0.07), inputs=rows_of, equal_is=None, shift_invariant=False),
    Row(
        "contrastive",
        contrastive(1.0),
        {"temperature": 1.0},
        inputs=rows_of,
        equal_is=None,
        shift_invariant=False,
    ),
    Row(
        "attention_mse",
        lambda s, t, _: ((s[0] - t[0]) ** 2).mean(1),
        shift_invariant=False,
        **MAPS,
    ),
    Row("attention_mse_sum", mse_of_sums, shift_invariant=False, **MAPS),
    Row(
        "attention_mse_sum",
        mse_of_sums,
        shift_invariant=False,
        **{**MAPS, "inputs": maps_without_heads},
    ),
    Row(
        "attention_mse_sum",
        mse_of_sums,
        equal_is=None,
        shift_invariant=False,
        **{**MAPS, "inputs": maps_of_other_heads},
    ),
    Row(
        "attention_ce",
        lambda s, t, _: -(t[0] * np.log(s[0])).sum(-1).mean(1),
        inputs=probability_maps,
        shift_invariant=False,
        **CE_MAPS,
    ),
    Row(
        "attention_ce",
        ce_of_scores,
        SCORES,
        equal_is=lambda t: ce_of_scores(t, t, None),
        **CE_SCORES,
    ),
    Row(
        "attention_ce_mean",
        ce_of_means,
        inputs=maps_of_other_heads,
        shift_invariant=False,
        **CE_MAPS,
    ),
    Row(
        "attention_ce_mean",
        ce_of_means,
        inputs=maps_without_heads,
        shift_invariant=False,
        **CE_MAPS,
    ),
    Row(
        "attention_ce_mean",
        ce_of_mean_scores,
        SCORES,
        equal_is=lambda t: ce_of_mean_scores(t, t, None),
        **CE_SCORES,
    ),
]
