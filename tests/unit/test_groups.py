"""Candidates of queries in the objective and in steps: the value does not depend on how a batch is cut."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.alignment import in_outputs, output_columns
from raydistill.config.schedules import LinearTemperature
from raydistill.data.matrix import as_lists
from raydistill.losses import CATALOG, build_loss
from raydistill.models import ModelSource, load_tokenizer
from raydistill.objective import Moment, Objective, ObjectivePlan, Term
from raydistill.pipeline import Drawing, plan_groups
from raydistill.signals import Ask, TeacherSignal, pack_signal
from raydistill.tasks import Batch, Reranking
from raydistill.terms import GroupMatch, HardMatch, SoftMatch, StudentOutputs

NAN = float("nan")
GROUPS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
GRADES = [1.0, 0.0, 0.0, 2.0, 1.0, 0.0, NAN, 0.0, 0.0, 1.0]  # of query 2 none is relevant
WEIGHTS = {"a": 0.75, "b": 0.25}
ON_LABELS = {"relevance_cross_entropy", "lambda_loss"}


def draw(seed: int) -> torch.Tensor:
    return 2 * torch.randn(len(GROUPS), generator=torch.Generator().manual_seed(seed))


def make_plan(*kinds: str, teachers: Sequence[str] = ("a", "b"), combine: Any = "probabilities", **options: Any) -> ObjectivePlan:  # fmt: skip
    terms = []
    for place, kind in enumerate(kinds):
        entry = CATALOG[kind]
        tau = options.get("temperature", 1.0)
        own = {k: v for k, v in options.items() if k in entry.options and k != "temperature"}
        match: Any = GroupMatch(entry, own, tau, "labels" if kind in ON_LABELS else "teachers")
        if entry.needs == {"labels"}:
            match = HardMatch(entry)
        elif "logits" in entry.needs:
            match = SoftMatch(entry, own)
        terms.append(Term(f"{place}.{kind}", match))
    weights = {name: WEIGHTS[name] for name in teachers}
    total = sum(weights.values())
    return ObjectivePlan(
        tuple(terms), {n: w / total for n, w in weights.items()}, dict.fromkeys(teachers, (0,)),
        dict.fromkeys(teachers, Ask()), task="reranking", combine=combine,
    )  # fmt: skip


def make_batch(rows: Sequence[int], *, filler: bool = False) -> Batch:
    ids = torch.ones(len(rows), 2, dtype=torch.int64)
    of = torch.tensor([GROUPS[row] for row in rows])
    number = torch.cat([torch.zeros(1, dtype=torch.int64), (of[1:] != of[:-1]).cumsum(0)])
    return Batch(
        tuple(rows), (("x",) * len(rows),), {"input_ids": ids, "attention_mask": ids},
        torch.tensor([[GRADES[row]] for row in rows]), torch.full((len(rows),), not filler),
        group=number,
    )  # fmt: skip


def signals_of(plan: ObjectivePlan, rows: Sequence[int]) -> dict[str, TeacherSignal]:
    return {
        name: pack_signal(name, rows, [1] * len(rows), {"logits": draw(number)[list(rows)].unsqueeze(1)}, "float32")
        for number, name in enumerate(plan.columns)
    }  # fmt: skip


def run(plan: ObjectivePlan, rows: Sequence[int] = range(len(GROUPS)), moment: Moment | None = None, *, filler: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Sums, counts, and the gradient at the student's scores."""
    objective, batch = Objective(plan), make_batch(rows, filler=filler)
    scores = draw(9)[list(rows)].unsqueeze(1).requires_grad_()
    sums = objective(StudentOutputs(scores), batch, signals_of(plan, rows), moment or Moment())
    sums.sum().backward()
    assert scores.grad is not None
    return sums.detach(), objective.counts(batch), scores.grad[:, 0]


def alone(kind: str, target: torch.Tensor, groups: Sequence[int], **options: Any) -> tuple[float, int]:  # fmt: skip
    """Sum and number of queries, one after the other."""
    total = 0.0
    for group in groups:
        rows = [row for row, of in enumerate(GROUPS) if of == group]
        values = CATALOG[kind].function(draw(9)[rows][None], target[rows][None], **options)
        total += float(values.sum())
    return total, len(groups)


