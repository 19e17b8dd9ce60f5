"""The registry end to end: a tiny student goes in, and comes out by its name, elsewhere too."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import ConfigError
from raydistill.tracking import (
    DATA_TAG,
    TEACHERS_TAG,
    describe_model,
    list_models,
    open_tracker,
    promote,
    resolve_model,
    save_model_folder,
    show_model,
    sync,
)
from raydistill.tracking.connection import connect

pytestmark = pytest.mark.e2e
_LABELS = ["bad", "good"]
_PREDICT = """
import json, sys, mlflow, pandas as pd
uri, name, rows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(name)
answers = []
for kind, value in rows:
    rows = {"frame": pd.DataFrame, "no rows": lambda v: pd.DataFrame(v)[:0]}.get(kind)
    found = model.predict(rows(value) if rows else value)
    answers.append({"columns": list(found.columns), "rows": found.to_dict("records")})
assert "raydistill" not in sys.modules
print("ANSWER" + json.dumps(answers))
"""


def _save_tiny(folder: Path, seed: int, num_labels: int = 2) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "fine", "dull", "very"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        num_labels=num_labels,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_tiny(tmp_path_factory.mktemp("student"), seed=1)


@pytest.fixture(scope="module")
def packed(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_folder(
        student,
        tmp_path_factory.mktemp("packed") / "model",
        task_kind="text_classification",
        labels=_LABELS,
        text_columns=["text"],
        example={"text": "a fine film"},
    )


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def _register(
    uri: str, folder: Path, packed: Path, name: str, accuracy: float, *, data: str = "d1"
) -> tuple[str | None, list[str]]:
    said: list[str] = []
    with open_tracker(
        uri=uri,
        experiment="e2e",
        run_name="r",
        folder=folder,
        resume=False,
        tags={},
        say=said.append,
    ) as tracker:
        model_uri = tracker.register(
            packed,
            name,
            tags={DATA_TAG: data, TEACHERS_TAG: '{"wide": "abc"}'},
            alias="champion",
            metric_name="test/accuracy",
            metric_value=accuracy,
            greater_is_better=True,
        )
    assert model_uri == tracker.model_uri
    return model_uri, said


def _predict(uri: str, name: str, rows: list[tuple[str, Any]], cwd: Path) -> list[dict[str, Any]]:
    """In a process that cannot import raydistill: elsewhere, and without the caller's paths."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", _PREDICT, uri, name, json.dumps(rows)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout.split("ANSWER")[1])
    return answers


def test_champion_moves_only_to_the_better_version_and_resolves(
    store_uri: str, packed: Path, student: Path, tmp_path: Path
) -> None:
    """Whoever loads models:/name@champion must get the best, and know where it came from."""
    first, said_first = _register(store_uri, tmp_path / "1", packed, "mr", 0.8)
    second, said_second = _register(store_uri, tmp_path / "2", packed, "mr", 0.7)
    third, said_third = _register(store_uri, tmp_path / "3", packed, "mr", 0.9)
    _, said_fourth = _register(store_uri, tmp_path / "4", packed, "mr", 0.99, data="d2")
    assert (first, second, third) == ("models:/mr/1", "models:/mr/2", "models:/mr/3")
    assert "it is now champion, because there was none" in said_first[0]
    assert "champion stays version 1, because test/accuracy 0.7 is not better" in said_second[0]
    assert "it is now champion, because test/accuracy 0.9 is better than 0.8" in said_third[0]
    assert "other data" in said_fourth[0]

    found = resolve_model("models:/mr@champion", store_uri, cache=tmp_path / "cache")
    assert (found.name, found.version) == ("mr", 3)
    assert found.tags[TEACHERS_TAG] == '{"wide": "abc"}'
    assert (found.folder / "model.safetensors").read_bytes() == (
        student / "model.safetensors"
    ).read_bytes()
    assert (found.folder / "tokenizer_config.json").exists()
    again = resolve_model("models:/mr/3", store_uri, cache=tmp_path / "cache")
    assert again.folder == found.folder

    details = show_model("mr", store_uri)
    assert details.aliases == {"champion": 3}
    assert [version.version for version in details.versions] == [4, 3, 2, 1]
    assert details.versions[1].aliases == ("champion",)
    assert details.versions[1].metrics == {"test/accuracy": 0.9}
    assert details.versions[1].lineage[DATA_TAG] == "d1"
    assert details.versions[1].run_id == found.run_id
    assert [model.name for model in list_models(store_uri)] == ["mr"]
    moved = promote("mr", 4, "champion", store_uri)
    assert (moved.version, moved.previous) == (4, 3)
    assert describe_model("models:/mr@champion", store_uri).version == 4


