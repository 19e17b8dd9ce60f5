"""Who gets an alias, and where an alias was before."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from raydistill.errors import ConfigError
from raydistill.tracking import list_models, server_faults
from raydistill.tracking.moves import Move, held_versions, read_moves
from raydistill.tracking.promotion import PromotionRule, rule_of
from raydistill.tracking.tags import (
    DATA_TAG,
    METRIC_TAG,
    MOVE_TAG,
    PROMOTION_TAG,
    SPLIT_TAG,
    data_of,
    metrics_of_tags,
)


def tags(metric: str, value: float, data: str = "d") -> dict[str, str]:
    split = SPLIT_TAG + metric.partition("/")[0]
    return {METRIC_TAG + metric: repr(value), split: json.dumps({"fingerprint": data})}


@pytest.mark.parametrize(
    ("new", "moves"), [(0.901, False), (0.902, True), (0.903, True), (0.9, False), (0.8, False)]
)
def test_a_version_must_be_better_by_the_margin(new: float, moves: bool) -> None:
    """A champion that changes by noise is a new model in service for nothing."""
    rule = PromotionRule("champion", "test/accuracy", 0.002, greater_is_better=True)
    decision = rule.decide(tags("test/accuracy", new), tags("test/accuracy", 0.9))
    assert decision.move is moves
    assert decision.reason.endswith(f"{'' if moves else 'not '}better than 0.9 by 0.002")
    smaller = PromotionRule("champion", "test/nll", 0.002, greater_is_better=False)
    found = smaller.decide(tags("test/nll", 1.8 - new), tags("test/nll", 0.9))
    assert found.move is moves


def test_the_same_figure_is_not_better() -> None:
    """Without a margin a tie would move the alias with every run."""
    rule = PromotionRule("champion", "test/accuracy", 0.0, greater_is_better=True)
    same = tags("test/accuracy", 0.9)
    assert not rule.decide(same, same).move


def test_the_rule_travels_with_the_version() -> None:
    """Whoever promotes later has the tags, not the configuration."""
    rule = PromotionRule("champion", "test/nll", 0.002, greater_is_better=False)
    assert rule_of({PROMOTION_TAG: rule.as_tag()}, "champion") == rule
    assert rule_of({PROMOTION_TAG: rule.as_tag()}, "staging") is None
    for odd in ("", "[]", "null", '{"alias": "champion"}'):
        assert rule_of({PROMOTION_TAG: odd}, "champion") is None


def test_what_a_metric_was_measured_on_is_that_of_its_split() -> None:
    """Test figures on other rows would pass as comparable, since validation rows are the same."""
    version = {
        **tags("test/accuracy", 0.9, "t"),
        **tags("validation/accuracy", 0.8, "v"),
        DATA_TAG: "v",
    }
    assert data_of(version, "test/accuracy") == "t"
    older = {
        DATA_TAG: "v",
        METRIC_TAG + "validation/accuracy": "0.8",
        "metric.test/accuracy": "0.9",
    }
    assert data_of(older, "validation/accuracy") == "v"
    assert data_of(older, "test/accuracy") is None
    assert metrics_of_tags({**older, METRIC_TAG + "x": "odd"}) == {
        "test/accuracy": 0.9,
        "validation/accuracy": 0.8,
    }


def moved(*steps: tuple[int | None, int, str]) -> list[Move]:
    return [
        Move("champion", at, before, after, how, "")
        for at, (before, after, how) in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        ([], []),
        ([(None, 1, "registered"), (1, 2, "promoted"), (2, 3, "forced")], [1, 2, 3]),
        ([(None, 1, "registered"), (1, 2, "promoted"), (2, 1, "rolled back")], [1]),
        (
            [
                (None, 1, "registered"),
                (1, 2, "promoted"),
                (2, 1, "rolled back"),
                (1, 3, "promoted"),
            ],
            [1, 3],
        ),
        ([(1, 2, "promoted")], [1, 2]),  # somebody else had set it
        ([(None, 1, "registered"), (5, 6, "promoted")], [1, 5, 6]),  # and in between
        ([(None, 1, "registered"), (1, 2, "promoted"), (2, 1, "promoted")], [1, 2, 1]),
        ([(None, 1, "registered"), (4, 3, "rolled back")], [3]),  # not from a record of ours
    ],
)
def test_versions_before_are_read_from_the_moves(
    steps: list[tuple[int | None, int, str]], held: list[int]
) -> None:
    """A second rollback that goes forward again puts back what was taken out."""
    assert held_versions(moved(*steps)) == held


def test_moves_are_read_past_tags_of_others() -> None:
    """Anybody may write tags; one that is odd must not stop a rollback."""
    value = json.dumps({"from": None, "to": 1, "how": "registered", "why": "there was none"})
    later = json.dumps({"from": 1, "to": 2, "how": "promoted", "why": "better"})
    found = read_moves(
        {
            f"{MOVE_TAG}champion.20": later,
            f"{MOVE_TAG}champion.3": value,
            f"{MOVE_TAG}staging.4": value,
            f"{MOVE_TAG}champion.x": value,
            f"{MOVE_TAG}champion.5": "odd",
            f"{MOVE_TAG}champion.6": '{"to": "3"}',
            "team": "ours",
        },
        "champion",
    )
    assert [(move.at_ms, move.before, move.after) for move in found] == [(3, None, 1), (20, 1, 2)]


@pytest.fixture(scope="module")
def answering() -> Iterator[Any]:
    """Servers that give one answer to everything; by that answer, the address."""
    servers = []

    def serve(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = _answer  # noqa: N815 - as the base class calls them

            def log_message(self, *_: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "You are not authenticated."),
        (401, '{"message": "Unauthorized"}'),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    ],
)
def test_a_missing_token_is_one_line_that_names_the_variables(
    answering: Any, status: int, body: str
) -> None:
    """ "Does not answer" sends people to the network, where nothing is wrong."""
    uri = answering(status, body)
    (fault,) = server_faults(uri, required=False)
    with pytest.raises(ConfigError) as caught:
        list_models(uri)
    for line in (str(fault), str(caught.value)):
        assert line.startswith("tracking.uri ")
        assert "MLFLOW_TRACKING_TOKEN" in line
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in line
        assert "\n" not in line


def test_a_server_that_is_away_is_a_fault_if_it_is_required(answering: Any) -> None:
    """Else its record waits on disk, as long as it takes."""
    uri = "http://127.0.0.1:9"
    assert server_faults(uri, required=False) == []
    (fault,) = server_faults(uri, required=True)
    assert str(fault).startswith(
        f"tracking.uri cannot be used, the server at {uri} does not answer ([Errno"
    )
    (odd,) = server_faults(answering(404, "<html>"), required=False)
    assert "is no MLflow server" in str(odd)
    (unknown,) = server_faults("nope://x", required=False)
    assert "Known schemes" in str(unknown)
    assert server_faults("sqlite:///none.db", required=True) == []
