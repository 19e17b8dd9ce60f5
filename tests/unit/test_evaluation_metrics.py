import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.metrics import (
    agreement_metrics,
    classification_metrics,
    greater_is_better,
    per_class,
)

NAMES = ["a", "b", "c", "d"]


def some_logits(rows=500, classes=4, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    logits[torch.arange(rows), labels] += 1.5
    return logits, labels


def ece_of(probabilities, labels, bins=15):
    """Expected calibration error by the definition, the last bin closed."""
    confidence, answers = probabilities.max(1), probabilities.argmax(1)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            total += inside.mean() * abs(
                (answers == labels)[inside].mean() - confidence[inside].mean()
            )
    return total


@pytest.mark.parametrize("scale", [0.3, 2.0, 60.0])
def test_classification_metrics_are_those_of_scikit_learn(scale):
    """A home-made macro F1 or ECE makes our numbers incomparable with everyone else's."""
    logits, labels = some_logits(scale=scale)
    p = logits.double().softmax(-1).numpy()
    metrics = classification_metrics(logits, labels, label_names=NAMES)
    answers = logits.argmax(-1)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, answers), abs=1e-6)
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(labels, answers, average="macro"), abs=1e-6
    )
    assert metrics["ece"] == pytest.approx(ece_of(p, labels.numpy()), abs=1e-5)
    if scale < 60:
        assert metrics["nll"] == pytest.approx(log_loss(labels, p), abs=1e-6)


def test_classification_metrics_are_the_same_of_log_probabilities():
    """An ensemble answers log-probabilities, a model logits; both must be measured alike."""
    logits, labels = some_logits()
    one = classification_metrics(logits, labels, label_names=NAMES)
    other = classification_metrics(logits.log_softmax(-1), labels, label_names=NAMES)
    assert one == pytest.approx(other, abs=1e-6)


def test_classification_metrics_take_logits_between_0_and_1_for_logits():
    """A library that guesses 'probabilities' by their range reports a wrong calibration."""
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    metrics = classification_metrics(logits, torch.tensor([0, 0]), label_names=["a", "b"])
    assert metrics["ece"] == pytest.approx(1 - logits.softmax(-1)[:, 0].mean().item(), abs=1e-6)


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    """A class without a row in a small split must not pull the mean to zero, as in scikit-learn."""
    logits = torch.tensor([[2.0, 0, 0], [0, 2.0, 0]])
    metrics = classification_metrics(logits, torch.tensor([0, 1]), label_names=["a", "b", "c"])
    assert metrics["macro_f1"] == 1.0


def test_unlabelled_rows_are_ignored_even_when_not_finite():
    """Unlabelled rows would count as wrong, or stop an evaluation that does not need them."""
    logits, labels = some_logits(rows=20)
    expected = classification_metrics(logits[5:], labels[5:], label_names=NAMES)
    labels[:5], logits[:5] = -100, float("nan")
    assert classification_metrics(logits, labels, label_names=NAMES) == expected
    assert sum(c.support for c in per_class(logits, labels, label_names=NAMES)) == 15


def test_nothing_labelled_gives_no_metrics():
    """An accuracy of 0 or NaN for an unlabelled split would be believed."""
    logits, labels = torch.zeros(3, 4), torch.full((3,), -100)
    assert classification_metrics(logits, labels, label_names=NAMES) == {}
    assert per_class(logits, labels, label_names=NAMES) == []
    assert classification_metrics(torch.zeros(0, 4), labels[:0], label_names=NAMES) == {}
    assert agreement_metrics(torch.zeros(0, 4), torch.zeros(0, 4)) == {}


def test_not_finite_logits_are_named_by_row():
    """NaN logits have an argmax: without a check they become an accuracy."""
    logits, labels = some_logits(rows=9)
    logits[2, 1], logits[7, 0] = float("nan"), float("inf")
    with pytest.raises(NotFiniteError) as caught:
        classification_metrics(logits, labels, label_names=NAMES)
    assert caught.value.rows == (2, 7)
    with pytest.raises(NotFiniteError, match="teacher's logits is not finite for rows 2, 7"):
        agreement_metrics(torch.zeros_like(logits), logits)


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 4), [0, 4], "labels must be -100 or 0 to 3, got 4 in row 1"),
        ((2, 4), [-1, 0], "got -1 in row 0"),
        ((2, 4), [0], "labels \\[rows\\]"),
        ((2, 3), [0, 1], "must name the 3 classes of the logits, got 4 names"),
    ],
)
def test_what_does_not_fit_is_refused(shape, labels, message):
    """A label outside the classes is an index error far away, or a silent wrong number."""
    with pytest.raises(SignalError, match=message):
        classification_metrics(torch.zeros(shape), torch.tensor(labels), label_names=NAMES)


def test_per_class_is_that_of_scikit_learn():
    """Precision and recall exchanged look plausible."""
    logits, labels = some_logits()
    found = per_class(logits, labels, label_names=NAMES)
    expected = precision_recall_fscore_support(labels, logits.argmax(-1))
    assert [c.label for c in found] == NAMES
    for index, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(c, name) for c in found] == pytest.approx(
            expected[index].tolist(), abs=1e-6
        )


def test_agreement_is_forward_kl_from_teacher_to_student():
    """The reverse divergence, or base 2, would not be noticed by eye."""
    student, teacher = some_logits(seed=1)[0], some_logits(seed=2)[0]
    metrics = agreement_metrics(student, teacher)
    q, p = (x.double().softmax(-1).numpy() for x in (student, teacher))
    assert metrics["kl"] == pytest.approx((p * np.log(p / q)).sum(1).mean())
    assert metrics["agreement"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    assert agreement_metrics(student, student) == {"agreement": 1.0, "kl": 0.0}
    with pytest.raises(SignalError, match="one shape"):
        agreement_metrics(student, teacher[:, :3])


@pytest.mark.parametrize(
    ("name", "greater"),
    [("validation/accuracy", True), ("macro_f1", True), ("test/nll", False), ("ece", False)],
)
def test_greater_is_better_knows_losses(name, greater):
    """The worst checkpoint would be kept."""
    assert greater_is_better(name) is greater
