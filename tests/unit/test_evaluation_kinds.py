"""Figures of several labels and of numbers against scikit-learn and scipy."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.evaluator import metrics_of, predict_ensemble
from raydistill.evaluation.metrics import greater_is_better
from raydistill.evaluation.multi_label import multi_label_agreement, multi_label_metrics, per_label
from raydistill.evaluation.numbers import number_agreement, number_metrics, per_target

NAN = float("nan")
NAMES = ("a", "b", "c")
DRAW = torch.Generator().manual_seed(5)
LOGITS = torch.randn(60, 3, generator=DRAW)
LABELS = (torch.randn(60, 3, generator=DRAW) + LOGITS > 0.3).float()
VALUES = torch.randn(60, 2, generator=DRAW)
TRUTH = VALUES + 0.5 * torch.randn(60, 2, generator=DRAW)


def test_several_labels_are_measured_as_scikit_learn_does() -> None:
    """A figure of one's own making compares with no other."""
    found = multi_label_metrics(LOGITS, LABELS, label_names=NAMES)
    y, answers, p = LABELS.numpy(), (LOGITS > 0).numpy(), LOGITS.sigmoid().double().numpy()
    expected = {
        "micro_f1": sk.f1_score(y, answers, average="micro"),
        "macro_f1": sk.f1_score(y, answers, average="macro"),
        "exact_match": sk.accuracy_score(y, answers),
        "mean_average_precision": sk.average_precision_score(y, p, average="macro"),
        "nll": np.mean([sk.log_loss(y[:, i], p[:, i]) for i in range(3)]),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    each = per_label(LOGITS, LABELS, label_names=NAMES)
    columns = sk.precision_recall_fscore_support(y, answers)
    for number, row in enumerate(each):
        own = (row.precision, row.recall, row.f1, row.support)
        assert own == pytest.approx([column[number] for column in columns])


def test_labels_that_are_not_known_are_not_measured() -> None:
    """Half of a label's rows unknown would halve its recall."""
    labels = LABELS.clone()
    labels[:30, 0], labels[10] = NAN, NAN
    found = multi_label_metrics(LOGITS, labels, label_names=NAMES)
    each = per_label(LOGITS, labels, label_names=NAMES)
    alone = per_label(LOGITS[30:, :1], LABELS[30:, :1], label_names=["a"])[0]
    assert each[0] == alone
    assert found["macro_f1"] == pytest.approx(np.mean([row.f1 for row in each]))
    wrong = ((LOGITS > 0) != (LABELS > 0)) & ~labels.isnan()
    known = ~labels.isnan().all(1)
    assert found["exact_match"] == pytest.approx((~wrong.any(1) & known).sum() / known.sum())
    nothing = torch.full_like(LABELS, NAN)
    assert multi_label_metrics(LOGITS, nothing, label_names=NAMES) == {}
    assert per_label(LOGITS, nothing, label_names=NAMES) == []


def test_labels_that_never_occur() -> None:
    """An undefined figure must neither stop an evaluation nor turn into the best one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = multi_label_metrics(-LOGITS.abs(), torch.zeros(60, 3), label_names=NAMES)
    assert found["micro_f1"] == found["macro_f1"] == found["mean_average_precision"] == 0.0
    assert found["exact_match"] == 1.0
    some = LABELS.clone()
    some[:, 1] = 0
    found = multi_label_metrics(LOGITS, some, label_names=NAMES)
    each = [sk.average_precision_score(LABELS[:, i], LOGITS[:, i]) for i in (0, 2)]
    assert found["mean_average_precision"] == pytest.approx(np.mean(each), rel=1e-6)


def test_numbers_are_measured_as_others_do() -> None:
    """Errors in another unit, or correlations over all targets at once, are other figures."""
    found = number_metrics(VALUES, TRUTH, label_names=["v", "w"])
    pairs = [(VALUES[:, i].double().numpy(), TRUTH[:, i].double().numpy()) for i in range(2)]
    expected = {
        "mse": np.mean([sk.mean_squared_error(t, v) for v, t in pairs]),
        "rmse": np.mean([sk.root_mean_squared_error(t, v) for v, t in pairs]),
        "mae": np.mean([sk.mean_absolute_error(t, v) for v, t in pairs]),
        "pearson": np.mean([stats.pearsonr(v, t).statistic for v, t in pairs]),
        "spearman": np.mean([stats.spearmanr(v, t).statistic for v, t in pairs]),
        "r2": np.mean([sk.r2_score(t, v) for v, t in pairs]),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    missing = TRUTH.clone()
    missing[:20, 1] = NAN
    rows = per_target(VALUES, missing, label_names=["v", "w"])
    assert [(row.label, row.support) for row in rows] == [("v", 60), ("w", 40)]
    assert rows[1].rmse == pytest.approx(sk.root_mean_squared_error(TRUTH[20:, 1], VALUES[20:, 1]))
    assert per_target(VALUES[:, :1], TRUTH[:, :1], label_names=["v"]) == []


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_correlation_does_not_depend_on_the_unit(scale: float) -> None:
    """Numbers of small variance are no constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = number_metrics(VALUES[:, :1] * scale, TRUTH[:, :1] * scale, label_names=["v"])
    expected = stats.pearsonr(VALUES[:, 0], TRUTH[:, 0]).statistic
    assert found["pearson"] == pytest.approx(expected, rel=1e-4)


def test_a_constant_has_no_correlation() -> None:
    """NaN as the figure of the first evaluation would never be beaten."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat = number_metrics(torch.full((5, 1), 0.3), TRUTH[:5, :1], label_names=["v"])
        same = number_metrics(VALUES[:5, :1], torch.full((5, 1), 2.0), label_names=["v"])
        one = number_metrics(VALUES[:1, :1], TRUTH[:1, :1], label_names=["v"])
    assert (flat["pearson"], flat["spearman"]) == (0.0, 0.0)
    assert flat["r2"] <= 0.0
    assert (same["r2"], one["r2"]) == (0.0, 0.0)
    assert number_metrics(TRUTH[:1, :1], TRUTH[:1, :1], label_names=["v"])["r2"] == 1.0
    assert all(math.isfinite(value) for found in (flat, same, one) for value in found.values())
    assert number_metrics(VALUES, torch.full((60, 2), NAN), label_names=["v", "w"]) == {}


def test_likeness_of_student_and_teacher() -> None:
    """The report says how much of the teacher there is in the student."""
    found = multi_label_agreement(LOGITS, -LOGITS)
    assert found["agreement"] == 0.0
    p, q = (-LOGITS).double().sigmoid(), LOGITS.double().sigmoid()
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert found["kl"] == pytest.approx(kl.item(), rel=1e-9)
    assert multi_label_agreement(LOGITS, LOGITS) == {"agreement": 1.0, "kl": 0.0}
    found = number_agreement(VALUES, 2 * VALUES + 1)
    assert found["correlation"] == pytest.approx(1.0)
    gap = (VALUES + 1).double().square().mean(0).sqrt().mean()
    assert found["difference"] == pytest.approx(gap.item())


def test_errors_are_better_when_smaller() -> None:
    """The worst student would be kept."""
    for name in ("rmse", "mse", "mae", "nll"):
        assert not greater_is_better(f"validation/{name}")
    for name in ("r2", "pearson", "micro_f1", "mean_average_precision", "exact_match"):
        assert greater_is_better(f"validation/{name}")


@pytest.mark.parametrize("measure", [multi_label_metrics, number_metrics])
def test_what_does_not_fit_is_refused(measure: Any) -> None:
    """Columns against other columns give a figure like any other."""
    with pytest.raises(SignalError, match=r"must both be \[rows, "):
        measure(LOGITS, LABELS[:, 0], label_names=NAMES)
    with pytest.raises(SignalError, match="got 2 names"):
        measure(LOGITS, LABELS, label_names=["a", "b"])
    broken = LOGITS.clone()
    broken[3, 1] = math.inf
    with pytest.raises(NotFiniteError, match="3"):
        measure(broken, LABELS, label_names=NAMES)


class Labelled:
    """A task of labels alone."""

    def __init__(self, kind: str, labels: torch.Tensor, names: tuple[str, ...]) -> None:
        self.kind, self.labels, self._labels = kind, names, labels

    def hard_labels(self) -> torch.Tensor:
        return self._labels

    def queries(self) -> None:
        """Rows are no candidates."""

    def sentences(self) -> None:
        """Rows have one label each."""

    def questions(self) -> None:
        """Rows are no windows."""


def test_teachers_are_measured_on_the_labels_they_know() -> None:
    """A column that is not there, measured, is a teacher that never says yes."""
    task: Any = Labelled("multi_label_classification", LABELS, NAMES)
    found = metrics_of(LOGITS, task, "test", columns=(1, -1, 0))
    expected = multi_label_metrics(LOGITS[:, [0, 2]], LABELS[:, [0, 2]], label_names=("a", "c"))
    assert found == {f"test/{name}": value for name, value in expected.items()}


def test_the_ensemble_is_combined_label_by_label() -> None:
    """The report would compare the student with an ensemble that it never saw."""
    one, other = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 9.0]])
    logits, weights = {"a": one, "b": other}, {"a": 0.75, "b": 0.25}
    columns = {"a": (0, 1), "b": (0, -1)}
    kind: Any = "multi_label_classification"
    mean = 0.75 * one.sigmoid() + 0.25 * other.sigmoid()
    found = predict_ensemble(logits, weights, "probabilities", kind=kind, columns=columns)
    torch.testing.assert_close(found, torch.tensor([[mean[0, 0].logit(), -1.0]]))
    found = predict_ensemble(logits, weights, "logits", kind=kind, columns=columns)
    torch.testing.assert_close(found, torch.tensor([[1.5, -1.0]]))
    found = predict_ensemble(logits, weights, "probabilities", kind="regression")
    torch.testing.assert_close(found, torch.tensor([[1.5, 1.5]]))
