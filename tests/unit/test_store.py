"""The store gives back what was put in, or nothing: never another row, never a damaged one."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import fs

from raydistill.signals import Ask, AttentionAsk, HiddenAsk, TeacherSignal, pack_signal
from raydistill.signals.signal import select_rows
from raydistill.store import Codecs, Place, Shelf, ShelfStore, row_keys
from raydistill.store.index import Index
from raydistill.store.store import SET_ASIDE
from raydistill.store.upkeep import list_shelves, prune, verify

WIDTH = 6
ASK = Ask(
    (
        HiddenAsk(2),
        HiddenAsk(2, "gram"),
        HiddenAsk(3, "mean"),
        HiddenAsk(3, "all", "query"),
        HiddenAsk(3, "mean", "value"),
    ),
    (AttentionAsk(1), AttentionAsk(1, "mean")),
)


def texts_of(count: int, begin: int = 0) -> tuple[str, ...]:
    return tuple(f"row {i}" for i in range(begin, begin + count))


def answer(texts: tuple[str, ...], ask: Ask = ASK) -> TeacherSignal:
    """What a teacher would say: a function of each text alone."""
    lengths = [1 + len(text) % 5 for text in texts]
    pieces: dict[str, list[torch.Tensor]] = {}
    for text, length in zip(texts, lengths, strict=True):
        draw = torch.Generator().manual_seed(sum(text.encode()) * 131 + len(text))
        whole = {
            "logits": torch.randn(1, 3, generator=draw),
            "hidden.2.all": torch.randn(length, WIDTH, generator=draw),
            "hidden.3.mean": torch.randn(1, WIDTH, generator=draw),
            "hidden.2.gram": torch.randn(length * length, generator=draw),
            "query.3.all": torch.randn(length, WIDTH - 2, generator=draw),
            "value.3.mean": torch.randn(1, WIDTH - 2, generator=draw),
            "attention.1.all": torch.rand(2 * length * length, generator=draw),
            "attention.1.mean": torch.rand(length * length, generator=draw),
        }
        for name in (
            "logits",
            *(h.key for h in ask.hidden),
            *(a.key for a in ask.attention),
        ):
            pieces.setdefault(name, []).append(whole[name])
    parts = {name: torch.cat(some) for name, some in pieces.items()}
    return pack_signal("wide", range(len(texts)), lengths, parts, ask.dtype)


def open_store(folder: Path | str, codecs: Codecs | None = None, **options: Any) -> ShelfStore:
    codecs = codecs or Codecs()
    shelf = Shelf("weights", "float32", 32, True, "float32", codecs.label, "cpu", "2.13", "tokens")
    place = options.pop("place", None) or Place(str(folder))
    return ShelfStore(place, shelf, codecs, teacher="wide", **options)


def filled(folder: Path, count: int = 20, ask: Ask = ASK, **options: Any) -> ShelfStore:
    store = open_store(folder, **options)
    store.add(row_keys((texts_of(count),)), answer(texts_of(count), ask))
    store.publish()
    return store


def read(
    store: ShelfStore, texts: tuple[str, ...], ask: Ask = ASK, **options: Any
) -> TeacherSignal:
    picks = store.find(row_keys((texts,)), ask)
    assert None not in picks
    return store.read(range(len(texts)), [pick for pick in picks if pick], ask, **options)


def assert_same(found: TeacherSignal, expected: TeacherSignal) -> None:
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert found.parts.keys() == expected.parts.keys()
    for name in expected.parts:
        assert torch.equal(found.part(name), expected.part(name)), name


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.arrow"))


def test_keys_are_of_the_text_and_of_where_a_column_ends() -> None:
    """Two pairs of texts that read the same one behind the other are different rows."""
    keys = row_keys((("ab", "a", "ab"), ("c", "bc", "c")))
    assert keys[0] == keys[2] != keys[1]
    assert row_keys((("a",),))[0] != row_keys((("a",), ("",)))[0]


@pytest.mark.parametrize("view", [False, True])
def test_rows_come_back_to_the_bit_in_any_order(tmp_path: Path, view: bool) -> None:
    """Every way into the store: just added, published, opened by another process."""
    store = open_store(tmp_path)
    store.add(row_keys((texts_of(12),)), answer(texts_of(12)))
    store.publish()
    store.add(row_keys((texts_of(8, 12),)), answer(texts_of(8, 12)))
    for opened in (store, filled(tmp_path), open_store(tmp_path)):
        for some in (texts_of(5, 3), texts_of(12)[::-1], (*texts_of(3, 15), *texts_of(2))):
            if opened is store or len(segments(tmp_path)) > 1:
                assert_same(read(opened, some, view=view), answer(some))


def test_a_view_is_the_file_and_counts_only_its_parts(tmp_path: Path) -> None:
    """A copy of every row read would halve the speed of later epochs."""
    store = filled(tmp_path)
    found = read(store, texts_of(6, 4), view=True)
    assert found.buffer.nbytes == segments(tmp_path)[0].stat().st_size
    assert found.num_bytes == sum(found.part(name).nbytes for name in found.parts)
    assert read(store, texts_of(6, 4)).buffer.nbytes < found.buffer.nbytes
    assert_same(found, answer(texts_of(6, 4)))


def test_a_superset_answers_a_subset_and_not_the_other_way(tmp_path: Path) -> None:
    """Else another layer is computed twice, or given out as the one that was asked for."""
    store = filled(tmp_path)
    fewer = Ask((HiddenAsk(3, "mean"),))
    assert_same(read(store, texts_of(4), fewer), answer(texts_of(4), fewer))
    queries = Ask((HiddenAsk(3, "all", "query"),))
    assert_same(read(store, texts_of(4), queries), answer(texts_of(4), queries))
    for other in (HiddenAsk(4), HiddenAsk(3, "all", "key"), HiddenAsk(2, "all", "query")):
        assert store.find(row_keys((texts_of(4),)), Ask((other,))) == [None] * 4
    assert store.find(row_keys((("unknown",),)), ASK) == [None]


def test_an_ask_of_another_dtype_is_a_bug_of_the_caller(tmp_path: Path) -> None:
    """Bytes of float32 read as float16 are numbers, too."""
    with pytest.raises(AssertionError, match="one dtype"):
        filled(tmp_path).find(row_keys((("a",),)), Ask(dtype="float16"))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_segment_is_set_aside_and_never_served(tmp_path: Path, damage: str) -> None:
    """A bit that flipped on disk would train another student in silence."""
    filled(tmp_path)
    victim = segments(tmp_path)[0]
    content = bytearray(victim.read_bytes())
    if damage == "flip":
        at = content.index(answer(texts_of(20)).part("hidden.2.all").numpy().tobytes()[:8])
        content[at + 5] ^= 1
    victim.chmod(0o644)
    victim.write_bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[damage])
    said: list[str] = []
    store = open_store(tmp_path, say=said.append)
    assert store.find(row_keys((texts_of(20),)), ASK) == [None] * 20
    assert not victim.exists()
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 1
    assert len(said) == 1
    assert victim.name in said[0]
    store.add(row_keys((texts_of(20),)), answer(texts_of(20)))
    store.publish()
    assert_same(read(open_store(tmp_path), texts_of(20)), answer(texts_of(20)))


def test_verify_names_what_is_broken_and_prune_clears_it(tmp_path: Path) -> None:
    """A person who asks must hear of damage before a run does."""
    store = filled(tmp_path)
    assert verify(Place(str(tmp_path))).broken == ()
    store.add(row_keys((("other",),)), answer(("other",)))
    store.publish()
    victim = segments(tmp_path)[0]
    victim.write_bytes(victim.read_bytes()[:-9] + b"damaged!!")
    verdict = verify(Place(str(tmp_path)))
    assert verdict.broken == (str(victim.relative_to(tmp_path)),)
    assert verdict.segments == 2
    assert verify(Place(str(tmp_path))).set_aside == 1
    assert prune(Place(str(tmp_path)), None)[0] == 1
    assert verify(Place(str(tmp_path))).set_aside == 0
    assert not list((tmp_path / SET_ASIDE).iterdir())


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """A store named by mistake, or in a shared folder, must not cost anybody their data."""
    filled(tmp_path)
    for name in ("data.arrow", "train/part-0.arrow", "train/x.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not ours")
        os.utime(tmp_path / name, (1000, 1000))
    place = Place(str(tmp_path))
    assert verify(place).broken == ()
    prune(place, 0)
    left = ("data.arrow", "train/part-0.arrow", "train/x.tmp")
    assert all((tmp_path / name).exists() for name in left)


def test_eviction_keeps_what_was_used_last(tmp_path: Path) -> None:
    """A store without a limit fills the disk; one that evicts at random is of no use."""
    store = open_store(tmp_path)
    for i in range(4):
        store.add(row_keys((texts_of(10, 10 * i),)), answer(texts_of(10, 10 * i)))
        store.publish()
        made = set(segments(tmp_path))
        for age, path in enumerate(sorted(made, key=lambda p: p.stat().st_mtime)):
            os.utime(path, (1000 + age, 1000 + age))
    size = sum(path.stat().st_size for path in segments(tmp_path))
    fresh = open_store(tmp_path)
    read(fresh, texts_of(10))  # the oldest is used now
    count, freed = prune(Place(str(tmp_path)), size // 2)
    assert count >= 2
    assert freed >= size // 2
    left = open_store(tmp_path)
    assert None not in left.find(row_keys((texts_of(10),)), ASK)
    assert None in left.find(row_keys((texts_of(10, 10),)), ASK)
    assert_same(read(fresh, texts_of(10)), answer(texts_of(10)))


def test_a_limit_is_kept_while_writing(tmp_path: Path) -> None:
    """`store.max_bytes` that only `prune` obeys is no limit."""
    filled(tmp_path, count=10)
    one = segments(tmp_path)[0].stat().st_size
    store = open_store(tmp_path, max_bytes=3 * one)
    for i in range(1, 9):
        store.add(row_keys((texts_of(10, 100 * i),)), answer(texts_of(10, 100 * i)))
        store.publish()
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 3 * one


def test_what_others_publish_is_found_after_a_while(tmp_path: Path) -> None:
    """A worker that looks only once computes what its neighbour has."""
    now = [0.0]
    early = open_store(tmp_path, clock=lambda: now[0])
    filled(tmp_path)
    assert early.find(row_keys((texts_of(1),)), ASK) == [None]
    now[0] = 6.0
    assert None not in early.find(row_keys((texts_of(1),)), ASK)


def test_published_when_large_or_old(tmp_path: Path) -> None:
    """Rows that wait for the end of a run are lost with it."""
    now = [0.0]
    store = open_store(tmp_path, clock=lambda: now[0], publish_s=20.0, segment_bytes=10_000)
    store.add(row_keys((texts_of(2),)), answer(texts_of(2)))
    assert not segments(tmp_path)
    now[0] = 21.0
    store.add(row_keys((texts_of(2, 2),)), answer(texts_of(2, 2)))
    assert len(segments(tmp_path)) == 1
    store.add(row_keys((texts_of(60, 100),)), answer(texts_of(60, 100)))
    assert len(segments(tmp_path)) == 2


def test_an_object_store_serves_as_well(tmp_path: Path) -> None:
    """s3:// and gs:// have no rename and no mapping."""
    import fsspec

    remote = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory")))
    place = Place(f"/bucket-{tmp_path.name}", remote)
    assert not place.is_local
    store = open_store("", place=place)
    store.add(row_keys((texts_of(9),)), answer(texts_of(9)))
    store.publish()
    assert_same(read(open_store("", place=place), texts_of(9)[::-1]), answer(texts_of(9)[::-1]))
    assert verify(place).broken == ()
    assert list_shelves(place)[0].rows == 9
    assert prune(place, 0)[0] == 1


