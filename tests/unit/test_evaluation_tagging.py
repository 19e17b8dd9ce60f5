"""Figures of taggers against seqeval in strict mode."""

import random

import numpy as np
import pytest
import torch

from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.evaluator import predict_ensemble
from raydistill.evaluation.tagging import (
    per_type,
    seen_words,
    spans_of,
    tagging_agreement,
    tagging_metrics,
)

NAMES = ("O", "B-per", "I-per", "B-loc", "I-loc", "B-x", "I-x")
# Of seqeval 1.2.2 (mode="strict", scheme=IOB2) for the rows of three seeds: precision, recall and F1 of all
# spans; the same and the number of spans of each type. It is no dependency: its last release is of 2020.
SEQEVAL = {
    0: ((0.616822, 0.640777, 0.628571), {"per": (0.657895, 0.694444, 0.675676, 36), "loc": (0.578947, 0.55, 0.564103, 40), "x": (0.612903, 0.703704, 0.655172, 27)}),
    1: ((0.55, 0.559322, 0.554622), {"per": (0.775, 0.688889, 0.729412, 45), "loc": (0.447368, 0.53125, 0.485714, 32), "x": (0.428571, 0.439024, 0.433735, 41)}),
    2: ((0.632, 0.632, 0.632), {"per": (0.651163, 0.636364, 0.643678, 44), "loc": (0.638889, 0.741935, 0.686567, 31), "x": (0.608696, 0.56, 0.583333, 50)}),
}  # fmt: skip


def random_rows(seed: int, number: int = 60) -> tuple[list[list[str]], list[list[str]]]:
    """Gold in IOB2, and answers that may be anything."""
    draw = random.Random(seed)
    gold, answers = [], []
    for _ in range(number):
        row: list[str] = []
        while len(row) < draw.randint(1, 9):
            kind = draw.choice(("per", "loc", "x"))
            row += draw.choice(
                (["O"], [f"B-{kind}"], [f"B-{kind}", *[f"I-{kind}"] * draw.randint(1, 3)])
            )
        gold.append(row)
        answers.append([tag if draw.random() < 0.7 else draw.choice(NAMES) for tag in row])
    return gold, answers


def flat(rows: list[list[str]]) -> torch.Tensor:
    return torch.tensor([NAMES.index(tag) for row in rows for tag in row])


def sentences_of(rows: list[list[str]]) -> torch.Tensor:
    return torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row) for row in rows]))


@pytest.mark.parametrize("seed", SEQEVAL)
def test_spans_are_measured_as_seqeval_does(seed: int) -> None:
    """F1 of a rule of one's own compares with no published one."""
    gold, answers = random_rows(seed)
    whole, types = SEQEVAL[seed]
    logits, rows = torch.eye(len(NAMES))[flat(answers)], sentences_of(gold)
    found = tagging_metrics(logits, flat(gold), label_names=NAMES, sentences=rows)
    own = (found["precision"], found["recall"], found["f1"])
    assert own == pytest.approx(whole, abs=1e-6)
    assert found["accuracy"] == pytest.approx((flat(gold) == flat(answers)).double().mean().item())
    each = per_type(logits, flat(gold), label_names=NAMES, sentences=rows)
    assert [one.label for one in each] == list(types)
    for one in each:
        own = (one.precision, one.recall, one.f1, one.support)
        assert own == pytest.approx(types[one.label], abs=1e-6)


@pytest.mark.parametrize("seed", range(5, 9))
def test_spans_are_those_that_seqeval_itself_finds(seed: int) -> None:
    """The same, against the library where it is installed."""
    metrics = pytest.importorskip("seqeval.metrics")
    strict = {"mode": "strict", "scheme": pytest.importorskip("seqeval.scheme").IOB2}
    gold, answers = random_rows(seed)
    logits = torch.eye(len(NAMES))[flat(answers)]
    found = tagging_metrics(logits, flat(gold), label_names=NAMES, sentences=sentences_of(gold))
    assert found["f1"] == pytest.approx(metrics.f1_score(gold, answers, **strict))
    assert found["precision"] == pytest.approx(metrics.precision_score(gold, answers, **strict))
    assert found["recall"] == pytest.approx(metrics.recall_score(gold, answers, **strict))


