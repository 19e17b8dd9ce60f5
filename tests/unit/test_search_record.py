"""What MLflow is told of a search: nested runs have a parent, none is left open, no student becomes two versions."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.config import DistillConfig
from raydistill.errors import TrackingError
from raydistill.output import OutputFolder
from raydistill.tracking import opening, operations, tracker
from raydistill.tracking.journal import Journal
from raydistill.tuning import check, finale, search, specs
from raydistill.tuning.finale import WINNER, register_best
from raydistill.tuning.outcome import objectives_of
from raydistill.tuning.records import SearchFolder, SeedResult
from raydistill.tuning.track import PARENT_TAG, SearchRecord
from raydistill.ui import Ui
from tests.unit.test_search_check import search_of
from tests.unit.test_tracking_delivery import OPEN, FakeClient

QUIET = Ui(quiet=True)
sync: Any = import_module("raydistill.tracking.sync")  # the package's own name is its function


class Client(FakeClient):
    """Also takes files, and knows how runs stand."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[str, str]] = []

    def log_artifact(self, run_id: str, path: str, to: str | None) -> None:
        self._take("log_artifact", path)

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self.fail("set_terminated", run_id)
        self.ended.append((self.runs[run_id]["run_name"], status))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A server without a network, which may fail."""
    found = Client()
    for module in (tracker, sync):
        monkeypatch.setattr(module, "connect", lambda uri: found)
    monkeypatch.setattr(check, "server_faults", lambda *_, **__: [])
    monkeypatch.setattr(specs, "object_store_bytes", lambda: 1 << 30)
    return found


def tracked(tiny: dict[str, Path], folder: Path) -> DistillConfig:
    return DistillConfig.model_validate(
        search_of(tiny, folder) | {"tracking": {"uri": "http://server", "registered_model": "m"}}
    )


def begun(folder: Path, name: str, *more: dict[str, Any]) -> None:
    """What a process left of a run."""
    journal = Journal(folder)
    for record in ({**OPEN, "uuid": name, "run_name": name, "uri": "http://server"}, *more):
        journal.append(record)


def test_runs_of_a_search_that_is_stopped_do_not_seem_to_run_on(
    tiny: dict[str, Path], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at MLflow would wait for trials that nobody trains."""
    config = tracked(tiny, tmp_path)
    folder = SearchFolder.of(config)
    told: list[bool] = []

    @contextmanager
    def ray(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        finally:
            told.append(bool(client.ended))

    def stopped(*_: Any) -> None:
        begun(folder.trial(0, 0), "done", {"op": "finish", "status": "FINISHED", "time_ms": 1})
        begun(folder.trial(1, 0), "begun")
        begun(folder.trial(2, 0), "again", {"op": "finish", "status": "KILLED", "time_ms": 1}, {"op": "resume", "time_ms": 2})  # fmt: skip
        begun(folder.final / "as-written-seed0", "last")
        raise KeyboardInterrupt

    client.update_run = lambda run_id, status: None  # type: ignore[attr-defined]
    monkeypatch.setattr(search, "connect_ray", ray)
    monkeypatch.setattr(search, "share_teachers", stopped)
    with pytest.raises(KeyboardInterrupt):
        search.tune(config, ui=QUIET)
    assert told == [False], "while Ray lives, trials may still write"
    assert client.ended == [
        (config.run.name, "KILLED"),
        ("last", "KILLED"),
        ("begun", "KILLED"),
        ("again", "KILLED"),
        ("again", "KILLED"),
    ]
    assert Journal(folder.trial(1, 0)).count_pending() == 0


def test_trials_wait_for_the_run_they_stand_under(
    tiny: dict[str, Path], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a slow server they would stand alone, and nobody could tell whose they are."""
    monkeypatch.setattr(opening, "_OPEN_WAIT_S", 0.0)
    client.fail = lambda name, what: time.sleep(0.5 if name == "create_run" else 0)
    config = tracked(tiny, tmp_path)
    folder = SearchFolder.of(config)
    folder.begin("run: {}", {})
    with SearchRecord(config, folder, resume=False, ui=QUIET) as record:
        assert record.tags(3)[PARENT_TAG] == "run0"
    assert client.ended == [(config.run.name, "FINISHED")]


def test_a_search_whose_run_nobody_takes_does_not_begin(
    tiny: dict[str, Path], tmp_path: Path, client: Client
) -> None:
    def away(name: str, what: Any) -> None:
        raise ConnectionError("gone")

    client.fail = away
    config = tracked(tiny, tmp_path)
    folder = SearchFolder.of(config)
    folder.begin("run: {}", {})
    client.update_run = lambda run_id, status: None  # type: ignore[attr-defined]
    for _ in range(2):  # the second meets no lock
        with (
            pytest.raises(TrackingError, match="has not taken the search's run"),
            SearchRecord(config, folder, resume=True, ui=QUIET),
        ):
            pass
    client.fail = lambda name, what: None
    with SearchRecord(config, folder, resume=True, ui=QUIET) as record:
        assert record.run_id == "run0"


@pytest.mark.parametrize("state", ["waits", "away", "sent", "refused"])
def test_a_winner_that_waits_for_its_server_becomes_one_version(
    tiny: dict[str, Path], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:  # fmt: skip
    """A resumed search asked for a second one, and both were made when the server came back."""
    config = tracked(tiny, tmp_path)
    folder = OutputFolder(SearchFolder.of(config).final / "trial-0000-seed0")
    begun(folder.path, "winner", {"op": "register", "uuid": "r1", "name": "m", "path": "model"})
    folder.metrics.write_text("{}")
    folder.summary.write_text("{}")
    folder.finish({}, run_id="run0", model_uri=None)
    made: list[str] = []

    def register(client: Client, record: dict[str, Any], *_: Any) -> dict[str, Any]:
        if state == "away":
            raise ConnectionError("gone")
        if state == "refused":
            raise ValueError("no such name")
        made.append(record["uuid"])
        return {"registrations": {record["uuid"]: "models:/m/1"}, "model_uri": "models:/m/1"}

    @contextmanager
    def again(*_: Any, **__: Any) -> Iterator[Any]:
        made.append("second")
        yield SimpleNamespace(teachers=lambda _: None, registered=lambda _: "models:/m/2")

    monkeypatch.setattr(operations, "apply_registration", register)
    monkeypatch.setattr(finale, "RunRecord", again)
    monkeypatch.setattr(finale, "prepare", lambda _: (object(), []))
    monkeypatch.setattr(finale, "write_report", lambda _: None)
    if state == "sent":  # by `raydistill sync`
        sync.sync(folder.path, QUIET.say)
    one: Any = SimpleNamespace(
        checked=SimpleNamespace(config=config, base=SimpleNamespace(steps=SimpleNamespace(total=4))),
        results={WINNER: {0: SeedResult(0, {"validation/accuracy": 0.5}, "run0")}},
        winner=SimpleNamespace(recipe=lambda _: {}),
        place=lambda role, seed: folder.path,
    )  # fmt: skip
    uri = register_best(one, objectives_of(config)[0], {}, QUIET)
    expected = {
        "waits": ("models:/m/1", ["r1"]),
        "away": (None, []),
        "sent": ("models:/m/1", ["r1"]),
    }
    assert (uri, made) == expected.get(state, ("models:/m/2", ["second"]))
    done = json.loads((folder.path / "finished.json").read_text())
    assert done["model_uri"] == uri
