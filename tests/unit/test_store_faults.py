"""A store that fails makes a run slower; it never ends it, and never makes it wrong."""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import fs
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.errors import ConfigError, NotFiniteError
from raydistill.signals import pack_signal
from raydistill.store import Codecs, Place, place_faults, row_keys
from raydistill.store.keys import _VERSION
from raydistill.store.store import SET_ASIDE
from raydistill.store.upkeep import list_shelves, verify
from raydistill.teachers.shapes import plan_full_passes, plan_passes
from tests.unit.test_store import (
    ASK,
    answer,
    assert_same,
    filled,
    open_store,
    read,
    segments,
    texts_of,
)


class Faulty(Place):
    """Raises where it is told to."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.fails: set[str] = set()
        self.calls = Counter[str]()

    def _try(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.fails:
            raise OSError(28, "No space left on device")

    def publish(self, path: str, content: pa.Buffer) -> None:
        self._try("publish")
        super().publish(path, content)

    def map(self, path: str) -> pa.Buffer:
        self._try("map")
        return super().map(path)

    def move(self, path: str, target: str) -> None:
        self._try("move")
        super().move(path, target)

    def entries(self, folder: str = "", suffix: str = "") -> Any:
        self._try("entries")
        return super().entries(folder, suffix)

    def used(self, path: str) -> None:
        self._try("used")
        super().used(path)


@pytest.fixture
def place(tmp_path: Path) -> Faulty:
    return Faulty(str(tmp_path))


def damage(segment: Path) -> None:
    content = bytearray(segment.read_bytes())
    at = content.index(answer(texts_of(20)).part("hidden.2.all").numpy().tobytes()[:8])
    content[at] ^= 1
    segment.chmod(0o644)
    segment.unlink()  # the inode may be mapped
    segment.write_bytes(content)


def add(store: Any, count: int, begin: int = 0) -> None:
    store.add(row_keys((texts_of(count, begin),)), answer(texts_of(count, begin)))


def test_a_full_disk_costs_no_answer_and_is_told_once(place: Faulty, tmp_path: Path) -> None:
    """A run of days that ends because a cache is full."""
    now, said = [0.0], list[str]()
    store = open_store("", place=place, clock=lambda: now[0], say=said.append, segment_bytes=2_000)
    place.fails = {"publish"}
    add(store, 10)
    add(store, 10, 10)
    store.publish()
    assert_same(read(store, texts_of(20)), answer(texts_of(20)))
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert str(tmp_path) in said[0]
    place.fails, now[0] = set(), 30.0
    read(store, texts_of(1))
    assert not segments(tmp_path)
    now[0] = 61.0
    read(store, texts_of(1))
    assert len(said) == 2
    assert_same(read(open_store(tmp_path), texts_of(20)), answer(texts_of(20)))


def test_what_cannot_be_written_does_not_fill_the_memory(place: Faulty) -> None:
    """A full disk must not become a full memory."""
    store = open_store("", place=place, segment_bytes=3_000)
    place.fails = {"publish"}
    for i in range(40):
        add(store, 10, 10 * i)
        assert store._waiting.num_bytes <= 4 * 3_000
    assert store.find(row_keys((texts_of(10),)), ASK) == [None] * 10
    assert_same(read(store, texts_of(10, 390)), answer(texts_of(10, 390)))
    assert len(store._waiting._places) == 10 * len(store._waiting)


def test_a_folder_that_cannot_be_listed_is_tried_again(place: Faulty, tmp_path: Path) -> None:
    """Shared storage that is away for a minute."""
    filled(tmp_path)
    now, said = [0.0], list[str]()
    place.fails = {"entries"}
    store = open_store("", place=place, clock=lambda: now[0], say=said.append)
    for now[0] in (6.0, 12.0):
        assert store.find(row_keys((texts_of(1),)), ASK) == [None]
    assert len(said) == 1
    place.fails, now[0] = set(), 18.0
    assert_same(read(store, texts_of(20)), answer(texts_of(20)))


def test_a_segment_that_cannot_be_mapped_now_is_tried_again(place: Faulty, tmp_path: Path) -> None:
    """One error of a disk would cost a segment for the whole run."""
    filled(tmp_path)
    place.fails = {"map"}
    now = [0.0]
    store = open_store("", place=place, clock=lambda: now[0])
    assert store.find(row_keys((texts_of(1),)), ASK) == [None]
    place.fails, now[0] = set(), 6.0
    assert_same(read(store, texts_of(20)), answer(texts_of(20)))
    assert not (tmp_path / SET_ASIDE).exists()


def test_a_broken_segment_in_a_store_that_cannot_be_written_is_not_used(
    place: Faulty, tmp_path: Path
) -> None:
    """To set it aside is a write; the run must go on without it, and without saying it at every look."""
    filled(tmp_path)
    damage(segments(tmp_path)[0])
    now, said = [0.0], list[str]()
    place.fails = {"move"}
    store = open_store("", place=place, clock=lambda: now[0], say=said.append)
    for now[0] in (0.0, 6.0, 12.0):
        assert store.find(row_keys((texts_of(20),)), ASK) == [None] * 20
    assert len(said) == 1
    assert "is not used" in said[0]
    add(store, 20)  # the same name again, over the broken one
    store.publish()
    assert_same(read(open_store(tmp_path), texts_of(20)), answer(texts_of(20)))
    assert len(segments(tmp_path)) == 1


def test_a_segment_computed_again_is_seen_under_its_old_name(tmp_path: Path) -> None:
    """Its name is its content, so what replaces a broken segment is called the same."""
    filled(tmp_path)
    whole = segments(tmp_path)[0].read_bytes()
    damage(segments(tmp_path)[0])
    now = [0.0]
    store = open_store(tmp_path, clock=lambda: now[0])
    victim = segments(tmp_path)[0]
    assert store.find(row_keys((texts_of(20),)), ASK) == [None] * 20
    assert not victim.exists()
    victim.write_bytes(whole)  # by another process
    now[0] = 6.0
    assert_same(read(store, texts_of(20)), answer(texts_of(20)))


def test_a_sound_segment_is_not_set_aside_for_its_forerunner(tmp_path: Path) -> None:
    """Another process may have replaced the broken one that this process still has mapped."""
    filled(tmp_path)
    victim = segments(tmp_path)[0]
    whole = victim.read_bytes()
    damage(victim)
    store = open_store(tmp_path, refresh_s=0.0)
    victim.unlink()
    victim.write_bytes(whole)
    store.find(row_keys((texts_of(20),)), ASK)
    assert victim.exists()
    assert_same(read(store, texts_of(20)), answer(texts_of(20)))


def test_what_is_due_is_written_though_nothing_is_added(tmp_path: Path) -> None:
    """A teacher that is only asked for what it has would keep its last answers for itself."""
    for look in ("find", "publish_due"):
        now, folder = [0.0], tmp_path / look
        store = open_store(folder, clock=lambda now=now: now[0])
        add(store, 2)
        assert not segments(folder)
        now[0] = 21.0
        if look == "find":
            store.find(row_keys((texts_of(2),)), ASK)
        else:
            store.publish_due()
        assert len(segments(folder)) == 1


def test_use_is_noted_again_in_a_long_run(place: Faulty, tmp_path: Path) -> None:
    """A segment that a run of days reads all the time would be the first to be evicted."""
    filled(tmp_path)
    now = [0.0]
    store = open_store("", place=place, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 299.0, 301.0, 302.0, 700.0):
        read(store, texts_of(3))
    assert place.calls["used"] == 3


class Elsewhere(Place):
    """As an object store; counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__("base", fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()))
        self.fetched = self.copies = 0

    def open(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Counted(self, super().open(path)), mode="r")

    def map(self, path: str) -> pa.Buffer:
        self.copies += 1
        return super().map(path)


