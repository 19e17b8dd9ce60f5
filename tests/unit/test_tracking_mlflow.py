"""The tracker against a real MLflow database, and against a server that is not there."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import TrackingError
from raydistill.tracking import DatasetUse, Tracker, open_tracker, pending_journals, sync


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: making it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="session")
def client(store_uri: str) -> Any:
    from raydistill.tracking.connection import connect

    return connect(store_uri)


@pytest.fixture
def dead_uri() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def begin(tmp_path: Path, store_uri: str) -> Callable[..., Tracker]:
    def begin(**changes: Any) -> Tracker:
        given: dict[str, Any] = {
            "uri": store_uri,
            "experiment": "unit",
            "run_name": "a run",
            "folder": tmp_path / "run",
            "resume": False,
            "tags": {"raydistill.kind": "test"},
            "say": lambda line: None,
        }
        return open_tracker(**{**given, **changes})

    return begin


def test_tracker_shows_a_run_in_mlflow(
    begin: Callable[..., Tracker], client: Any, tmp_path: Path, store_uri: str
) -> None:
    """What a user looks for on MLflow's page of a run is there."""
    with begin() as tracker:
        (tmp_path / "run" / "report.html").write_text("<html>")
        (tmp_path / "run" / "plots").mkdir()
        (tmp_path / "run" / "plots" / "a.svg").write_text("<svg>")
        tracker.log_params({f"p{i}": i for i in range(120)} | {"long": "x" * 7000})
        for step in range(3):
            tracker.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
        tracker.log_metric_points([("test/accuracy", 0.5, 7, 1234)])
        uses = [DatasetUse("mr", "f" * 64, "/data/mr.csv", "training", num_rows=10)]
        tracker.log_datasets([*uses, DatasetUse("mr-test", "e" * 64, "/data/t.csv", "test")])
        tracker.set_tags({"note": "late"})
        tracker.log_artifact(tmp_path / "run" / "report.html")
        tracker.log_artifacts(tmp_path / "run" / "plots", "plots")
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "a run"
    assert len(run.data.params) == 121
    assert len(run.data.params["long"]) == 6000
    assert run.data.tags["raydistill.kind"] == "test"
    assert run.data.tags["note"] == "late"
    assert "mlflow.source.name" in run.data.tags
    history = client.get_metric_history(tracker.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    accuracy = client.get_metric_history(tracker.run_id, "test/accuracy")[0]
    assert (accuracy.step, accuracy.timestamp) == (7, 1234)
    inputs = {use.dataset.name: use.tags[0].value for use in run.inputs.dataset_inputs}
    assert inputs == {"mr": "training", "mr-test": "test"}
    assert {file.path for file in client.list_artifacts(tracker.run_id)} == {"plots", "report.html"}
    artifacts = Path(store_uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert (artifacts / str(tracker.run_id) / "artifacts" / "plots" / "a.svg").is_file()
    assert pending_journals(tmp_path) == []


def test_tracker_marks_how_a_run_ended(
    begin: Callable[..., Tracker], client: Any, tmp_path: Path
) -> None:
    """A run that failed must not look as if it were running still."""
    with pytest.raises(ZeroDivisionError), begin(folder=tmp_path / "a") as failed:
        _ = 1 / 0
    with pytest.raises(KeyboardInterrupt), begin(folder=tmp_path / "b") as killed:
        raise KeyboardInterrupt
    assert client.get_run(failed.run_id).info.status == "FAILED"
    assert client.get_run(killed.run_id).info.status == "KILLED"


def test_resume_continues_the_same_run(begin: Callable[..., Tracker], client: Any) -> None:
    """A resumed run that becomes a second one tears its curves in two."""
    first = begin()
    first.log_metrics({"loss": 2.0}, 0)
    first.finish("KILLED")
    second = begin(resume=True)
    assert second.run_id == first.run_id
    assert client.get_run(second.run_id).info.status == "RUNNING"
    second.log_metrics({"loss": 1.0}, 1)
    second.finish("FINISHED")
    assert client.get_run(second.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(first.run_id, "loss")) == 2


def test_resume_of_an_empty_folder_begins_a_run(begin: Callable[..., Tracker]) -> None:
    """--resume of a run that died before it began is no error."""
    with begin(resume=True) as tracker:
        assert tracker.run_id is not None


def test_a_second_run_in_the_same_folder_is_a_second_run(begin: Callable[..., Tracker]) -> None:
    """Without resume, nothing of the earlier run may be continued."""
    with begin() as first:
        pass
    with begin() as second:
        pass
    assert first.run_id != second.run_id


def test_open_tracker_refuses_a_folder_in_use(begin: Callable[..., Tracker]) -> None:
    """Two runs that write one journal mix their curves."""
    with begin(), pytest.raises(TrackingError, match="recorded by another process"):
        begin(resume=True)


def test_a_dead_server_does_not_hold_the_run_up(
    begin: Callable[..., Tracker], client: Any, dead_uri: str, tmp_path: Path, store_uri: str
) -> None:
    """Hours of training must not wait for a tracking server, nor may their record be lost."""
    said: list[str] = []
    start = time.monotonic()
    tracker = begin(uri=dead_uri, say=said.append)
    for step in range(200):
        tracker.log_metric_points([("loss", float(step), step, 1000 + step)])
    assert tracker.run_id is None
    assert not tracker.finish("FINISHED")
    assert time.monotonic() - start < 5
    assert len(said) == 1
    assert "The run goes on" in said[0]
    assert "\n" not in said[0]
    assert pending_journals(tmp_path) == [tmp_path / "run"]
    still = sync(tmp_path / "run", said.append)
    assert (still.delivered, still.remaining) == (0, 202)
    result = sync(tmp_path / "run", said.append, uri=store_uri)
    assert (result.delivered, result.remaining) == (202, 0)
    assert sync(tmp_path / "run", said.append, uri=store_uri).delivered == 0
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(result.run_id, "loss")
    assert [point.timestamp for point in history] == list(range(1000, 1200))
    found = client.search_runs([run.info.experiment_id], "tags.`mlflow.runName` = 'a run'")
    assert (
        len([r for r in found if len(client.get_metric_history(r.info.run_id, "loss")) == 200]) == 1
    )


def test_a_run_killed_without_warning_keeps_its_records(
    begin: Callable[..., Tracker], client: Any, dead_uri: str, tmp_path: Path, store_uri: str
) -> None:
    """kill -9 asks nobody; what was recorded before must be there."""
    script = (
        "import os, sys; from pathlib import Path; from raydistill.tracking import open_tracker\n"
        "t = open_tracker(uri=sys.argv[1], experiment='unit', run_name='k',"
        " folder=Path(sys.argv[2]),"
        " resume=False, tags={}, say=lambda line: None)\n"
        "t.log_metrics({'loss': 1.0}, 0); os.kill(os.getpid(), 9)"
    )
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", script, dead_uri, str(folder)], check=False, env=environment
    )
    resumed = begin(resume=True)
    resumed.log_metrics({"loss": 0.5}, 1)
    assert resumed.finish()
    assert len(client.get_metric_history(resumed.run_id, "loss")) == 2


def test_sync_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    """A mistyped folder must not look like a successful delivery."""
    with pytest.raises(TrackingError, match="holds no record"):
        sync(tmp_path, print)


def test_importing_the_package_is_quick() -> None:
    """`raydistill check` should answer before MLflow is imported."""
    script = (
        "import sys; before = set(sys.modules); import raydistill.tracking;"
        "print([m for m in ('mlflow', 'ray', 'torch', 'pandas') if m in set(sys.modules) - before])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
