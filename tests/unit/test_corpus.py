"""What is found among all passages: exact, with what is relevant known by id, and figures that say so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.config import DistillConfig
from raydistill.evaluation.corpus import corpus_metrics, embed_texts, find_passages
from raydistill.losses import PairScorer
from raydistill.prepare import Resources, prepare
from raydistill.signals import Request, TeacherSignal, pack_signal
from raydistill.storing import needed_answers
from raydistill.tasks import Retrieval
from raydistill.teachers.source import Source
from raydistill.tuning.check import check_search
from tests.conftest import write_rows
from tests.unit.embedders import make_embedder

CORPUS = ["p0", "p1", "p2", "p1", "p4"]  # two have the same text


class Vectors(Source):
    """Embeds texts by a table, one number for each direction."""

    def __init__(self, table: dict[str, list[float]]) -> None:
        self.table, self.asked = table, list[Request]()

    def ask(self, request: Request) -> Request:
        self.asked.append(request)
        return request

    def collect(self, pending: Request) -> TeacherSignal:
        (side,) = pending.ask.embeddings
        rows = torch.tensor([self.table[str(text)] for text in pending.texts[0]])
        return pack_signal("v", pending.row_ids, [1] * len(rows), {f"embedding.{side}": rows}, "float32")  # fmt: skip


def test_what_is_found_is_what_is_nearest() -> None:
    """An approximate search would measure the search."""
    draw = torch.Generator().manual_seed(1)
    queries, passages = torch.randn(130, 4, generator=draw), torch.randn(50, 4, generator=draw)
    for scorer in (PairScorer("dot"), PairScorer("cosine", 20.0)):
        scores, places = find_passages(queries, passages, scorer, 7)
        everything = scorer.matrix(queries, passages)
        expected = everything.argsort(1, descending=True)[:, :7]
        assert torch.equal(places, expected)
        torch.testing.assert_close(scores, everything.gather(1, expected))
    assert find_passages(queries, passages, scorer, 100)[1].shape == (130, 50)
    best = find_passages(queries, passages, scorer, 8)[1]
    own = best[:, 2].clone()
    own[::2] = -1
    found = find_passages(queries, passages, scorer, 7, themselves=own.tolist())[1]
    assert torch.equal(found[::2], best[::2, :7])
    assert torch.equal(found[1::2], best[1::2][:, [0, 1, 3, 4, 5, 6, 7]])


def test_texts_come_back_in_their_order() -> None:
    """They are asked by length."""
    source = Vectors({"a" * n: [float(n)] for n in range(1, 300)})
    texts = ["a" * int(n) for n in np.random.default_rng(1).permutation(299) + 1]
    found = embed_texts(source, texts, "passage")
    assert found[:, 0].tolist() == [len(text) for text in texts]
    assert len(source.asked) == 2


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Queries judged by id, whose candidates miss some of what is relevant."""
    write_rows(tmp_path / "corpus.jsonl", [{"doc_id": f"d{i}", "text": text} for i, text in enumerate(CORPUS)])  # fmt: skip
    write_rows(tmp_path / "queries.jsonl", [{"query_id": "a", "query": "qa"}, {"query_id": "b", "query": "qb"}])  # fmt: skip
    qrels = [("a", "d0", 1), ("a", "d3", 2), ("b", "d2", 1), ("b", "gone", 1)]
    write_rows(tmp_path / "qrels.jsonl", [{"query_id": q, "doc_id": d, "relevance": g} for q, d, g in qrels])  # fmt: skip
    candidates = [{"query_id": "a", "doc_ids": ["d1", "d0"]}, {"query_id": "b", "doc_ids": ["d4", "d2"]}]  # fmt: skip
    write_rows(tmp_path / "test_candidates.jsonl", candidates)
    write_rows(tmp_path / "train.jsonl", [{"query": "qt", "positives": ["p4"], "negatives": ["p0", "p2"]}])  # fmt: skip
    write_rows(tmp_path / "validation.jsonl", [{"query": "qv", "positives": ["p1", "px"], "negatives": ["p0"]}])  # fmt: skip
    student = make_embedder(tmp_path / "student")
    return {
        "run": {"name": "x", "output_dir": str(tmp_path / "out")},
        "data": {"folder": str(tmp_path)},
        "task": {"kind": "retrieval", "similarity": "dot"},
        "student": {"model": str(student), "max_tokens": 16},
        "losses": [{"kind": "in_batch_cross_entropy"}],
        "training": {"batch_rows": 4, "group_rows": 2},
        "evaluation": {"retrieval": "corpus"},
        "tracking": {"enabled": False},
    }


