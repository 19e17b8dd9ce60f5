"""Moves of an alias that are cut in half, and runs that end together: a registry in memory, as MLflow's."""

import contextlib
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import ConfigError
from raydistill.tracking import aliases, promote, rollback
from raydistill.tracking.moves import read_moves
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
