"""Reranking from a configuration: what may be written, what is planned, and the objective of its example."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raydistill.checks import check
from raydistill.config import DistillConfig, parse_config
from raydistill.models import ModelSource, build_student, load_tokenizer
from raydistill.objective import Moment, Objective
from raydistill.prepare import Prepared, changed_settings, prepare
from raydistill.signals import HiddenAsk, pack_signal
from raydistill.tasks import Reranking
from raydistill.terms import GroupMatch
from raydistill.training.step import StudentModule
from tests.conftest import make_model, write_rows

EXAMPLE = Path(__file__).parents[2] / "jobs" / "configs" / "rerank_bge_to_distilbert.yaml"
ROWS: list[dict[str, Any]] = [
    {"query": "good film", "positives": ["great plot", "fine cast"], "negatives": ["the end", "a film", "it is"]},
    {"query": "bad film", "positives": ["awful plot"], "negatives": ["and its cast", "was a film", "the plot"]},
    {"query": "dull end", "positives": ["poor end"], "negatives": ["very fine"]},
]  # fmt: skip
RERANK = {"kind": "reranking"}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A sound run of one teacher."""
    for name in ("train", "validation", "test"):
        write_rows(tmp_path / f"{name}.jsonl", ROWS)
    make_model(tmp_path / "teacher", layers=1, width=16, labels=("LABEL_0",))
    make_model(tmp_path / "student", layers=1, width=16, seed=1)
    return {
        "run": {"name": "x", "output_dir": str(tmp_path / "out")},
        "data": {"folder": str(tmp_path)},
        "task": dict(RERANK),
        "student": {"model": str(tmp_path / "student"), "max_tokens": 16},
        "teachers": {"one": {"model": str(tmp_path / "teacher")}},
        "losses": [{"kind": "relevance_cross_entropy"}, {"kind": "score_kl"}],
        "training": {"batch_rows": 8, "group_rows": 4, "epochs": 2},
        "tracking": {"enabled": False},
    }


def prepared(settings: dict[str, Any]) -> Prepared:
    found, faults = prepare(DistillConfig.model_validate(settings))
    assert [str(fault) for fault in faults] == []
    assert found is not None
    return found


def lines(settings: dict[str, Any]) -> list[str]:
    config, faults = parse_config(settings)
    with pytest.raises(ValueError, match=r".") as caught:
        check(config, faults)
    return str(caught.value).splitlines()


def test_a_run_is_planned(settings: dict[str, Any]) -> None:
    """Steps of queries, not of rows: else an epoch ends in the middle."""
    found = prepared(settings)
    assert (found.steps.total, found.steps.per_epoch) == (4, 2)
    assert found.labels == ("score",)
    assert found.student.labels == ("score",)
    assert found.student.head_columns is None, "a head of two labels gives no score"
    assert found.objective.columns == {"one": (0,)}
    assert [type(term.match) for term in found.objective.terms] == [GroupMatch] * 2
    assert [term.match.against for term in found.objective.terms] == ["labels", "teachers"]
    assert found.config.training.select_by == "validation/ndcg_at_10"
    changed = prepared({**settings, "task": {**RERANK, "max_positives": 2}})
    faults = [str(fault) for fault in changed_settings(found.manifest, changed.manifest)]
    assert len(faults) == 1
    assert faults[0].startswith("task.max_positives is 2")


def test_groups_have_eight_candidates_if_nothing_is_written(settings: dict[str, Any]) -> None:
    """The default for rows that are compared would be two queries a step."""
    del settings["training"]["group_rows"]
    assert DistillConfig.model_validate(settings).training.group_rows == 8