def test_what_does_not_exist_is_named_with_what_does(
    store_uri: str, packed: Path, tmp_path: Path
) -> None:
    """A typing error must end in one line that shows the right name."""
    _register(store_uri, tmp_path / "1", packed, "reviews", 0.8)
    path = "teachers.a.model"
    with pytest.raises(ConfigError, match=r"teachers\.a\.model names .* mean 'reviews'\?"):
        describe_model("models:/revews@champion", store_uri, path=path)
    with pytest.raises(ConfigError, match=r"champion \(version 1\)\. Did you mean 'champion'\?"):
        resolve_model("models:/reviews@champoin", store_uri, path=path)
    with pytest.raises(ConfigError, match=r"version 7 .* Versions there: 1\. Aliases there: cham"):
        describe_model("models:/reviews/7", store_uri, path=path)
    with pytest.raises(ConfigError, match=r"must be models:/name@alias or"):
        describe_model("models:/reviews", store_uri, path=path)
    with pytest.raises(ConfigError, match="does not answer"):
        describe_model("models:/reviews/1", "http://127.0.0.1:9", path=path)
    with pytest.raises(ConfigError, match="there is no database"):
        describe_model("models:/reviews/1", f"sqlite:///{tmp_path}/none.db", path=path)
    assert not (tmp_path / "none.db").exists()


def test_a_registered_model_predicts_without_raydistill(
    store_uri: str, packed: Path, tmp_path: Path
) -> None:
    """Who serves the model has MLflow and Transformers, and nothing of ours."""
    _register(store_uri, tmp_path / "1", packed, "served", 0.8)
    texts = ["a fine film", "dull", *["very " * 40] * 40]
    rows = [
        ("frame", {"text": texts}),
        ("list", texts),
        ("dict", {"text": texts}),
        ("text", "dull"),
        ("no rows", {"text": texts}),
    ]
    frame, listed, columns, single, empty = _predict(store_uri, "models:/served/1", rows, tmp_path)
    assert frame["columns"] == ["label", "score", "scores"]
    assert len(frame["rows"]) == 42
    for row in frame["rows"]:
        assert row["label"] == _LABELS[row["scores"].index(max(row["scores"]))]
        assert row["score"] == max(row["scores"])
        assert sum(row["scores"]) == pytest.approx(1)
    assert listed == frame
    assert columns == frame
    assert single["rows"][0]["scores"] == pytest.approx(frame["rows"][1]["scores"], abs=1e-6)
    assert empty == {"columns": ["label", "score", "scores"], "rows": []}


def test_a_network_predicts_without_raydistill(
    student: Path, store_uri: str, tmp_path: Path
) -> None:
    """Its code is no part of transformers: it must travel with the model, and run unasked."""
    import torch
    from transformers import AutoTokenizer

    from raydistill.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification

    torch.manual_seed(0)
    shape = {"vocab_size": 9, "embedding_size": 4, "cell_size": 4, "pad_token_id": 0}
    model = RecurrentForSequenceClassification(RecurrentConfig(**shape)).eval()
    model.save_pretrained(tmp_path / "lstm")
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.save_pretrained(tmp_path / "lstm")
    packed = save_model_folder(
        tmp_path / "lstm", tmp_path / "model", task_kind="text_classification", labels=_LABELS,
        text_columns=["text"], example={"text": "a fine film"},
    )  # fmt: skip
    (answer,) = _predict(store_uri, str(packed), [("list", ["a film", "dull"])], tmp_path)
    with torch.inference_mode():
        inputs = tokenizer(["a film", "dull"], padding=True, return_tensors="pt")
        expected = model(**inputs).logits.softmax(-1)
    scores = torch.tensor([row["scores"] for row in answer["rows"]])
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)


def test_pairs_of_texts_keep_their_order(student: Path, tmp_path: Path) -> None:
    """Premise and hypothesis exchanged is another question."""
    import mlflow.pyfunc
    import pandas as pd

    packed = save_model_folder(
        student,
        tmp_path / "model",
        task_kind="text_pair",
        labels=_LABELS,
        text_columns=["premise", "hypothesis"],
        example={"premise": "a film", "hypothesis": "fine"},
    )
    model = mlflow.pyfunc.load_model(str(packed))
    pair = pd.DataFrame({"premise": ["a film"], "hypothesis": ["dull"]}, index=[5])
    straight = model.predict(pair)
    assert list(straight.index) == [5]
    assert model.predict(pair[["hypothesis", "premise"]])["score"][5] == straight["score"][5]
    exchanged = model.predict(pair.set_axis(["hypothesis", "premise"], axis=1))
    assert exchanged["scores"][5] != straight["scores"][5]
    assert model.predict({"premise": "a film", "hypothesis": "dull"})["score"][0] == pytest.approx(
        straight["score"][5]
    )
    assert model.metadata.signature.inputs.input_names() == ["premise", "hypothesis"]
    assert any(line.startswith("torch==") for line in (packed / "requirements.txt").open())
    assert (packed / "input_example.json").exists()


