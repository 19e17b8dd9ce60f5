"""The objective against formulas written a second time, in NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.errors import NotFiniteError, SignalError
from raydistill.objective import Objective, ObjectivePlan
from raydistill.signals import HiddenAsk, TeacherSignal
from raydistill.terms import StudentOutputs
from tests.unit.objectives import (
    COLUMNS,
    LAYER,
    NOW,
    TEXTS,
    WEIGHTS,
    cross_entropy,
    forward_kl,
    hidden_mse,
    make_batch,
    make_module,
    make_plan,
    make_signals,
    make_tokenizer,
    soft_cross_entropy,
)

ROWS = list(range(8))
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def tokenizer(tiny: dict[str, Path]) -> Any:
    return make_tokenizer(tiny["student"])


def run(
    plan: ObjectivePlan, tokenizer: Any, rows: list[int] = ROWS, width: int = 32
) -> tuple[
    torch.Tensor, Any, torch.Tensor, list[torch.Tensor], dict[str, TeacherSignal], Objective
]:
    """Sums of an objective for random outputs of a student."""
    batch = make_batch(rows, tokenizer)
    draw = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(len(rows), 2, generator=draw)
    hidden = [torch.randn(*batch.token_mask.shape, width, generator=draw) for _ in range(3)]
    signals = make_signals(plan, batch)
    objective = Objective(plan)
    said = StudentOutputs(logits, hidden)
    return objective(said, batch, signals, NOW), batch, logits, hidden, signals, objective


def log_softmax(z: Array) -> Array:
    shifted = z.astype(np.float64) - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def teachers_of(signals: dict[str, TeacherSignal]) -> dict[str, Array]:
    return {name: s.logits.numpy()[:, list(COLUMNS[name])] for name, s in signals.items()}


def test_cross_entropy_counts_labelled_rows_only(tokenizer: Any) -> None:
    """Rows without a label would pull the student towards some class."""
    sums, batch, logits, _, _, objective = run(make_plan([cross_entropy()]), tokenizer)
    labels = batch.labels.numpy()
    keep = labels != -100
    assert 0 < keep.sum() < len(labels)
    expected = -log_softmax(logits.numpy())[keep, labels[keep]].sum()
    assert sums.item() == pytest.approx(expected, rel=1e-6)
    assert objective.counts(batch).tolist() == [keep.sum()]


def test_no_labelled_row_is_zero_not_nan(tokenizer: Any) -> None:
    """0 / 0 ends the run at the first batch without labels."""
    sums, batch, *_, objective = run(make_plan([cross_entropy()]), tokenizer, [2, 5, 6])
    assert sums.tolist() == [0.0]
    assert objective.counts(batch).tolist() == [0.0]


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("combine", ["probabilities", "logits", "losses"])
@pytest.mark.parametrize("kind", [forward_kl, soft_cross_entropy])
def test_soft_terms_of_two_teachers(tokenizer: Any, kind: Any, combine: str, squared: bool) -> None:
    """Teachers combined otherwise than configured are another ensemble."""
    tau = 3.0
    loss = kind(temperature=tau, scale_by_temperature_squared=squared)
    sums, batch, logits, _, signals, objective = run(make_plan([loss], combine), tokenizer)
    teachers = teachers_of(signals)
    log_q = log_softmax(logits.numpy() / tau)

    def one(p: Array) -> float:
        value = -(p * log_q).sum()
        return float(value + (p * np.log(p)).sum() if kind is forward_kl else value)

    if combine == "losses":
        expected = sum(
            WEIGHTS[name] * one(np.exp(log_softmax(z / tau))) for name, z in teachers.items()
        )
    elif combine == "logits":
        expected = one(np.exp(log_softmax(sum(WEIGHTS[n] * z for n, z in teachers.items()) / tau)))  # type: ignore[operator]
    else:
        expected = one(
            sum(WEIGHTS[n] * np.exp(log_softmax(z / tau)) for n, z in teachers.items())  # type: ignore[arg-type]
        )
    assert sums.item() == pytest.approx(expected * (tau**2 if squared else 1.0), rel=1e-5)
    assert objective.counts(batch).tolist() == [len(ROWS)]


@pytest.mark.parametrize("positions", ["all", "first", "mean"])
def test_hidden_terms_of_two_teachers_with_projections(tokenizer: Any, positions: str) -> None:
    """A pair that reads another layer, or padding, teaches the wrong representation."""
    plan = make_plan([forward_kl(), hidden_mse(positions)])
    sums, batch, _, hidden, signals, objective = run(plan, tokenizer)
    mask = batch.token_mask.numpy()
    expected = 0.0
    for pair in plan.terms[1].match.pairs:
        linear = objective.projections.by_key[pair.projection]
        weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
        states = hidden[pair.student[0]].numpy()
        rows = [state[keep] for state, keep in zip(states, mask, strict=True)]
        student = {
            "all": np.concatenate(rows),
            "first": np.stack([row[0] for row in rows]),
            "mean": np.stack([row.mean(0) for row in rows]),
        }[positions]
        teacher = signals[pair.teacher].hidden(HiddenAsk(LAYER[pair.teacher], positions)).numpy()  # type: ignore[arg-type]
        gap = ((student @ weight.T + bias - teacher) ** 2).mean(-1).sum()
        expected += WEIGHTS[pair.teacher] * gap
    assert sums[1].item() == pytest.approx(expected, rel=1e-5)
    positions_counted = mask.sum() if positions == "all" else len(ROWS)
    assert objective.counts(batch).tolist() == [len(ROWS), positions_counted]


def test_other_tokens_than_the_teachers_are_refused(tokenizer: Any) -> None:
    """Tokens compared with their neighbours lower no loss and raise no error."""
    plan = make_plan([hidden_mse()])
    batch = make_batch(ROWS, tokenizer)
    shorter = make_signals(plan, make_batch([2, *ROWS[1:]], tokenizer))
    assert len(TEXTS[0].split()) != len(TEXTS[2].split())
    hidden = [torch.zeros(*batch.token_mask.shape, 32)] * 3
    with pytest.raises(SignalError, match=r"losses\.0\.hidden_mse: teachers\.wide has \d+ tokens"):
        Objective(plan)(StudentOutputs(torch.zeros(8, 2), hidden), batch, shorter, NOW)


def test_filler_rows_add_nothing(tokenizer: Any) -> None:
    """A worker without rows of its own would add its filler's loss."""
    plan = make_plan([cross_entropy(), forward_kl(), hidden_mse(), hidden_mse("mean")])
    objective, batch = Objective(plan), make_batch([0, 1], tokenizer, filler=True)
    hidden = [torch.randn(*batch.token_mask.shape, 32)] * 3
    said = StudentOutputs(torch.randn(2, 2), hidden)
    sums = objective(said, batch, make_signals(plan, batch), NOW)
    assert sums.tolist() == [0.0] * 4
    assert objective.counts(batch).tolist() == [0.0] * 4


