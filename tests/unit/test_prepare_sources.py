"""Fingerprints of model folders: what decides an answer changes them, what does not leaves them."""

from pathlib import Path

import pytest

from raydistill.models import ModelSource
from raydistill.prepare.sources import weights_fingerprint


def fingerprint(folder: Path, *, code: bool = False) -> str:
    return weights_fingerprint(ModelSource("m", str(folder), str(folder), None, code))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "modeling_own.py", "sub/vocab.tiktoken"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["config.json", "sub/vocab.tiktoken", "sub/new.json"])
def test_deciding_files_decide_also_in_subfolders(folder: Path, name: str) -> None:
    """Another vocabulary under an old fingerprint is served the old one's answers."""
    before = fingerprint(folder)
    (folder / name).write_text("changed")
    assert fingerprint(folder) != before


def test_code_decides_only_if_it_may_run(folder: Path) -> None:
    """A model's own code is as much the model as its weights."""
    before = [fingerprint(folder, code=code) for code in (False, True)]
    (folder / "modeling_own.py").write_text("changed")
    after = [fingerprint(folder, code=code) for code in (False, True)]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_file_elsewhere_in_the_folder_is_another_model(folder: Path) -> None:
    """Names count with their folders."""
    before = fingerprint(folder)
    (folder / "other").mkdir()
    (folder / "sub" / "vocab.tiktoken").rename(folder / "other" / "vocab.tiktoken")
    assert fingerprint(folder) != before


def test_caches_checkpoints_and_notes_do_not_decide(folder: Path) -> None:
    """A run could not be resumed after a cache beside its teacher was cleared."""
    before = fingerprint(folder)
    for name in (".cache/x.json", "checkpoint-10/state.json", "README.md", "chat.jinja"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("more")
    assert fingerprint(folder) == before


def test_links_to_files_are_followed_and_circles_are_not(folder: Path, tmp_path: Path) -> None:
    """A hub's cache holds links into a folder of blobs."""
    linked = tmp_path / "linked"
    (linked / "sub").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "sub/vocab.tiktoken"):
        (linked / name).symlink_to(folder / name)
    (linked / "sub" / "again").symlink_to(linked)
    (linked / "lost.json").symlink_to(tmp_path / "absent")
    assert fingerprint(linked) == fingerprint(folder)
    (folder / "config.json").write_text("changed")
    assert fingerprint(linked) == fingerprint(folder)
