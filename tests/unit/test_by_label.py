"""Several labels at once and numbers in the objective, against formulas written a second time in NumPy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.losses import CATALOG
from raydistill.objective import Moment, Objective, ObjectivePlan, Term
from raydistill.signals import Ask, TeacherSignal, pack_signal
from raydistill.tasks import Batch
from raydistill.terms import HardMatch, SoftMatch, StudentOutputs
from tests.unit.test_terms import NOW, World, world  # noqa: F401 - a fixture

Array = np.ndarray[Any, Any]
NAN = float("nan")
ROWS, LABELS = 7, 4
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
WHOLE = dict.fromkeys(WEIGHTS, (2, 0, 1, 3))
PARTIAL = {"a": (2, 0, 1, 3), "b": (-1, 0, -1, 1), "c": (0, -1, -1, -1)}
MULTI, NUMBERS = "multi_label_classification", "regression"


def draw(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels_of(task: str, rows: Sequence[int]) -> torch.Tensor:
    whole = draw(7, ROWS, LABELS)
    whole = whole if task == NUMBERS else (whole > 0).float()
    whole[1, 2], whole[4] = NAN, NAN
    return whole[list(rows)]


def make_batch(task: str, rows: Sequence[int]) -> Batch:
    ids = torch.ones(len(rows), 2, dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": ids}
    counts = torch.tensor([row != 6 for row in rows])
    return Batch(tuple(rows), (("x",) * len(rows),), inputs, labels_of(task, rows), counts)


def make_plan(
    task: Any, *terms: tuple[str, dict[str, Any]], columns: Any = WHOLE, **more: Any
) -> ObjectivePlan:
    made = []
    for place, (kind, options) in enumerate(terms):
        entry, own = CATALOG[kind], dict(options)
        tau = own.pop("temperature", 1.0)
        hard = entry.needs == {"labels"}
        match = HardMatch(entry) if hard else SoftMatch(entry, own, tau)
        made.append(Term(f"{place}.{kind}", match))
    asks = dict.fromkeys(columns, Ask())
    weights = {name: WEIGHTS[name] for name in columns}
    total = sum(weights.values())
    weights = {name: weight / total for name, weight in weights.items()}
    return ObjectivePlan(tuple(made), weights, columns, asks, task=task, **more)


def signals_of(plan: ObjectivePlan, rows: Sequence[int]) -> dict[str, TeacherSignal]:
    signals = {}
    for number, (name, columns) in enumerate(plan.columns.items()):
        logits = draw(100 + number, ROWS, max(columns) + 1)[list(rows)]
        signals[name] = pack_signal(name, rows, [1] * len(rows), {"logits": logits}, "float32")
    return signals


def run(
    plan: ObjectivePlan, rows: Sequence[int] = range(ROWS), moment: Moment = NOW
) -> tuple[Array, Array, torch.Tensor, Objective]:
    """Sums, counts, and the gradient at the student's logits."""
    objective, batch = Objective(plan), make_batch(plan.task, rows)
    logits = draw(3, ROWS, LABELS)[list(rows)].requires_grad_()
    sums = objective(StudentOutputs(logits), batch, signals_of(plan, rows), moment)
    sums.sum().backward()
    assert logits.grad is not None
    return sums.detach().numpy(), objective.counts(batch).numpy(), logits.grad, objective


def teachers(plan: ObjectivePlan) -> tuple[Array, Array]:
    """In the student's order, ``[M, B, C]`` float64, 0 where unknown; and who knows, ``[M, C]``."""
    said = []
    for name, signal in signals_of(plan, range(ROWS)).items():
        own = signal.logits.double().numpy()
        said.append(
            np.stack([own[:, c] if c >= 0 else 0 * own[:, 0] for c in plan.columns[name]], 1)
        )
    known = np.array([[c >= 0 for c in columns] for columns in plan.columns.values()])
    return np.stack(said), known


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def shares(plan: ObjectivePlan, known: Array) -> Array:
    """``[M, 1, C]``, summing to 1 over those that know a label."""
    weights = np.array(list(plan.weights.values()))[:, None] * known
    return (weights / np.maximum(weights.sum(0), 1e-30))[:, None]


def binary_kl(p: Array, q: Array) -> Array:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def by_row(values: Array, heard: Array) -> float:
    """Mean over the labels that anyone knows, then the sum over the rows that count."""
    return float(values[:6][:, heard].mean(1).sum())


STUDENT = draw(3, ROWS, LABELS).double().numpy()


