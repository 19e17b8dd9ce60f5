"""Which words the tokenizers of a run make pieces of, found out before it begins.

Denominators count the words that student and teachers have in common, and they are needed before any
answer comes; and a row of which nothing is left is better known now than in the middle of a run.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from raydistill.config import DistillConfig
from raydistill.data import Split
from raydistill.errors import Fault
from raydistill.models import ModelSource, ModelTraits
from raydistill.models.pieces import unmapped_words
from raydistill.prepare.planned import PlannedStudent
from raydistill.prepare.sides import Mapped, Side, is_fast, sides_of
from raydistill.tasks import UNMAPPED
from raydistill.tasks.rows import word_offsets

__all__ = ["map_words"]

_ROWS = 4096  # tokenized at once
_TRAINED = ("train", "unlabelled")
_MAX_NAMED = 3


def map_words(
    config: DistillConfig,
    splits: Mapping[str, Split],
    *,
    student: PlannedStudent,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
) -> Mapped:
    """Try all tokenizers on all words that they will meet in training.

    Args:
        config: The run.
        splits: The rows.
        student: How the student is made, and its shape.
        sources: Of the teachers.
        traits: Their shapes.
    """
    found = Mapped(dict(splits), {}, [], [])
    own, others = sides_of(config, student=student, sources=sources, traits=traits)
    if not is_fast(own, config.task.kind, found):
        return found
    for name, split in splits.items():
        unmapped = _unmapped(own, split)
        path = f"data.{name}"
        found.faults += _empty_rows(own, split, unmapped, path)
        found.counted[f"{name}/words_unmapped"] = float(sum(map(len, unmapped.values())))
        found.notes += _notes(own, split, unmapped)
    for name, side in others.items():
        if side is None:
            found.counted[f"teachers/{name}/words_unmapped"] = sum(
                found.counted.get(f"{split}/words_unmapped", 0.0) for split in _TRAINED
            )
        elif is_fast(side, config.task.kind, found):
            _map_teacher(side, name, found)
    return found


def _map_teacher(side: Side, name: str, found: Mapped) -> None:
    """Add the column of a teacher, if there are words that it leaves out."""
    trained = [split for split in _TRAINED if split in found.splits]
    unmapped = {split: _unmapped(side, found.splits[split]) for split in trained}
    total = sum(len(words) for rows in unmapped.values() for words in rows.values())
    found.counted[f"teachers/{name}/words_unmapped"] = float(total)
    for split in trained:
        found.faults += _empty_rows(side, found.splits[split], unmapped[split], side.path)
        found.notes += _notes(side, found.splits[split], unmapped[split])
    if not total:
        return
    for split in trained:
        rows = found.splits[split]
        lists = [unmapped[split].get(row, []) for row in range(rows.table.num_rows)]
        column = pa.array(lists, pa.list_(pa.int32()))
        table = rows.table.append_column(f"{UNMAPPED}{name}", column)
        found.splits[split] = replace(rows, table=table)


def _unmapped(side: Side, split: Split) -> dict[int, list[int]]:
    """Words without a piece, by row; rows where all have one are left out."""
    column = split.table["words"]
    found: dict[int, list[int]] = {}
    for begin in range(0, split.table.num_rows, _ROWS):
        rows = column.slice(begin, _ROWS).to_pylist()
        lost = unmapped_words(side.tokenizer, rows, side.cut)
        found |= {begin + row: words for row, words in enumerate(lost) if words}
    return found


def _empty_rows(
    side: Side, split: Split, unmapped: Mapping[int, list[int]], path: str
) -> list[Fault]:
    """A fault, if nothing is left of rows."""
    sizes = np.diff(word_offsets(split.table["words"]))
    empty = [row for row, words in unmapped.items() if len(words) == sizes[row]]
    if not empty:
        return []
    shown = ", ".join(f"row {row + 1}" for row in empty[:_MAX_NAMED])
    more = f" and {len(empty) - _MAX_NAMED} more" if len(empty) > _MAX_NAMED else ""
    return [
        Fault(
            path,
            f"must leave a word of every row: the tokenizer of {side.who}, cut at {side.cut} tokens ({side.cut_path}), makes "
            f"no piece of any word in {shown}{more} of {split.name}. Remove these rows.",
            rests_on=(path, side.cut_path),
        )
    ]


def _notes(side: Side, split: Split, unmapped: Mapping[int, list[int]]) -> list[str]:
    total = sum(map(len, unmapped.values()))
    if not total:
        return []
    words = int(word_offsets(split.table["words"])[-1])
    return [
        f"data.{split.name}: {total:,} of {words:,} words are not seen by the tokenizer of {side.who}: they lie behind "
        f"its cut at {side.cut} tokens ({side.cut_path}) or are made of nothing visible; they are left out."
    ]