@pytest.mark.parametrize(
    ("codecs", "part", "relative", "absolute"),
    [
        (Codecs(hidden="float16"), "hidden.2.all", 2**-11, 3e-8),
        (Codecs(hidden="bfloat16"), "hidden.2.all", 2**-8, 0),
        (Codecs(attention="float16"), "attention.1.all", 2**-11, 3e-8),
        (Codecs(logits="bfloat16"), "logits", 2**-8, 0),
    ],
)
def test_codes_err_by_no_more_than_they_say(
    tmp_path: Path, codecs: Codecs, part: str, relative: float, absolute: float
) -> None:
    """The documented error is what a user chooses by."""
    texts = texts_of(20)
    found = read(filled(tmp_path, codecs=codecs), texts)
    exact = answer(texts)
    for name in exact.parts:
        off = (found.part(name) - exact.part(name)).abs()
        if Codecs.setting(name) == Codecs.setting(part):
            assert off.max() > 0
            assert (off <= relative * exact.part(name).abs() + absolute).all()
        else:
            assert off.max() == 0


def test_int8_errs_by_half_a_step_of_its_vector(tmp_path: Path) -> None:
    """One large number in a vector must not spoil the others vectors."""
    exact = answer(texts_of(20)).part("hidden.2.all")
    found = read(filled(tmp_path, codecs=Codecs(hidden="int8")), texts_of(20)).part("hidden.2.all")
    bound = exact.abs().amax(1, keepdim=True) / 254 * 1.0001
    assert ((found - exact).abs() <= bound).all()
    gram = read(filled(tmp_path / "gram", codecs=Codecs(hidden="int8")), texts_of(20)).part(
        "hidden.2.gram"
    )
    assert torch.equal(gram, answer(texts_of(20)).part("hidden.2.gram")), "numbers, not vectors"
    zero = Codecs(hidden="int8").of("hidden.1.all", "float32")
    assert not zero.decode(zero.encode(torch.zeros(2, 5)), 5, torch.float32).any()


