"""Registered models of a search: found once, whatever becomes of aliases and server while it goes on."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import ConfigError, Fault
from raydistill.prepare import Prepared, prepare, rules
from raydistill.tracking import download, is_held, models_held, resolve_model
from raydistill.tracking.versions import VersionDetails
from raydistill.tuning import specs
from raydistill.tuning import trial as trial_process
from raydistill.tuning.records import SearchFolder
from raydistill.tuning.trial import RunSpec, Shared, TrialSpec, run_trial
from tests.unit.test_search_answers import checked_search
from tests.unit.test_search_check import search_of

CHAMPION = "models:/wide@champion"


class Registry:
    """A server with one model, whose champion moves, and which may go away."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version, self.away, self.asked = folder, 1, False, 0

    def describe(self, uri: str, place: str | None = None, *, path: str) -> VersionDetails:
        self.asked += 1
        if self.away:
            raise ConfigError([Fault(path, "cannot be looked up", rests_on=(path, "tracking.uri"))])
        name = uri.removeprefix("models:/").split("@")[0]
        return VersionDetails(name, self.version, (), {}, {}, None, self.version, f"s{self.version}", {})  # fmt: skip

    def faults(self, uri: str | None, *, required: bool, **_: Any) -> list[Fault]:
        self.asked += 1
        if not (self.away and required):
            return []
        return [Fault("tracking.uri", "does not answer", rests_on=("tracking.uri", "tracking.required"))]  # fmt: skip

    def download(self, found: VersionDetails, place: str, target: Path, path: str) -> None:
        shutil.copytree(self.folder, target / f"v{found.version}")


@pytest.fixture
def registry(tiny, tmp_path, monkeypatch) -> Registry:
    found = Registry(tiny["wide"])
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "describe_model", found.describe)
    monkeypatch.setattr(download, "_download", found.download)
    monkeypatch.setattr(rules, "server_faults", found.faults)
    monkeypatch.setattr(specs, "object_store_bytes", lambda: 1 << 30)
    return found


def test_an_alias_stays_what_it_was_while_models_are_held(registry):
    """Runs that belong together would begin from different models after a promotion."""
    with models_held() as models:
        assert resolve_model(CHAMPION).uri == "models:/wide/1"
        registry.version = 2
        assert resolve_model(CHAMPION).uri == "models:/wide/1"
        assert resolve_model("models:/wide@other").uri == "models:/wide/2"
    assert resolve_model(CHAMPION).uri == "models:/wide/2"
    assert not is_held(CHAMPION)
    registry.away = True
    with models_held(models):
        assert resolve_model(CHAMPION).uri == "models:/wide/1"
        shutil.rmtree(models[CHAMPION].folder)
        assert not is_held(CHAMPION), (
            "in a process that does not see the folder the server is asked"
        )
        with pytest.raises(ConfigError):
            resolve_model(CHAMPION)


def ends_of_a_trial(settings: dict[str, Any], folder: Path, monkeypatch: Any) -> Any:
    """A search's check, and a trial of it in its own process, as far as it is prepared: a function to run it."""
    seen: list[Prepared] = []
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_process.tune, "report", said.append)

    def distilling(config: Any, **_: Any) -> None:
        prepared, faults = prepare(config)
        if prepared is None:
            raise ConfigError(faults)
        seen.append(prepared)
        raise KeyboardInterrupt

    monkeypatch.setattr(trial_process, "distill", distilling)
    with models_held() as models:
        checked = checked_search(settings)
    trial = specs.run_spec(
        checked.config, checked.config, name="t", seed=0, output=folder / "t", tags={},
        concurrent=1, objectives=[], varied=None,
    )  # fmt: skip
    spec = TrialSpec("trial-0001", (RunSpec(0, trial.settings),))
    log = SearchFolder.of(checked.config).trials
    log.mkdir(parents=True)

    def start(*, held: bool = True) -> tuple[str, Prepared | None]:
        said.clear()
        run_trial(spec.plain, Shared({}, "", str(folder), log=log, models=models if held else {}))
        return said[-1]["end"], seen[-1] if seen else None

    return start


def test_trials_begin_from_the_models_that_the_search_found(tiny, tmp_path, registry, monkeypatch):
    """A promotion in the sixth trial changed teachers and first weights of the seventh; an outage failed it for good."""
    settings = search_of(tiny, tmp_path)
    settings["teachers"]["wide"]["model"] = CHAMPION
    start = ends_of_a_trial(settings, tmp_path, monkeypatch)
    registry.version, registry.away, registry.asked = 2, True, 0
    end, prepared = start()
    assert end == "paused", "it came as far as its first step"
    assert prepared is not None
    assert registry.asked == 0
    assert prepared.sources["wide"].registered == "models:/wide/1", "as its record says"
    assert prepared.sources["wide"].name == CHAMPION, "as it was written"


def test_a_trial_without_its_server_is_started_again(tiny, tmp_path, registry, monkeypatch):
    """A server that was away for a minute failed all trials that began then, and --resume repeats none."""
    settings = search_of(tiny, tmp_path)
    settings["teachers"]["wide"]["model"] = CHAMPION
    start = ends_of_a_trial(settings, tmp_path, monkeypatch)
    registry.away = True
    with pytest.raises(ConfigError, match=r"tracking\.uri does not answer"):
        start(held=False)
    registry.away = False
    assert start(held=False)[0] == "paused"