@pytest.mark.parametrize("seed", range(5, 9))
def test_lenient_f1_is_what_seqeval_says_by_default(seed: int) -> None:
    """Teachers' cards have this figure: beside the strict one, a student seems to lose what it never had."""
    metrics = pytest.importorskip("seqeval.metrics")
    gold, answers = random_rows(seed)
    logits = torch.eye(len(NAMES))[flat(answers)]
    found = tagging_metrics(logits, flat(gold), label_names=NAMES, sentences=sentences_of(gold))
    assert found["f1_lenient"] == pytest.approx(metrics.f1_score(gold, answers))
    assert found["f1_lenient"] != found["f1"]


def test_lenient_spans_may_begin_inside() -> None:
    """I-x I-x where B-x I-x is right: nothing, or all."""
    logits, labels = torch.eye(len(NAMES))[[2, 2, 4, 0]], torch.tensor([1, 2, 3, 0])
    found = tagging_metrics(logits, labels, label_names=NAMES, sentences=torch.zeros(4).long())
    assert (found["f1"], found["f1_lenient"]) == (0.0, 1.0)


def test_a_span_ends_with_its_row() -> None:
    """Rows stand one behind the other; a span over two of them is nobody's."""
    tags, rows = np.array([1, 2, 2, 1]), np.array([0, 0, 1, 1])
    assert spans_of(tags, NAMES, rows).tolist() == [[0, 2, 0], [3, 1, 0]]


def test_what_was_not_seen_is_answered_with_outside() -> None:
    """A model that cuts rows short would look better for what it never read."""
    labels, rows = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 0, 0])
    logits = torch.eye(len(NAMES))[labels]
    logits[3] = -torch.inf
    found = tagging_metrics(logits, labels, label_names=NAMES, sentences=rows)
    assert found == {
        "f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5, "f1_lenient": pytest.approx(2 / 3),
        "accuracy": 0.75, "words_unmapped": 1.0,
    }  # fmt: skip
    assert seen_words(logits).tolist() == [True, True, True, False]


def test_words_without_a_tag_are_left_out() -> None:
    """What nobody knows is neither right nor wrong."""
    rows = torch.tensor([0, 0, 0, 1])
    labels = torch.tensor([1, -100, 0, -100])
    logits = torch.eye(len(NAMES))[torch.tensor([1, 3, 0, 5])]
    found = tagging_metrics(logits, labels, label_names=NAMES, sentences=rows)
    assert (found["f1"], found["accuracy"]) == (1.0, 1.0)
    nothing = torch.full_like(labels, -100)
    assert tagging_metrics(logits, nothing, label_names=NAMES, sentences=rows) == {}
    assert per_type(logits, nothing, label_names=NAMES, sentences=rows) == []


def test_odd_input_is_refused() -> None:
    """A figure of something else is worse than none."""
    logits, labels, rows = torch.zeros(2, len(NAMES)), torch.tensor([0, 1]), torch.tensor([0, 0])
    options = {"label_names": NAMES, "sentences": rows}
    with pytest.raises(NotFiniteError):
        tagging_metrics(logits.masked_fill(logits == 0, torch.nan), labels, **options)
    with pytest.raises(SignalError, match="in word 1"):
        tagging_metrics(logits, torch.tensor([0, 9]), **options)
    with pytest.raises(SignalError, match=r"\[words, tags\]"):
        tagging_metrics(logits[:1], labels, **options)
    with pytest.raises(SignalError, match="must hold O"):
        tagging_metrics(logits[:, :2], labels, label_names=("B-x", "I-x"), sentences=rows)


def test_agreement_is_over_what_both_saw() -> None:
    """Minus infinity times nothing is not a number."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 3, generator=draw), torch.randn(6, 3, generator=draw)
    whole = tagging_agreement(student[2:5], teacher[2:5])
    student[:2], teacher[5] = -torch.inf, -torch.inf
    assert tagging_agreement(student, teacher) == whole
    assert tagging_agreement(student[:2], teacher[:2]) == {}


def test_an_ensemble_takes_each_word_from_those_who_saw_it() -> None:
    """A teacher that cuts rows short must not pull the others' words to its nothing."""
    draw = torch.Generator().manual_seed(1)
    one, other = torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw)
    one[2:], other[3] = -torch.inf, -torch.inf
    weights = {"one": 0.25, "other": 0.75}
    found = predict_ensemble({"one": one, "other": other}, weights, "probabilities", kind="tagging")
    mean = 0.25 * one[:2].softmax(-1) + 0.75 * other[:2].softmax(-1)
    assert torch.allclose(found[:2].exp(), mean, atol=1e-6)
    assert torch.allclose(found[2].exp(), other[2].softmax(-1), atol=1e-6)
    assert seen_words(found).tolist() == [True, True, True, False]
