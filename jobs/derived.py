"""Data sets made of others, for kinds of tasks that none of them is of, and rows that only teachers label.

``wnut17-types``: which kinds of names a tweet has (any number of six), of the tags of its words.
``wnut17-more``: the tweets, and sentences of encyclopedia articles (SQuAD) without tags.
``mr-score``: the sentiment of a sentence as a number, 1 or -1.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

__all__ = ["derive"]

Row = Mapping[str, Any]
_SPLITS = ("train", "validation", "test")


def _types(row: Row) -> Row:
    tags = {tag.partition("-")[2] for tag in row["ner_tags"]} - {""}
    return {"text": " ".join(row["tokens"]), "labels": sorted(tags)}


def _score(row: Row) -> Row:
    return {"text": row["text"], "label": 1.0 if row["label"] == "positive" else -1.0}


def _same(row: Row) -> Row:
    return row


def _sentences() -> Iterable[Row]:
    """Of the contexts of SQuAD, each once, in order, as words."""
    contexts = pq.read_table("data/squad_dev/train.parquet", columns=["context"])["context"]
    for context in dict.fromkeys(contexts.to_pylist()):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", context):
            words = re.findall(r"\w+|[^\w\s]", sentence)
            if _FEWEST <= len(words) <= _MOST:
                yield {"tokens": words}


_FEWEST, _MOST = 6, 60  # words of a sentence
_MADE: Mapping[str, tuple[Path, Callable[[Row], Row]]] = {
    "wnut17-types": (Path("data/wnut17"), _types),
    "wnut17-more": (Path("data/wnut17"), _same),
    "mr-score": (Path("data/mr"), _score),
}
_UNLABELLED: Mapping[str, Callable[[], Iterable[Row]]] = {"wnut17-more": _sentences}


def derive(name: str, into: Path) -> Path:
    """Write the splits of a data set, as JSON lines; a folder that is there is left alone."""
    source, change = _MADE[name]
    if (into / f"{_SPLITS[-1]}.jsonl").exists():
        return into
    into.mkdir(parents=True, exist_ok=True)
    if name in _UNLABELLED:
        _write(into / "unlabelled.jsonl", _UNLABELLED[name]())
        (into / "labels.json").write_text((source / "labels.json").read_text("utf-8"), "utf-8")
    for split in _SPLITS:
        lines = (source / f"{split}.jsonl").read_text("utf-8").split("\n")
        _write(into / f"{split}.jsonl", (change(json.loads(line)) for line in lines if line))
    return into


def _write(path: Path, rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, "utf-8")
