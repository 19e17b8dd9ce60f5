"""Delivery: every record once, in order, whatever the server does."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import ConfigError
from raydistill.tracking.connection import (
    Unreachable,
    connect,
    hide_password,
    resolve_uri,
    sqlite_path,
)
from raydistill.tracking.delivery import deliver
from raydistill.tracking.journal import Journal
from raydistill.tracking.promotion import decide_champion
from raydistill.tracking.tags import DATA_TAG, METRIC_TAG
from raydistill.tracking.verdict import Verdict, judge

URI = "http://server"
OPEN = {
    "op": "open",
    "uuid": "u1",
    "experiment": "e",
    "run_name": "n",
    "time_ms": 12,
    "tags": {"a": "b"},
}


class ServerError(Exception):
    """Looks like MLflow's: an error code, and a cause perhaps."""

    def __init__(self, code: str) -> None:
        super().__init__(f"{code} it said")
        self.error_code = code


class FakeClient:
    """Remembers runs and calls; ``fail`` may raise before a call, ``fail_after`` behind it."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.fail: Callable[[str, Any], None] = lambda name, what: None
        self.fail_after: Callable[[str, Any], None] = lambda name, what: None

    def _take(self, name: str, what: Any) -> None:
        self.fail(name, what)
        self.calls.append((name, what))
        self.fail_after(name, what)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7", lifecycle_stage="active")

    def search_runs(self, ids: list[str], filter_string: str, max_results: int) -> list[Any]:
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=run_id))
            for run_id, run in self.runs.items()
            if f"'{run['tags']['raydistill.run']}'" in filter_string
        ]

    def create_run(self, experiment_id: str, **what: Any) -> Any:
        self.fail("create_run", what)
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = what
        self.fail_after("create_run", what)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def get_run(self, run_id: str) -> Any:
        if run_id not in self.runs:
            raise ServerError("RESOURCE_DOES_NOT_EXIST")
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self._take("log_batch", [item.key for item in [*metrics, *params, *tags]])

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self._take("set_terminated", (run_id, status, end_time))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "run")
    journal.append(OPEN)
    journal.append({"op": "params", "items": {"p": "1", "bad": "2"}})
    journal.append({"op": "finish", "status": "FINISHED", "time_ms": 99})
    return journal


def _once(name: str, error: Exception) -> Callable[[str, Any], None]:
    left = [error]

    def fail(called: str, what: Any) -> None:
        if called == name and left:
            raise left.pop()

    return fail


def test_deliver_sends_everything_once_with_original_times(journal: Journal) -> None:
    """A run that is synced a week later did not start a week later."""
    client, said = FakeClient(), []
    assert deliver(journal, lambda: client, URI, said.append).trouble is None
    assert deliver(journal, lambda: client, URI, said.append).delivered == 0
    assert client.runs["run0"]["start_time"] == 12
    assert client.calls == [
        ("log_batch", ["p", "bad"]),
        ("set_terminated", ("run0", "FINISHED", 99)),
    ]
    assert said == []


@pytest.mark.parametrize("when", ["fail", "fail_after"])
@pytest.mark.parametrize("name", ["create_run", "log_batch", "set_terminated"])
def test_deliver_continues_where_the_connection_broke(
    journal: Journal, name: str, when: str
) -> None:
    """A timeout does not tell whether the run was made; a second run would be a ghost."""
    client = FakeClient()
    setattr(client, when, _once(name, ConnectionError("gone")))
    first = deliver(journal, lambda: client, URI, print)
    assert first.trouble == "gone"
    again = Journal(journal.folder)
    assert deliver(again, lambda: client, URI, print).trouble is None
    assert list(client.runs) == ["run0"]
    assert again.count_pending() == 0
    assert again.position.delivered == 3


def test_deliver_leaves_out_only_the_refused_item(journal: Journal) -> None:
    """One name that MLflow does not like must not cost the others, nor block the rest."""
    client, said = FakeClient(), []

    def fail(name: str, what: Any) -> None:
        if name == "log_batch" and "bad" in what:
            raise ServerError("INVALID_PARAMETER_VALUE")

    client.fail = fail
    outcome = deliver(journal, lambda: client, URI, said.append)
    assert (outcome.delivered, outcome.skipped, outcome.trouble) == (2, 1, None)
    assert ("log_batch", ["p"]) in client.calls
    assert len(said) == 1
    assert "bad" in said[0]


def test_deliver_gives_a_stumbling_server_many_tries_but_not_for_ever(journal: Journal) -> None:
    """A record that crashes the server would keep all later ones from it."""
    client, said = FakeClient(), []

    def fail(name: str, what: Any) -> None:
        if name == "log_batch":
            raise ServerError("INTERNAL_ERROR")

    client.fail = fail
    tries = 0
    while deliver(journal, lambda: client, URI, said.append).trouble is not None:
        tries += 1
    assert tries == 19
    assert journal.position.skipped == 1
    assert client.calls[-1][0] == "set_terminated"


def test_deliver_never_gives_up_the_run_itself(journal: Journal) -> None:
    """Without its run, everything else would be refused and lost."""
    client = FakeClient()
    client.fail = _once("create_run", ServerError("INVALID_PARAMETER_VALUE"))
    assert deliver(journal, lambda: client, URI, print).trouble is not None
    assert deliver(journal, lambda: client, URI, print).delivered == 3


def test_deliver_names_what_a_server_asks_for(journal: Journal) -> None:
    """Records wait for ever for a token that nobody knows is missing."""
    client = FakeClient()
    client.fail = _once("create_run", ServerError("UNAUTHENTICATED"))
    outcome = deliver(journal, lambda: client, URI, print)
    assert outcome.trouble is not None
    assert "MLFLOW_TRACKING_TOKEN" in outcome.trouble


def test_deliver_to_another_server_sends_the_whole_run(journal: Journal) -> None:
    """The run id of one server means nothing to the next."""
    first, second = FakeClient(), FakeClient()
    first.fail = _once("set_terminated", ConnectionError("gone"))
    deliver(journal, lambda: first, URI, print)
    assert deliver(journal, lambda: second, "http://other", print).delivered == 3
    assert [name for name, _ in second.calls] == ["log_batch", "set_terminated"]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionRefusedError(), Verdict.AWAY),
        (TimeoutError(), Verdict.AWAY),
        (ServerError("PERMISSION_DENIED"), Verdict.AWAY),
        (ServerError("TEMPORARILY_UNAVAILABLE"), Verdict.AWAY),
        (ServerError("INTERNAL_ERROR"), Verdict.UNCLEAR),
        (ServerError("INVALID_PARAMETER_VALUE"), Verdict.REFUSED),
        (FileNotFoundError("artifact"), Verdict.REFUSED),
    ],
)
def test_judge_tells_a_dead_server_from_a_bad_record(error: Exception, verdict: Verdict) -> None:
    """Taking one for the other loses records, or blocks them for ever."""
    assert judge(error) is verdict


def test_judge_looks_at_causes() -> None:
    """MLflow reports a refused connection as an internal error."""
    error = ServerError("INTERNAL_ERROR")
    error.__context__ = ConnectionRefusedError()
    assert judge(error) is Verdict.AWAY


def _tags(value: str | None, data: str | None = "d") -> dict[str, str]:
    tags = {} if value is None else {METRIC_TAG + "test/accuracy": value}
    return tags if data is None else {**tags, DATA_TAG: data}


@pytest.mark.parametrize(
    ("new", "champion", "greater", "moves", "reason"),
    [
        (_tags("0.8"), None, True, True, "there was none"),
        (_tags("0.8"), _tags("0.7"), True, True, "better than 0.7"),
        (_tags("0.7"), _tags("0.7"), True, False, "not better"),
        (_tags("0.6"), _tags("0.7"), False, True, "better"),
        (_tags("0.8"), _tags(None), True, False, "no test/accuracy"),
        (_tags("0.8"), _tags("0.7", "other"), True, False, "other data"),
        (_tags("0.8", None), _tags("0.7", None), True, False, "other data"),
        (_tags("nan"), None, True, False, "not a finite number"),
        (_tags("0.1"), _tags("nan"), True, False, "no test/accuracy"),
    ],
)
def test_champion_moves_only_when_better_on_the_same_data(
    new: dict[str, str],
    champion: dict[str, str] | None,
    greater: bool,
    moves: bool,
    reason: str,
) -> None:
    """A figure from an easier test set must not put a worse model into service."""
    decision = decide_champion(new, champion, "test/accuracy", greater_is_better=greater)
    assert decision.move is moves
    assert reason in decision.reason


def test_resolve_uri_makes_the_default_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative database follows the working directory, and the run is lost to view."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert sqlite_path(resolve_uri("sqlite:///a/b.db")) == tmp_path / "a" / "b.db"
    assert resolve_uri("http://h:5000") == "http://h:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert resolve_uri(None) == "http://from-environment"


def test_resolve_uri_refuses_an_unknown_scheme() -> None:
    """A misspelt address is found before the first actor starts, not at the end."""
    with pytest.raises(ConfigError, match=r"tracking\.uri must be an MLflow tracking URI"):
        resolve_uri("htp://server")


def test_passwords_are_not_shown() -> None:
    """Output folders are shared, and their journals with them."""
    assert hide_password("http://me:secret@host:1/x") == "http://me:***@host:1/x"
    assert hide_password("http://host:1") == "http://host:1"


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environment", "scheme", "asked"),
    [
        ({}, "http", True),
        ({"http_proxy": PROXY}, "http", False),
        ({"HTTPS_PROXY": PROXY}, "https", False),
        ({"HTTPS_PROXY": PROXY}, "http", True),
        ({"ALL_PROXY": PROXY}, "https", False),
        ({"https_proxy": PROXY, "NO_PROXY": "127.0.0.0/8"}, "https", True),
        ({"ALL_PROXY": PROXY, "no_proxy": "elsewhere"}, "http", False),
    ],
)
def test_a_server_behind_a_proxy_is_not_asked_directly(
    environment: dict[str, str], scheme: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not answer, and its records would wait on disk for ever."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    uri = f"{scheme}://127.0.0.1:9"  # where nobody listens
    if asked:
        with pytest.raises(Unreachable, match="does not answer"):
            connect(uri)
    else:
        connect(uri)