class _Counted:
    def __init__(self, owner: Elsewhere, file: pa.NativeFile) -> None:
        self._owner, self._file = owner, file

    def read(self, size: int) -> bytes:
        content = bytes(self._file.read(size))
        self._owner.fetched += len(content)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_elsewhere_only_keys_are_fetched_until_a_row_is_asked_for(tmp_path: Path) -> None:
    """Every worker would download the whole store at its start."""
    remote = Elsewhere(tmp_path)
    assert not remote.is_local
    writer = open_store("", place=remote)
    add(writer, 300)
    writer.publish()
    size = segments(tmp_path / "base")[0].stat().st_size
    remote.fetched = 0
    store = open_store("", place=remote)
    assert store.find(row_keys((("unknown",),)), ASK) == [None]
    assert list_shelves(remote)[0].rows == 300
    assert 2 * 300 * 16 <= remote.fetched < 2 * (300 * 16 + 8_000) < size
    assert remote.copies == 0
    assert_same(read(store, texts_of(300)), answer(texts_of(300)))
    assert_same(read(store, texts_of(5)), answer(texts_of(5)))
    assert remote.copies == 1


def test_elsewhere_a_segment_may_vanish_or_be_broken(tmp_path: Path) -> None:
    """What is indexed but not fetched may be evicted by anybody."""
    remote = Elsewhere(tmp_path)
    for kind in ("gone", "broken"):
        writer = open_store("", place=remote)
        add(writer, 20)
        writer.publish()
        store = open_store("", place=remote)
        victim = segments(tmp_path / "base")[0]
        if kind == "gone":
            victim.unlink()
        else:
            damage(victim)
        assert store.find(row_keys((texts_of(20),)), ASK) == [None] * 20
        add(store, 20)
        store.publish()
        assert_same(read(store, texts_of(20)), answer(texts_of(20)))
        shutil.rmtree(tmp_path / "base")