def test_sums_add_up_over_any_cut(tokenizer: Any) -> None:
    """Means of means depend on how a batch was cut."""
    plan = make_plan([cross_entropy(), forward_kl(), hidden_mse(), hidden_mse("first")])
    objective = Objective(plan)

    def sums_of(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = make_batch(rows, tokenizer)
        logits = torch.stack([torch.tensor([0.1 * row, -0.2]) for row in rows])
        hidden = [torch.full((*batch.token_mask.shape, 32), 0.5)] * 3
        said = StudentOutputs(logits, hidden)
        return objective(said, batch, make_signals(plan, batch), NOW), objective.counts(batch)

    whole, count = sums_of(ROWS)
    parts = [sums_of(rows) for rows in ([0], [1, 2, 3, 4], [5, 6], [7])]
    torch.testing.assert_close(sum(p[0] for p in parts), whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(sum(p[1] for p in parts), count)  # type: ignore[arg-type]


def test_features_alone_still_give_every_parameter_a_gradient(
    tiny: dict[str, Path], tokenizer: Any
) -> None:
    """DDP waits for ever for the gradient of a head that no loss reads."""
    plan = make_plan([hidden_mse("first")])
    module = make_module(tiny["student"], plan)
    batch = make_batch(ROWS, tokenizer)
    module(batch, make_signals(plan, batch), NOW, torch.ones(1))[1].backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_no_gradient_reaches_a_parameter_of_the_head_from_features_alone(
    tiny: dict[str, Path], tokenizer: Any
) -> None:
    """Taking part in the graph must not move the head."""
    plan = make_plan([hidden_mse("first")])
    module = make_module(tiny["student"], plan)
    batch = make_batch(ROWS, tokenizer)
    module(batch, make_signals(plan, batch), NOW, torch.ones(1))[1].backward()
    assert module.student.classifier.weight.grad.abs().max() == 0.0  # type: ignore[union-attr]


def test_a_term_that_is_not_finite_is_named_with_its_rows(tokenizer: Any) -> None:
    """'loss is nan' says neither which of five terms nor which rows."""
    plan = make_plan([cross_entropy(), forward_kl(), hidden_mse()])
    sums = torch.tensor([1.0, float("nan"), float("inf")])
    with pytest.raises(NotFiniteError) as caught:
        Objective(plan).require_finite(sums, make_batch([3, 4], tokenizer))
    assert caught.value.subject == "losses.1.forward_kl, losses.2.hidden_mse"
    assert caught.value.rows == (3, 4)
    Objective(plan).require_finite(torch.ones(3), make_batch([3], tokenizer))