def test_labels_of_several_classes_and_numbers_count_where_they_are_known() -> None:
    """A label that is not known, read as a no or as 0, is learnt."""
    plan = make_plan(MULTI, ("binary_cross_entropy", {}), columns={})
    objective, batch = Objective(plan), make_batch(MULTI, range(ROWS))
    said = StudentOutputs(torch.tensor(STUDENT).float())
    q, y = sigmoid(STUDENT), batch.labels.double().numpy()
    each = -(y * np.log(q) + (1 - y) * np.log(1 - q))
    expected = sum(np.nanmean(each[row]) for row in range(6) if row != 4)
    assert objective(said, batch, {}, NOW).item() == pytest.approx(expected, rel=1e-6)
    assert objective.counts(batch).tolist() == [5]
    plan = make_plan(NUMBERS, ("mse", {}), columns={})
    objective, batch = Objective(plan), make_batch(NUMBERS, range(ROWS))
    gaps = (STUDENT - batch.labels.double().numpy())[:6] ** 2
    assert objective(said, batch, {}, NOW).item() == pytest.approx(np.nansum(gaps), rel=1e-6)
    assert objective.counts(batch).tolist() == [5 * LABELS - 1]


@pytest.mark.parametrize("columns", [WHOLE, PARTIAL], ids=["whole", "partial"])
@pytest.mark.parametrize("combine", ["probabilities", "logits", "log_probabilities", "losses"])
def test_teachers_are_combined_label_by_label(combine: str, columns: Any) -> None:
    """A teacher that lacks a label, counted with a logit of its own making, teaches noise."""
    tau = 2.0
    plan = make_plan(
        MULTI, ("binary_forward_kl", {"temperature": tau}), columns=columns, combine=combine
    )
    sums, counts, _, _ = run(plan)
    logits, known = teachers(plan)
    w, q = shares(plan, known), sigmoid(STUDENT / tau)
    if combine == "losses":
        values = (w * binary_kl(sigmoid(logits / tau), q)).sum(0)
    elif combine == "probabilities":
        values = binary_kl((w * sigmoid(logits / tau)).sum(0), q)
    else:
        values = binary_kl(sigmoid((w * logits).sum(0) / tau), q)
    assert sums.tolist() == [pytest.approx(tau**2 * by_row(values, known.any(0)), rel=1e-5)]
    assert counts.tolist() == [6]


@pytest.mark.parametrize("task", [MULTI, NUMBERS])
def test_numbers_are_compared_with_the_mean_of_numbers(task: str) -> None:
    """The mean of squashed numbers is not the squashed mean."""
    plan = make_plan(task, ("logit_mse", {}), columns=PARTIAL)
    sums, _, _, _ = run(plan)
    logits, known = teachers(plan)
    values = (STUDENT - (shares(plan, known) * logits).sum(0)) ** 2
    assert sums.tolist() == [pytest.approx(by_row(values, known.any(0)), rel=1e-5)]


def test_a_label_that_nobody_knows_is_not_taught() -> None:
    """A target of a half for it would pull the student to doubt."""
    columns = {"a": (0, -1, -1, 1), "b": (-1, -1, 0, 1)}
    for kind in ("binary_soft_cross_entropy", "logit_mse"):
        _, _, gradient, _ = run(make_plan(MULTI, (kind, {}), columns=columns))
        assert torch.equal(gradient[:, 1], torch.zeros(ROWS))
        assert gradient[:6, [0, 2, 3]].abs().min() > 0


@pytest.mark.parametrize("columns", [WHOLE, PARTIAL, {"b": PARTIAL["b"]}], ids=["whole", "partial", "one"])  # fmt: skip
@pytest.mark.parametrize(
    "weighting",
    [
        {"kind": "fixed"},
        {"kind": "confidence", "sharpness": 3.0},
        {"kind": "agreement", "sharpness": 2.0},
        {"kind": "label_cross_entropy"},
        {"kind": "gate"},
        {"kind": "stochastic"},
    ],
    ids=lambda one: one["kind"],
)
@pytest.mark.parametrize("combine", ["probabilities", "best", "losses"])
def test_any_cut_gives_the_same(weighting: Any, columns: Any, combine: Any) -> None:
    """Weights made from other rows, or means of means, depend on the memory of a machine."""
    from pydantic import TypeAdapter

    from raydistill.config.ensemble import WeightingSection

    section = TypeAdapter(WeightingSection).validate_python(weighting)
    terms = (("binary_cross_entropy", {}), ("binary_forward_kl", {"temperature": 2.0}), ("logit_mse", {}))  # fmt: skip
    plan = make_plan(MULTI, *terms, columns=columns, combine=combine, weighting=section)
    sums, counts, gradient, objective = run(plan)
    assert np.isfinite(sums).all()
    assert counts.tolist() == [5, 6, 6, *([5] if weighting["kind"] == "gate" else [])]
    parts = [run(plan, rows) for rows in ([0], [1, 2, 3], [4, 6], [5])]
    np.testing.assert_allclose(sum(part[0] for part in parts), sums, rtol=1e-5)
    np.testing.assert_array_equal(sum(part[1] for part in parts), counts)
    order = [0, 1, 2, 3, 4, 6, 5]
    torch.testing.assert_close(torch.cat([part[2] for part in parts])[np.argsort(order)], gradient)
    assert objective.weighting.seen.unit == "labels"


def test_sure_teachers_weigh_more_label_by_label() -> None:
    """A teacher that is sure of one label and doubts another counts as one or the other in both."""
    from raydistill.config.ensemble import ConfidenceWeighting

    section = ConfidenceWeighting(kind="confidence", sharpness=3.0)
    plan = make_plan(MULTI, ("binary_forward_kl", {}), columns=PARTIAL, weighting=section)
    sums, _, _, objective = run(plan)
    logits, known = teachers(plan)
    p = sigmoid(logits)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    w = shares(plan, known) * np.exp(-3.0 * entropy)
    w = w / w.sum(0)
    values = binary_kl((w * p).sum(0), sigmoid(STUDENT))
    assert sums.tolist() == [pytest.approx(by_row(values, known.any(0)), rel=1e-5)]
    objective.note_weights()
    seen = objective.weighting.seen
    assert seen.abstained == {"a": 0, "b": 6 * 2, "c": 6 * 3}
    assert seen.rows == 6 * LABELS
    np.testing.assert_allclose(seen.sums.numpy(), w[:, :6].sum((1, 2)), rtol=1e-5)


def test_the_drawn_teacher_leaves_its_gaps_to_the_others() -> None:
    """Labels, or rows, that the teacher of a step does not know would be taught as even chances."""
    from raydistill.config.ensemble import StochasticWeighting

    section = StochasticWeighting(kind="stochastic")
    plan = make_plan(MULTI, ("logit_mse", {}), columns=PARTIAL, weighting=section)
    logits, known = teachers(plan)
    fallback, drawn = shares(plan, known), set()
    for step in range(12):
        sums = run(plan, moment=Moment(step, 12))[0]
        for teacher in range(3):
            w = np.where(known[teacher], (np.arange(3) == teacher)[:, None, None] * 1.0, fallback)
            values = (STUDENT - (w * logits).sum(0)) ** 2
            if sums[0] == pytest.approx(by_row(values, known.any(0)), rel=1e-5):
                drawn.add(teacher)
                break
        else:
            pytest.fail(f"step {step} has the weights of no teacher")
    assert drawn == {0, 1, 2}


def test_a_users_loss_sees_all_labels_of_a_row() -> None:
    """Cut into labels, a loss that compares labels has nothing to compare."""
    from raydistill.losses import LossEntry

    def largest(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        assert student.shape == teacher.shape == (ROWS, LABELS)
        return (student - teacher).abs().amax(-1)

    entry = LossEntry("custom", largest, frozenset({"logits"}), "")
    plan = make_plan(MULTI)
    plan = replace(plan, terms=(Term("0.custom", SoftMatch(entry)),))
    logits, known = teachers(plan)
    p = (shares(plan, known) * sigmoid(logits)).sum(0)
    gap = np.abs(STUDENT - np.log(p / (1 - p))).max(1)[:6].sum()
    assert run(plan)[0].tolist() == [pytest.approx(gap, rel=1e-5)]


def test_features_and_labels_go_together_in_any_cut(world: World) -> None:  # noqa: F811
    """Weights by label have no place in a loss on hidden states."""
    plan = world.plan(
        [
            {"kind": "binary_cross_entropy"},
            {"kind": "binary_forward_kl"},
            {"kind": "hidden_mse", "layers": [[1, 1]], "projection": "linear"},
            {"kind": "attention_ce", "layers": [[1, 1]]},
        ],
        ensemble={"weighting": {"kind": "confidence"}},
    )
    plan = replace(plan, columns={"wide": (1, 0), "deep": (-1, 1)})
    whole, _, expected = world.step(plan, [range(8)])
    found, module, gradients = world.step(plan, [[0], [1, 2, 3], [4, 5, 6, 7]])
    torch.testing.assert_close(found.terms, whole.terms, rtol=2e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=2e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert module.objective.weighting.seen.abstained == {"wide": 0, "deep": 8}