def test_numbers_too_large_for_a_code_are_refused_by_row() -> None:
    """An infinity in a stored hidden state makes the loss NaN in the second epoch."""
    parts = {
        "logits": torch.zeros(3, 2),
        "hidden.1.all": torch.tensor([[1.0], [65_504.0], [65_519.0], [70_000.0], [-1e30], [0.0]]),
    }
    signal = pack_signal("wide", (7, 8, 9), [3, 2, 1], parts, "float32")
    store = open_store("/nowhere", Codecs(hidden="float16"))
    with pytest.raises(NotFiniteError) as caught:
        store.add(row_keys((("a", "b", "c"),)), signal)
    assert caught.value.rows == (8,)
    assert "store.codecs.hidden = float16; use bfloat16 or same" in str(caught.value)
    inside = pack_signal("wide", (7,), [1], {"query.1.all": torch.tensor([[70_000.0]])}, "float32")
    with pytest.raises(NotFiniteError, match=r"store\.codecs\.hidden = float16"):
        store.add(row_keys((("a",),)), inside)
    for codecs in (Codecs(), Codecs(hidden="bfloat16"), Codecs(hidden="int8")):
        open_store("/nowhere", codecs).add(row_keys((("a", "b", "c"),)), signal)


def test_top_k_of_classes_that_are_ruled_out_stays_a_distribution() -> None:
    """Logits of minus infinity are probabilities of 0, not NaN."""
    logits = torch.full((2, 9), -torch.inf)
    logits[0, :2], logits[1] = torch.tensor([1.0, 2.0]), torch.arange(9.0)
    code = Codecs(logits="topk", top_k=3).of("logits", "float32")
    found = code.decode(code.encode(logits), 9, torch.float32).softmax(1)
    assert torch.allclose(found[0], logits[0].softmax(0))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "got an empty text"),
        ("foo://bar", "got foo://bar (no filesystem is known for foo://"),
        ("s3://", "must name a bucket or host and a folder in it, got s3://"),
        ("hdfs://x/y", "got hdfs://x/y ("),
    ],
)
def test_places_that_are_none_are_refused_in_one_sentence(uri: str, said: str) -> None:
    """A traceback of Arrow names neither the setting nor the way out."""
    [fault] = place_faults(uri)
    assert said in fault
    assert "\n" not in fault
    ran = CliRunner().invoke(app, ["store", "list", "--store", uri])
    assert isinstance(ran.exception, ConfigError)
    assert str(ran.exception).startswith(f"--store {fault.partition(' (')[0]}")
    assert "\n" not in str(ran.exception)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out after the teachers have computed for an hour."""
    assert place_faults(str(tmp_path / "new" / "store")) == []
    assert place_faults(f"file://{tmp_path}/new") == []
    (tmp_path / "file").touch()
    assert "is a file" in place_faults(str(tmp_path / "file" / "store"))[0]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert f"{tmp_path} is read-only" in place_faults(str(tmp_path / "new" / "store"))[0]


@pytest.mark.parametrize("command", ["list", "verify", "prune"])
def test_what_is_no_store_is_refused(command: str, tmp_path: Path) -> None:
    """`0 segments: 0 broken` of a mistyped folder reads like good news."""
    (tmp_path / "other").mkdir()
    for folder, said in (
        ("absent", "must be an existing folder"),
        ("other", "no shelf is in"),
    ):
        ran = CliRunner().invoke(app, ["store", command, "--store", str(tmp_path / folder)])
        assert isinstance(ran.exception, ConfigError)
        assert said in str(ran.exception)
        assert "\n" not in str(ran.exception)
    filled(tmp_path / "store")
    ran = CliRunner().invoke(app, ["store", command, "--store", str(tmp_path / "store")])
    assert ran.exit_code == 0, ran.output


def test_verify_does_not_take_what_it_cannot_read_for_broken(place: Faulty, tmp_path: Path) -> None:
    """A network that is away for a moment would empty the store."""
    filled(tmp_path)
    place.fails = {"map"}
    verdict = verify(place)
    assert verdict.broken == ()
    assert len(verdict.left) == len(segments(tmp_path)) == 1
    damage(segments(tmp_path)[0])
    place.fails = {"move"}
    assert len(verify(place).left) == 1


def test_every_attribute_of_a_shelf_makes_another() -> None:
    """Answers of a GPU and of a CPU differ in their last bits."""
    from dataclasses import replace

    shelf = open_store("/nowhere").shelf
    others: list[dict[str, Any]] = [
        {"device": "cuda"}, {"software": "torch 2.14"}, {"tokenizer": "other"}, {"weights": "w"},
    ]  # fmt: skip
    assert len({shelf.name, *(replace(shelf, **other).name for other in others)}) == 5


def test_shapes_of_passes_are_those_of_the_stores_version() -> None:
    """Answers that were stored in other shapes have other bits."""
    lengths = [1 + 7 * i * i % 256 for i in range(500)]
    plans = [
        plan(lengths, batch_rows=16, max_tokens=256, **options)  # type: ignore[operator]
        for plan, options in (
            (plan_passes, {}), (plan_passes, {"fixed": True}), (plan_full_passes, {"padding": 256}),
        )
    ]  # fmt: skip
    found = hashlib.sha256(repr(plans).encode()).hexdigest()[:16]
    assert (_VERSION, found) == (3, "7327f12692a12a81"), (
        "The shape of passes changed, hence the last bits of answers: raise _VERSION in "
        "raydistill/store/keys.py, so that old answers are not mixed with new ones, and write both here."
    )
