"""store: reading and writing against a memory copy of the same bytes; what each code costs.

Rows are hidden states of 32 tokens x 384 in float32 and two logits, as they come from a teacher.
Reading is from local disk, out of the page cache, each segment compared with its checksum.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benches.common import assets, classifier, line, median, real_texts, say, seconds
from raydistill.losses import build_loss
from raydistill.models import ModelSource
from raydistill.signals import Ask, HiddenAsk, Request, TeacherSignal, pack_signal
from raydistill.store import Codecs, Place, Shelf, ShelfStore, encode_signal, read_signal, row_keys
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.teacher import LocalTeacher

TOKENS, WIDTH, REQUEST, BATCH = 32, 384, 256, 32
ASK = Ask((HiddenAsk(6),))


def store(repeats: int, megabytes: int) -> list[dict]:
    """Speed, then codes."""
    return [*_speed(repeats, megabytes), *_codes()]


def _speed(repeats: int, megabytes: int) -> list[dict]:
    count = megabytes * 2**20 // (TOKENS * WIDTH * 4) // REQUEST * REQUEST
    draw = torch.Generator().manual_seed(0)
    signals, keys = [], []
    for begin in range(0, count, REQUEST):
        ids = tuple(range(begin, begin + REQUEST))
        parts = {
            "logits": torch.randn(REQUEST, 2, generator=draw),
            "hidden.6.all": torch.randn(REQUEST * TOKENS, WIDTH, generator=draw),
        }
        signals.append(pack_signal("bench", ids, [TOKENS] * REQUEST, parts, "float32"))
        keys.append(row_keys(([str(i) for i in ids],)))
    size = sum(signal.num_bytes for signal in signals)
    source = np.concatenate([signal.buffer for signal in signals])
    target = np.ones_like(source)  # its pages are there before the clock runs
    shuffled = np.random.default_rng(0).permutation(count)
    every = np.concatenate(keys)
    times: dict[str, list[float]] = {"copy": [], "write": [], "ordered": [], "shuffled": []}
    for turn in range(repeats):
        times["copy"].append(seconds(lambda: np.copyto(target, source)))
        with tempfile.TemporaryDirectory() as folder:
            writer = _open(folder)
            times["write"].append(seconds(lambda w=writer: _write(w, keys, signals)))
            times["ordered"].append(
                seconds(lambda f=folder: _read(_open(f), every, REQUEST, view=True))
            )
            opened = _open(folder)
            _read(opened, every, REQUEST, view=True)
            times["shuffled"].append(
                seconds(lambda s=opened: _read(s, every[shuffled], BATCH, view=False))
            )
        times["copy"].append(seconds(lambda: np.copyto(target, source)))
        say(
            f"{turn + 1}/{repeats} "
            + ", ".join(
                f"{name} {size / values[-1] / 1e9:.2f} GB/s" for name, values in times.items()
            )
        )
    copied = size / median(times["copy"]) / 1e9
    names = {
        "write": "write, with checksum and fsync",
        "ordered": "read in order: opened, checked, zero-copy",
        "shuffled": f"read shuffled: gathered into batches of {BATCH}",
    }
    found = []
    for key, name in names.items():
        speed = size / median(times[key]) / 1e9
        found.append(
            line(
                "store",
                name,
                speed,
                "GB/s",
                "memory copy of the same bytes",
                copied,
                speed / copied,
            )
        )
    return found  # fmt: skip


def _open(folder: str) -> ShelfStore:
    shelf = Shelf("bench", "float32", TOKENS, False, "float32", Codecs().label, "cpu", "", "")
    return ShelfStore(Place(folder), shelf, Codecs(), teacher="bench")


def _write(store: ShelfStore, keys: list[np.ndarray], signals: list[TeacherSignal]) -> None:
    for some, signal in zip(keys, signals, strict=True):
        store.add(some, signal)
    store.publish()


def _read(store: ShelfStore, keys: np.ndarray, rows: int, *, view: bool) -> None:
    """All rows as signals whose parts are tensors."""
    for begin in range(0, len(keys), rows):
        picks = store.find(keys[begin : begin + rows], ASK)
        signal = store.read(range(len(picks)), picks, ASK, view=view)
        assert len(signal.hidden(ASK.hidden[0])) == len(picks) * TOKENS


def _codes() -> list[dict]:
    """Bytes a row, and how far two losses are off, on a real teacher's answers."""
    texts = real_texts(None, 256)
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(classifier(assets().models["minilm-l6"], Path(scratch)))
        settings = TeacherSettings("bench", ModelSource(folder, folder, folder), "float32", 48, 64)
        teacher = LocalTeacher(settings)
        other = str(classifier(assets().models["minilm-sre"], Path(scratch) / "other", seed=1))
        student = LocalTeacher(
            TeacherSettings("student", ModelSource(other, other, other), "float32", 48, 64)
        )
    request = Request(tuple(range(len(texts))), (tuple(texts),), ASK)
    exact, compared = teacher.answer(request), student.answer(request)
    wide = torch.randn(256, 1000, generator=torch.Generator().manual_seed(0)) * 3
    found = []
    plain = _row_bytes(exact, Codecs())
    for name in ("float32", "float16", "bfloat16", "int8"):
        codecs = Codecs() if name == "float32" else Codecs(hidden=name)
        stored = _again(exact, codecs)
        error = _hidden_mse(compared, stored) / _hidden_mse(compared, exact) - 1
        size = _row_bytes(exact, codecs)
        found.append(
            line(
                "store", f"hidden states in {name}", size, "bytes a row", "float32", plain, plain / size,
                loss="hidden_mse", relative_loss_error=float(f"{abs(error):.3g}"),
            )
        )  # fmt: skip
    for k in (8, 32, 128):
        code = Codecs(logits="topk", top_k=k).of("logits", "float32")
        stored = code.decode(code.encode(wide), 1000, torch.float32)
        kl = float(build_loss("forward_kl", temperature=1.0)(stored, wide))
        found.append(
            line(
                "store", f"1,000 logits as top {k} with tail mass", code.num_bytes(1000), "bytes a row",
                "float32", 4000, 4000 / code.num_bytes(1000), loss="forward_kl", nats=float(f"{kl:.3g}"),
            )
        )  # fmt: skip
    return found


def _again(signal: TeacherSignal, codecs: Codecs) -> TeacherSignal:
    block = encode_signal(signal, codecs)
    picks = [(block, row) for row in range(len(signal.row_ids))]
    return read_signal("bench", signal.row_ids, picks, ("logits", ASK.hidden[0].key), "float32")


def _row_bytes(signal: TeacherSignal, codecs: Codecs) -> float:
    block = encode_signal(signal, codecs)
    return sum(part.data.nbytes for part in block.parts.values()) / len(signal.row_ids)


def _hidden_mse(student: TeacherSignal, teacher: TeacherSignal) -> float:
    return float((student.hidden(ASK.hidden[0]) - teacher.hidden(ASK.hidden[0])).square().mean())