def test_top_k_keeps_the_largest_and_the_mass_of_the_rest() -> None:
    """Cut without the tail, a distribution sums to less, and every loss is biased."""
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * 3
    code = Codecs(logits="topk", top_k=5).of("logits", "float32")
    stored = code.encode(logits)
    assert stored.shape == (7, code.num_bytes(50)) == (7, 44)
    p, q = logits.softmax(1), code.decode(stored, 50, torch.float32).softmax(1)
    top = p.topk(5, 1).indices
    assert torch.allclose(q.gather(1, top), p.gather(1, top), atol=1e-6)
    rest = q.scatter(1, top, -1.0)
    for row in rest:
        tail = row[row >= 0]
        assert torch.allclose(tail, tail[:1].expand_as(tail))
    # What the documentation says of the divergence: m (log(C - k) - H).
    tails = p.scatter(1, top, 0.0)
    mass = tails.sum(1)
    inside = tails / mass[:, None]
    entropy = -(inside * inside.clamp_min(1e-30).log()).sum(1)
    expected = mass * (np.log(45) - entropy)
    assert torch.allclose((p * (p / q).log()).sum(1), expected, atol=1e-5)
    few = Codecs(logits="topk", top_k=99).of("logits", "float32")
    assert torch.allclose(few.decode(few.encode(logits), 50, torch.float32), logits)


