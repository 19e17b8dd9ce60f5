"""The rows below a table of classes: scikit-learn's, and seqeval's."""

import json
from dataclasses import asdict

import pytest
import torch
from seqeval.metrics import classification_report as span_report
from seqeval.scheme import IOB2
from sklearn.metrics import classification_report

from raydistill.evaluation.averages import average_rows
from raydistill.evaluation.metrics import classification_metrics, per_class
from raydistill.evaluation.multi_label import per_label
from raydistill.evaluation.report import write_report
from raydistill.evaluation.tagging import per_type

NAMES = ["a", "b", "c", "d"]
SHARES = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}


def check(rows, report, first):
    """Against averages of a report."""
    found = {row["label"]: row for row in rows}
    assert list(found) == [first, "macro average", "weighted average"]
    for label, theirs in [(f"{kind} average", report[f"{kind} avg"]) for kind in ("macro", "weighted")]:  # fmt: skip
        for name, key in SHARES.items():
            assert found[label][name] == pytest.approx(theirs[key], abs=1e-6), (label, name)
    return found[first]


def each(found):
    return [asdict(one) for one in found]


@pytest.mark.parametrize(
    ("labels", "answers"),
    [
        ([0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 0, 1, 2, 2, 3, 0]),
        ([0, 0, 0, 1, 1, 2, 0, 0], [0, 1, 0, 1, 2, 2, 3, 0]),  # d is answered, and never right
        ([0, 0, 0, 1, 1, 2, 0, 0], [0, 1, 0, 1, 2, 2, 1, 0]),  # d does not occur at all
        ([0, 0, 0, 3, 3, -100, 0, 0], [0, 1, 0, 1, 2, 2, 1, 0]),
    ],
)
def test_averages_of_classes_are_those_of_scikit_learn(labels, answers):
    """A class that neither side has pulls the mean down, one that is only answered belongs to it."""
    logits, labels = torch.eye(4)[answers], torch.tensor(labels)
    rows = average_rows(each(per_class(logits, labels, label_names=NAMES)), "text_classification")
    known = labels >= 0
    expected = classification_report(
        labels[known], logits.argmax(-1)[known], output_dict=True, zero_division=0
    )
    metrics = classification_metrics(logits, labels, label_names=NAMES)
    right = float((logits.argmax(-1) == labels)[known].double().mean())
    accuracy = check(rows, expected, "accuracy")
    assert accuracy == {"label": "accuracy", "f1": pytest.approx(right), "support": known.sum()}
    assert accuracy["f1"] == pytest.approx(metrics["accuracy"], abs=1e-6)
    assert rows[1]["f1"] == pytest.approx(metrics["macro_f1"], abs=1e-6)


def test_averages_of_several_labels_are_those_of_scikit_learn():
    """There is no one accuracy of labels that do not exclude each other."""
    torch.manual_seed(0)
    logits, labels = torch.randn(40, 4), (torch.rand(40, 4) < 0.3).float()
    labels[:, 3], logits[:, 3] = 0, -1  # never there, never answered
    rows = average_rows(each(per_label(logits, labels, label_names=NAMES)), "multi_label_classification")  # fmt: skip
    expected = classification_report(labels, logits > 0, output_dict=True, zero_division=0)
    micro = check(rows, expected, "micro average")
    for name, key in SHARES.items():
        assert micro[name] == pytest.approx(expected["micro avg"][key], abs=1e-6)


def test_averages_of_spans_are_those_of_seqeval():
    """Spans have no accuracy, and a type that no sentence has is not counted."""
    tags = ["O", "B-x", "I-x", "B-y", "I-y", "B-z", "I-z"]
    gold, said = [1, 2, 0, 3, 0, 1, 0, 3], [1, 2, 0, 3, 4, 3, 0, 3]
    logits, sentences = torch.eye(7)[said], torch.tensor([0] * 4 + [1] * 4)
    found = per_type(logits, torch.tensor(gold), label_names=tags, sentences=sentences)
    rows = average_rows(each(found), "tagging")
    lists = [[[tags[i] for i in row[:4]], [tags[i] for i in row[4:]]] for row in (gold, said)]
    expected = span_report(*lists, output_dict=True, mode="strict", scheme=IOB2, zero_division=0)
    micro = check(rows, expected, "micro average")
    for name, key in SHARES.items():
        assert micro[name] == pytest.approx(expected["micro avg"][key])


def test_older_runs_say_what_they_can():
    """Their tables do not tell whether a class without rows was ever answered."""
    full = {"label": "a", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}
    empty = {"label": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    labels = [row["label"] for row in average_rows([full, empty], "text_classification")]
    assert labels == ["accuracy", "weighted average"]
    labels = [row["label"] for row in average_rows([full], "text_classification")]
    assert labels == ["accuracy", "macro average", "weighted average"]
    assert [row["label"] for row in average_rows([full], "tagging")] == ["macro average", "weighted average"]  # fmt: skip
    assert average_rows([{"label": "v", "rmse": 0.5, "support": 3}], "regression") == []


def test_the_page_shows_them(tmp_path):
    """Whoever compares with a published table looks for them there."""
    share = {"precision": 0.75, "recall": 0.5, "f1": 0.6, "support": 2, "given": 2}
    classes = [{"label": f"class {i}", **share} for i in range(31)]
    summary = {"task": "text_classification", "per_class": classes, "models": []}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "metrics.json").write_text("{}")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<summary>31 classes</summary>" in page
    places = [page.index(label) for label in ("class 30", ">accuracy<", ">macro average<", ">weighted average<")]  # fmt: skip
    assert places == sorted(places)
