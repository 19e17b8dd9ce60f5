"""Several tasks, one student: from rows to a folder, figures and a version for each."""

import json
from pathlib import Path

import pytest

from tests.conftest import make_model, make_rows, write_rows

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = ("none", "one", "more")


def accuracy_of(folder: Path, rows_file: Path) -> float:
    """Of a student, loaded as anybody would."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    student = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        answers = student.eval()(**inputs).logits.argmax(-1).tolist()
    right = [NAMES[answer] == row["label"] for answer, row in zip(answers, rows, strict=True)]
    return sum(right) / len(right)


def test_two_tasks_from_rows_to_two_students(
    tiny: dict[str, Path], local_ray: None, tmp_path: Path
) -> None:
    """What each part does well by itself may not fit together."""
    import torch
    from safetensors.torch import load_file

    from raydistill.config import parse_any
    from raydistill.several import distill
    from raydistill.tracking import list_models

    count = tmp_path / "count"
    count.mkdir()
    for split, number, seed in (("train", 40, 1), ("validation", 16, 2), ("test", 16, 3)):
        texts = [row["text"] for row in make_rows(number, seed)]
        rows = [{"text": text, "label": NAMES[min(text.split().count("is"), 2)]} for text in texts]
        write_rows(count / f"{split}.jsonl", rows)
    three = make_model(tmp_path / "three", layers=1, width=16, labels=NAMES[::-1])
    features = {"kind": "hidden_mse", "layers": [[2, -1]], "projection": "linear"}
    settings = {
        "run": {"name": "both", "seed": 5, "output_dir": str(tmp_path / "out" / "run")},
        "tasks": {
            "mood": {
                "data": {"folder": str(tiny["data"])},
                "teachers": {
                    "wide": {"model": str(tiny["wide"]), "num_cpus": 0.5},
                    "deep": {"model": str(tiny["deep"]), "placement": "inline"},
                },
                "losses": [{"kind": "cross_entropy"}, {"kind": "forward_kl"}, features],
            },
            "count": {
                "data": {"folder": str(count)},
                "task": {"labels": list(NAMES)},
                "teachers": {"three": {"model": str(three), "num_cpus": 0.5}},
                "losses": [{"kind": "soft_cross_entropy"}, features],
                "weight": 0.5,
            },
        },
        "student": {"model": str(tiny["student"]), "max_tokens": 16},
        "training": {
            "epochs": 2,
            "batch_rows": 16,
            "num_workers": 2,
            "cpus_per_worker": 0.5,
            "log_every_steps": 1,
        },
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db", "registered_model": "small"},
        "evaluation": {"latency": False},
    }
    config, faults = parse_any(settings)
    assert (config is not None, faults) == (True, [])
    assert config is not None
    done = distill(config)

    metrics = done.metrics
    assert metrics["train/steps"] == 2 * (8 + 3)
    firsts = [metrics[f"{task}/test/accuracy"] for task in ("mood", "count")]
    assert metrics["test/mean"] == pytest.approx(sum(firsts) / 2)
    assert 0 <= metrics["mood/test/teachers/wide/accuracy"] <= 1
    assert metrics["count/test/ensemble/nll"] >= 0
    assert metrics["count/teachers/three/rows_received"] > 0
    assert json.loads((done.output_dir / "metrics.json").read_text()) == metrics
    history = [json.loads(x) for x in (done.output_dir / "history.jsonl").read_text().splitlines()]
    logged = {name for record in history for name in record}
    assert {"train/losses/mood.2.hidden_mse", "train/losses/count.1.hidden_mse"} <= logged
    assert {"validation/mean", "mood/validation/accuracy", "count/validation/nll"} <= logged
    each = json.loads((done.output_dir / "tasks" / "count" / "metrics.json").read_text())
    assert each["test/accuracy"] == metrics["count/test/accuracy"]
    assert "count/three" in (done.output_dir / "report.html").read_text()
    assert "validation" in (done.output_dir / "tasks" / "count" / "report.html").read_text()

    weights = {
        task: load_file(done.student_path / task / "model.safetensors")
        for task in ("mood", "count")
    }
    shared = [name for name in weights["mood"] if name.startswith("bert.")]
    assert len(shared) > 20
    assert all(torch.equal(weights["mood"][n], weights["count"][n]) for n in shared)
    shapes = {task: len(found["classifier.weight"]) for task, found in weights.items()}
    assert shapes == {"mood": 2, "count": 3}

    accuracy = accuracy_of(done.student_path / "count", count / "test.jsonl")
    assert accuracy == pytest.approx(metrics["count/test/accuracy"])

    versions = {
        model.name: model.versions for model in list_models(f"sqlite:///{tmp_path}/mlflow.db")
    }
    assert sorted(versions) == ["small-count", "small-mood"]
    assert done.model_uri == "models:/small-mood/1, models:/small-count/1"
    found = versions["small-count"][0].metrics
    assert found["validation/accuracy"] == pytest.approx(metrics["count/validation/accuracy"])
