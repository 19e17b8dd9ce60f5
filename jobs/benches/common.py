"""What benchmarks share: lines, real text, real teachers."""

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ASSETS = Path("outputs/demo")
"""Where the demo keeps what it fetched; fetched if it is not there."""
TEXT_COLUMNS = ("text", "context", "sentence", "premise")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def line(  # noqa: PLR0917 - the fields of a line, in its order
    bench: str,
    case: str,
    value: float,
    unit: str,
    against: str,
    against_value: float,
    ratio: float,
    **more: object,
) -> dict:
    """One result; a ratio above 1, or near it, is better for us."""
    return {
        "bench": bench, "case": case, "value": _short(value), "unit": unit, "against": against,
        "against_value": _short(against_value), "ratio": round(ratio, 4), **more,
    }  # fmt: skip


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def median(values: Sequence[float]) -> float:
    """Of repeats."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> list[float]:
    """Between what the middle half of the repeats lies."""
    import numpy as np

    return [round(float(value), 3) for value in np.percentile(values, (25, 75))]


class Alternating:
    """Ratios of several cases to one rival, which is measured once more between any two of them.

    A machine that is slower for some seconds is so for both sides of a ratio.

    Args:
        rival: Seconds of the rival.
        cases: Seconds of each case, by name.
    """

    def __init__(
        self, rival: Callable[[], float], cases: Mapping[str, Callable[[], float]]
    ) -> None:
        self._rival, self._cases = rival, cases
        self._before: float | None = None
        self.rival_s: dict[str, list[float]] = {name: [] for name in cases}
        self.seconds: dict[str, list[float]] = {name: [] for name in cases}
        self.ratios: dict[str, list[float]] = {name: [] for name in cases}

    def turn(self) -> None:
        """Each case once, between two measurements of the rival."""
        before = self._rival() if self._before is None else self._before
        for name, case in self._cases.items():
            took = case()
            after = self._rival()
            by_itself, before = (before + after) / 2, after
            self.rival_s[name].append(by_itself)
            self.seconds[name].append(took)
            self.ratios[name].append(by_itself / took)
        self._before = before


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def memory_of(root: int) -> int:
    """Bytes of a process and all below it; pages that several share are divided among them (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


class PeakMemory:
    """The largest memory of a process and all below it while a block runs, looked at every second.

    Args:
        root: The process.
    """

    def __init__(self, root: int) -> None:
        self._root, self._stop = root, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0.0

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.peak = max(self.peak, float(memory_of(self._root)))

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def assets() -> "object":
    """Reviews and models of the demo."""
    from raydistill.demo.assets import fetch_assets

    return fetch_assets(ASSETS, say)


def real_texts(data: Path | None, count: int) -> list[str]:
    """Distinct texts in a shuffled order that is always the same.

    Args:
        data: A folder of .jsonl or .parquet files with a column of text; None: the demo's reviews.
        count: At most that many.
    """
    import numpy as np
    import pyarrow.parquet as pq

    if data is None:
        found = assets()
        files = [found.train, found.unlabelled]
    else:
        files = sorted([*data.glob("*.jsonl"), *data.glob("*.parquet")])
    texts: dict[str, None] = {}
    for file in files:
        if file.suffix == ".parquet":
            rows = pq.read_table(file).to_pylist()
        else:
            rows = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            column = next((name for name in TEXT_COLUMNS if name in row), None)
            if column is None:
                raise SystemExit(f"{file} has none of the columns {', '.join(TEXT_COLUMNS)}")
            texts[row[column]] = None
    order = np.random.default_rng(0).permutation(len(texts))
    every = list(texts)
    return [every[i] for i in order[:count]]


def classifier(encoder: Path, folder: Path, seed: int = 0) -> Path:
    """An encoder with a new head of two classes, saved where a teacher can be loaded from."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    labels = {0: "negative", 1: "positive"}
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=2, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder
