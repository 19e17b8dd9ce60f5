"""Questions with contexts and answers, from files to checked tables.

Reading order: :func:`load_question_splits`, then `_Collector`; how rows stand in files is in
:mod:`raydistill.data.question_reader`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import regex

from raydistill.data.checks import HALF_PAIR, RowFaults, has_half_pair, overlap_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.labels import NO_LABEL
from raydistill.data.parts import Origin, Part, read_each
from raydistill.data.question_reader import QuestionColumns, QuestionReader, QuestionRow
from raydistill.data.routes import Routed, Routes, route_note
from raydistill.data.sources import Split
from raydistill.data.squad import Answers
from raydistill.data.units import units_of
from raydistill.errors import ConfigError, Fault

__all__ = ["QUESTION_SCHEMA", "load_question_splits"]

_NEAR = 3  # characters
_CUT_ANEW = ((3, regex.compile("[ーｰﾞﾟ〆〱-〵]")), (2, regex.compile(r"\p{Hangul}")))
"""Contexts whose units are others than they were: since 3 marks of Japanese are letters, since 2 Hangul is cut into syllables."""

QUESTION_SCHEMA = pa.schema([
    ("text", pa.large_string()),
    ("text_pair", pa.large_string()),
    ("id", pa.large_string()),
    ("answers", pa.large_list(pa.large_string())),
    ("starts", pa.large_list(pa.int64())),
    ("label", pa.int32()),
    ("row_id", pa.int64()),
])  # fmt: skip
"""Of a split: question, context, id, texts and places of its answers (the first has one, those at -1 have none); the
label is 1 if there is an answer, 0 if the context has none, -100 if nobody says."""


def load_question_splits(
    files: Mapping[str, Sequence[Origin]],
    columns: QuestionColumns,
    *,
    routes: Routes | None = None,
    path_in_config: str = "data",
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files or splits of data sets, joined in their order.
        columns: Where things stand.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.

    Returns:
        Splits by name; their tables have the columns of :data:`QUESTION_SCHEMA`, and perhaps ``route``.

    Raises:
        ConfigError: Every fault of every split.
    """
    faults: list[Fault] = []
    splits: dict[str, Split] = {}
    for name in [name for name in SPLIT_NAMES if name in files]:
        first = splits["train"].table.num_rows if name == "unlabelled" and "train" in splits else 0
        try:
            splits[name] = _read(
                name, files[name], columns, routes, f"{path_in_config}.{name}", first
            )
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    seen = [splits[name] for name in ("train", "unlabelled") if name in splits]
    for name in ("validation", "test"):
        if name in splits:
            notes = (*splits[name].notes, *overlap_notes([*seen, splits[name]]))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def _read(  # noqa: PLR0917 - private
    name: str,
    paths: Sequence[Origin],
    columns: QuestionColumns,
    routes: Routes | None,
    path_in_config: str,
    first_row_id: int,
) -> Split:
    """The rows of a split.

    Raises:
        ConfigError: What is wrong with files and rows.
    """
    reader = _Collector(name, columns, routes, path_in_config)
    parts = read_each(paths, path_in_config, reader.read)
    if not reader.rows:
        listed = ", ".join(part.name for part in parts)
        raise ConfigError.of(
            path_in_config, f"must hold at least one question, got none in {listed}."
        )
    return reader.split([part.shown for part in parts], first_row_id)


