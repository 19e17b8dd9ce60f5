"""Reranking: from queries and passages by id to a student that scores pairs."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BAD, FILLER, GOOD, make_model, write_rows
from tests.e2e.conftest import run, settings_of

pytestmark = pytest.mark.e2e


def make_data(folder: Path) -> None:
    """Queries ask for a kind of word, and a passage with a word of that kind is relevant."""
    draw = random.Random(1)
    words = {"good": GOOD, "bad": BAD}
    corpus: list[dict[str, Any]] = []
    by_kind: dict[str, list[str]] = {"good": [], "bad": []}
    for number in range(40):
        kind = "good" if number % 2 else "bad"
        text = " ".join([*draw.choices(FILLER, k=4), draw.choice(words[kind])])
        corpus.append({"doc_id": number, "title": "the film" if number % 3 else "", "text": text})
        by_kind[kind].append(str(number))
    write_rows(folder / "corpus.jsonl", corpus)

    def query(number: int) -> tuple[dict[str, Any], list[str], list[str]]:
        kind = "good" if number % 2 else "bad"
        other = "bad" if number % 2 else "good"
        text = f"{draw.choice(words[kind])} {draw.choice(FILLER)}"
        return (
            {"query_id": number, "query": text},
            draw.sample(by_kind[kind], 2),
            draw.sample(by_kind[other], 4),
        )

    train, asked, candidates, judged = [], [], [], []
    for number in range(24):
        row, positives, negatives = query(number)
        train.append(
            {**row, "positive_ids": positives, "negative_ids": negatives[: 1 + number % 4]}
        )
    for number in range(100, 112):
        row, positives, negatives = query(number)
        asked.append(row)
        listed = [*negatives, positives[0]]
        candidates.append({"query_id": number, "doc_ids": listed})
        judged += [{"query_id": number, "doc_id": one, "relevance": 1} for one in positives]
    write_rows(folder / "train_rerank.jsonl", train)
    write_rows(folder / "queries.jsonl", asked)
    write_rows(folder / "qrels.jsonl", judged)
    write_rows(folder / "validation_candidates.jsonl", candidates[:6])
    write_rows(folder / "test_candidates.jsonl", candidates[6:])


def test_from_queries_to_a_student_that_scores_pairs(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """What each part does well by itself may not fit together."""
    import mlflow.pyfunc
    import torch
    from sentence_transformers import CrossEncoder

    from raydistill.tracking import save_model_folder

    data = tmp_path / "data"
    data.mkdir()
    make_data(data)
    teachers = {
        "one": make_model(tmp_path / "one", layers=1, width=16, labels=("LABEL_0",)),
        "two": make_model(tmp_path / "two", layers=1, width=16, seed=1, labels=("no", "yes")),
    }
    settings = settings_of(tiny, tmp_path / "run", num_workers=2, micro_batch_rows=4, group_rows=4)
    settings |= {
        "data": {"folder": str(data)},
        "task": {"kind": "reranking", "negatives": {"kind": "bm25", "count": 1}},
        "teachers": {
            name: {"model": str(folder), "placement": "inline"} for name, folder in teachers.items()
        },
        "ensemble": {},
        "losses": [
            {"kind": "relevance_cross_entropy"},
            {"kind": "score_kl", "temperature": 2.0},
            {"kind": "ranknet"},
            {"kind": "hidden_mse", "layers": "last", "positions": "first", "projection": "linear"},
        ],
    }
    settings["teachers"]["two"]["label_map"] = {"yes": "score"}
    done = run(settings)
    metrics = done.metrics
    names = ("test", "test/first_stage", "test/teachers/one", "test/teachers/two", "test/ensemble")
    for name in names:
        assert 0 <= metrics[f"{name}/ndcg_at_10"] <= 1, name
        assert metrics[f"{name}/recall_at_10"] == 0.5, "one of two relevant passages is a candidate"
    assert metrics["test/first_stage/mrr_at_10"] == pytest.approx(1 / 5)
    assert -1 <= metrics["test/correlation/two"] <= 1
    assert metrics["train/steps"] == 2 * 24 * 4 / 16
    summary = json.loads((done.output_dir / "summary.json").read_text())
    assert [one["role"] for one in summary["models"]] == ["student", "baseline", "teacher", "teacher", "ensemble"]  # fmt: skip
    report = (done.output_dir / "report.html").read_text()
    assert "nDCG@10" in report
    assert "order of the first stage" in report

    pairs = [("good film", "the plot was fine"), ("bad film", "its end is poor")]
    student = CrossEncoder(str(done.student_path), activation_fn=torch.nn.Identity())
    expected = student.predict(pairs)
    packed = save_model_folder(
        done.student_path, tmp_path / "model", task_kind="reranking", labels=["score"],
        text_columns=["query", "passage"], example={"query": "good film", "passage": "a plot"},
    )  # fmt: skip
    rows = [dict(zip(("query", "passage"), pair, strict=True)) for pair in pairs]
    answers = mlflow.pyfunc.load_model(str(packed)).predict(rows)
    assert list(answers.columns) == ["score"]
    assert answers["score"].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