def change(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    at: Any = settings
    for parent in parents:
        at = at.setdefault(parent, {}) if isinstance(at, dict) else at[int(parent)]
    at[int(last) if isinstance(at, list) else last] = value
    return settings


BAD = [
    ("losses.0.kind", "cross_entropy", "losses.0.kind is cross_entropy, which is for exactly one label a row"),
    ("losses.1.kind", "forward_kl", "Use score_kl or ranknet or listnet or lambda_loss"),
    ("losses.1", {"kind": "score_kl", "temperature": {"kind": "flsw", "base": 2.0}}, "losses.1.temperature must be a number, linear, cosine or step over candidates, got flsw."),
    ("losses.0", {"kind": "ranknet", "soft": True, "against": "labels"}, "losses.0.soft must be false with against: labels"),
    ("training.batch_rows", 10, "training.batch_rows must be a multiple of training.group_rows = 4, the candidates of a query, got 10."),
    ("training.micro_batch_rows", 6, "training.micro_batch_rows must be a multiple of training.group_rows = 4"),
    ("training.num_workers", 3, "training.num_workers must not exceed the 2 groups of a step"),
    ("task.max_positives", 4, "task.max_positives must be less than training.group_rows = 4"),
    ("ensemble.weighting", {"kind": "confidence"}, "ensemble.weighting.kind is confidence, which weighs teachers row by row"),
    ("teachers.one.label_map", {"a": "b"}, "teachers.one.label_map must say which of two labels means relevant, {LABEL: score}"),
    ("training.select_by", "validation/accuracy", "training.select_by must be one of validation/ndcg_at_10, validation/mrr_at_10"),
    ("task.columns", {"quer": "q"}, "task.columns.quer is not known."),
    ("task.negatives", {"kind": "bm26"}, "task.negatives.kind 'bm26' is not known. Known: bm25, listed."),
    ("augmentation", {"operations": [{"kind": "delete"}]}, "augmentation must be left out with task.kind: reranking"),
    ("adversarial", {"kind": "fgm", "against": "labels"}, "adversarial.against must be teachers with task.kind: reranking"),
    ("adversarial", {"kind": "vat", "temperature": 2.0}, "adversarial.temperature must be 1 with task.kind: reranking"),
    ("data.corpus", "nowhere.parquet", "data.corpus must be an existing file, got nowhere.parquet"),
    ("data.train", "nowhere.jsonl", "data.train must be an existing file, got nowhere.jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), BAD, ids=lambda one: str(one)[:40])
def test_what_does_not_fit_is_one_line(settings: dict[str, Any], path: str, value: Any, said: str) -> None:  # fmt: skip
    """Before anything starts, and nothing else is complained about."""
    found = lines(change(settings, path, value))
    assert len(found) == 1, found
    assert said in found[0]


def test_queries_are_not_streamed(settings: dict[str, Any]) -> None:
    """A query whose passages come later has no group."""
    settings["data"]["streaming"], settings["training"]["max_steps"] = True, 4
    (said,) = lines(settings)
    assert said.startswith("data.streaming must be left out with task.kind: reranking")


ALONE: list[dict[str, Any]] = [
    {"query": "good film", "positives": ["great film", "fine cast"]},
    {"query": "bad film", "positives": ["awful film"]},
]
PASSAGES = [{"query": "dull end", "positives": ["poor end"], "negatives": ["very fine", "a plot"]}]


def test_queries_of_one_candidate_train_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """Judgements alone name relevant passages only, and every loss over the candidates of a query is 0."""
    write_rows(tmp_path / "train.jsonl", ALONE)
    (said,) = lines(settings)
    assert said.startswith("data.train must have queries with a second candidate, got none")
    assert "task.negatives: {kind: bm25}" in said
    settings["task"]["negatives"] = {"kind": "bm25"}
    write_rows(tmp_path / "train.jsonl", ALONE[1:])
    (said,) = lines(settings)
    assert said.endswith("BM25 (task.negatives) found no others: name negatives in the files.")
    write_rows(tmp_path / "train.jsonl", ALONE)
    settings["task"] = {**RERANK, "negatives": {"kind": "bm25", "count": 1}}
    assert not [note for note in prepared(settings).notes if "single candidate" in note]
    settings["task"], settings["losses"] = {**RERANK, "max_positives": 2}, [{"kind": "score_kl"}]
    notes = prepared(settings).notes
    assert "data.train: 1 of 2 queries show a single candidate; losses that compare candidates learn nothing from them." in notes  # fmt: skip


def test_a_term_that_no_query_teaches_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    """Terms on single pairs train as before; one beside them that is 0 throughout looks like the best of all."""
    write_rows(tmp_path / "train.jsonl", ALONE)
    settings["losses"] = [{"kind": "logit_mse"}, {"kind": "margin_mse"}]
    said = "losses.1 (margin_mse) compares the candidates of a query, but no query shows two: it learns nothing."
    assert said in prepared(settings).notes
    settings["losses"] = [{"kind": "logit_mse"}]
    assert not [note for note in prepared(settings).notes if "candidate;" in note]


def test_queries_without_labels_teach_what_teachers_say(settings: dict[str, Any], tmp_path: Path) -> None:  # fmt: skip
    """Their candidates are compared, though not with labels."""
    write_rows(tmp_path / "train.jsonl", ALONE)
    write_rows(tmp_path / "unlabelled.jsonl", PASSAGES)
    notes = prepared(settings).notes
    assert [note for note in notes if "learns nothing" in note] == [
        "losses.0 (relevance_cross_entropy) compares the candidates of a query, but no query shows two: it learns nothing."
    ]


def test_settings_of_reranking_are_refused_elsewhere(settings: dict[str, Any]) -> None:
    """A file that nobody reads is a file that somebody thinks is read."""
    settings["task"] = {"text": "query", "label": "query"}
    settings["data"] = {"train": settings["data"]["folder"] + "/train.jsonl", "qrels": "q"}
    settings["losses"][1] = {"kind": "score_kl"}
    said = "\n".join(lines(settings))
    assert "data.qrels has no effect: it is for task.kind: reranking or retrieval, got " in said
    assert "losses.1.kind is score_kl, which is for candidates of a query (reranking)" in said


def test_grades_above_one_are_no_yes_or_no(settings: dict[str, Any], tmp_path: Path) -> None:
    """A target of 3 for a probability is met nowhere."""
    rows = [{"query": "q", "passage": f"p{i}", "label": i} for i in range(4)]
    settings["data"]["train"] = str(write_rows(tmp_path / "graded.jsonl", rows))
    settings["losses"][0] = {"kind": "binary_cross_entropy"}
    assert lines(settings) == [
        "losses.0.kind is binary_cross_entropy, whose labels lie between 0 and 1, but data.train has 3. Use "
        "relevance_cross_entropy, or lambda_loss with against: labels."
    ]


def test_a_teacher_has_one_output_or_two_with_a_name(settings: dict[str, Any], tmp_path: Path) -> None:  # fmt: skip
    """Of three classes none is the score of a passage."""
    settings["teachers"]["one"]["model"] = str(make_model(tmp_path / "three", labels=("a", "b", "c")))  # fmt: skip
    assert "It has 3 outputs, where a reranker has one" in lines(settings)[0]
    settings["teachers"]["one"]["model"] = str(make_model(tmp_path / "two", labels=("no", "yes")))
    assert 'Say which means relevant: label_map: {"yes": score}' in lines(settings)[0]
    settings["teachers"]["one"]["label_map"] = {"yes": "score"}
    assert prepared(settings).objective.columns == {"one": (1,)}


def test_example_trains_on_order_divergence_and_first_tokens(tmp_path: Path) -> None:
    """The objective that the example is there for, with models of its widths and few words."""
    settings = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    write_rows(tmp_path / "train.jsonl", ROWS)
    teacher = make_model(tmp_path / "teacher", layers=2, width=1024, labels=("LABEL_0",))
    student = make_model(tmp_path / "student", layers=2, width=768, labels=("LABEL_0",), seed=1, reverse_vocabulary=True)  # fmt: skip
    settings["data"] = {"train": str(tmp_path / "train.jsonl")}
    settings["student"] = {"model": str(student), "max_tokens": 16}
    settings["teachers"]["bge"] = {"model": str(teacher)}
    settings["training"] |= {"gpus_per_worker": 0, "precision": "float32"}
    settings["run"]["output_dir"] = str(tmp_path / "out")
    found = prepared(settings)
    asked = found.objective.asks["bge"]
    assert asked.hidden == (HiddenAsk(1, "first"), HiddenAsk(2, "first"))
    assert [(spec.width_in, spec.width_out) for spec in found.objective.projections] == [(1024, 768)] * 2  # fmt: skip

    task = Reranking(found.splits["train"].table, found.labels)
    source = ModelSource("student", str(student), str(student))
    batch = task.batch(range(task.num_rows), load_tokenizer(source), 16)
    torch.manual_seed(0)
    module = StudentModule(
        build_student(labels=found.labels, dropout=0.0, source=source, head_columns=[0]),
        Objective(found.objective),
    )
    number = len(batch.row_ids)
    parts = {
        "logits": torch.randn(number, 1),
        **{hidden.key: torch.randn(number, 1024) for hidden in asked.hidden},
    }
    signal = pack_signal("bge", batch.row_ids, batch.token_mask.sum(1).tolist(), parts, "float32")
    counts = module.objective.counts(batch).float()
    assert counts.tolist() == [10 + 6 + 1, 3, number]
    first = None
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    for _ in range(12):
        optimizer.zero_grad()
        terms, loss = module(batch, {"bge": signal}, Moment(), counts)
        first = terms.detach() if first is None else first
        loss.backward()
        optimizer.step()
    assert first is not None
    assert (terms < 0.9 * first).all(), (first, terms)


@pytest.mark.parametrize("kind", ["fgm", "vat"])
def test_scores_of_moved_pairs_are_compared_pair_by_pair(settings: dict[str, Any], kind: str) -> None:  # fmt: skip
    """A divergence over candidates that are each moved to their own worst place is of no order."""
    settings["adversarial"] = {"kind": kind, "epsilon": 0.3}
    found = prepared(settings)
    task = Reranking(found.splits["train"].table, found.labels)
    source = found.student.source
    batch = task.batch(range(task.num_rows), load_tokenizer(source), 16)
    torch.manual_seed(0)
    module = StudentModule(
        build_student(labels=found.labels, dropout=0.0, source=source),
        Objective(found.objective),
    )
    parts = {"logits": torch.randn(len(batch.row_ids), 1)}
    signal = pack_signal("one", batch.row_ids, batch.token_mask.sum(1).tolist(), parts, "float32")
    counts = module.objective.counts(batch).float()
    assert counts.tolist() == [3, 3, len(batch.row_ids)]
    terms, loss = module(batch, {"one": signal}, Moment(), counts)
    loss.backward()
    own = module.logits(batch).detach()
    as_they_are = float((own - parts["logits"]).square().mean()) if kind == "fgm" else 0.0
    assert float(terms[2].detach()) > as_they_are, "where the student is moved to it is worse"


def test_configuration_of_the_page_is_sound() -> None:
    """An example that is refused is the first thing a newcomer meets."""
    page = (EXAMPLE.parents[2] / "docs" / "RERANKING.md").read_text(encoding="utf-8")
    settings = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    config, faults = parse_config({"run": {"name": "x"}, "student": {"model": "m"}, **settings})
    assert faults == []
    assert config is not None
    for column in set(re.findall(r"`(\w+)`", page.split("|---|---|---|")[1].split("\n\n")[0])):
        assert column in json.dumps(config.task.model_dump()), column


def test_schema_knows_the_columns() -> None:
    """An editor that underlines what is right is switched off."""
    schema = json.loads((EXAMPLE.parent / "schema.json").read_text(encoding="utf-8"))
    assert "positive_ids" in schema["$defs"]["RankingColumns"]["properties"]
