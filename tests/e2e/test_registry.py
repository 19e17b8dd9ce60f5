"""The registry end to end: a tiny student goes in, and comes out by its name, elsewhere too."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill import cli
from raydistill.errors import ConfigError
from raydistill.tracking import (
    DATA_TAG,
    TEACHERS_TAG,
    compare_models,
    describe_model,
    list_models,
    open_tracker,
    promote,
    resolve_model,
    rollback,
    save_model_folder,
    show_model,
    sync,
)
from raydistill.tracking.connection import connect
from tests.e2e.conftest import run, settings_of

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
    with pytest.raises(ConfigError, match=r"models:/mr/4 must be better .* other data\..*--force"):
        promote("mr", 4, "champion", store_uri)
    moved = promote("mr", 4, "champion", store_uri, force=True)
    assert (moved.version, moved.previous) == (4, 3)
    assert describe_model("models:/mr@champion", store_uri).version == 4
    assert rollback("mr", "champion", store_uri).version == 3
    assert rollback("mr", "champion", store_uri).version == 1
    with pytest.raises(ConfigError, match=r"mr@champion has been version 1 only"):
        rollback("mr", "champion", store_uri)
    moves = [(m.before, m.after, m.how) for m in show_model("mr", store_uri).moves]
    assert moves == [
        (None, 1, "registered"), (1, 3, "registered"), (3, 4, "forced"), (4, 3, "rolled back"),
        (3, 1, "rolled back"),
    ]  # fmt: skip


def test_an_alias_that_others_moved_is_not_guessed_back(store_uri: str, tmp_path: Path) -> None:
    """MLflow's page moves aliases too; a rollback to a version that never was before it is no rollback."""
    client = connect(store_uri)
    client.create_registered_model("theirs too")
    for _ in range(3):
        client.create_model_version("theirs too", source=str(tmp_path))
    with pytest.raises(ConfigError, match="is no version, so it cannot go back"):
        rollback("theirs too", "champion", store_uri)
    client.set_registered_model_alias("theirs too", "champion", "1")
    with pytest.raises(ConfigError, match="is version 1, but raydistill moved it never"):
        rollback("theirs too", "champion", store_uri)
    assert "no rule is known" in promote("theirs too", 2, "champion", store_uri).why
    assert promote("theirs too", 2, "champion", store_uri).previous is None  # it is there already
    assert rollback("theirs too", "champion", store_uri).version == 1
    client.set_registered_model_alias("theirs too", "champion", "3")
    with pytest.raises(ConfigError, match="moved it last to version 1"):
        rollback("theirs too", "champion", store_uri)
    with pytest.raises(ConfigError, match="cannot have the alias 'not so'"):
        promote("theirs too", 2, "not so", store_uri)
    compared = compare_models("theirs too@champion", "models:/theirs too/2", store_uri)
    assert [note.split()[0] for note in compared.notes] == ["models:/theirs", "models:/theirs"]


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


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, store_uri: str
) -> Iterator[tuple[str, Callable[[], None]]]:
    """An address, and how to start MLflow's server there, with a database and an artifact store of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[bytes]] = []
    connect(store_uri)
    home = tmp_path_factory.mktemp("server")

    def start() -> None:
        if started:
            return
        # Tables made before: the server would need some seconds more for them.
        shutil.copy(store_uri.removeprefix("sqlite:///"), home / "mlflow.db")
        database = sqlite3.connect(home / "mlflow.db")
        with contextlib.closing(database), database:
            for table in ("registered_model_aliases", "registered_model_tags", "model_version_tags",
                          "model_versions", "registered_models"):  # fmt: skip
                database.execute(f"delete from {table}")
        command = f"-m mlflow server --host 127.0.0.1 --port {port} --workers 1".split()
        stores = [
            "--backend-store-uri", f"sqlite:///{home}/mlflow.db",
            "--artifacts-destination", str(home / "artifacts"),
        ]  # fmt: skip
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        started.append(_start([*command, *stores], home, environment))
        _await(port, started[0], home / "log")

    yield f"http://127.0.0.1:{port}", start
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(20)


def _start(command: list[str], home: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # MLflow looks for uvicorn on the path, where it is only if this environment is active.
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *command], stdout=log, stderr=log, cwd=home, start_new_session=True,
            env={**os.environ, "PATH": path, **environment},
        )  # fmt: skip


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(log.read_text())


def test_a_server_that_comes_later_gets_everything_once(
    server: tuple[str, Callable[[], None]], packed: Path, tmp_path: Path
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


@dataclass(frozen=True)
class Pupil:
    """A student in a server's registry, from a teacher and first weights that were there."""

    uri: str
    home: Path
    config: Path