def tasks(settings: dict[str, Any]) -> dict[str, Retrieval]:
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert [str(fault) for fault in faults] == []
    assert found is not None
    assert found.splits["train"].corpus is None
    corpora = [found.splits[name].corpus for name in ("validation", "test")]
    assert [None if one is None else one.to_pylist() for one in corpora] == [CORPUS, CORPUS]
    return {name: Retrieval(found.splits[name].table, ("score",)) for name in ("validation", "test")}  # fmt: skip


def test_what_is_relevant_is_known_by_id_or_text(settings: dict[str, Any]) -> None:
    """Of two documents of one text only one may be relevant; of texts alone the first stands for both."""
    found = tasks(settings)
    assert found["test"].judged() == [("qa", [(0, 1.0), (3, 2.0)]), ("qb", [(2, 1.0), (-1, 1.0)])]
    assert found["validation"].judged() == [("qv", [(1, 1.0), (-1, 1.0)])]


def test_a_query_that_is_a_document_does_not_find_itself(settings: dict[str, Any]) -> None:
    """ArguAna's queries are documents: each stands first in its own ranking, and its answer second at best."""
    folder = Path(settings["data"]["folder"])
    write_rows(folder / "queries.jsonl", [{"query_id": "d0", "query": "p0"}, {"query_id": "d4", "query": "p4"}])  # fmt: skip
    qrels = [("d0", "d2", 1), ("d4", "d4", 1)]
    write_rows(folder / "qrels.jsonl", [{"query_id": q, "doc_id": d, "relevance": g} for q, d, g in qrels])  # fmt: skip
    write_rows(folder / "test_candidates.jsonl", [{"query_id": q, "doc_ids": ["d1", "d2", "d4"]} for q in ("d0", "d4")])  # fmt: skip
    found, _ = prepare(DistillConfig.model_validate(settings))
    assert found is not None
    task = Retrieval(found.splits["test"].table, ("score",))
    assert task.themselves() == [0, -1], "who is judged relevant has its id by chance"
    assert any(note.startswith("data.test: 1 queries have the id of a document") for note in found.notes)  # fmt: skip
    table = {"p0": [3.0, 0.0], "p1": [1.0, 0.0], "p2": [2.0, 0.0], "p4": [0.0, 1.0]}
    metrics = corpus_metrics(Vectors(table), task, CORPUS, PairScorer("dot"), prefix="test")
    assert metrics["test/corpus/ndcg_at_10"] == metrics["test/corpus/mrr_at_10"] == 1.0


def test_figures_of_a_corpus_are_not_those_of_candidates(settings: dict[str, Any]) -> None:
    """What BM25 did not bring is found, and what nobody can find counts."""
    table = {"qa": [1.0, 0.0], "qb": [0.0, 1.0], "p0": [3.0, 0.0], "p1": [2.0, 5.0], "p2": [0.0, 4.0], "p4": [1.0, 1.0]}  # fmt: skip
    found = corpus_metrics(Vectors(table), tasks(settings)["test"], CORPUS, PairScorer("dot"), prefix="test")  # fmt: skip
    # Of a: d0 first, then the two of one text, of which the less relevant stands first. Of b: the same two, then d2.
    log = np.log2
    first = (1 / log(2) + 2 / log(4)) / (2 / log(2) + 1 / log(3))
    second = (1 / log(4)) / (1 / log(2) + 1 / log(3))
    assert found == {
        "test/corpus/ndcg_at_10": pytest.approx((first + second) / 2),
        "test/corpus/mrr_at_10": pytest.approx((1 + 1 / 3) / 2),
        "test/corpus/recall_at_10": pytest.approx((1 + 1 / 2) / 2),
        "test/corpus/map": pytest.approx(((1 + 2 / 3) / 2 + (1 / 3) / 2) / 2),
        "test/corpus/recall_at_100": pytest.approx((1 + 1 / 2) / 2),
    }


def test_a_search_embeds_the_corpus_for_its_last_runs_only(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Hours of passages that no trial asks about: it is measured without its teachers."""
    settings["teachers"] = {"t": {"model": str(make_embedder(tmp_path / "teacher"))}}
    settings["losses"].append({"kind": "embedding_mse"})
    space = {"losses.1.weight": {"kind": "uniform", "low": 0.1, "high": 1.0}}
    asked = {}
    for name, final in (("trials", None), ("last", {"register_model": False})):
        tuning = {"space": space, "final": final}
        config = DistillConfig.model_validate(settings | {"tuning": tuning})
        union = check_search(config, Resources(4.0, 0.0), resume=False).union
        tables = [task.texts(range(task.num_rows))[1] for task, _ in needed_answers(union, "t")]
        asked[name] = {text for columns in tables for text in columns[0]}
    assert asked["trials"] == {"qt", "p4", "p0", "p2"}
    assert asked["last"] == asked["trials"] | {"qa", "qb", *CORPUS}
