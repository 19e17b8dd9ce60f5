"""Tags of words: from rows to a student that answers."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import run
from tests.unit.words import TAGS, make_tagging, tagging_settings

pytestmark = pytest.mark.e2e


def test_from_words_to_a_student_that_answers(local_ray: None, tmp_path: Path) -> None:
    """What each part does well by itself may not fit together."""
    import mlflow.pyfunc
    from transformers import AutoModelForTokenClassification

    from raydistill.tracking import save_model_folder

    settings = tagging_settings(make_tagging(tmp_path), tmp_path / "run")
    settings["training"] |= {
        "epochs": 2,
        "num_workers": 2,
        "micro_batch_rows": 3,
        "cpus_per_worker": 0.5,
    }
    settings["teachers"]["pieces"]["placement"] = "inline"
    done = run(settings)
    metrics = done.metrics
    for name in ("test", "test/teachers/pieces", "test/teachers/grams", "test/ensemble"):
        assert 0 <= metrics[f"{name}/f1"] <= 1, name
        assert 0 < metrics[f"{name}/accuracy"] <= 1, name
    # Every word is asked about once: the second epoch and both workers find it.
    assert metrics["teachers/grams/rows_computed"] == 36 + 12
    assert metrics["teachers/grams/words_unmapped"] > metrics["teachers/pieces/words_unmapped"] > 0
    assert metrics["test/words_unmapped"] > 0
    assert 0 <= metrics["test/agreement/grams"] <= 1
    summary = json.loads((done.output_dir / "summary.json").read_text())
    assert [row["label"] for row in summary["per_class"]] == ["per", "loc"]
    assert "F1 of spans" in (done.output_dir / "report.html").read_text()

    student = AutoModelForTokenClassification.from_pretrained(done.student_path)
    assert list(student.config.id2label.values()) == list(TAGS)
    packed = save_model_folder(
        done.student_path, tmp_path / "model", task_kind="tagging", labels=TAGS,
        text_columns=["words"], example={"words": ["Ada", "went"]},
    )  # fmt: skip
    model = mlflow.pyfunc.load_model(str(packed))
    answers = model.predict([{"words": ["Ada", "", "Lovelace", "went"]}, {"words": "to New York"}])
    assert answers["words"].tolist() == [["Ada", "", "Lovelace", "went"], ["to", "New", "York"]]
    assert [len(tags) for tags in answers["tags"]] == [4, 3]
    assert (answers["tags"][0][1], answers["scores"][0][1]) == ("O", 0.0)
    assert all(0 < score <= 1 for score in answers["scores"][1])
