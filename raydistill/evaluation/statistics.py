"""The figures of every kind of task as ones that can be resampled. Pure.

All but the calibration error: chance makes it larger, the more the farther a model's confidences are spread over
its bins, and the more on resamples, which hold rows twice. Of two models that are equally well calibrated, the one
with spread confidences was found to be significantly worse more often than not.

On all units once, each is what :func:`raydistill.evaluation.measures.measure` finds. Units without a label
are left out: they say nothing about either model.

R resamples, U units, C outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raydistill.config.task import METRICS, TaskKind
from raydistill.evaluation.ranking import each_query
from raydistill.evaluation.resampling import Array, Resampled, Sums, mean_of
from raydistill.evaluation.spans import each_answer
from raydistill.evaluation.tagging import each_sentence
from raydistill.tasks import QueryGroups, Questions

__all__ = ["RESAMPLED", "Measured", "comparable_metrics", "resampled"]

_BIASED = frozenset({"ece"})
_NO_SPREAD = 1e-12  # of a variance, relative to that of all units: rounding


@dataclass(frozen=True)
class Measured:
    """What a model said about rows, and what is right.

    Attributes:
        logits: ``[N, C]``.
        labels: As the task has them.
        label_names: Of the C outputs.
        queries: Which rows are candidates of the same query.
        sentences: The row of each label, where a row has several.
        questions: Which rows are windows of the same question.
    """

    logits: Tensor
    labels: Tensor
    label_names: Sequence[str]
    queries: QueryGroups | None = None
    sentences: Tensor | None = None
    questions: Questions | None = None


def comparable_metrics(kind: TaskKind) -> tuple[str, ...]:
    """Figures by which models can be compared.

    Example:
        >>> comparable_metrics("text_classification")
        ('accuracy', 'macro_f1', 'nll')
    """
    return tuple(metric for metric in METRICS[kind] if metric not in _BIASED)


def resampled(kind: TaskKind, metric: str, found: Measured) -> Resampled:
    """A figure of a model, ready to be computed on any resample.

    Args:
        kind: Of the task, one of ``RESAMPLED``.
        metric: One of :func:`comparable_metrics`.
        found: The model.
    """
    assert metric in comparable_metrics(kind), "whoever compares looks what can be tested"
    return RESAMPLED[kind](metric, found)


def _classes(metric: str, found: Measured) -> Resampled:
    counted = (found.labels >= 0).numpy()
    logits = found.logits.detach().double()[counted]
    labels = found.labels[counted].long().numpy()
    log_q = logits.log_softmax(-1)
    answers = log_q.argmax(-1).numpy()
    right = (answers == labels).astype(np.float64)
    if metric == "accuracy":
        return mean_of(right)
    if metric == "nll":
        return mean_of(-log_q.numpy()[np.arange(len(labels)), labels])
    number = len(found.label_names)
    there, given = np.eye(number)[labels], np.eye(number)[answers]
    return _f1_of_labels(there * given, given, there, of_all=False)


def _f1_of_labels(right: Array, given: Array, there: Array, *, of_all: bool) -> Sums:
    """The mean of F1 over labels: all, or those that occur as label or answer."""
    number = right.shape[1]

    def figure(sums: Array) -> Array:
        right, given, there = sums[:, :number], sums[:, number : 2 * number], sums[:, 2 * number :]
        each = 2 * right / np.maximum(given + there, 1.0)
        occur = np.ones_like(each) if of_all else (given + there > 0).astype(np.float64)
        found: Array = (each * occur).sum(1) / occur.sum(1)
        return found

    return Sums(np.concatenate([right, given, there], axis=1), figure)


def _labels(metric: str, found: Measured) -> Resampled:
    of_rows = (~found.labels.isnan()).any(1)
    known = (~found.labels[of_rows].isnan()).numpy()
    logits = found.logits.detach().double()[of_rows]
    truth = found.labels[of_rows].nan_to_num().double().numpy()
    yes = (logits > 0).numpy() & known
    there = (truth == 1) & known
    right, given, there_f = (part.astype(np.float64) for part in (yes & there, yes, there))
    if metric == "micro_f1":
        counts = np.stack([right.sum(1), given.sum(1), there_f.sum(1)], axis=1)
        return Sums(counts, _f1)
    if metric == "macro_f1":
        return _f1_of_labels(right, given, there_f, of_all=True)
    if metric == "exact_match":
        return mean_of(((yes == there) | ~known).all(1).astype(np.float64))
    if metric == "nll":
        z = logits.numpy()
        each = (np.logaddexp(0.0, z) - z * truth) * known
        return mean_of(each.sum(1), known.sum(1).astype(np.float64))
    return _AveragePrecision(logits.sigmoid().numpy(), truth, known)


def _f1(sums: Array) -> Array:
    """Of right, given and there; 0 of nothing."""
    found: Array = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1.0)
    return found


@dataclass(frozen=True)
class _Sorted:
    """One order of units in which equal values stand together.

    Attributes:
        order: Of units, ``[U]``.
        starts: Where a group of equal values begins, ``[G]``.
        group: Of each place in that order, ``[U]``.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def by(cls, values: Array) -> "_Sorted":
        order = np.argsort(values, kind="stable")
        new = np.diff(values[order], prepend=np.nan) != 0
        return cls(order, np.flatnonzero(new), np.cumsum(new) - 1)

    def sums(self, weights: Array) -> Array:
        """Of each group, ``[R, G]``."""
        found: Array = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        return found


