"""Kinds of tasks: what may be written with which, and what a batch holds."""

from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import torch

from raydistill.alignment import independent_columns, output_columns
from raydistill.config import parse_config
from raydistill.config.losses import GroupLoss, HardLoss, SoftLoss
from raydistill.config.task import LABEL_LOSSES, LOGIT_LOSSES, TaskKind
from raydistill.tasks import Regression, task_of
from tests.unit.objectives import make_tokenizer

MULTI, NUMBERS = {"kind": "multi_label_classification"}, {"kind": "regression"}


def settings(**sections: Any) -> dict[str, Any]:
    return {
        "run": {"name": "x"},
        "data": {"train": "t"},
        "student": {"model": "m"},
        "teachers": {"a": {"model": "q"}},
        "losses": [{"kind": "hidden_mse", "layers": "last"}],
        **sections,
    }


def lines(**sections: Any) -> list[str]:
    return [str(fault) for fault in parse_config(settings(**sections))[1]]


def test_every_loss_on_labels_and_logits_has_a_task() -> None:
    """A loss that no table names is refused everywhere."""
    kinds = {
        get_args(one.model_fields["kind"].annotation)[0]
        for one in get_args(HardLoss | SoftLoss | GroupLoss)
    }
    named = {*LABEL_LOSSES.values(), *(name for names in LOGIT_LOSSES.values() for name in names)}
    assert kinds == named