class _Collector:
    """Checks and collects the questions of one split."""

    def __init__(
        self, name: str, columns: QuestionColumns, routes: Routes | None, path_in_config: str
    ) -> None:
        self._name, self._columns, self._routes = name, columns, routes
        self._path_in_config = path_in_config
        self._routed = Routed(routes, path_in_config)
        self._reader = QuestionReader(
            columns, self._routed, path_in_config, answered=name != "unlabelled"
        )
        self._ids: set[str] = set()
        self._visible: dict[str, bool] = {}
        self._num_answers = self._num_moved = self._num_unplaced = 0
        self.rows: list[QuestionRow] = []

    def read(self, part: Part) -> list[Fault]:
        """Add the questions of a file, or of a data set; what is wrong with it."""
        problems = RowFaults(self._path_in_config, part.name)
        for row in self._reader.rows(part, problems):
            self.rows.append(self._checked(row, problems))
        return [*problems.faults(), *self._reader.faults]

    def _checked(self, row: QuestionRow, problems: RowFaults) -> QuestionRow:
        """A row as it is kept; what is wrong with it is added."""
        if not self._is_visible(row.context):
            problems.add(
                "have a context with text in every row", "none", row.where, "Remove these rows."
            )
            return row
        if row.id is not None:
            if row.id in self._ids:
                problems.add(
                    "have an id of its own for every question",
                    "some twice",
                    f"{row.id!r} in {row.where}",
                )
            self._ids.add(row.id)
        if row.answers is None and self._name == "train":
            problems.add(
                "have answers in every row",
                "none",
                row.where,
                "Put questions without answers under data.unlabelled; where the context has no answer, the lists are "
                "empty.",
            )
        answers = self._placed(row, problems)
        return row if answers == row.answers else replace(row, answers=answers)

    def _placed(self, row: QuestionRow, problems: RowFaults) -> Answers | None:
        """The answers of a row: first those that stand in the context, then those without a place, at -1."""
        if not row.answers:
            return row.answers
        for text, _ in row.answers:
            if has_half_pair(text):
                problems.add("hold text in every answer", HALF_PAIR, row.where)
                return row.answers
            if not len(units_of(text)):
                problems.add("have answers with text", "blank ones", row.where)
                return row.answers
        places = [_place(row.context, text, start) for text, start in row.answers]
        if max(places) < 0:
            self._refuse(row, *row.answers[0], problems)
            return row.answers
        self._num_answers += len(places)
        self._num_unplaced += places.count(-1)
        self._num_moved += sum(
            place not in (start, -1) for place, (_, start) in zip(places, row.answers, strict=True)
        )
        found = [(text, place) for place, (text, _) in zip(places, row.answers, strict=True)]
        return tuple(dict.fromkeys(sorted(found, key=lambda one: one[1] < 0)))

    @staticmethod
    def _refuse(row: QuestionRow, text: str, start: int, problems: RowFaults) -> None:
        """Add why an answer has no place."""
        if not 0 <= start <= len(row.context) - len(text):
            problems.add(
                "have answers inside of their contexts",
                "others",
                f"{row.where} ({len(text)} characters from {start}, of {len(row.context)})",
            )
            return
        there = row.context[start : start + len(text)]
        problems.add(
            "have answers that stand in their contexts at answer_start",
            "another text there",
            f"{row.where} ({_short(text)}, there {_short(there)})",
            "Places count characters, not bytes, from 0.",
        )

    def _is_visible(self, context: str) -> bool:
        """Whether a context has a unit; it comes back with other questions."""
        if context not in self._visible:
            self._visible[context] = len(units_of(context)) > 0
        return self._visible[context]

    def split(self, origins: Sequence[str], first_row_id: int) -> Split:
        """What was read."""
        rows = self.rows
        label = [NO_LABEL if row.answers is None else int(bool(row.answers)) for row in rows]
        table = pa.table(
            {
                "text": [row.question for row in rows],
                "text_pair": [row.context for row in rows],
                "id": [str(i + 1) if row.id is None else row.id for i, row in enumerate(rows)],
                "answers": [[text for text, _ in row.answers or ()] for row in rows],
                "starts": [[start for _, start in row.answers or ()] for row in rows],
                "label": label,
                "row_id": np.arange(first_row_id, first_row_id + len(rows), dtype=np.int64),
            },
            schema=QUESTION_SCHEMA,
        )
        trains, notes = self._name in ("train", "unlabelled"), []
        unknown = label.count(NO_LABEL)
        if unknown and self._name != "unlabelled":
            notes.append(
                f"{self._name}: of {unknown} of {len(rows)} questions no answer is known; figures leave them out."
            )
        blank = sum(not row.question.strip() for row in rows)
        if blank:
            notes.append(
                f"{self._name}: {blank} of {len(rows)} questions are empty; they are asked as they are."
            )
        if self._num_moved:
            notes.append(
                f"{self._name}: {self._num_moved:,} of {self._num_answers:,} answers stand up to {_NEAR} characters "
                "beside their answer_start; that is where they are taken from."
            )
        if self._num_unplaced:
            notes.append(
                f"{self._name}: {self._num_unplaced:,} of {self._num_answers:,} answers do not stand in their contexts "
                "at answer_start, but others of the same question do; labels are of those, figures of all."
            )
        if self._routes is not None:
            places = self._routed.places
            table = table.append_column("route", pa.array(places, pa.int32()))
            notes += [route_note(places, self._routes)] if trains else []
        fingerprint = _fingerprint(rows, table, routes=trains)
        labels = self._columns.labels
        return Split(self._name, table, labels, fingerprint, tuple(origins), tuple(notes))


def _place(context: str, text: str, start: int) -> int:
    """Where an answer stands: at its start or, as some in CMRC 2018, a little beside it; -1: it has no place."""
    if start < 0 or context.startswith(text, start):
        return max(start, -1)
    near = range(max(0, start - _NEAR), start + _NEAR + 1)
    there = [place for place in near if context.startswith(text, place)]
    return min(there, key=lambda place: abs(place - start), default=-1)


def _short(text: str) -> str:
    return repr(text if len(text) <= 20 else f"{text[:20]}…")  # noqa: PLR2004


def _fingerprint(rows: Sequence[QuestionRow], table: pa.Table, *, routes: bool) -> str:
    """SHA-256 over questions, contexts and answers in order, each after its length."""
    contexts = {row.context for row in rows}
    edition = next((n for n, cut in _CUT_ANEW if any(map(cut.search, contexts))), 1)
    whole = hashlib.sha256(f"raydistill questions {edition}".encode())
    for row in rows:
        numbers = [-1] if row.answers is None else [start for _, start in row.answers]
        whole.update(np.array([len(numbers), *numbers], "<i8").tobytes())
        for text in (row.question, row.context, *(text for text, _ in row.answers or ())):
            content = text.encode("utf-8", "surrogatepass")
            whole.update(len(content).to_bytes(8, "little") + content)
    if routes and "route" in table.column_names:
        whole.update(table["route"].to_numpy().astype("<i4").tobytes())
    return whole.hexdigest()