@pytest.mark.parametrize("kind", ["score_kl", "ranknet", "listnet", "margin_mse"])
def test_terms_see_the_candidates_of_one_query(kind: str) -> None:
    """Candidates of two queries beside each other are an order that nobody asked for."""
    sums, counts, _ = run(make_plan(kind, teachers=["a"]))
    expected, number = alone(kind, draw(0), [0, 1, 2, 3])
    assert float(sums[0]) == pytest.approx(expected, rel=1e-5)
    pairs = {"ranknet": 3 + 1 + 6, "margin_mse": 2 + 1 + 3}
    assert int(counts[0]) == pairs.get(kind, number)


@pytest.mark.parametrize("kind", sorted(ON_LABELS))
def test_queries_without_a_relevant_candidate_do_not_count_against_labels(kind: str) -> None:
    """They would make the mean smaller for nothing."""
    sums, counts, grad = run(make_plan(kind, teachers=[]))
    expected, number = alone(kind, torch.tensor(GRADES), [0, 1, 3])
    assert float(sums[0]) == pytest.approx(expected, rel=1e-5)
    assert int(counts[0]) == number
    assert not grad[5:9].any()


KINDS = ("score_kl", "ranknet", "listnet", "margin_mse", "logit_mse", "relevance_cross_entropy", "mse")  # fmt: skip


@pytest.mark.parametrize("combine", ["probabilities", "logits", "losses"])
@pytest.mark.parametrize("cuts", [[3, 10], [5, 9, 10], [3, 5, 9, 10]])
def test_sums_do_not_depend_on_how_groups_are_divided(combine: str, cuts: list[int]) -> None:
    """The result of a run would depend on the number of workers."""
    plan = make_plan(*KINDS, combine=combine)
    sums, counts, grad = run(plan)
    parts = [run(plan, range(*ends)) for ends in pairwise([0, *cuts])]
    torch.testing.assert_close(sum(part[0] for part in parts), sums, rtol=1e-5, atol=1e-5)
    assert sum(part[1] for part in parts).tolist() == counts.tolist()
    torch.testing.assert_close(torch.cat([part[2] for part in parts]), grad, rtol=1e-5, atol=1e-6)


def test_a_batch_that_fills_a_place_counts_nothing() -> None:
    """A worker without queries of its own still takes part in the exchange of gradients."""
    sums, counts, grad = run(make_plan(*KINDS), [0, 1, 2], filler=True)
    assert not sums.any()
    assert not counts.any()
    assert not grad.any()


def test_several_teachers_are_one_distribution_over_candidates() -> None:
    """Means of scores would let the teacher with the larger scale rule."""
    a, b = draw(0), draw(1)
    target = torch.zeros(len(GROUPS))
    for group in range(4):
        rows = [row for row, of in enumerate(GROUPS) if of == group]
        mixed = 0.75 * (a[rows] / 2).softmax(0) + 0.25 * (b[rows] / 2).softmax(0)
        target[rows] = 2 * mixed.log()
    kl = run(make_plan("score_kl", temperature=1.0, teacher_temperature=2.0))[0]
    expected = alone("score_kl", target, range(4), temperature=1.0, teacher_temperature=2.0)[0]
    assert float(kl[0]) == pytest.approx(expected, rel=1e-4)
    margins = run(make_plan("margin_mse"))[0]
    expected = alone("margin_mse", 0.75 * a + 0.25 * b, range(4))[0]
    assert float(margins[0]) == pytest.approx(expected, rel=1e-5)
    each = [alone("ranknet", one, range(4))[0] for one in (a, b)]
    losses = run(make_plan("ranknet", combine="losses"))[0]
    assert float(losses[0]) == pytest.approx(0.75 * each[0] + 0.25 * each[1], rel=1e-5)


