"""The output folder of a run: what lies where, and whose it is."""

import json

import pytest

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError
from raydistill.output import OutputFolder, write_atomically

MANIFEST = {"run.seed": 0, "task.labels": ["ä", "b"]}


def said(folder, *, resume: bool = False) -> str:
    return " ".join(str(fault) for fault in OutputFolder(folder).faults(resume=resume))


def test_new_and_empty_folders_are_free(tmp_path):
    """A folder that was made beforehand (mktemp) must do."""
    assert said(tmp_path) == ""
    assert said(tmp_path / "a" / "b") == ""
    assert not (tmp_path / "a").exists()


def test_another_run_is_never_overwritten(tmp_path):
    """Hours of training would be gone."""
    OutputFolder(tmp_path / "r").begin("x: 1\n", MANIFEST)
    assert "holds another run" in said(tmp_path / "r")
    assert "--resume" in said(tmp_path / "r")
    assert said(tmp_path / "r", resume=True) == ""


def test_foreign_files_are_never_mixed_with_a_run(tmp_path):
    """`--output .` must not fill a home directory."""
    (tmp_path / "thesis.tex").touch()
    for resume in (False, True):
        assert "holds files that are not a run's" in said(tmp_path, resume=resume)


def test_what_cannot_be_a_folder_is_refused_before_the_run(tmp_path):
    """Otherwise the traceback comes when the first file is written."""
    (tmp_path / "file").touch()
    assert "is a file" in said(tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file" in said(tmp_path / "file" / "below" / "it")
    assert "cannot be used" in said(tmp_path / ("x" * 300))


def test_manifest_is_read_as_it_was_written(tmp_path):
    """A resumed run is compared with it."""
    folder = OutputFolder(tmp_path / "r")
    assert folder.read_manifest() is None
    folder.begin("x: 1\n", MANIFEST)
    assert folder.read_manifest() == MANIFEST
    assert folder.config.read_text() == "x: 1\n"


@pytest.mark.parametrize("content", ["{", "[]", "null"])
def test_torn_manifest_is_refused(tmp_path, content):
    """Half a manifest would let any other run be resumed."""
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ConfigError, match="torn manifest"):
        OutputFolder(tmp_path).read_manifest()


def test_run_is_finished_only_after_its_last_file(tmp_path):
    """A run that was stopped just before its end must be resumed, not shown as done."""
    folder = OutputFolder(tmp_path)
    folder.begin("", MANIFEST)
    assert folder.finished() is None
    folder.summary.write_text('{"name": "r"}')
    folder.finish({"test/accuracy": 0.5}, run_id="7", model_uri=None)
    assert folder.finished() == {
        "metrics": {"test/accuracy": 0.5},
        "run_id": "7",
        "model_uri": None,
    }
    assert json.loads(folder.summary.read_text()) == {"name": "r", "run_id": "7", "model_uri": None}


def test_written_file_is_whole_or_old(tmp_path):
    """A kill while writing must not tear what was there."""
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"


def test_default_folder_is_named_after_the_run():
    """Two runs of different names must not share a folder."""
    settings = {"run": {"name": "r"}, "data": {}, "student": {"model": "s"}, "losses": [{"kind": "cross_entropy"}]}  # fmt: skip
    assert OutputFolder.of(DistillConfig.model_validate(settings)).path.parts[-2:] == (
        "outputs",
        "r",
    )