@pytest.mark.parametrize(
    ("task", "loss", "use"),
    [
        (MULTI, "cross_entropy", "binary_cross_entropy"),
        (MULTI, "forward_kl", "binary_forward_kl or binary_soft_cross_entropy or logit_mse"),
        (MULTI, "mse", "binary_cross_entropy"),
        (NUMBERS, "cross_entropy", "mse"),
        (NUMBERS, "binary_forward_kl", "logit_mse"),
        ({}, "mse", "cross_entropy"),
        ({}, "binary_soft_cross_entropy", "forward_kl or soft_cross_entropy or"),
    ],
)
def test_losses_of_another_task_are_refused_by_name(task: Any, loss: str, use: str) -> None:
    """A softmax over labels that do not exclude each other trains, and learns something else."""
    losses = [{"kind": "hidden_mse", "layers": "last"}, {"kind": loss}]
    (line,) = lines(task=task, losses=losses)
    assert line.startswith(f"losses.1.kind is {loss}, which is for ")
    assert f"but task.kind is {task.get('kind', 'text_classification')}. Use {use}" in line


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"task": NUMBERS, "ensemble": {"weighting": {"kind": "confidence"}}}, "ensemble.weighting.kind"),
        ({"task": NUMBERS, "ensemble": {"weighting": {"kind": "gate"}}}, "ensemble.weighting.kind"),
        ({"task": NUMBERS, "ensemble": {"combine": "log_probabilities"}}, "ensemble.combine"),
        ({"task": NUMBERS, "ensemble": {"temperatures": {"a": 2.0}}}, "ensemble.temperatures"),
        ({"task": NUMBERS, "losses": [{"kind": "logit_mse", "temperature": 2.0}]}, "losses.0.temperature"),
        ({"task": MULTI, "losses": [{"kind": "logit_mse", "standardize": True}]}, "losses.0.standardize"),
        ({"task": MULTI, "losses": [{"kind": "logit_mse", "probability_shift": True}]}, "losses.0.probability_shift"),
        ({"task": MULTI, "losses": [{"kind": "binary_forward_kl", "temperature": {"kind": "cwsm", "base": 2.0}}]}, "losses.0.temperature"),
        ({"task": {**MULTI, "label": None}}, "task.labels"),
        ({"task": {**MULTI, "label": None, "labels": ["x"], "separator": ";"}}, "task.separator"),
        ({"task": MULTI, "teachers": {"a": {"model": "q", "missing_labels": "abstain"}}, "losses": [{"kind": "custom", "target": "a:b"}]}, "losses.0"),
        ({"task": MULTI, "losses": [{"kind": "binary_cross_entropy"}]}, "teachers"),
        ({"task": {"kind": "tagging", "conll": {"words": -1}}}, "task.conll.tags"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_task_is_one_line(sections: dict[str, Any], path: str) -> None:
    """What is ignored in silence is believed to work."""
    assert [line.split()[0] for line in lines(**sections)] == [path]


def test_what_fits_is_let_through() -> None:
    """A rule that is too strict costs a user the run."""
    partial = {"a": {"model": "q", "missing_labels": "abstain"}}
    for losses in (["binary_cross_entropy", "binary_forward_kl", "logit_mse"], ["logit_mse"]):
        terms = [{"kind": kind} for kind in losses]
        for weighting in ("confidence", "agreement", "label_cross_entropy", "gate", "stochastic"):
            more = {"weighting": {"kind": weighting}, "temperatures": {"a": 2.0}}
            assert lines(task=MULTI, losses=terms, ensemble=more, teachers=partial) == []
    for combine in ("probabilities", "logits", "losses"):
        terms = [{"kind": "mse"}, {"kind": "logit_mse"}]
        assert lines(task=NUMBERS, losses=terms, ensemble={"combine": combine}) == []


def test_the_metric_that_chooses_follows_the_task() -> None:
    """The best student of a regression by its accuracy is the first one."""
    for task, metric in ((MULTI, "micro_f1"), (NUMBERS, "rmse"), ({}, "accuracy")):
        config, faults = parse_config(settings(task=task, training={"epochs": 1}))
        assert (config is not None, faults) == (True, [])
        assert config.training.select_by == f"validation/{metric}"
        assert config.tracking.champion_metric == f"validation/{metric}"
        again, _ = parse_config(config.model_dump())
        assert again == config
    config, _ = parse_config(settings(task=NUMBERS, training={"select_by": "validation/pearson"}))
    assert config.training.select_by == "validation/pearson"


def test_unknown_kinds_and_columns_are_named() -> None:
    """A union that complains once for each branch hides what is wrong."""
    assert lines(task={"kind": "regresion"}) == [
        f"task.kind 'regresion' is not known. Known: {', '.join(sorted(get_args(TaskKind)))}. Did you mean 'regression'?"
    ]
    assert lines(task={**MULTI, "seperator": ";"}) == [
        "task.seperator is not known. Known: kind, label, labels, separator, text, text_pair. "
        "Did you mean 'separator'?"
    ]
    assert lines(task={"txt": "a"})[0].startswith(
        "task.txt is not known. Known: kind, label, labels,"
    )


def table(lists: Any, kind: pa.DataType) -> pa.Table:
    ids = pa.array(range(len(lists)), pa.int64())
    label = pa.array(lists, pa.list_(kind, len(lists[0])))
    return pa.table({"text": ["good film"] * len(lists), "label": label, "row_id": ids})


def test_batches_hold_what_losses_expect(tiny: dict[str, Path]) -> None:
    """-1 taken for a label is a loss below zero."""
    tokenizer = make_tokenizer(tiny["student"])
    task = task_of(
        "multi_label_classification", table([[1, 0], [-1, 1], [-1, -1]], pa.int8()), "xy"
    )
    labels = task.batch([2, 1, 0], tokenizer, 16).labels
    expected = torch.tensor([[torch.nan, torch.nan], [torch.nan, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(labels, expected, equal_nan=True)
    torch.testing.assert_close(task.hard_labels().flip(0), expected, equal_nan=True)
    rows = table([[0.5], [None], [3.0]], pa.float64())
    task = task_of("regression", rows, ("stars",))
    assert isinstance(task, Regression)
    batch = task.batch([0, 2], tokenizer, 16, filler=True)
    assert batch.labels.tolist() == [[0.5], [3.0]]
    assert batch.labels.dtype == torch.float32
    assert task.texts([1]) == ((1,), (("good film",),))


def test_independent_labels_find_their_columns() -> None:
    """Of labels that stand alone any part may be known; none may be taken for another."""
    columns = independent_columns
    assert columns(["a", "b", "c"], ["c", "a"]) == (2, 0)
    assert columns(["A", "b"], ["b", "a"]) == (1, 0)
    assert columns(["Joy", "joy"], ["joy"]) == (1,)
    assert columns(["b"], ["a", "b"], partial=True) == (-1, 0)
    assert columns(["x", "b"], ["a", "b"], {"x": "a"}) == (0, 1)
    assert columns(["LABEL_0", "LABEL_1"], ["a", "b"]) == (0, 1)
    assert output_columns("regression", ["score"], ["stars"]) == (0,)
    assert output_columns("text_classification", ["a", "b"], ["b", "a"]) == (1, 0)
    for own, student, more, said in (
        (["a"], ["a", "b"], {}, "does not know ['b']"),
        (["toxic"], ["spam"], {}, "knows none of the student's labels"),
        (["toxic"], ["spam", "a"], {"partial": True}, "knows none"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b"], {}, "knows none"),
        (["a", "a"], ["a"], {}, "must differ, got 'a' twice"),
        (["x"], ["a"], {"label_map": {"y": "a"}}, "label_map names 'y'"),
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            columns(own, student, **more)
        assert said in str(caught.value)
    with pytest.raises(ValueError, match="knows none"):
        output_columns("multi_label_classification", ["toxic"], ["spam"])


def test_texts_are_only_changed_where_rows_are_texts() -> None:
    """Words that are swapped keep their tags in the old order, and nothing says so."""
    swap = {"kind": "swap"}
    found = lines(
        task={"kind": "tagging"},
        augmentation={"operations": [swap]},
        adversarial={"kind": "fgm"},
        evaluation={"perturbations": {"typos": swap}},
    )
    assert [line.split()[0] for line in found] == [
        "augmentation", "adversarial", "evaluation.perturbations",
    ]  # fmt: skip
