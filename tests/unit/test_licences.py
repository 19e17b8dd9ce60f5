"""What cards say of terms of use: in folders, in the hub's cache, on the hub; and never an exception."""

import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import _CACHED_NO_EXIST
from huggingface_hub.errors import OfflineModeIsEnabled

from raydistill.models import ModelSource
from raydistill.models.licences import Licences

CARD = "---\nlicense: {}\n---\n"


class FakeHub:
    """Cards by repository and revision; what is cached, and whether it can be reached."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.files = folder, dict[tuple[Any, ...], str]()
        self.cached: dict[tuple[Any, ...], Any] = {}
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        patch.setattr("huggingface_hub.try_to_load_from_cache", self.from_cache)
        patch.setattr("huggingface_hub.get_hf_file_metadata", self.look)
        patch.setattr("huggingface_hub.hf_hub_download", self.download)

    def from_cache(self, id_: str, name: str, *, revision: str | None, repo_type: str) -> Any:
        return self.cached.get((repo_type, id_, revision, name))

    def look(self, url: str, *, timeout: float) -> None:
        assert timeout <= 5
        self.asked.append((url,))
        if self.error is not None:
            raise self.error

    def download(
        self, id_: str, name: str, *, revision: str | None, repo_type: str, etag_timeout: float
    ) -> str:
        assert etag_timeout <= 5
        self.asked.append((repo_type, id_, revision, name))
        file = self.folder / str(len(self.asked)) / name
        file.parent.mkdir(parents=True)
        file.write_text(self.files[repo_type, id_, revision, name], encoding="utf-8")
        return str(file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path / "hub", monkeypatch)


def of_hub(id_: str, revision: str | None = None) -> ModelSource:
    return ModelSource(id_, id_, id_, revision)


def test_licences_are_only_what_somebody_wrote(tmp_path: Path) -> None:
    stated = Licences().of_model
    assert stated(tmp_path) is None
    (tmp_path / "config.json").write_text('{"license": "apache-2.0"}', encoding="utf-8")
    assert stated(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text(CARD.format("cc-by-4.0"), encoding="utf-8")
    assert stated(tmp_path) == "cc-by-4.0"
    assert Licences().of_data(str(tmp_path), None) == "cc-by-4.0"
    (tmp_path / "README.md").write_text(CARD.format("[mit, cc0-1.0]"), encoding="utf-8")
    assert stated(tmp_path) == "mit, cc0-1.0"
    for broken in ("no front matter", "---\nlicense: [\n---\n", "---\n- a\n---\n"):
        (tmp_path / "README.md").write_text(broken, encoding="utf-8")
        assert stated(tmp_path) == "apache-2.0"


def test_cards_of_the_hub_are_fetched_at_the_revision_that_was_used(hub: FakeHub) -> None:
    """from_pretrained fetches no card, and the terms of another revision may be others."""
    hub.files = {
        ("model", "someone/a", None, "README.md"): CARD.format("mit"),
        ("model", "someone/a", "v1", "README.md"): CARD.format("gpl-3.0"),
        ("dataset", "someone/a", "v1", "README.md"): CARD.format("\n- cc-by-4.0"),
    }
    licences = Licences()
    assert licences.of_model(of_hub("someone/a")) == "mit"
    assert licences.of_model(of_hub("someone/a", "v1")) == "gpl-3.0"
    assert licences.of_data("someone/a", "v1") == "cc-by-4.0"
    looked = [entry[0] for entry in hub.asked if len(entry) == 1]
    assert [url.partition("//")[2].partition("/")[2] for url in looked] == [
        "someone/a/resolve/main/README.md", "someone/a/resolve/v1/README.md",
        "datasets/someone/a/resolve/v1/README.md",
    ]  # fmt: skip


def test_what_is_cached_is_not_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD.format("mit"), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"license": "apache-2.0"}', encoding="utf-8")
    hub.cached = {
        ("model", "someone/a", None, "README.md"): str(tmp_path / "README.md"),
        ("model", "someone/b", None, "README.md"): _CACHED_NO_EXIST,
        ("model", "someone/b", None, "config.json"): str(tmp_path / "config.json"),
    }
    licences = Licences()
    assert licences.of_model(of_hub("someone/a")) == "mit"
    assert licences.of_model(of_hub("someone/b")) == "apache-2.0"
    assert not hub.asked


@pytest.mark.parametrize(
    "error", [OfflineModeIsEnabled("offline"), TimeoutError(), OSError("no route"), RuntimeError()]
)
def test_a_hub_that_does_not_answer_is_asked_once(hub: FakeHub, error: Exception) -> None:
    """A run that has trained for hours must not end, or wait for minutes, over a card."""
    hub.error = error
    licences = Licences()
    assert licences.of_model(of_hub("someone/a")) is None
    assert licences.of_data("someone/b", None) is None
    assert len(hub.asked) == 1


def test_one_repository_that_is_closed_says_nothing_of_others(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    refused = HfHubHTTPError.__new__(HfHubHTTPError)
    hub.files["model", "someone/b", None, "README.md"] = CARD.format("mit")
    licences = Licences()
    hub.error = refused
    assert licences.of_model(of_hub("someone/closed")) is None
    hub.error = None
    assert licences.of_model(of_hub("someone/b")) == "mit"
    assert licences.of_model(of_hub("no: id of the hub")) is None


def test_without_a_network_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The library alone tries again for minutes where nobody listens."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    nowhere = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    begin = time.monotonic()
    assert Licences().of_model(of_hub("someone/nowhere")) is None
    assert time.monotonic() - begin < 20
