"""serving: rows a second of one real teacher on ragged real text, against the plain loop.

The plain loop is ``model(**tokenizer(batch, padding=True))`` over shuffled batches of 32. Ours are
the same rows in the same order asked 8 batches ahead, and the whole set sorted as `raydistill cache`
does it; both once more with `backend: onnx` where ONNX Runtime is installed. Logits must agree to
1e-5; the benchmark stops if they do not.
"""

import tempfile
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from benches.common import assets, classifier, line, median, real_texts, say, seconds
from raydistill.cache import REQUEST_ROWS
from raydistill.models import ModelSource
from raydistill.signals import Ask, Request
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.sources import InlineSource
from raydistill.teachers.teacher import LocalTeacher

BATCH, WINDOW, TOLERANCE = 32, 8, 1e-5


def serving(repeats: int, data: Path | None, rows: int, max_tokens: int) -> list[dict]:
    """The demo's reviews, which are short, or the text of a folder."""
    texts = real_texts(data, rows)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(classifier(assets().models["minilm-l6"], Path(scratch)))
        source = ModelSource(folder, folder, folder)
        settings = TeacherSettings("minilm-l6", source, "float32", max_tokens, 64, threads)
        backends: list[Literal["torch", "onnx"]] = ["torch"]
        if find_spec("onnxruntime") is not None:
            backends.append("onnx")
        teachers = {b: LocalTeacher(replace(settings, backend=b)) for b in backends}
        # Also decides how passes are shaped on this processor.
        steady = {b: teacher.describe().steady for b, teacher in teachers.items()}
        plain = _Plain(folder, texts, max_tokens)
    ways = {}
    for backend, teacher in teachers.items():
        mark = "" if backend == "torch" else f", {backend}"
        ways[f"{WINDOW} batches asked ahead{mark}"] = backend, partial(_window, teacher, texts)
        ways[f"whole set sorted, as in cache{mark}"] = backend, partial(_sorted, teacher, texts)
    expected = plain.run()
    for name, (_, way) in ways.items():  # warm-up, and whether it is the same work
        worst = float((way() - expected).abs().max())
        if worst > TOLERANCE:
            raise SystemExit(f"{name}: logits differ by {worst:.2g}")
        say(f"{name}: logits differ by {worst:.2g} at most")
    times: dict[str, list[float]] = {name: [] for name in ways}
    against: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        before = seconds(plain.run)
        for name, (_, way) in ways.items():
            times[name].append(seconds(way))
        after = seconds(plain.run)
        against.append((before + after) / 2)
        for name in ways:
            ratios[name].append(against[-1] / times[name][-1])
            say(f"{turn + 1}/{repeats} {name}: {ratios[name][-1]:.3f}")
    what = "the demo's reviews" if data is None else data.name
    return [
        line(
            "serving", f"{what}, {name}", len(texts) / median(times[name]), "rows/s",
            "model(**tokenizer(batch, padding=True)), shuffled batches of 32",
            len(texts) / median(against), median(ratios[name]), threads=threads, same_bits=steady[ways[name][0]],
        )
        for name in ways
    ]  # fmt: skip


class _Plain:
    """What a user would write."""

    def __init__(self, folder: str, texts: list[str], max_tokens: int) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.texts, self.max_tokens = texts, max_tokens

    @torch.inference_mode()
    def run(self) -> torch.Tensor:
        """Logits of all rows in order."""
        found = []
        for begin in range(0, len(self.texts), BATCH):
            batch = self.tokenizer(
                self.texts[begin : begin + BATCH], padding=True, truncation=True,
                max_length=self.max_tokens, return_tensors="pt",
            )  # fmt: skip
            found.append(self.model(**batch).logits)
        return torch.cat(found)


def _window(teacher: LocalTeacher, texts: list[str]) -> torch.Tensor:
    """Requests of 32 rows, 8 of them known at a time."""
    source = InlineSource(teacher, BATCH * WINDOW)
    requests = [
        Request(tuple(range(begin, min(begin + BATCH, len(texts)))), (tuple(texts[begin : begin + BATCH]),), Ask())
        for begin in range(0, len(texts), BATCH)
    ]  # fmt: skip
    logits = []
    for begin in range(0, len(requests), WINDOW):
        asked = [source.ask(request) for request in requests[begin : begin + WINDOW]]
        logits += [source.collect(one).logits for one in asked]
    return torch.cat(logits)


def _sorted(teacher: LocalTeacher, texts: list[str]) -> torch.Tensor:
    """All rows by length, a request at a time."""
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    logits = torch.empty(len(texts), 2)
    for begin in range(0, len(order), REQUEST_ROWS):
        rows = order[begin : begin + REQUEST_ROWS]
        request = Request(tuple(rows), (tuple(texts[row] for row in rows),), Ask())
        logits[torch.tensor(rows)] = teacher.answer(request).logits
    return logits
