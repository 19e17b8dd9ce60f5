"""Question answering: from SQuAD's own files to a student that answers, with teachers of two tokenizers."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import run
from tests.unit.windows import answering_settings, make_answering, make_questions

pytestmark = pytest.mark.e2e


def test_from_questions_to_a_student_that_answers(local_ray: None, tmp_path: Path) -> None:
    """What each part does well by itself may not fit together."""
    import mlflow.pyfunc
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    from raydistill.config import DistillConfig
    from raydistill.evaluate import Wanted, evaluate
    from raydistill.ui import Ui

    settings = answering_settings(make_answering(tmp_path / "in"), tmp_path / "run")
    for teacher in settings["teachers"].values():
        teacher["placement"] = "inline"
    settings["training"] |= {"num_workers": 2, "micro_batch_rows": 3}
    settings["tracking"] = {
        "uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "registered_model": "answers", "champion_metric": "test/f1",
    }  # fmt: skip
    done = run(settings)
    metrics = done.metrics
    for name in ("test", "validation", "test/teachers/pieces", "test/teachers/grams", "test/ensemble"):  # fmt: skip
        assert 0 <= metrics[f"{name}/exact_match"] <= metrics[f"{name}/f1"] <= 1, name
    assert metrics["test/kl/pieces"] > 0
    assert metrics["train/windows"] > 24
    history = (done.output_dir / "history.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("train/losses/2.hidden_mse", 0.0) for line in history) > 0
    rows = make_questions(9, 3, unanswerable=True)
    predictions = json.loads((done.output_dir / "predictions_test.json").read_text())
    assert list(predictions) == [row["id"] for row in rows]
    assert all(predictions[row["id"]] in row["context"] + " 😀 👨‍👩‍👧" for row in rows)
    AutoModelForQuestionAnswering.from_pretrained(done.student_path)
    assert AutoTokenizer.from_pretrained(done.student_path).model_max_length == 48
    assert "Exact match" in (done.output_dir / "report.html").read_text()
    served = mlflow.pyfunc.load_model(str(done.output_dir / "mlflow_model"))
    asked = [{"question": row["question"], "context": row["context"]} for row in rows[2:4]]
    assert served.predict(asked)["answer"].map(type).tolist() == [str, str]
    config = DistillConfig.model_validate(settings)
    wanted = Wanted((str(done.student_path),), teachers=True, ensemble=True, latency=False)
    found = evaluate(config, wanted, Ui())
    assert set(found.figures[0].metrics) == {
        "f1", "exact_match", "answerable_f1", "answerable_exact_match", "unanswerable_accuracy",
    }  # fmt: skip
    assert [one.role for one in found.figures] == ["model", "teacher", "teacher", "ensemble"]
    # The same windows as in the run, which fit the same three tokenizers.
    for name in ("f1", "exact_match"):
        assert found.figures[0].metrics[name] == pytest.approx(metrics[f"test/{name}"])