_WRITER = """
    import sys, random
    from raydistill.store import row_keys
    from tests.unit.test_store import ASK, answer, open_store
    folder, seed = sys.argv[1], int(sys.argv[2])
    store = open_store(folder, segment_bytes=3_000, refresh_s=0.0)
    order = list(range(300))
    random.Random(seed).shuffle(order)
    for begin in range(0, 300, 5):
        texts = tuple(f"row {i}" for i in order[begin:begin + 5])
        keys = row_keys((texts,))
        missing = [i for i, pick in enumerate(store.find(keys, ASK)) if pick is None]
        if missing:
            some = tuple(texts[i] for i in missing)
            store.add(row_keys((some,)), answer(some))
    store.publish()
"""


def test_many_writers_one_of_them_killed_again_and_again(tmp_path: Path) -> None:
    """Half a segment that is taken for a whole one poisons every run that shares the store."""

    def start(seed: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(tmp_path), str(seed)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2])

    writers = [start(seed) for seed in range(3)]
    kills = 0
    while kills < 4:
        victim = start(100 + kills)
        before = len(segments(tmp_path))
        deadline = time.monotonic() + 20
        while victim.poll() is None and time.monotonic() < deadline:
            if len(segments(tmp_path)) > before:  # it, or another, is in the middle of writing
                break
            time.sleep(0.002)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        kills += 1
    assert all(writer.wait(timeout=30) == 0 for writer in writers)
    assert verify(Place(str(tmp_path))).broken == ()
    store = open_store(tmp_path)
    assert_same(read(store, texts_of(300)), answer(texts_of(300)))
    assert select_rows(read(store, texts_of(3)), 1, 2).lengths.tolist() == [1 + len("row 1") % 5]


def test_keys_that_are_alike_in_their_first_half_are_told_apart() -> None:
    """A row would get the answer to another; and one that stands twice must be found twice."""

    def keys(*pairs: tuple[int, int]) -> Any:
        return np.array(pairs, np.uint64).view("V16").ravel()

    index = Index([keys((7, 1), (7, 2), (9, 1)), keys((7, 2), (3, 3))])
    segments, rows, others = index.first(keys((9, 1), (9, 2), (3, 3), (8, 0)))
    assert segments.tolist() == [0, -1, 1, -1]
    assert (rows[0], rows[2]) == (2, 1)
    assert others.tolist() == [False] * 4
    assert index.first(keys((7, 2)))[2].tolist() == [True]
    assert list(index.places(keys((7, 2))[0])) == [(0, 1), (1, 0)]
    assert list(index.places(keys((7, 9))[0])) == []
    assert Index([]).first(keys((1, 1)))[0].tolist() == [-1]
