"""README.md of a student's folder: what Hugging Face reads, and nothing that the run does not know."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from raydistill.card import write_card
from raydistill.config import DistillConfig
from raydistill.config.data import DataSection
from raydistill.export import export_student
from raydistill.models import ModelSource, tokenize_words
from raydistill.models.licences import Licences
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, prepare
from raydistill.teachers import LocalTeacher, TeacherDescription, TeacherSettings
from raydistill.training.checkpoint import save_module
from raydistill.training.student import make_student, make_tokenizer
from tests.conftest import make_model, two_teachers, write_rows
from tests.unit.test_evaluate_kinds import settings_of
from tests.unit.words import byte_level, make_tagger

METRICS = {
    "test/accuracy": 0.75, "test/macro_f1": 0.7, "test/nll": 0.5, "test/ece": 0.1,
    "validation/accuracy": 0.8, "test/teachers/wide/accuracy": 0.9, "test/ensemble/accuracy": 0.95,
    "train/samples_per_s": 123.4,
}  # fmt: skip


def prepared_run(settings: dict[str, Any]) -> tuple[OutputFolder, Prepared]:
    config = DistillConfig.model_validate(settings)
    prepared, faults = prepare(config)
    assert prepared is not None, faults
    return OutputFolder.of(config), prepared


def description(folder: Path) -> TeacherDescription:
    source = ModelSource(str(folder), str(folder), str(folder))
    return LocalTeacher(TeacherSettings("t", source, "float32", max_tokens=16, batch_rows=8)).facts


@pytest.fixture
def card(tiny: dict[str, Path], tmp_path: Path) -> ModelCard:
    settings = two_teachers(tiny, tmp_path)
    licensed = make_model(tmp_path / "secret" / "licensed", seed=7)
    (licensed / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    settings["teachers"]["wide"]["model"] = str(licensed)
    folder, prepared = prepared_run(settings)
    make_model(folder.student)
    found = {"wide": description(licensed), "deep": description(tiny["deep"])}
    write_card(folder, prepared, METRICS, found)
    before = (folder.student / "README.md").read_bytes()
    write_card(folder, prepared, METRICS, found)
    assert (folder.student / "README.md").read_bytes() == before  # equal runs, equal cards
    return ModelCard.load(folder.student / "README.md")


def test_the_front_matter_is_what_hugging_face_reads(card: ModelCard) -> None:
    """The hub shows figures, and finds a model by its task, only from there."""
    data = card.data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert data.model_name == "tiny"
    results = {(r.dataset_split, r.metric_type): r.metric_value for r in data.eval_results}
    assert results == {
        ("test", "accuracy"): 0.75, ("test", "macro_f1"): 0.7, ("test", "nll"): 0.5, ("test", "ece"): 0.1,
        ("validation", "accuracy"): 0.8,
    }  # fmt: skip
    assert data.license is None  # the student's own weights state none


def test_the_text_tells_data_teachers_figures_and_licences(card: ModelCard, tmp_path: Path, tiny: dict[str, Path]) -> None:  # fmt: skip
    """Who gets the folder must know what it was made of, without learning whose machine that was."""
    text = card.text
    assert "| train | data/train.jsonl | 96 |" in text
    assert "| wide | `licensed` |" in text
    assert [line.rstrip(" |").rpartition("| ")[2] for line in text.splitlines() if line.startswith(("| wide ", "| deep "))] == ["mit", "not stated"]  # fmt: skip
    assert "| test | student | 0.7500 | 0.7000 | 0.5000 | 0.1000 |" in text
    assert "| test | teacher wide | 0.9000 | – | – | – |" in text
    assert "| test | teachers together | 0.9500 |" in text
    assert "AutoModelForSequenceClassification.from_pretrained" in text
    assert "trust_remote_code" not in text
    assert str(tmp_path) not in text
    assert str(tiny["data"].parent) not in text
    assert "123" not in text.replace("0123", "")  # speeds are of this machine


PAIRED = [
    {"text": "good film", "second": "great plot", "label": "same"},
    {"text": "bad film", "second": "great plot", "label": "other"},
    {"text": "dull end", "second": "bad cast", "label": "same"},
]


def settings_for(student: str, folder: Path, tiny: dict[str, Path]) -> dict[str, Any]:
    """A sound run with a student of this sort."""
    if student in RECURRENT:
        return two_teachers(tiny, folder) | {"student": {"max_tokens": 16, **RECURRENT[student](tiny)}}  # fmt: skip
    if student == "pairs":
        (folder / "pairs").mkdir()
        write_rows(folder / "pairs" / "train.jsonl", PAIRED)
        return {
            "run": {"name": student, "output_dir": str(folder / "out")},
            "data": {"folder": str(folder / "pairs")},
            "task": {"kind": "text_classification", "text_pair": "second"},
            "student": {"model": str(tiny["student"]), "max_tokens": 16},
            "losses": [{"kind": "cross_entropy"}],
        }
    if student == "text_classification":
        return two_teachers(tiny, folder)
    settings = settings_of("tagging" if student == "bytes" else student, folder)
    if student == "bytes":
        model = make_tagger(folder / "bytes", byte_level())
        settings |= {"student": {"model": str(model), "max_tokens": 40}, "teachers": {}, "ensemble": {}}  # fmt: skip
        settings["losses"] = [{"kind": "cross_entropy"}]
    return settings


RECURRENT: dict[str, Callable[[dict[str, Path]], dict[str, Any]]] = {
    "lstm": lambda tiny: {"network": {"kind": "lstm", "hidden_size": 8, "embedding_size": 12}, "tokenizer": str(tiny["student"])},
    "words": lambda _: {"network": {"kind": "average", "embeddings": {"kind": "words"}}},
}  # fmt: skip


def written_out(settings: dict[str, Any]) -> tuple[Path, Prepared, ModelCard]:
    """A student's folder as a run leaves it."""
    folder, prepared = prepared_run(settings)
    student = make_student(prepared.student, make_tokenizer(prepared.student))
    folder.path.mkdir(parents=True, exist_ok=True)
    save_module(student, folder.path / "best.safetensors")
    export_student(prepared, folder.path, folder.student)
    write_card(folder, prepared, {}, {})
    return folder.student, prepared, ModelCard.load(folder.student / "README.md")