@pytest.fixture(scope="module")
def pupil(
    server: tuple[str, Callable[[], None]],
    tiny: dict[str, Path],
    local_ray: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pupil:
    uri, start = server
    start()
    home = tmp_path_factory.mktemp("pupil")
    for name in ("wide", "student"):
        packed = save_model_folder(
            tiny[name], home / "packed" / name, task_kind="text_classification",
            labels=("negative", "positive"), text_columns=["text"], example={"text": "fine"},
        )  # fmt: skip
        _register(uri, home / "first" / name, packed, name, 0.5)
    settings = settings_of(tiny, home / "run", epochs=1)
    settings["teachers"] = {"wide": {"model": "models:/wide@champion", "num_cpus": 0.5}}
    settings["student"] |= {"model": "models:/student/1", "tokenizer": "models:/student@champion"}
    settings["ensemble"], settings["losses"] = {}, settings["losses"][:2]
    settings["tracking"] = {
        "registered_model": "pupil", "required": True,
        "promotion": {"better_by": 0.002, "metric": "test/accuracy"},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("RAYDISTILL_CACHE", str(home / "cache"))
        assert run(settings).model_uri == "models:/pupil/1"
    (home / "c.yaml").write_text(yaml.safe_dump(settings))
    return Pupil(uri, home, home / "c.yaml")


@pytest.fixture
def command(
    pupil: Pupil, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, list[str]]]:
    """The command line where the environment names the server: exit code, output, lines of complaint."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", pupil.uri)
    monkeypatch.setenv("RAYDISTILL_CACHE", str(pupil.home / "cache"))

    def command(*arguments: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        code = cli.run(lambda: cli.app(list(arguments)))
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return command


def test_a_student_says_where_it_came_from(pupil: Pupil) -> None:
    """An alias moves on; a year later nobody knows which teacher it stood for."""
    version = describe_model("models:/pupil@champion", pupil.uri)
    own = {key.removeprefix("raydistill."): text for key, text in version.lineage.items()}
    wide = json.loads(own["teacher.wide"])
    assert (wide["model"], wide["version"]) == ("models:/wide@champion", "models:/wide/1")
    assert wide["fingerprint"] == json.loads(own["teachers"])["wide"]
    assert json.loads(own["parent"])["version"] == "models:/student/1"
    assert json.loads(own["data.test"])["fingerprint"] == own["data_fingerprint"]
    assert json.loads(own["data.train"])["rows"] == 96
    assert {"test/accuracy", "validation/nll"} <= set(version.metrics)


def test_commands_compare_promote_and_take_back(
    pupil: Pupil, command: Callable[..., tuple[int, str, list[str]]], tmp_path: Path
) -> None:
    """What is in service is changed by people who see two lines of a terminal."""
    version = describe_model("models:/pupil/1", pupil.uri)
    accuracy = version.metrics["test/accuracy"]
    said: list[str] = []
    # A second version, a little better, but not by what its rule asks.
    with open_tracker(
        uri=None, experiment="e2e", run_name="r", folder=tmp_path, resume=False, tags={},
        say=said.append,
    ) as tracker:  # fmt: skip
        tracker.log_params({"run.seed": 6})
        tracker.register(
            pupil.home / "run" / "mlflow_model", "pupil", tags=dict(version.lineage),
            alias="champion", metric_name="test/accuracy", metric_value=accuracy + 0.001,
            greater_is_better=True, better_by=0.002,
        )  # fmt: skip
    assert "champion stays version 1" in said[0]
    code, out, err = command("models", "promote", "pupil", "2")
    assert (code, out, len(err)) == (2, "", 1)
    assert "not better than" in err[0]
    assert "by 0.002" in err[0]
    code, out, _ = command("models", "promote", "pupil", "2", "--force")
    assert (code, out.split(",")[0]) == (0, "pupil@champion is version 2 (was version 1)")
    code, out, _ = command("models", "compare", "pupil/1", "models:/pupil@champion")
    assert code == 0
    assert "+0.0010" in next(line for line in out.splitlines() if line.startswith("test/accuracy"))
    assert "  run.seed:\n    5\n    6\n" in out
    assert "teacher.wide: models:/wide@champion = models:/wide/1, fingerprint" in out
    code, out, _ = command("models", "rollback", "pupil")
    assert (code, out) == (0, "pupil@champion is version 1 again (was version 2)\n")
    code, out, err = command("models", "rollback", "pupil")
    assert (code, out, len(err)) == (2, "", 1)
    code, out, _ = command("models", "show", "pupil")
    assert code == 0
    assert "champion: version 2 -> version 1, rolled back, because version 2 was taken back" in out
    code, out, _ = command("models", "list")
    assert f"test/accuracy {accuracy:.4f}" in out
    code, out, _ = command("evaluate", str(pupil.config), "--model", "models:/pupil/1")
    assert json.loads(out)["test/accuracy"] == pytest.approx(accuracy)


def test_a_server_that_is_away_is_one_line(
    pupil: Pupil, command: Callable[..., tuple[int, str, list[str]]], tmp_path: Path
) -> None:
    """Before anything starts, and once, however many models come from it."""
    dead = "http://127.0.0.1:9"
    changes = ["--set", f"tracking.uri={dead}", "--set", "tracking.required=false"]
    code, out, err = command("train", str(pupil.config), *changes, "--output", str(tmp_path / "no"))
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"tracking.uri cannot be used, the server at {dead} does not answer")
    for words in ("list", "show pupil", "promote pupil 1", "rollback pupil", "compare a/1 b/1"):
        code, out, err = command("models", *words.split(), "--tracking-uri", dead)
        assert (code, out, len(err)) == (2, "", 1)
        assert f"{dead} does not answer" in err[0]
    code, out, err = command("sync", str(pupil.home / "run"), "--tracking-uri", dead)
    assert (code, out, len(err)) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("command")
def test_mlflow_serves_a_student(tmp_path: Path) -> None:
    """The other team has MLflow, a name and an alias."""
    texts = ["a lovely film", "dull"]
    expected = _loaded("models:/pupil@champion").predict(texts)
    served = _served("models:/pupil@champion", texts, tmp_path)
    assert [row["label"] for row in served] == list(expected["label"])
    for row, scores in zip(served, expected["scores"], strict=True):
        assert row["scores"] == pytest.approx(scores, abs=1e-5)
        assert row["score"] == max(row["scores"])


def _loaded(uri: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return mlflow.pyfunc.load_model(uri)


def _served(uri: str, texts: list[str], home: Path) -> list[dict[str, Any]]:
    """What `mlflow models serve` answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"-m mlflow models serve -m {uri} -p {port} --env-manager local".split()
    process = _start(command, home, {})
    try:
        _await(port, process, home / "log")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": texts}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            predictions: list[dict[str, Any]] = json.load(answer)["predictions"]
            return predictions
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(20)


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
