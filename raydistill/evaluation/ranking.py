"""Figures of an order of candidates, against judgements and against a teacher. Pure.

N rows, each a candidate; those of a query are one behind the other. The figures are trec_eval's, by
pytrec-eval: what BEIR and MTEB report. Of MRR@10 it sees the first ten only, since its ``recip_rank`` has no depth.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.evaluation.metrics import require_finite
from raydistill.tasks import QueryGroups, TextTask

__all__ = [
    "each_query",
    "first_stage_metrics",
    "rank_together",
    "ranking_agreement",
    "ranking_metrics",
]

_CUT = 10
_FEWEST = 2  # candidates without which there is no order


def ranking_metrics(
    scores: Tensor, grades: Tensor, queries: QueryGroups, *, recall: Sequence[int] = ()
) -> dict[str, float]:
    """Means over the queries that have a relevant passage.

    Of equal scores the less relevant comes first, so that a model that says the same about all earns nothing
    by the order of the file. Relevant passages that are no candidates count as not found.

    Args:
        scores: ``[N]``, any floating dtype.
        grades: ``[N]``, whole numbers, 0 not relevant, NaN not known, which counts as not relevant.
        queries: Their rows.
        recall: More depths at which recall is taken.

    Returns:
        ``ndcg_at_10`` (gain is the grade), ``mrr_at_10`` (of the first relevant one, 0 behind place 10),
        ``recall_at_10``, ``map``, and ``recall_at_100`` and the like; empty when no query has a relevant passage.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity among the scores.

    Example:
        >>> import numpy as np
        >>> queries = QueryGroups(np.array([0, 3]))
        >>> found = ranking_metrics(
        ...     torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.0, 0.0, 1.0]), queries
        ... )
        >>> round(found["ndcg_at_10"], 4), found["mrr_at_10"]
        (0.6309, 0.5)
    """
    each = each_query(scores, grades, queries, recall=recall)
    return {name: sum(values) / len(values) for name, values in each.items()}


def each_query(
    scores: Tensor, grades: Tensor, queries: QueryGroups, *, recall: Sequence[int] = ()
) -> dict[str, list[float]]:
    """The figures of each query that has a relevant passage, in order; empty when none has.

    Args:
        scores: As of :func:`ranking_metrics`.
        grades: Likewise.
        queries: Their rows.
        recall: Likewise.
    """
    import pytrec_eval  # few processes measure

    _require_rows(scores, grades, queries)
    run: dict[str, dict[str, float]] = {}
    judged: dict[str, dict[str, int]] = {}
    for number in range(queries.number):
        rows = queries.rows(number)
        own, truth = scores[rows].double(), grades[rows].nan_to_num(0.0)
        missed = queries.missed[number] if queries.missed else ()
        if not (truth > 0).any() and not missed:
            continue
        places = _order(own, truth)
        names = [str(place) for place in places]
        run[str(number)] = {name: -float(rank) for rank, name in enumerate(names)}
        in_order = truth[places].tolist()
        judged[str(number)] = {name: int(g) for name, g in zip(names, in_order, strict=True)}
        judged[str(number)] |= {f"missed {i}": int(grade) for i, grade in enumerate(missed)}
    if not run:
        return {}
    depths = ",".join(str(depth) for depth in (_CUT, *recall))
    wanted = {f"ndcg_cut.{_CUT}", f"recall.{depths}", "map"}
    each = pytrec_eval.RelevanceEvaluator(judged, wanted).evaluate(run)
    # recip_rank knows no depth, and map needs the whole run.
    begin = {number: dict(islice(scored.items(), _CUT)) for number, scored in run.items()}
    first = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(begin)
    of = {
        measure: [each[number][measure] for number in run]
        for measure in (
            f"ndcg_cut_{_CUT}",
            "map",
            *(f"recall_{depth}" for depth in (_CUT, *recall)),
        )
    }
    return {
        "ndcg_at_10": of[f"ndcg_cut_{_CUT}"],
        "mrr_at_10": [first[number]["recip_rank"] for number in run],
        "recall_at_10": of[f"recall_{_CUT}"],
        "map": of["map"],
        **{f"recall_at_{depth}": of[f"recall_{depth}"] for depth in recall},
    }


def first_stage_metrics(task: TextTask, prefix: str) -> dict[str, float]:
    """Figures of the order in which candidates came, under ``prefix/first_stage/``; nothing of other rows."""
    queries = task.queries()
    if queries is None or not queries.ordered:
        return {}
    labels = task.hard_labels()[:, 0]
    scores = -torch.arange(len(labels), dtype=torch.float64)
    found = ranking_metrics(scores, labels, queries)
    return {f"{prefix}/first_stage/{name}": value for name, value in found.items()}


def ranking_agreement(student: Tensor, teacher: Tensor, queries: QueryGroups) -> dict[str, float]:
    """How much a student orders candidates as a teacher does, right or wrong.

    Args:
        student: Scores, ``[N]``.
        teacher: Likewise.
        queries: Their rows.

    Returns:
        ``correlation``: Spearman's, the mean over queries with two candidates or more, 0 where a side
        gives all the same score; empty without such queries.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity in either.
    """
    from torchmetrics.functional import spearman_corrcoef  # takes seconds; few processes measure

    _require_rows(student, teacher, queries)
    require_finite(teacher.unsqueeze(-1), "teacher's scores")
    found = []
    for number in range(queries.number):
        rows = queries.rows(number)
        own, theirs = student[rows].double(), teacher[rows].double()
        if len(own) >= _FEWEST:
            vary = bool((own != own[0]).any()) and bool((theirs != theirs[0]).any())
            found.append(float(spearman_corrcoef(own, theirs)) if vary else 0.0)
    return {"correlation": sum(found) / len(found)} if found else {}


def rank_together(
    scores: Mapping[str, Tensor], weights: Mapping[str, float], combine: str, queries: QueryGroups
) -> Tensor:
    """The teachers' common scores, ``[N, 1]``: the mean of probabilities over a query's candidates, or of scores.

    Args:
        scores: Of each teacher, ``[N, 1]``.
        weights: Summing to 1.
        combine: As in `ensemble.combine`; summed losses pull towards the mean of probabilities.
        queries: The rows of each.
    """
    stacked = torch.stack([one[:, 0].double() for one in scores.values()])  # [M, N]
    base = torch.tensor([weights[name] for name in scores], dtype=torch.float64).unsqueeze(1)
    if combine in ("logits", "log_probabilities"):
        return (base * stacked).sum(0).unsqueeze(1)
    parts = [stacked[:, queries.rows(g)].softmax(-1) for g in range(queries.number)]
    return (base * torch.cat(parts, dim=1)).sum(0).unsqueeze(1)


def _order(scores: Tensor, grades: Tensor) -> list[int]:
    """Places from the best score down, of equal ones the less relevant first."""
    pairs: list[Any] = list(zip((-scores).tolist(), grades.tolist(), strict=True))
    return sorted(range(len(pairs)), key=pairs.__getitem__)


def _require_rows(scores: Tensor, other: Tensor, queries: QueryGroups) -> None:
    rows: Sequence[int] = [int(queries.starts[-1])]
    if list(scores.shape) != rows or list(other.shape) != rows:
        raise SignalError(
            f"scores must be one for each of {rows[0]} candidates, got {list(scores.shape)} and "
            f"{list(other.shape)}."
        )
    require_finite(scores.unsqueeze(-1), "scores")