def recipe_of(card: ModelCard, folder: Path) -> str:
    return card.text.split("```python\n")[1].split("```")[0].replace("FOLDER", str(folder))


@pytest.mark.parametrize(
    "student",
    [
        "text_classification", "pairs", "multi_label_classification", "regression", "tagging", "bytes",
        "question_answering", "reranking", "retrieval",
    ],
)  # fmt: skip
def test_the_recipe_for_loading_works(student: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    """A recipe that nobody ran fails at the first who does, and one that reads other rows misleads."""
    if student == "retrieval":
        pytest.importorskip("sentence_transformers")
    folder, prepared, card = written_out(settings_for(student, tmp_path, tiny))
    names: dict[str, Any] = {}
    exec(recipe_of(card, folder), names)
    library = "sentence-transformers" if student == "retrieval" else "transformers"
    assert card.data.library_name == library
    if student == "retrieval":
        assert names["queries"].shape == names["passages"].shape == (1, 16)
        assert names["scores"].shape == (1, 1)
        return
    inputs, size = names["inputs"], len(prepared.labels)
    two = student in ("pairs", "question_answering", "reranking")
    assert {0, 1} <= set(inputs.sequence_ids()) if two else 1 not in inputs.sequence_ids()
    if student == "question_answering":
        assert names["start_logits"].shape == names["end_logits"].shape == inputs["input_ids"].shape
    elif student in ("tagging", "bytes"):
        assert set(inputs.word_ids()) - {None} == {0, 1, 2, 3}
        expected = tokenize_words(names["tokenizer"], [["words", "of", "a", "row"]], 40)[0]
        assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
        assert names["logits"].shape == (*inputs["input_ids"].shape, size)
    else:
        assert names["logits"].shape == (1, size)


@pytest.mark.parametrize("student", sorted(RECURRENT))
def test_the_recipe_for_recurrent_students_works_without_raydistill(
    student: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    """In the process that made it, a model is known that nobody else knows."""
    folder, _, card = written_out(settings_for(student, tmp_path, tiny))
    script = tmp_path / "load.py"
    check = "import sys\nassert 'raydistill' not in sys.modules\nassert logits.shape == (1, 2)\n"
    script.write_text(recipe_of(card, folder) + check, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=tmp_path,
        env={**environment, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_terms_of_models_and_data_of_the_hub_are_told(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets the folder must keep to terms that a folder on the disk does not hold."""
    asked: list[tuple[str, str | None]] = []

    def of_data(_: Licences, dataset: str, revision: str | None) -> str:
        asked.append((dataset, revision))
        return "cc-by-4.0"

    monkeypatch.setattr(Licences, "of_data", of_data)
    monkeypatch.setattr(Licences, "of_model", lambda _, source: "mit")
    folder, prepared = prepared_run(two_teachers(tiny, tmp_path))
    make_model(folder.student)
    data = DataSection(dataset="someone/reviews", revision="v2")
    prepared = replace(prepared, config=prepared.config.model_copy(update={"data": data}))
    write_card(folder, prepared, {}, {"wide": description(tiny["wide"])})
    card = ModelCard.load(folder.student / "README.md")
    assert asked == [("someone/reviews", "v2")]
    assert card.data.license == "mit"
    assert card.text.split("## Licence\n\n")[1].splitlines()[:3] == [
        "- The weights the student began with: `student`, mit.",
        "- Teacher wide: mit.",
        "- Data: cc-by-4.0.",
    ]


def test_a_model_trained_alone_from_nothing_says_so(tiny: dict[str, Path], tmp_path: Path) -> None:
    settings = two_teachers(tiny, tmp_path)
    settings |= {"teachers": {}, "losses": [{"kind": "cross_entropy"}]}
    shape = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    settings["student"] = {"from_config": shape, "tokenizer": str(tiny["student"]), "max_tokens": 16}  # fmt: skip
    folder, prepared = prepared_run(settings)
    make_model(folder.student)
    write_card(folder, prepared, {}, {})
    text = ModelCard.load(folder.student / "README.md").text
    assert "trained by raydistill" in text
    assert "none, they were random" in text
    assert "Teachers" not in text
    assert "Nothing was measured" in text
