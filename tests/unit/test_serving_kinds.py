"""A registered student of every kind of task, asked as `mlflow models serve` asks it."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from raydistill.config.task import TaskKind, TaskSection
from raydistill.data import UNIT
from raydistill.record import served_example
from raydistill.tracking import packaging, save_model_folder
from tests.conftest import make_model
from tests.unit.windows import make_answerer, pieces
from tests.unit.words import TAGS, make_tagger, word_piece

_LABELS = ("negative", "positive")
_ASKED = {"question": "Who went?", "context": "Ada went to Paris."}
_ANSWERING = {
    "max_answer_units": 6,
    "null_threshold": 0.0,
    "unanswerable": False,
    "overlap": 0.33,
    "unit": UNIT,
}
_PAIR = {"query": "the film", "passage": "a good film"}
# By kind: labels, an example, requests of other forms, and the columns of an answer.
SERVED: dict[str, tuple[tuple[str, ...], dict[str, Any], list[Any], list[str]]] = {
    "text_classification": (
        _LABELS, {"text": "a good film"}, [["a good film"], "a good film"],
        ["label", "score", "scores"],
    ),
    "multi_label_classification": (
        _LABELS, {"text": "a good film"}, [["a good film"]], ["labels", "scores"],
    ),
    "regression": (("stars",), {"text": "a good film"}, [["a good film"]], ["stars"]),
    "reranking": (("score",), _PAIR, [[_PAIR]], ["score"]),
    "question_answering": (
        ("start", "end"), _ASKED, [[_ASKED]], ["answer", "score", "start", "end"],
    ),
    "tagging": (
        tuple(TAGS), {"words": ["Ada", "saw"]}, [[{"words": "Ada saw"}]],
        ["words", "tags", "scores", "spans"],
    ),
}  # fmt: skip


def test_no_kind_of_task_is_forgotten() -> None:
    """A kind that can be trained and not be served is found out in production."""
    elsewhere = {"retrieval"}  # whose answer depends on what is asked: test_serving_embeddings
    assert set(SERVED) | elsewhere == set(get_args(TaskKind))


@pytest.mark.parametrize("kind", SERVED)
def test_every_kind_answers_its_own_example(kind: str, tmp_path: Path) -> None:
    """What MLflow's page of a model shows as a request must be one that works."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    labels, example, others, columns = SERVED[kind]
    if kind == "tagging":
        student = make_tagger(tmp_path / "student", word_piece(), seed=5)
    elif kind == "question_answering":
        student = make_answerer(tmp_path / "student", pieces(), seed=5)
    else:
        student = make_model(tmp_path / "student", layers=1, width=16, labels=labels)
    packed = save_model_folder(
        student, tmp_path / "model", task_kind=kind, labels=labels, text_columns=list(example),
        example=example, answering=_ANSWERING if kind == "question_answering" else None,
    )  # fmt: skip
    assert "+" not in (packed / "requirements.txt").read_text()
    model = mlflow.pyfunc.load_model(str(packed))
    signature = model.metadata.signature
    assert signature.outputs.input_names() == columns

    def ask(body: str) -> list[dict[str, Any]]:
        done = invocations(body, "application/json", model, signature.inputs)
        assert done.status == 200, done.response
        return json.loads(done.response)["predictions"]

    (answer,) = ask((packed / "serving_input_example.json").read_text())
    assert list(answer) == columns
    for inputs in others:
        assert ask(json.dumps({"inputs": inputs})) == [answer]
    scores = [
        n for value in answer.values() for n in (value if isinstance(value, list) else [value])
    ]
    assert any(isinstance(number, float) for number in scores)


@pytest.mark.parametrize(
    ("task", "row", "example"),
    [
        ({}, {"text": "a", "label": 0}, {"text": "a"}),
        ({"text": "review"}, {"text": "a", "label": 0}, {"review": "a"}),
        (
            {"kind": "regression", "text": "premise", "text_pair": "hypothesis"},
            {"text": "a", "text_pair": "b", "label": 0.5},
            {"premise": "a", "hypothesis": "b"},
        ),
        ({"kind": "reranking"}, {"text": "a", "text_pair": "b"}, {"query": "a", "passage": "b"}),
        (
            {"kind": "question_answering"},
            {"text": "a", "text_pair": "b"},
            {"question": "a", "context": "b"},
        ),
        ({"kind": "tagging", "words": "w"}, {"words": ["a", "b"]}, {"words": ["a", "b"]}),
    ],
)
def test_requests_have_the_columns_that_the_task_names(
    task: dict[str, Any], row: dict[str, Any], example: dict[str, Any]
) -> None:
    """Whoever trained on `premise` and `hypothesis` would be refused for want of a `text`."""
    section: TaskSection = TypeAdapter(TaskSection).validate_python(task)
    assert (
        served_example(section, pa.table({name: [cell] for name, cell in row.items()})) == example
    )


def test_requirements_are_what_pypi_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build for CPUs is pinned as torch==2.13.0+cpu, and nobody can install the model elsewhere."""
    monkeypatch.setattr(
        importlib.metadata, "version", {"torch": "2.13.0+cpu", "pandas": "2.3.1"}.get
    )
    assert packaging._requirements("torch", "pandas") == ["torch==2.13.0", "pandas==2.3.1"]
