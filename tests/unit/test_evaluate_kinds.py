"""The same commands on every kind of task: what is drawn, what is said of a row, what is left out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.compare import compare
from raydistill.config import DistillConfig
from raydistill.config.task import METRICS, TaskKind
from raydistill.errors import ConfigError
from raydistill.evaluate import Wanted, evaluate
from raydistill.evaluation.calibration import calibration_error
from raydistill.evaluation.statistics import RESAMPLED
from raydistill.figures import ask
from raydistill.onnx_export import export_model
from raydistill.subjects import find_teacher, open_subject, rows_of
from raydistill.ui import Ui
from tests.conftest import make_model, make_rows, write_rows
from tests.unit.embedders import ROWS, make_embedder
from tests.unit.windows import answering_settings, make_answering
from tests.unit.words import TAGS, make_tagger, make_tagging, tagging_settings, word_piece

QUIET = Ui(quiet=True)
PAIRS: list[dict[str, Any]] = [
    {"query": "good film", "positives": ["great plot", "fine cast"], "negatives": ["the end", "a film"]},
    {"query": "bad film", "positives": ["awful plot"], "negatives": ["and its cast", "was a film"]},
    {"query": "dull end", "positives": ["poor end"], "negatives": ["very fine"]},
    {"query": "very dull", "positives": ["broken end"], "negatives": ["lovely cast", "superb film"]},
]  # fmt: skip
NAMES = {
    "multi_label_classification": ("positive", "long"),
    "regression": ("words",),
    "reranking": ("LABEL_0",),
}


def labelled(row: dict[str, str], kind: str) -> dict[str, Any]:
    words = row["text"].split()
    if kind == "regression":
        return {"text": row["text"], "words": len(words) / 10}
    there = {"positive": row["label"] == "positive", "long": len(words) > 7}
    return {"text": row["text"], "labels": [name for name in there if there[name]]}


def settings_of(kind: str, folder: Path) -> dict[str, Any]:
    """A sound run with a teacher that has the same labels, and `student` and `teacher` to measure."""
    if kind == "tagging":
        folders = make_tagging(folder)
        return tagging_settings(folders, folder / "out")
    if kind == "question_answering":
        return answering_settings(make_answering(folder), folder / "out")
    data = folder / "data"
    data.mkdir()
    if kind == "retrieval":
        for split in ("train", "validation", "test"):
            write_rows(data / f"{split}.jsonl", ROWS)
        make_embedder(folder / "student", seed=1)
        make_embedder(folder / "pieces", seed=2, width=24)
        return {
            "run": {"name": kind, "output_dir": str(folder / "out")},
            "data": {"folder": str(data)},
            "task": {"kind": kind},
            "student": {"model": str(folder / "student"), "max_tokens": 16},
            "teachers": {"pieces": {"model": str(folder / "pieces")}},
            "losses": [{"kind": "score_kl"}],
            "training": {"group_rows": 3, "batch_rows": 12},
        }
    for split, number in (("train", 20), ("validation", 10), ("test", 20)):
        rows = PAIRS if kind == "reranking" else [labelled(r, kind) for r in make_rows(number, 3)]
        write_rows(data / f"{split}.jsonl", rows)
    for name, seed in (("student", 1), ("pieces", 2)):
        make_model(folder / name, layers=1, width=16, seed=seed, labels=NAMES[kind])
    task = {"kind": kind} | ({} if kind == "reranking" else {"labels": list(NAMES[kind])})
    terms = {"multi_label_classification": "binary_forward_kl", "regression": "logit_mse", "reranking": "score_kl"}  # fmt: skip
    return {
        "run": {"name": kind, "output_dir": str(folder / "out")},
        "data": {"folder": str(data)},
        "task": task,
        "student": {"model": str(folder / "student"), "max_tokens": 16},
        "teachers": {"pieces": {"model": str(folder / "pieces")}},
        "losses": [{"kind": terms[kind]}],
    }


@pytest.mark.parametrize("kind", sorted(set(RESAMPLED) - {"text_classification"}))
def test_models_of_any_kind_are_measured_compared_and_written_out(kind: TaskKind, tmp_path: Path) -> None:  # fmt: skip
    """A kind that one of the parts forgot would be found by whoever needs it."""
    config = DistillConfig.model_validate(settings_of(kind, tmp_path))
    student, pieces = str(tmp_path / "student"), str(tmp_path / "pieces")
    wanted = Wanted((student,), teachers=True, ensemble=True, latency=False, predictions=True)
    found = evaluate(config, wanted, QUIET)
    own, *_, together = found.figures
    assert set(METRICS[kind]) <= set(own.metrics)
    assert ("ece" in own.metrics) == (kind in ("tagging", "multi_label_classification"))
    assert set(METRICS[kind]) <= set(together.metrics)
    assert set(own.agreement) == set(config.teachers)
    assert own.flops_per_row is not None
    assert own.flops_per_row > 0
    said = {
        "tagging": "tags", "regression": "numbers", "reranking": "score", "retrieval": "score",
        "question_answering": "answer",
    }.get(kind, "answers")  # fmt: skip
    assert all(said in line["said"][student] for line in found.lines)
    assert len(found.lines) == (9 if kind == "question_answering" else found.rows)
    assert any(line["right"] for line in found.lines)

    verdict = compare(
        config, student, pieces, metric=None, split="test", resamples=200, seed=0, ui=QUIET
    )
    assert verdict.metric == METRICS[kind][0]
    assert verdict.found.first == pytest.approx(own.metrics[verdict.metric], abs=1e-6)
    units = {
        "retrieval": (5, "queries"), "tagging": (12, "sentences"), "reranking": (4, "queries"), "question_answering": (9, "questions"),
    }  # fmt: skip
    assert (verdict.found.units, verdict.unit) == units.get(kind, (20, "rows"))

    def export() -> Any:
        return export_model(
            config, student, "onnx", tmp_path / "exported",
            split="test", path="--model", latency=False, ui=QUIET,
        )  # fmt: skip

    if kind == "retrieval":
        with pytest.raises(ConfigError, match="embeds texts, which is not exported here"):
            export()
        return
    exported = export()
    code = (tmp_path / "exported" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(tmp_path / "exported")), names)
    assert names["logits"].shape[0] == 1
    assert names["logits"].shape[-1] == len(rows_of(config, "test").labels)
    if kind in ("reranking", "question_answering"):
        assert {0, 1} <= set(names["inputs"].sequence_ids())
    if kind == "question_answering":
        assert names["start_logits"].shape == names["inputs"]["input_ids"].shape
    torch_figures, onnx = exported.figures
    for name, value in torch_figures.metrics.items():
        assert onnx.metrics[name] == pytest.approx(value, abs=1e-3), name


def test_labels_that_one_does_not_know_are_left_out_of_a_comparison(tmp_path: Path) -> None:
    """Answers that were never given would be counted as wrong ones."""
    config = DistillConfig.model_validate(settings_of("multi_label_classification", tmp_path))
    part = make_model(tmp_path / "part", layers=1, width=16, seed=5, labels=("long",))
    found = evaluate(config, Wanted((str(part),), teachers=True, latency=False), QUIET)
    assert found.figures[0].agreement["pieces"]["agreement"] <= 1
    verdict = compare(
        config, str(part), str(tmp_path / "student"),
        metric="macro_f1", split="test", resamples=200, seed=0, ui=QUIET,
    )  # fmt: skip
    assert verdict.found.first == pytest.approx(found.figures[0].metrics["macro_f1"])


def test_calibration_is_of_the_tags_that_a_teacher_knows(tmp_path: Path) -> None:
    """A teacher that abstains would be called unsure of words that no figure beside it counts."""
    folders = make_tagging(tmp_path)
    settings = tagging_settings(folders, tmp_path / "out")
    part = make_tagger(tmp_path / "part", word_piece(), seed=5, tags=TAGS[:3])
    settings["teachers"] = {"part": {"model": str(part), "missing_labels": "abstain"}}
    settings["ensemble"] = {}
    config = DistillConfig.model_validate(settings)
    wanted = Wanted((str(tmp_path / "student"),), teachers=True, latency=False)
    own = evaluate(config, wanted, QUIET).figures[1]
    rows = rows_of(config, "test")
    teacher = find_teacher(rows, "part")
    logits, labels = ask(teacher, open_subject(teacher), rows), rows.task().hard_labels()
    known = torch.tensor([rows.labels.index(tag) for tag in TAGS[:3]])
    counted = torch.isin(labels, known)
    assert 0 < counted.sum() < (labels >= 0).sum()
    expected = calibration_error("tagging", logits[counted], labels[counted])
    assert own.metrics["ece"] == pytest.approx(expected)
    assert own.metrics["ece"] != pytest.approx(calibration_error("tagging", logits, labels))


def test_a_recurrent_student_is_exported_and_counted(tmp_path: Path, tiny: dict[str, Path]) -> None:
    """Its products hide in one kernel, and a loop over tokens is frozen easily."""
    from raydistill.models.auto import AutoTokenizer
    from raydistill.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny["student"])
    shape = RecurrentConfig(
        vocab_size=len(tokenizer), cell_size=8, embedding_size=12, pad_token_id=0,
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
    )  # fmt: skip
    RecurrentForSequenceClassification(shape).save_pretrained(tmp_path / "lstm")
    tokenizer.save_pretrained(tmp_path / "lstm")
    config = DistillConfig.model_validate({
        "run": {"name": "x"},
        "data": {"folder": str(tiny["data"])},
        "student": {"model": str(tmp_path / "lstm"), "max_tokens": 16},
        "losses": [{"kind": "cross_entropy"}],
    })  # fmt: skip
    for form in ("onnx", "int8"):
        exported = export_model(
            config, str(tmp_path / "lstm"), form, tmp_path / form,
            split="test", path="--model", latency=False, ui=QUIET,
        )  # fmt: skip
    one = exported.figures[0]
    assert one.tokens_per_row is not None
    assert one.flops_per_row == 2 * (2 * one.tokens_per_row * 4 * 8 * (12 + 8)) + 2 * 16 * 2
    assert exported.record.difference > 0