@dataclass(frozen=True)
class _AveragePrecision:
    """The mean over labels that occur, ``[U, C]`` each."""

    scores: Array
    truth: Array
    known: NDArray[np.bool_]

    @property
    def units(self) -> int:
        return len(self.scores)

    def values(self, weights: Array) -> Array:
        total, occur = np.zeros(len(weights)), np.zeros(len(weights))
        for scores, truth, known in zip(self.scores.T, self.truth.T, self.known.T, strict=True):
            down = _Sorted.by(-scores)
            right, all_of = down.sums(weights * (truth * known)), down.sums(weights * known)
            seen = all_of.cumsum(1)
            precision = right.cumsum(1) / np.maximum(seen, 1.0)
            positives = right.sum(1)
            total += (right * precision).sum(1) / np.maximum(positives, 1.0)
            occur += positives > 0
        return total / np.maximum(occur, 1.0)


def _numbers(metric: str, found: Measured) -> Resampled:
    counted = ~found.labels.isnan().all(-1).numpy()
    values = found.logits.detach().double().numpy()[counted]
    labels = found.labels.double().numpy()[counted]
    figures = {"rmse": _rmse, "mse": _mse, "mae": _mae, "r2": _r2}
    targets: list[Resampled] = []
    for column, label in zip(values.T, labels.T, strict=True):
        known = ~np.isnan(label)
        if not known.any():
            continue
        own, truth = np.where(known, column, 0.0), np.where(known, label, 0.0)
        if metric in figures:
            targets.append(figures[metric](own, truth, known.astype(np.float64)))
        else:
            targets.append(_Correlation(own, truth, known, ranks=metric == "spearman"))
    return _MeanOf(tuple(targets))


def _mse(own: Array, truth: Array, known: Array) -> Sums:
    return mean_of((own - truth) ** 2 * known, known)


def _rmse(own: Array, truth: Array, known: Array) -> Sums:
    mse = _mse(own, truth, known)
    return Sums(mse.counts, lambda sums: np.sqrt(mse.figure(sums)))


def _mae(own: Array, truth: Array, known: Array) -> Sums:
    return mean_of(np.abs(own - truth) * known, known)