def test_temperature_follows_its_schedule() -> None:
    """A schedule that nobody reads is a number."""
    falling = LinearTemperature(kind="linear", start=4.0, end=2.0)
    plan = make_plan("score_kl", teachers=["a"], temperature=falling)
    found = float(run(plan, moment=Moment(5, 10))[0][0])
    expected = alone("score_kl", draw(0), range(4), temperature=3.0)[0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_losses_of_a_run_are_those_of_a_notebook() -> None:
    """One loss, two numbers."""
    rows = [0, 1, 2]
    sums, counts, _ = run(make_plan("score_kl", teachers=["a"]), rows)
    loss = build_loss("score_kl")(draw(9)[rows][None], draw(0)[rows][None])
    assert float(sums[0] / counts[0]) == pytest.approx(float(loss), rel=1e-5)


def test_two_outputs_are_log_odds() -> None:
    """The logit of yes alone says nothing without that of no."""
    logits = torch.tensor([[1.0, 4.0], [2.0, 0.0]])
    yes = output_columns("reranking", ["no", "yes"], ["score"], {"yes": "score"})
    assert in_outputs("reranking", logits, yes)[:, 0].tolist() == [3.0, -2.0]
    assert in_outputs("reranking", logits[:, :1], (0,))[:, 0].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r'Say which means relevant: label_map: \{"yes": score\}'):
        output_columns("reranking", ["no", "yes"], ["score"])
    with pytest.raises(ValueError, match="It has 3 outputs"):
        output_columns("reranking", ["a", "b", "c"], ["score"])


# ---- steps


def make_table() -> pa.Table:
    number = len(GROUPS)
    return pa.table({
        "text": pa.array([f"good film {of}" for of in GROUPS], pa.large_string()),
        "text_pair": pa.array(["the plot " * (1 + row % 3) for row in range(number)], pa.large_string()),
        "label": as_lists(np.array(GRADES).reshape(-1, 1)),
        "row_id": pa.array(range(number), pa.int64()),
        "group": pa.array(GROUPS, pa.int32()),
    })  # fmt: skip


def steps_of(task: Reranking, tokenizer: Any, world: int, micro: int | None) -> list[list[tuple[int, ...]]]:  # fmt: skip
    """Of each step the groups of all workers, by row ids."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for rank in range(world):
        plan = plan_groups(
            Drawing(4, 3, lambda g, e: task.draw(g, most=3, positives=1, seed=1, epoch=e)),
            batch_rows=9, micro_batch_rows=micro, seed=1, rank=rank, world=world, first_step=0, total_steps=4,
            make_batch=lambda rows, filler: task.batch(rows, tokenizer, 16, filler=filler),
            count=lambda batch: batch.counts.sum().double(), lengths=task.lengths(),
        )  # fmt: skip
        for one in plan:
            assert one.batch.group is not None
            ids = np.array(one.batch.row_ids)
            groups = [tuple(ids[(one.batch.group == g).numpy()].tolist()) for g in range(int(one.batch.group[-1]) + 1)]  # fmt: skip
            found.setdefault(one.step, []).extend(groups if bool(one.batch.counts.all()) else [])
    return [found[step] for step in sorted(found)]


def test_groups_are_whole_whoever_computes_them(tiny: dict[str, Path]) -> None:
    """A query cut in two is two orders of half the candidates."""
    task = Reranking(make_table(), ("score",))
    tokenizer = load_tokenizer(ModelSource("s", str(tiny["student"]), str(tiny["student"])))
    once = steps_of(task, tokenizer, 1, None)
    assert [len(step) for step in once] == [3, 1, 3, 1], "two epochs of four queries"
    for world, micro in ((1, 3), (2, None), (2, 3), (3, 6)):
        again = steps_of(task, tokenizer, world, micro)
        assert [sorted(step) for step in again] == [sorted(step) for step in once]
    for step in once:
        for group in step:
            assert len({GROUPS[row] for row in group}) == 1
            assert 1 <= len(group) <= 3
    epochs = [sorted(once[0] + once[1]), sorted(once[2] + once[3])]
    assert [{GROUPS[rows[0]] for rows in epoch} for epoch in epochs] == [{0, 1, 2, 3}] * 2
    assert epochs[0] != epochs[1], "every epoch draws anew"


def test_rows_across_which_features_are_compared_are_those_of_a_query() -> None:
    """Distances between passages of other queries are not what a query's order is made of."""
    plan, batch = make_plan("score_kl"), make_batch(range(10))
    objective = Objective(replace(plan, group_rows=2))
    seen: list[int] = []

    def note(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows.new_zeros(len(rows))

    from raydistill.terms import View

    student = StudentOutputs(draw(9).unsqueeze(1))
    view = View(student, batch, batch.counts, {}, None, [], objective.plan.group_rows)
    view.by_group(note, student.logits[:, 0])
    assert seen == [3, 2, 4, 1]