def test_a_frame_without_the_text_column_is_refused(packed: Path) -> None:
    """The column that happens to be first must not be classified in its place."""
    import mlflow.pyfunc
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(packed))
    with pytest.raises(ValueError, match="reads the columns text"):
        model.predict(pd.DataFrame({"id": ["17"], "text": ["fine"]}))


def test_a_model_of_mlflow_transformers_resolves(
    store_uri: str, student: Path, tmp_path: Path
) -> None:
    """A teacher that another team registered with MLflow's own flavour is a teacher, too."""
    import mlflow
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    mlflow.set_tracking_uri(store_uri)
    mlflow.create_experiment("other team", artifact_location=(tmp_path / "files").as_uri())
    mlflow.set_experiment("other team")
    with mlflow.start_run():
        mlflow.transformers.log_model(
            {
                "model": AutoModelForSequenceClassification.from_pretrained(student),
                "tokenizer": AutoTokenizer.from_pretrained(student),
            },
            name="model",
            task="text-classification",
            registered_model_name="theirs",
            pip_requirements=["transformers"],
        )
    found = resolve_model("models:/theirs/1", store_uri, cache=tmp_path)
    AutoModelForSequenceClassification.from_pretrained(found.folder)
    assert AutoTokenizer.from_pretrained(found.folder)("a film")["input_ids"] == [2, 4, 5, 3]


@pytest.fixture
def server(tmp_path: Path, store_uri: str) -> Iterator[tuple[str, Any]]:
    """An address, and how to start MLflow's server there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    connect(store_uri)

    def start() -> None:
        home = tmp_path / "server"
        home.mkdir()
        # Tables made before: the server would need some seconds more for them.
        shutil.copy(store_uri.removeprefix("sqlite:///"), home / "mlflow.db")
        command = f"-m mlflow server --host 127.0.0.1 --port {port} --workers 1".split()
        with (home / "log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        *command,
                        "--backend-store-uri",
                        f"sqlite:///{home}/mlflow.db",
                        "--artifacts-destination",
                        str(home / "artifacts"),
                    ],
                    stdout=log,
                    stderr=log,
                    cwd=home,
                    start_new_session=True,
                    env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                )
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        raise TimeoutError((home / "log").read_text())

    yield uri, start
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(20)


def test_a_server_that_comes_later_gets_everything_once(
    server: tuple[str, Any], packed: Path, tmp_path: Path
) -> None:
    """What a run recorded while the server was away must arrive, registration included, once."""
    uri, start = server
    folder = tmp_path / "run"
    model_uri, said = _register(uri, folder, packed, "late", 0.8)
    assert model_uri is None
    assert len(said) == 1
    start()
    result = sync(folder, said.append)
    assert (result.remaining, result.model_uri) == (0, "models:/late/1"), said
    assert sync(folder, said.append).delivered == 0

    # As if the process had died before it wrote its position: the very same is sent again.
    (folder / "tracking" / "position.json").unlink()
    again = sync(folder, said.append)
    assert (again.run_id, again.model_uri) == (result.run_id, "models:/late/1")
    details = show_model("late", uri)
    assert [version.version for version in details.versions] == [1]
    assert details.aliases == {"champion": 1}
    found = resolve_model("models:/late@champion", uri, cache=tmp_path / "cache")
    assert found.run_id == result.run_id
    live, _ = _register(uri, tmp_path / "live", packed, "late", 0.9)
    assert live == "models:/late/2"
    assert describe_model("models:/late@champion", uri).version == 2


def test_mlflow_is_silent(tmp_path: Path) -> None:
    """A run's own lines drown in migrations and links otherwise."""
    script = (
        "from pathlib import Path; from raydistill.tracking import open_tracker\n"
        "t = open_tracker(uri=None, experiment='e', run_name='r', folder=Path('run'), resume=False,"
        " tags={}, say=print)\n"
        "t.log_artifact(Path('x.txt'))\n"
        "t.finish()"
    )
    (tmp_path / "x.txt").write_text("x")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "mlflow.db").is_file()
    assert len(list((tmp_path / "mlartifacts").glob("*/artifacts/x.txt"))) == 1
