"""Moves of an alias that are cut in half, and runs that end together: a registry in memory, as MLflow's."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import ConfigError
from raydistill.tracking import aliases, promote, rollback
from raydistill.tracking.moves import held_versions, read_moves
from raydistill.tracking.registration import apply_registration
from raydistill.tracking.tags import METRIC_TAG, REGISTRATION_TAG, SPLIT_TAG

METRIC = "test/accuracy"


class FakeRegistry:
    """One registered model. ``before`` is called with the name of every request, and may raise or do another."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.before: Callable[[str], None] = lambda request: None

    def add(self, *accuracies: float) -> None:
        """Versions, by their test accuracy."""
        for accuracy in accuracies:
            number = len(self.versions) + 1
            self.versions[str(number)] = {
                METRIC_TAG + METRIC: repr(accuracy),
                SPLIT_TAG + "test": json.dumps({"fingerprint": "d"}),
                REGISTRATION_TAG: f"r{number}",
            }

    def get_registered_model(self, name: str) -> Any:
        self.before("get_registered_model")
        return SimpleNamespace(name=name, tags=dict(self.tags), aliases=dict(self.aliases))

    def get_model_version(self, name: str, version: str) -> Any:
        return SimpleNamespace(version=version, tags=self.versions[version])

    def search_model_versions(self, filter_string: str) -> list[Any]:
        return [
            SimpleNamespace(version=number, tags=tags)
            for number, tags in self.versions.items()
            if f"'{tags[REGISTRATION_TAG]}'" in filter_string
        ]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.before("set_registered_model_alias")
        self.aliases[alias] = version

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.before("set_registered_model_tag")
        self.tags[key] = value

    def register(self, version: int, better_by: float = 0.0) -> str:
        """What a run does whose version is there; what it says."""
        tags = self.versions[str(version)]
        record = {
            "name": "mr", "uuid": tags[REGISTRATION_TAG], "path": "model", "tags": tags, "alias": "champion",
            "metric_name": METRIC, "greater_is_better": True, "better_by": better_by,
        }  # fmt: skip
        said: list[str] = []
        journal: Any = SimpleNamespace(position=SimpleNamespace(run_id="1", registrations={}))
        apply_registration(self, record, journal, said.append)  # type: ignore[arg-type]
        (line,) = said
        return line

    def moves(self) -> list[tuple[int | None, int, str]]:
        return [(move.before, move.after, move.how) for move in read_moves(self.tags)]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """That promotions and rollbacks look into, too."""
    found = FakeRegistry()

    @contextlib.contextmanager
    def open_it(*_: Any) -> Iterator[tuple[FakeRegistry, str]]:
        yield found, "here"

    monkeypatch.setattr(aliases, "open_registry", open_it)
    return found


def once(request: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Does something before the first request of a kind, and not again while it does."""
    left = [act]

    def before(asked: str) -> None:
        if asked == request and left:
            left.pop()()

    return before


def fail() -> None:
    raise ConnectionError("gone")


@pytest.mark.parametrize(
    ("force", "how"), [(False, "promoted"), (True, "forced")], ids=["by the rule", "forced"]
)
def test_a_promotion_cut_in_half_is_mended_by_the_next(
    registry: FakeRegistry, force: bool, how: str
) -> None:
    """An alias whose last move nobody wrote down can never be rolled back."""
    registry.add(0.8, 0.9)
    promote("mr", 1)
    registry.before = once("set_registered_model_tag", fail)
    with pytest.raises(ConnectionError):
        promote("mr", 2, force=force)
    assert registry.aliases == {"champion": "2"}
    with pytest.raises(ConfigError, match="moved it last to version 1"):
        rollback("mr")
    assert promote("mr", 2, force=force).previous is None
    assert registry.moves() == [(None, 1, "promoted"), (1, 2, how)]
    promote("mr", 2)  # nothing is missing any more
    assert len(registry.moves()) == 2
    assert rollback("mr").version == 1


def test_a_first_promotion_cut_in_half_is_mended_too(registry: FakeRegistry) -> None:
    """There is no record at all to go by."""
    registry.add(0.8)
    registry.before = once("set_registered_model_tag", fail)
    with pytest.raises(ConnectionError):
        promote("mr", 1)
    promote("mr", 1)
    assert registry.moves() == [(None, 1, "promoted")]


def together(registry: FakeRegistry, choices: list[int]) -> tuple[list[str], list[int]]:
    """Registers versions 2 and 3 request by request, whose turn it is by ``choices``, then the first's that has any.

    Gives what each said, and how many had a request to make at each turn.
    """
    turn = threading.Condition()
    waiting: dict[int, bool] = {2: False, 3: False}  # with a request to make; missing: done
    running = [0]
    said: dict[int, str] = {}
    mine = threading.local()

    def before(request: str) -> None:
        with turn:
            waiting[mine.version] = True
            turn.notify_all()
            assert turn.wait_for(lambda: running[0] == mine.version, 60)
            waiting[mine.version], running[0] = False, 0

    def run(version: int) -> None:
        mine.version = version
        said[version] = registry.register(version)
        with turn:
            del waiting[version]
            turn.notify_all()

    threads = [threading.Thread(target=run, args=(version,), daemon=True) for version in waiting]
    registry.before = before
    for thread in threads:
        thread.start()
    ready, left = [], list(choices)
    with turn:
        while True:
            assert turn.wait_for(lambda: running[0] == 0 and all(waiting.values()), 60)
            if not waiting:
                break
            ready.append(len(waiting))
            running[0] = sorted(waiting)[left.pop(0) if left else 0]
            turn.notify_all()
    for thread in threads:
        thread.join()
    registry.before = lambda request: None
    return [said[2], said[3]], ready


@pytest.mark.parametrize("accuracies", [(0.8, 0.9, 0.85), (0.8, 0.85, 0.9), (None, 0.9, 0.85)])
def test_of_runs_that_end_together_the_better_is_champion(
    accuracies: tuple[float | None, ...], monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry
) -> None:
    """Read, decide, set: the slower one would take the alias from a better one that it has never seen."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)  # nor may one record replace another
    registry.add(*(value or 0.1 for value in accuracies))
    better = str(2 + (accuracies[2] > accuracies[1]))  # type: ignore[operator]
    if accuracies[0] is not None:
        registry.register(1)
    start = dict(registry.aliases), dict(registry.tags)
    tried: list[list[int]] = [[]]
    seen = 0
    while tried:
        choices = tried.pop()
        registry.aliases, registry.tags = dict(start[0]), dict(start[1])
        _, ready = together(registry, choices)
        seen += 1
        # What was chosen by default could have been the other's turn.
        tried += [
            [*choices, *[0] * (at - len(choices)), 1]
            for at in range(len(choices), len(ready))
            if ready[at] > 1
        ]
        assert registry.aliases == {"champion": better}, choices
        moves = read_moves(registry.tags)
        assert held_versions(moves)[-1] == int(better), (choices, moves)
    assert seen > 100


def test_the_one_that_loses_says_so(registry: FakeRegistry) -> None:
    """A run that claims the alias sends people to a version that has not got it."""
    registry.add(0.8, 0.9, 0.85)
    registry.register(1)
    said: list[str] = []
    registry.before = once("set_registered_model_alias", lambda: said.append(registry.register(2)))
    said.append(registry.register(3))
    assert said == [
        "registered mr version 2; it is now champion, because test/accuracy 0.9 is better than 0.8.",
        "registered mr version 3; champion is version 2, which came at the same time.",
    ]
    assert registry.moves()[-1] == (3, 2, "rolled back")
    assert rollback("mr").version == 1
