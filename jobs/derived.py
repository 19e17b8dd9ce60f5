"""Data sets made of others, for kinds of tasks that none of them is of.

``wnut17-types``: which kinds of names a tweet has (any number of six), of the tags of its words.
``mr-score``: the sentiment of a sentence as a number, 1 or -1.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["derive"]

Row = Mapping[str, Any]
_SPLITS = ("train", "validation", "test")


def _types(row: Row) -> Row:
    tags = {tag.partition("-")[2] for tag in row["ner_tags"]} - {""}
    return {"text": " ".join(row["tokens"]), "labels": sorted(tags)}


def _score(row: Row) -> Row:
    return {"text": row["text"], "label": 1.0 if row["label"] == "positive" else -1.0}


_MADE: Mapping[str, tuple[Path, Callable[[Row], Row]]] = {
    "wnut17-types": (Path("data/wnut17"), _types),
    "mr-score": (Path("data/mr"), _score),
}


def derive(name: str, into: Path) -> Path:
    """Write the splits of a data set, as JSON lines; a folder that is there is left alone."""
    source, change = _MADE[name]
    if (into / f"{_SPLITS[-1]}.jsonl").exists():
        return into
    into.mkdir(parents=True, exist_ok=True)
    for split in _SPLITS:
        lines = (source / f"{split}.jsonl").read_text("utf-8").split("\n")
        rows = [change(json.loads(line)) for line in lines if line]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (into / f"{split}.jsonl").write_text(text, "utf-8")
    return into
