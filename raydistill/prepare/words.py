"""Which words the tokenizers of a run make pieces of, found out before it begins.

Denominators count the words that student and teachers have in common, and they are needed before any
answer comes; and a row of which nothing is left is better known now than in the middle of a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.config import DistillConfig
from raydistill.config.task import HEADS
from raydistill.data import Split
from raydistill.errors import Fault
from raydistill.models import ModelSource, ModelTraits, load_tokenizer
from raydistill.models.pieces import unmapped_words
from raydistill.prepare.planned import PlannedStudent
from raydistill.tasks import UNMAPPED
from raydistill.tasks.rows import word_offsets
from raydistill.training.student import make_tokenizer

__all__ = ["MappedWords", "map_words"]

_ROWS = 4096  # tokenized at once
_TRAINED = ("train", "unlabelled")
_MAX_NAMED = 3


@dataclass
class MappedWords:
    """What was found.

    Attributes:
        splits: The rows, with a column ``unmapped.NAME`` for teachers whose tokenizer leaves words out that
            the student's does not.
        counted: For metrics.json: words without a piece, of the student and of each teacher.
        notes: What should be known.
        faults: Rows of which nothing is left.
    """

    splits: dict[str, Split]
    counted: dict[str, float]
    notes: list[str]
    faults: list[Fault]


@dataclass(frozen=True)
class _Side:
    """A tokenizer and where it cuts.

    Attributes:
        who: In sentences.
        path: Of the model in the configuration.
        cut: Where rows are cut.
        cut_path: Where that is written.
        tokenizer: Itself.
    """

    who: str
    path: str
    cut: int
    cut_path: str
    tokenizer: Any


def map_words(
    config: DistillConfig,
    splits: Mapping[str, Split],
    *,
    student: PlannedStudent,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
) -> MappedWords:
    """Try all tokenizers on all words that they will meet in training; of texts nothing is done.

    Args:
        config: The run.
        splits: The rows.
        student: How the student is made, and its shape.
        sources: Of the teachers.
        traits: Their shapes.
    """
    found = MappedWords(dict(splits), {}, [], [])
    if HEADS[config.task.kind] != "words":
        return found
    cut, tokenizer = config.student.max_tokens, make_tokenizer(student.plan)
    own = _Side("the student", "student", cut, "student.max_tokens", tokenizer)
    if not _is_fast(own, found):
        return found
    for name, split in splits.items():
        unmapped = _unmapped(own, split)
        path = f"data.{name}"
        found.faults += _empty_rows(own, split, unmapped, path)
        found.counted[f"{name}/words_unmapped"] = float(sum(map(len, unmapped.values())))
        found.notes += _notes(own, split, unmapped)
    for name, source in sources.items():
        section = config.teachers[name]
        own_cut = section.max_tokens is not None
        most = section.max_tokens or cut
        key = (traits[name].tokenizer, most)
        if key == (student.traits.tokenizer, cut):
            found.counted[f"teachers/{name}/words_unmapped"] = sum(
                found.counted.get(f"{split}/words_unmapped", 0.0) for split in _TRAINED
            )
            continue
        cut_path = f"teachers.{name}.max_tokens" if own_cut else "student.max_tokens"
        side = _Side(
            f"teachers.{name}", f"teachers.{name}.model", most, cut_path, load_tokenizer(source)
        )
        if _is_fast(side, found):
            _map_teacher(side, name, found)
    return found


def _map_teacher(side: _Side, name: str, found: MappedWords) -> None:
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


def _is_fast(side: _Side, found: MappedWords) -> bool:
    if getattr(side.tokenizer, "is_fast", False):
        return True
    found.faults.append(
        Fault(
            side.path,
            "must have a tokenizer of the tokenizers library (tokenizer.json) with task.kind: tagging, got "
            f"{type(side.tokenizer).__name__}, which does not say which piece is of which word.",
            rests_on=(side.path, "task.kind"),
        )
    )
    return False


def _unmapped(side: _Side, split: Split) -> dict[int, list[int]]:
    """Words without a piece, by row; rows where all have one are left out."""
    column = split.table["words"]
    found: dict[int, list[int]] = {}
    for begin in range(0, split.table.num_rows, _ROWS):
        rows = column.slice(begin, _ROWS).to_pylist()
        lost = unmapped_words(side.tokenizer, rows, side.cut)
        found |= {begin + row: words for row, words in enumerate(lost) if words}
    return found


def _empty_rows(
    side: _Side, split: Split, unmapped: Mapping[int, list[int]], path: str
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


def _notes(side: _Side, split: Split, unmapped: Mapping[int, list[int]]) -> list[str]:
    total = sum(map(len, unmapped.values()))
    if not total:
        return []
    words = int(word_offsets(split.table["words"])[-1])
    return [
        f"data.{split.name}: {total:,} of {words:,} words are not seen by the tokenizer of {side.who}: they lie behind "
        f"its cut at {side.cut} tokens ({side.cut_path}) or are made of nothing visible; they are left out."
    ]
