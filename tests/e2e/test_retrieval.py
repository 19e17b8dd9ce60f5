"""Retrieval: from queries and passages by id to a student that embeds texts, which serves again as a teacher."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_model
from tests.e2e.conftest import run, settings_of
from tests.e2e.test_reranking import make_data
from tests.unit.embedders import PROMPTS, make_embedder

pytestmark = pytest.mark.e2e


def distinct_texts(data: Path) -> int:
    """Passages of the corpus, and queries that are trained on or in the test split; some stand there twice."""

    def rows(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]

    passages = {f"{row['title']} {row['text']}".strip() for row in rows("corpus")}
    texts = {row["query_id"]: row["query"] for row in rows("queries")}
    queries = {row["query"] for row in rows("train_rerank")}
    queries |= {texts[row["query_id"]] for row in rows("test_candidates")}
    return len(passages) + len(queries)


def test_from_queries_to_a_student_that_embeds_texts(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """What each part does well by itself may not fit together."""
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer
    from typer.testing import CliRunner

    from raydistill.cli import app

    data = tmp_path / "data"
    data.mkdir()
    make_data(data)
    bi = make_embedder(tmp_path / "bi", layers=1, width=24, normalize=True, **PROMPTS)
    cross = make_model(tmp_path / "cross", layers=1, width=16, labels=("LABEL_0",))
    student = make_embedder(tmp_path / "student", layers=1, width=16, seed=1, pooling="cls")
    settings = settings_of(tiny, tmp_path / "run", num_workers=2, micro_batch_rows=8, group_rows=4)
    settings |= {
        "data": {"folder": str(data)},
        "task": {"kind": "retrieval", "negatives": {"kind": "bm25", "count": 1}},
        "student": {"model": str(student), "max_tokens": 16, "prompts": {"query": "the "}},
        "teachers": {
            "bi": {"model": str(bi), "num_cpus": 0.5},
            "cross": {"model": str(cross), "placement": "inline"},
        },
        "ensemble": {},
        "losses": [
            {"kind": "in_batch_cross_entropy"},
            {"kind": "score_kl", "among": "block"},
            {"kind": "score_kl"},
            {"kind": "embedding_cos", "projection": "linear"},
        ],
        "evaluation": {"latency": True, "retrieval": "corpus"},
        "tracking": {
            "uri": f"sqlite:///{tmp_path}/mlflow.db",
            "experiment": "retrieval",
            "registered_model": "finder",
        },
        "store": {"path": str(tmp_path / "store")},
    }
    settings["training"]["block_queries"] = 2
    done = run(settings)
    metrics = done.metrics
    for name in ("test", "test/first_stage", "test/teachers/bi", "test/teachers/cross", "test/ensemble"):  # fmt: skip
        assert metrics[f"{name}/recall_at_10"] == 0.5, "one of two relevant passages is a candidate"
    for name in ("validation/corpus", "test/corpus", "test/teachers/bi/corpus"):
        assert metrics[f"{name}/recall_at_100"] == 1.0, "of forty passages a hundred are all"
        assert 0 < metrics[f"{name}/ndcg_at_10"] <= 1
    assert "test/teachers/cross/corpus/ndcg_at_10" not in metrics
    assert metrics["train/steps"] == 2 * 24 * 4 / 16
    assert metrics["teachers/bi/rows_computed"] == distinct_texts(data), "each text once"
    summary = json.loads((done.output_dir / "summary.json").read_text())
    assert summary["models"][0]["corpus_ndcg_at_10"] == metrics["test/corpus/ndcg_at_10"]
    assert "nDCG@10, corpus" in (done.output_dir / "report.html").read_text()

    model = SentenceTransformer(str(done.student_path), device="cpu")
    assert (model.similarity_fn_name, model.max_seq_length) == ("cosine", 16)
    assert model.prompts == {"query": "the ", "document": ""}
    again = CliRunner().invoke(
        app,
        ["evaluate", str(done.output_dir / "config.yaml"), "--model", done.model_uri, "--split", "test"],
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout[again.stdout.index("{") :])
    assert found["test/corpus/ndcg_at_10"] == pytest.approx(metrics["test/corpus/ndcg_at_10"])
    assert found["test/map"] == pytest.approx(metrics["test/map"])

    # The student as a teacher of itself has nothing to teach, but for what training does to it.
    second: dict[str, Any] = {
        **settings,
        "run": {**settings["run"], "output_dir": str(tmp_path / "second")},
        "student": {"model": str(done.student_path), "max_tokens": 16},
        "teachers": {"bi": {"model": done.model_uri, "placement": "inline"}},
        "losses": [{"kind": "embedding_mse"}, {"kind": "score_kl", "among": "block"}],
        "tracking": {"enabled": False, "uri": settings["tracking"]["uri"]},
        "evaluation": {"latency": False},
    }
    second["training"] = {**settings["training"], "learning_rate": 1e-12, "epochs": 1, "num_workers": 1}  # fmt: skip
    copy = run(second)
    assert copy.metrics["test/ndcg_at_10"] == copy.metrics["test/teachers/bi/ndcg_at_10"]
    history = [json.loads(line) for line in (copy.output_dir / "history.jsonl").read_text().splitlines()]  # fmt: skip
    losses = [one["train/losses/0.embedding_mse"] for one in history if "train/losses/0.embedding_mse" in one]  # fmt: skip
    assert max(losses) < 1e-9
    other = SentenceTransformer(str(copy.student_path), device="cpu")
    one, two = (m.encode_query(["good film", "bad film"]) for m in (model, other))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert torch.allclose(model.similarity(one, two).diagonal(), torch.ones(2), atol=1e-5)
