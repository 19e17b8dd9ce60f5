"""Contexts in windows that fit all models of a run, made before it begins.

What is cut by one tokenizer would be seen by another, and a cut answer by nobody; so the text is cut, in units,
where the hungriest tokenizer is full, and the next window begins with the last part of the one before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from raydistill.config import DistillConfig
from raydistill.config.question_answering import QuestionAnsweringTask
from raydistill.data import Split
from raydistill.errors import ConfigError, Fault
from raydistill.models import ModelSource, ModelTraits
from raydistill.models.spans import FIRST_UNIT
from raydistill.prepare.cutting import Cutter, Seen, Window
from raydistill.prepare.planned import PlannedStudent
from raydistill.prepare.sides import Mapped, Side, is_fast, sides_of
from raydistill.tasks import UNMAPPED, Answering

__all__ = ["map_windows", "windows_for"]

_TRAINED = ("train", "unlabelled")
_MAX_NAMED = 3
_NO_LABEL = -100
_NULL = 0


def map_windows(
    config: DistillConfig,
    splits: Mapping[str, Split],
    *,
    student: PlannedStudent,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
) -> Mapped:
    """Make windows that fit student and teachers, and try all tokenizers on them.

    Args:
        config: The run.
        splits: Questions with whole contexts.
        student: How the student is made, and its shape.
        sources: Of the teachers.
        traits: Their shapes.
    """
    own, others = sides_of(config, student=student, sources=sources, traits=traits)
    found = Mapped(dict(splits), {}, [], [])
    sides = [own, *(side for side in others.values() if side is not None)]
    fast = [is_fast(side, config.task.kind, found) for side in sides]  # each is told
    if not all(fast):
        return found
    assert isinstance(config.task, QuestionAnsweringTask), "only its rows are windows"
    found = _windows(splits, sides, config.task.overlap)
    for name, side in others.items():
        if side is None and not found.faults:  # as the student
            key = f"teachers/{name}/units_unmapped"
            found.counted[key] = sum(found.counted[f"{n}/units_unmapped"] for n in _TRAINED if n in splits)  # fmt: skip
    return found


def windows_for(split: Split, sides: Sequence[Side], overlap: float) -> Split:
    """Windows that fit some models, whatever else they are in a run.

    Args:
        split: Questions with whole contexts.
        sides: Tokenizers, and where each cuts.
        overlap: Share of a window that the next begins with.

    Raises:
        ConfigError: They cannot be made.
    """
    found = Mapped({}, {}, [], [])
    fast = [is_fast(side, "question_answering", found) for side in sides]  # each is told
    if all(fast):
        found = _windows({split.name: split}, sides, overlap)
    if found.faults:
        raise ConfigError(found.faults)
    return found.splits[split.name]


def _windows(splits: Mapping[str, Split], sides: Sequence[Side], overlap: float) -> Mapped:
    found = Mapped({}, {}, [], [])
    first_row_id = 0
    unmapped: dict[str, dict[str, list[list[int]]]] = {}
    for name, split in splits.items():
        made = _Made(split, sides, overlap)
        made.make()
        found.faults += made.faults
        if made.faults:
            continue
        found.splits[name] = made.split(first_row_id if name == "unlabelled" else 0)
        first_row_id = len(made.rows) if name == "train" else first_row_id
        found.notes += made.notes()
        for place, side in enumerate(sides):
            lists = [one.unseen[place] for one in made.seen]
            number, merged = (
                float(sum(map(len, lists))),
                sum(one.merged[place] for one in made.seen),
            )
            if place == 0:
                found.counted |= {
                    f"{name}/windows": float(len(made.rows)),
                    f"{name}/answers_in_no_window": float(made.lost),
                    f"{name}/units_unmapped": number,
                    f"{name}/units_merged": float(merged),
                }
            elif name in _TRAINED and side.name is not None:
                key = f"teachers/{side.name}/units"
                for what, value in (("unmapped", number), ("merged", float(merged))):
                    before = found.counted.get(f"{key}_{what}", 0.0)
                    found.counted[f"{key}_{what}"] = before + value
                unmapped.setdefault(side.name, {})[name] = lists
    for teacher, of_splits in unmapped.items():
        if any(any(lists) for lists in of_splits.values()):
            for name, lists in of_splits.items():
                column = pa.array(lists, pa.list_(pa.int32()))
                table = found.splits[name].table.append_column(f"{UNMAPPED}{teacher}", column)
                found.splits[name] = replace(found.splits[name], table=table)
    return found


@dataclass
class _Made:
    """The windows of a split."""

    source: Split
    sides: Sequence[Side]
    overlap: float
    rows: list[Window] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lost: int = 0

    def make(self) -> None:
        """Until every window fits."""
        table = self.source.table
        questions, contexts = table["text"].to_pylist(), table["text_pair"].to_pylist()
        self._cutter = Cutter(questions, contexts, self.sides, self.overlap)
        cut, seen, crowded = self._cutter.windows()
        self._refuse(
            crowded,
            "leaves no room for a context beside the question",
            "Shorten these questions, or raise it.",
        )
        if self.faults:
            return
        self.rows = [row for q in sorted(cut) for row in cut[q]]
        self.seen = [one for q in sorted(cut) for one in seen[q]]
        for place, side in enumerate(self.sides):
            blind = {r.question for r, one in zip(self.rows, self.seen, strict=True) if one.blind[place]}  # fmt: skip
            what = f"has no piece of any unit of a window ({side.who})"
            self._refuse(sorted(blind), what, "Remove them.")

    def _refuse(self, questions: Sequence[int], what: str, way_out: str) -> None:
        if not questions:
            return
        ids = self.source.table["id"]
        shown = ", ".join(f"row {q + 1} ({ids[q].as_py()})" for q in questions[:_MAX_NAMED])
        more = f" and {len(questions) - _MAX_NAMED} more" if len(questions) > _MAX_NAMED else ""
        cuts = ", ".join(dict.fromkeys(f"{side.cut_path} = {side.cut}" for side in self.sides))
        paths = dict.fromkeys(side.cut_path for side in self.sides)
        self.faults.append(
            Fault(
                f"data.{self.source.name}",
                f"must fit the models of the run, but {cuts} {what}: {shown}{more}. {way_out}",
                rests_on=(f"data.{self.source.name}", *paths),
            )
        )

    def split(self, first_row_id: int) -> Split:
        """The split with its windows as rows."""
        table = self.source.table
        of = pa.array([row.question for row in self.rows], pa.int64())
        # Without the contexts: as many copies of a long one as it has windows are quadratic.
        kept = [name for name in ("text", "id", "answers", "route") if name in table.column_names]
        taken = table.select(kept).combine_chunks().take(of)
        labels = self._labels()
        columns = {
            "text": taken["text"],
            "text_pair": pa.array([row.text for row in self.rows], pa.large_string()),
            "label": pa.array(labels, pa.large_list(pa.int32())),
            "row_id": pa.array(
                np.arange(first_row_id, first_row_id + len(self.rows), dtype=np.int64)
            ),
            "question": of,
            "size": pa.array([row.end - row.begin for row in self.rows], pa.int64()),
            "id": taken["id"],
            "answers": taken["answers"],
        }
        if "route" in kept:
            columns["route"] = taken["route"]
        return replace(self.source, table=Answering.of(table).kept_in(pa.table(columns)))

    def _labels(self) -> list[list[int]]:
        """Classes of start and end of each window: those of the first answer, if it lies in the window whole."""
        table = self.source.table
        known, answers, starts = (table[n].to_pylist() for n in ("label", "answers", "starts"))
        found, seen = [], set()
        for row in self.rows:
            q = row.question
            if known[q] < 0:
                found.append([_NO_LABEL, _NO_LABEL])
                continue
            label = [_NULL, _NULL]
            if answers[q]:
                units = self._cutter.units(q)
                begin, end = starts[q][0], starts[q][0] + len(answers[q][0])
                first = int(np.searchsorted(units[:, 1], begin, side="right"))
                last = int(np.searchsorted(units[:, 0], end, side="left")) - 1
                if row.begin <= first <= last < row.end:
                    label = [FIRST_UNIT + first - row.begin, FIRST_UNIT + last - row.begin]
                    seen.add(q)
            found.append(label)
        self.lost = sum(1 for q, label in enumerate(known) if label == 1 and q not in seen)
        return found

    def notes(self) -> list[str]:
        """What should be known of the windows."""
        name, number = self.source.name, self.source.table.num_rows
        found = [f"data.{name}: {number:,} questions are read in {len(self.rows):,} windows."]
        if self.lost:
            found.append(
                f"data.{name}: {self.lost:,} answers lie in no window whole; their windows count as those without an "
                "answer. A larger task.overlap or max_tokens holds more."
            )
        for place, side in enumerate(self.sides):
            total = sum(len(one.unseen[place]) for one in self.seen)
            if total:
                found.append(
                    f"data.{name}: {total:,} units of windows are not seen by the tokenizer of {side.who}; they are part of "
                    "those beside them."
                )
        return found