def _r2(own: Array, truth: Array, known: Array) -> Sums:
    middle = truth[known > 0].mean()
    apart = (truth - middle) * known  # near 0, where squares keep their digits
    least = _NO_SPREAD * (apart**2).mean()

    def figure(sums: Array) -> Array:
        error, number, first, second = sums.T
        spread = second - first**2 / number
        varies = spread > least * number
        found: Array = np.where(varies, 1 - error / np.where(varies, spread, 1.0), error == 0)
        return np.where(number > 0, found, np.nan)

    counts = [(own - truth) ** 2 * known, known, apart, apart**2]
    return Sums(np.stack(counts, axis=1), figure)


@dataclass(frozen=True)
class _MeanOf:
    """Over targets."""

    targets: tuple[Resampled, ...]

    @property
    def units(self) -> int:
        return self.targets[0].units

    def values(self, weights: Array) -> Array:
        found: Array = np.mean([target.values(weights) for target in self.targets], axis=0)
        return found


@dataclass(frozen=True)
class _Correlation:
    """Pearson's of values, or of their ranks among what was drawn; 0 where a side does not vary."""

    own: Array
    truth: Array
    known: NDArray[np.bool_]
    ranks: bool

    @property
    def units(self) -> int:
        return len(self.own)

    def values(self, weights: Array) -> Array:
        weights = weights * self.known
        number = weights.sum(1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = (self._apart(side, weights, number) for side in (self.own, self.truth))
            xx, yy = (weights * x * x).sum(1), (weights * y * y).sum(1)
            found = (weights * x * y).sum(1) / np.sqrt(xx * yy)
            vary = (xx > _NO_SPREAD * number[:, 0]) & (yy > _NO_SPREAD * number[:, 0])
            return np.where(number[:, 0] > 0, np.where(vary, found, 0.0), np.nan)

    def _apart(self, side: Array, weights: Array, number: Array) -> Array:
        """A side less its mean on each resample, ``[R, U]``, in units in which it spreads by about 1."""
        if self.ranks:
            order = _Sorted.by(side)
            drawn = order.sums(weights)
            middle = drawn.cumsum(1) - drawn + (drawn + 1) / 2
            found = np.empty_like(weights)
            found[:, order.order] = middle[:, order.group]
        else:
            inside = side[self.known]
            spread = np.abs(inside - inside.mean()).max() or 1.0
            found = np.where(self.known, (side - inside.mean()) / spread, 0.0)[None]
        apart: Array = found - (weights * found).sum(1, keepdims=True) / number
        return apart


def _tags(metric: str, found: Measured) -> Resampled:
    assert found.sentences is not None, "tags stand in sentences"
    each = each_sentence(
        found.logits, found.labels, label_names=found.label_names, sentences=found.sentences
    )
    right, given, there, right_words, words = each[each[:, 4] > 0].T
    if metric == "accuracy":
        return mean_of(right_words, words)
    shares = {"precision": (right, given), "recall": (right, there)}
    if metric in shares:
        part, whole = shares[metric]
        counts = np.stack([part, whole], axis=1)
        return Sums(counts, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1.0))
    return Sums(np.stack([right, given, there], axis=1), _f1)


def _scores(metric: str, found: Measured) -> Resampled:
    assert found.queries is not None, "candidates belong to queries"
    each = each_query(found.logits[:, 0], found.labels[:, 0], found.queries)
    return mean_of(np.array(each[metric]))


def _answers(metric: str, found: Measured) -> Resampled:
    assert found.questions is not None, "windows belong to questions"
    each = each_answer(found.logits, found.questions)
    column = {"f1": 1, "exact_match": 2}[metric]
    return mean_of(np.array([one[column] for one in each]))


RESAMPLED: Mapping[TaskKind, Callable[[str, Measured], Resampled]] = {
    "text_classification": _classes,
    "multi_label_classification": _labels,
    "regression": _numbers,
    "tagging": _tags,
    "reranking": _scores,
    "retrieval": _scores,
    "question_answering": _answers,
}
"""By kind of task; what is drawn is a row, a sentence of tags, a query with its candidates, a question."""
