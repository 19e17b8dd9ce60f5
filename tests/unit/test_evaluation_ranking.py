"""Figures of an order: nDCG, MRR, recall and MAP as trec_eval has them."""

from itertools import pairwise
from math import log2

import numpy as np
import pytest
import torch

from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.measures import agree, measure
from raydistill.evaluation.ranking import (
    each_query,
    rank_together,
    ranking_agreement,
    ranking_metrics,
)
from raydistill.tasks import QueryGroups


def queries(*sizes: int, missed: tuple[tuple[float, ...], ...] = ()) -> QueryGroups:
    return QueryGroups(np.concatenate([[0], np.cumsum(sizes)]), missed)


def test_figures_of_one_query() -> None:
    """A slip in a rank is a figure that nobody else gets."""
    scores = torch.tensor([0.1, 5.0, 3.0, 4.0])
    grades = torch.tensor([2.0, 0.0, 1.0, float("nan")])  # in order: 0, not known, 1, 2
    found = ranking_metrics(scores, grades, queries(4))
    ideal = 2 + 1 / log2(3)
    assert found["ndcg_at_10"] == pytest.approx((1 / log2(4) + 2 / log2(5)) / ideal)
    assert found["mrr_at_10"] == pytest.approx(1 / 3)
    assert found["recall_at_10"] == 1
    assert found["map"] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_relevant_passages_that_are_no_candidates_are_not_found() -> None:
    """A first stage that misses half would look perfect."""
    found = ranking_metrics(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), queries(2, missed=((1.0,),)))  # fmt: skip
    assert found["ndcg_at_10"] == pytest.approx(1 / (1 + 1 / log2(3)))
    assert (found["recall_at_10"], found["map"], found["mrr_at_10"]) == (0.5, 0.5, 1.0)
    nothing = ranking_metrics(torch.zeros(1), torch.zeros(1), queries(1, missed=((1.0,),)))
    assert set(nothing.values()) == {0.0}


def test_queries_without_a_relevant_passage_are_left_out() -> None:
    """A mean over queries that cannot be answered measures the data."""
    scores, grades = torch.arange(4.0), torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert ranking_metrics(scores, grades, queries(2, 2))["ndcg_at_10"] == 1
    assert ranking_metrics(scores, torch.zeros(4), queries(2, 2)) == {}


def test_equal_scores_earn_nothing_by_the_order_of_the_file() -> None:
    """Files often name relevant passages first; a student that says nothing would be perfect."""
    grades = torch.tensor([1.0, *[0.0] * 11])
    found = ranking_metrics(torch.zeros(12), grades, queries(12))
    assert found["ndcg_at_10"] == found["mrr_at_10"] == found["recall_at_10"] == 0


def test_first_relevant_place_is_that_of_the_formula_down_to_ten() -> None:
    """MRR of the whole order is another figure than MRR@10, and looks like it."""
    random = np.random.default_rng(5)
    sizes = [1, 2, 10, 11, *random.integers(1, 40, 60).tolist()]
    scores = torch.from_numpy(random.permutation(sum(sizes)).astype(np.float32))
    grades = torch.from_numpy((random.random(sum(sizes)) < 0.06) * random.integers(1, 4, sum(sizes)).astype(float))  # fmt: skip
    expected, starts = [], np.cumsum([0, *sizes])
    for begin, end in pairwise(starts.tolist()):
        in_order = grades[begin:end][scores[begin:end].argsort(descending=True)]
        if (in_order > 0).any():
            place = int((in_order > 0).float().argmax()) + 1
            expected.append(1 / place if place <= 10 else 0.0)
    assert 0.0 in expected
    found = each_query(scores, grades, queries(*sizes))
    assert found["mrr_at_10"] == expected


def test_agreement_is_the_order_within_queries() -> None:
    """Scores of other queries lie elsewhere and mean nothing to each other."""
    own, theirs = torch.tensor([1.0, 2.0, 30.0, 20.0]), torch.tensor([5.0, 6.0, 2.0, 1.0])
    assert ranking_agreement(own, theirs, queries(2, 2))["correlation"] == pytest.approx(
        1.0, abs=1e-4
    )
    assert ranking_agreement(own, -theirs, queries(2, 2))["correlation"] == pytest.approx(
        -1.0, abs=1e-4
    )
    assert ranking_agreement(torch.zeros(4), theirs, queries(2, 2))["correlation"] == 0
    assert ranking_agreement(own[:1], theirs[:1], queries(1)) == {}
    columns = own.unsqueeze(1), theirs.unsqueeze(1)
    assert agree("reranking", *columns, queries=queries(2, 2))["correlation"] == pytest.approx(
        1.0, abs=1e-4
    )


def test_teachers_together_vote_over_candidates() -> None:
    """One with large scores would decide alone."""
    loud, quiet = torch.tensor([[50.0], [0.0], [49.0]]), torch.tensor([[0.0], [1.0], [1.5]])
    weights = {"loud": 0.5, "quiet": 0.5}
    both = rank_together({"loud": loud, "quiet": quiet}, weights, "probabilities", queries(3))
    expected = (loud[:, 0].softmax(0) + quiet[:, 0].softmax(0)) / 2
    torch.testing.assert_close(both[:, 0].float(), expected)
    mean = rank_together({"loud": loud, "quiet": quiet}, weights, "logits", queries(3))
    assert mean[:, 0].tolist() == [25.0, 0.5, 25.25]


def test_scores_must_be_one_a_candidate_and_finite() -> None:
    """A matrix read row by row is an order of something else."""
    with pytest.raises(SignalError, match="one for each of 3 candidates"):
        ranking_metrics(torch.zeros(2), torch.zeros(2), queries(3))
    with pytest.raises(NotFiniteError):
        ranking_metrics(torch.tensor([0.0, float("nan")]), torch.tensor([1.0, 0.0]), queries(2))
    metrics = measure("reranking", torch.ones(2, 1), torch.tensor([[1.0], [0.0]]), label_names=["score"], queries=queries(2))  # fmt: skip
    assert list(metrics) == ["ndcg_at_10", "mrr_at_10", "recall_at_10", "map"]
