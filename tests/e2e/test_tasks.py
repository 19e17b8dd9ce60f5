"""Several labels at once, and numbers: from rows to a student that answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_model, make_rows, write_rows
from tests.e2e.conftest import run, settings_of

pytestmark = pytest.mark.e2e

NAMES = {"multi_label_classification": ("positive", "long", "is"), "regression": ("words", "mood")}
TERMS = {
    "multi_label_classification": [
        {"kind": "binary_cross_entropy"},
        {"kind": "binary_forward_kl", "temperature": 2.0},
    ],
    "regression": [{"kind": "mse"}, {"kind": "logit_mse"}],
}


def labelled(row: dict[str, str], kind: str) -> dict[str, Any]:
    words = row["text"].split()
    if kind == "regression":
        mood = 1.0 if row["label"] == "positive" else -1.0
        return {"text": row["text"], "words": len(words) / 10, "mood": mood}
    there = {"positive": row["label"] == "positive", "long": len(words) > 7, "is": "is" in words}
    return {"text": row["text"], "labels": [name for name in there if there[name]]}


def found_again(settings: dict[str, Any], done: Any, first: str, likeness: str) -> None:
    """The figures of the run's end, by evaluate; and the card, by who reads such."""
    from huggingface_hub import ModelCard

    from raydistill.config import DistillConfig
    from raydistill.evaluate import Wanted, evaluate
    from raydistill.ui import Ui

    metrics = done.metrics
    config = DistillConfig.model_validate(settings)
    wanted = Wanted((str(done.student_path),), teachers=True, ensemble=True, latency=False)
    again = {one.name: one for one in evaluate(config, wanted, Ui(quiet=True)).figures}
    assert again[str(done.student_path)].agreement["whole"][likeness] == pytest.approx(
        metrics[f"test/{likeness}/whole"], abs=1e-4
    )
    same = {str(done.student_path): "test", "part": "test/teachers/part", "2 teachers together": "test/ensemble"}  # fmt: skip
    for name, prefix in same.items():
        assert again[name].metrics[first] == pytest.approx(metrics[f"{prefix}/{first}"], abs=1e-4)
    card = ModelCard.load(done.student_path / "README.md")
    assert {one.dataset_split for one in card.data.eval_results} == {"validation", "test"}
    assert "| part | `part` |" in card.text


@pytest.mark.parametrize(
    "kind", ["multi_label_classification", pytest.param("regression", marks=pytest.mark.slow)]
)
def test_from_rows_to_a_student_that_answers(
    kind: str, tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """What each part does well by itself may not fit together."""
    import mlflow.pyfunc
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from raydistill.tracking import save_model_folder

    names = NAMES[kind]
    data = tmp_path / "data"
    data.mkdir()
    for split, number, seed in (("train", 48, 1), ("validation", 20, 2), ("test", 20, 3)):
        rows = [labelled(row, kind) for row in make_rows(number, seed)]
        write_rows(data / f"{split}.jsonl", rows)
    write_rows(data / "unlabelled.jsonl", [{"text": row["text"]} for row in make_rows(16, 4)])
    teachers = {
        "whole": make_model(tmp_path / "whole", layers=1, width=16, labels=names[::-1]),
        "part": make_model(tmp_path / "part", layers=1, width=16, seed=1, labels=names[1:2]),
    }
    settings = settings_of(tiny, tmp_path / "run", epochs=2, num_workers=2, micro_batch_rows=4)
    settings |= {
        "data": {"folder": str(data)},
        "task": {"kind": kind, "labels": list(names)},
        "teachers": {
            name: {"model": str(folder), "placement": "inline", "missing_labels": "abstain"}
            for name, folder in teachers.items()
        },
        "ensemble": {},
        "losses": TERMS[kind],
    }
    done = run(settings)
    metrics = done.metrics
    first = {"regression": "rmse"}.get(kind, "micro_f1")
    likeness = {"regression": "correlation"}.get(kind, "agreement")
    for name in ("test", "test/teachers/whole", "test/teachers/part", "test/ensemble"):
        assert 0 <= metrics[f"{name}/{first}"] < 10, name
    assert -1 <= metrics[f"test/{likeness}/part"] <= 1
    rows_trained = 2 * (48 + 16)
    assert metrics["teachers/part/labels_abstained"] == rows_trained * (len(names) - 1)
    assert metrics["teachers/whole/labels_abstained"] == 0
    report = (done.output_dir / "report.html").read_text()
    assert {"regression": "RMSE"}.get(kind, "Mean AP") in report
    summary = json.loads((done.output_dir / "summary.json").read_text())
    assert [row["label"] for row in summary["per_class"]] == list(names)

    found_again(settings, done, first, likeness)

    student = AutoModelForSequenceClassification.from_pretrained(done.student_path)
    assert student.config.problem_type == kind
    assert list(student.config.id2label.values()) == list(names)
    packed = save_model_folder(
        done.student_path, tmp_path / "model", task_kind=kind, labels=names,
        text_columns=["text"], example={"text": "a good film"},
    )  # fmt: skip
    texts = ["a good film", "the plot was very dull and its end is poor and the cast it is"]
    answers = mlflow.pyfunc.load_model(str(packed)).predict(texts)
    inputs = AutoTokenizer.from_pretrained(done.student_path)(texts, padding=True, return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        logits = student(**inputs).logits
    if kind == "regression":
        assert list(answers.columns) == list(names)
        assert answers.to_numpy() == pytest.approx(logits.numpy(), abs=1e-5)
    else:
        assert list(answers.columns) == ["labels", "scores"]
        expected = [[n for n, z in zip(names, row, strict=True) if z > 0] for row in logits]
        assert answers["labels"].tolist() == expected
        assert answers["scores"].tolist()[1] == pytest.approx(
            logits[1].sigmoid().tolist(), abs=1e-5
        )


STUDENTS = {
    "lstm": {"network": {"kind": "lstm", "hidden_size": 12, "embedding_size": 16, "pooling": "max"}},
    "bigru": {"preset": "bigru", "network": {"hidden_size": 12, "embedding_size": 16, "head_size": 8}},
    "t4-tiny": {"preset": "t4-tiny"},
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["bigru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "t4-tiny"))]
)
def test_student_that_is_made_is_found_again_in_its_folder(
    name: str, tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """A network that Transformers does not know, or sizes by name, could be saved as another model."""
    from raydistill.config import parse_config
    from raydistill.evaluate import Wanted, evaluate
    from raydistill.ui import Ui

    settings = settings_of(tiny, tmp_path / "run", epochs=1, num_workers=1)
    settings["student"] = {**STUDENTS[name], "tokenizer": str(tiny["wide"]), "max_tokens": 16}
    settings["losses"] = settings["losses"][:2]
    config, faults = parse_config(settings)
    assert faults == []
    assert config is not None
    done = run(config.model_dump(mode="json"))
    wanted = Wanted((str(done.student_path),), teachers=False, ensemble=False, latency=False)
    (again,) = evaluate(config, wanted, Ui(quiet=True)).figures
    assert 0 < done.metrics["test/nll"] < 3
    for figure in ("accuracy", "nll"):
        assert again.metrics[figure] == pytest.approx(done.metrics[f"test/{figure}"], abs=1e-5)
