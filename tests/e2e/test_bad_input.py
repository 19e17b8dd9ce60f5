"""What a user may get wrong, through the real command: one line a fault, exit code 2, nothing left."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.cli import app, run
from tests.conftest import make_model, make_rows, write_rows

pytestmark = pytest.mark.e2e


@pytest.fixture
def settings(tiny) -> dict[str, Any]:
    return {
        "run": {"name": "tiny", "output_dir": "out"},
        "data": {"folder": str(tiny["data"])},
        "student": {"model": str(tiny["student"]), "max_tokens": 16},
        "teachers": {"wide": {"model": str(tiny["wide"])}, "deep": {"model": str(tiny["deep"])}},
        "losses": [{"kind": "cross_entropy"}, {"kind": "forward_kl"}],
    }


class Said:
    """Exit code and lines of a command, and what it left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.lines = err.splitlines()

    @property
    def paths(self) -> list[str]:
        return [line.split()[0] for line in self.lines]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def real(place: Path, *arguments: str) -> Said:
    """The command in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "raydistill", *arguments],
        cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def here(capsys, *arguments: str) -> Said:
    """The command in this process: the same code without seconds of imports."""
    capsys.readouterr()
    code = run(lambda: app(list(arguments)))
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def write(place: Path, settings: dict[str, Any]) -> str:
    (place / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return "c.yaml"


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != "c.yaml")


def test_many_faults_at_once_are_one_line_each(place, settings, tiny, tmp_path):
    """Hours in a queue for one fault at a time."""
    bad = tmp_path / "bad"
    bad.mkdir()
    write_rows(bad / "columns.jsonl", [{"txt": "a", "label": "negative"}])
    (bad / "empty.jsonl").touch()
    (bad / "latin.jsonl").write_bytes(
        '{"text": "caf\xe9", "label": "negative"}\n'.encode("latin-1")
    )
    shutil.copytree(tiny["deep"], bad / "pickled")
    (bad / "pickled" / "model.safetensors").rename(bad / "pickled" / "pytorch_model.bin")
    settings["data"] = {
        "train": [str(bad / "columns.jsonl"), str(bad / "latin.jsonl")],
        "validation": str(bad / "empty.jsonl"),
        "test": str(bad / "nope.jsonl"),
    }
    settings["task"] = {"labels": ["negative", "positive"]}
    settings["trainig"] = {"epochs": 1}
    settings["teachers"] |= {
        "three": {"model": str(make_model(bad / "three", labels=("a", "b", "c"))), "num_gpus": 64},
        "pickled": {"model": str(bad / "pickled")},
        "alias": {"model": "models:/nobody@champion"},
        "gone": {"model": str(bad / "gone")},
    }
    settings["losses"] += [
        {"kind": "forward_kl", "temperature": 0},
        {"kind": "forward_kl", "temprature": float("nan")},
        {"kind": "hidden_mse", "layers": {"deep": [[0, 5]], "wide": [[1, 1]]}},
    ]
    said = real(place, "train", write(place, settings))
    assert said.code == 2, said.err
    assert said.out == ""
    assert said.paths == [
        "data.train", "data.train", "data.validation", "data.test", "teachers.pickled.model",
        "teachers.alias.model", "teachers.gone.model", "teachers.three.model",
        "losses.2.temperature", "losses.3.temprature", "losses.4.projection",
        "losses.4.layers.deep.0.1", "trainig", "GPUs:",
    ]  # fmt: skip
    assert left(place) == []


def test_other_commands_refuse_alike(place, settings):
    """`check` that passes what `train` refuses is no check."""
    settings["tracking"] = {"tags": {"a": 1}}
    config = write(place, settings)
    for command in (["check", config], ["teach", config]):
        said = real(place, *command)
        assert (said.code, said.out) == (2, "")
        assert said.lines[0] == "tracking.tags.a must be text, got 1. Put it in quotes."
    assert left(place) == []


def test_evaluate_refuses_what_it_cannot_measure(place, settings, capsys, tmp_path):
    """Figures of the wrong rows or labels look like figures."""
    config = write(place, settings)
    three = str(make_model(tmp_path / "three", labels=("a", "b", "c")))
    for arguments, line in [
        (["--model", three], "--model The teacher answers 3 classes"),
        (["--model", "./gone"], "--model must be an existing folder"),
        (["--model", three, "--split", "tset"], "--split must be one of train"),
        (["--model", three, "--set", "data.test=nope.jsonl"], "data.test must be an existing file"),
        (["--model", three, "--set", "trainig.a=1"], "trainig is not known"),
    ]:
        said = here(capsys, "evaluate", config, *arguments)
        assert (said.code, said.out, len(said.lines)) == (2, "", 1), said.err
        assert said.err.startswith(line)
    assert left(place) == []


def test_teach_tells_all_that_does_not_fit_it(place, settings, capsys):
    """Its own rules must not hide the file that is missing."""
    settings["data"]["test"] = "nope.jsonl"
    said = here(capsys, "teach", write(place, settings))
    assert said.code == 2
    assert said.paths == ["data.test", "teachers", "losses.1", "tracking.registered_model"]
    assert left(place) == []


def test_registry_without_the_model_is_refused(place, settings, capsys):
    """A mistyped alias must not train with another teacher, nor make a database."""
    names = ["models:/nobody@champion", "models:/tutor@chmpion", "models:/tutor/9", "models:/tutor"]
    settings["teachers"] = {f"t{i}": {"model": name} for i, name in enumerate(names)}
    settings["tracking"] = {"uri": f"sqlite:///{place}/registry.db"}
    config = write(place, settings)
    said = here(capsys, "check", config)
    assert (said.code, said.paths) == (2, [f"teachers.t{i}.model" for i in range(4)])
    assert left(place) == []

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{place}/registry.db")
    client.create_registered_model("tutor")
    client.create_model_version("tutor", source=str(place))
    client.set_registered_model_alias("tutor", "champion", "1")
    before = left(place)
    said = here(capsys, "check", config)
    assert (said.code, said.paths) == (2, [f"teachers.t{i}.model" for i in range(4)])
    assert "Did you mean 'champion'?" in said.lines[1]
    assert "names version 9" in said.lines[2]
    assert set(left(place)) - set(before) <= {"registry.db-lock"}


def test_output_folder_of_another_run_is_refused(place, settings, capsys):
    """Hours of training would be gone."""
    from raydistill.config import DistillConfig, to_yaml
    from raydistill.output import OutputFolder
    from raydistill.prepare import prepare

    config = DistillConfig.model_validate(settings)
    prepared, _ = prepare(config)
    OutputFolder.of(config).begin(to_yaml(config), prepared.manifest)
    before = sorted((path, path.stat().st_mtime_ns) for path in place.rglob("*"))
    said = here(capsys, "train", write(place, settings))
    assert (said.code, said.paths) == (2, ["run.output_dir"])
    assert "--resume" in said.err
    said = here(
        capsys,
        "train",
        "c.yaml",
        "--resume",
        "--set",
        "losses.1.temperature=2",
        "--set",
        "run.seed=4",
    )
    assert (said.code, said.paths) == (2, ["run.seed", "losses.1.temperature"])
    rows = place.parent / "rows"
    rows.mkdir()
    write_rows(rows / "train.jsonl", make_rows(64, 8))
    said = here(capsys, "train", "c.yaml", "--resume", "--set", f"data.train={rows / 'train.jsonl'}",
                "--set", f"teachers.wide.model={settings['teachers']['deep']['model']}")  # fmt: skip
    assert (said.code, said.paths) == (2, ["data.train", "teachers.wide.weights"])
    now = sorted(
        (path, path.stat().st_mtime_ns) for path in place.rglob("*") if path.name != "c.yaml"
    )
    assert now == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "."], "is a folder"),
        (["train", "nope.yaml"], "nope.yaml does not exist"),
        (["train", "c.yaml", "--set", "run.seed"], "--set run.seed must look like section.name=value"),
        (["train", "c.yaml", "--set"], "requires an argument"),
        (["train", "c.yaml", "--set", "losses.7.weight=1"], "leads nowhere"),
        (["train", "c.yaml", "--outptu", "x"], "No such option"),
        (["train"], "Missing argument"),
        (["trian", "c.yaml"], "No such command"),
        (["models", "shwo"], "No such command"),
        (["evaluate", "c.yaml"], "--model is needed"),
        (["compare", "c.yaml", "a"], "Missing argument"),
        (["export", "c.yaml", "--to", "tflite"], "Invalid value for '--to'"),
        (["train", "c.yaml", "--output", "c.yaml"], "must be a folder"),
        (["train", "c.yaml", "--output", "it's here", "--set", "run.seed=-1"], "run.seed must be at least 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_odd_calls_are_refused_in_words(place, settings, capsys, arguments, said):
    """A slip of the hand must not end in a traceback."""
    write(place, settings)
    found = here(capsys, *arguments)
    assert found.code == 2, found.err
    assert said in found.err
    assert "Traceback" not in found.err
    assert left(place) == []


COMMANDS = {
    "cache": ["--set", "--output"],
    "check": ["--set", "--output"],
    "compare": ["--metric", "--split", "--resamples", "--seed", "--json", "--task", "--set"],
    "demo": ["--folder", "--full", "--seed"],
    "evaluate": [
        "--model",
        "--split",
        "--teachers",
        "--ensemble",
        "--no-latency",
        "--json",
        "--predictions",
        "--task",
        "--set",
    ],
    "export": ["--to", "--output", "--model", "--split", "--no-latency", "--task", "--set"],
    "import textbrewer": ["--output", "--teachers"],
    "losses": ["--markdown"],
    "models compare": ["FIRST", "SECOND", "--tracking-uri"],
    "models list": ["--tracking-uri"],
    "models promote": ["--alias", "--force", "--tracking-uri"],
    "models rollback": ["--alias", "--tracking-uri"],
    "models show": ["--tracking-uri"],
    "report": ["FOLDER"],
    "schema": [],
    "store list": ["--store"],
    "store prune": ["--store", "--max-bytes"],
    "store verify": ["--store"],
    "sync": ["--tracking-uri"],
    "teach": ["--set", "--output", "--resume"],
    "train": ["--set", "--output", "--resume"],
    "tune": ["--set", "--output", "--resume"],
}


@pytest.mark.parametrize("command", ["", "import", "models", "store", *COMMANDS])
def test_help_names_every_option(place, capsys, command):
    """An option that help does not name is not found."""
    found = here(capsys, *command.split(), "--help")
    assert found.code == 0
    below = f"{command} " if command else ""
    names = {word.removeprefix(below).split()[0] for word in COMMANDS if word.startswith(below)}
    named = COMMANDS.get(command, sorted(names))
    assert [word for word in named if word.lower() not in found.out.lower()] == []


def test_no_command_is_forgotten_here():
    """A new command without help, or with tracebacks, would go unnoticed."""
    import typer

    top = typer.main.get_command(app)
    names = []
    for name, command in top.commands.items():
        below = getattr(command, "commands", None)
        names += [f"{name} {inner}" for inner in below] if below else [name]
    assert sorted(names) == sorted(COMMANDS)


def test_schema_command_prints_the_schema(place):
    """Editors are fed from it."""
    said = real(place, "schema")
    assert said.code == 0
    assert json.loads(said.out)["title"] == "raydistill configuration"


def test_a_store_that_cannot_be_is_refused(place, settings, capsys):
    """Found at the end of a run, its answers would be lost, or another's files taken for a store."""
    settings |= {"run": {"name": "store"}, "store": {"segment_bytes": 0}}
    said = here(capsys, "check", write(place, settings))
    assert (said.code, said.paths) == (2, ["run.name", "store.segment_bytes"])
    del settings["store"]
    said = here(capsys, "check", write(place, settings))
    assert (said.code, said.paths) == (2, ["run.name"])
    settings["store"] = {"path": "foo://bar"}
    said = here(capsys, "check", write(place, settings))
    assert (said.code, said.paths) == (2, ["store.path"])
    settings |= {"store": {}, "teachers": {}, "losses": [{"kind": "cross_entropy"}]}
    said = here(capsys, "cache", write(place, settings))
    assert (said.code, said.paths) == (2, ["teachers"])
    assert left(place) == []


def test_an_interruption_says_how_to_go_on(place, settings, capsys, monkeypatch):
    """`cache` has no --resume, and a user who is told so looks for it in vain."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raydistill.cache.cache", interrupted)
    said = here(capsys, "cache", write(place, settings))
    assert (said.code, said.lines[-1]) == (
        130,
        "interrupted; what was written is in the store; the same command goes on",
    )
    monkeypatch.setattr("raydistill.run.distill", interrupted)
    said = here(capsys, "train", write(place, settings))
    assert (said.code, said.lines[-1]) == (130, "interrupted; continue with --resume")
