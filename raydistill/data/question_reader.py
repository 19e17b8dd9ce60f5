"""Questions as files have them: columns, or the nested JSON of SQuAD, which :mod:`raydistill.data.squad` unfolds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raydistill.data.checks import RowFaults
from raydistill.data.files import DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.parts import Part
from raydistill.data.readers import read_columns
from raydistill.data.routes import Routed
from raydistill.data.squad import Answers, as_answers, unfolded
from raydistill.errors import Fault

__all__ = ["QuestionColumns", "QuestionReader", "QuestionRow"]


@dataclass(frozen=True)
class QuestionColumns:
    """Where things stand in the files.

    Attributes:
        question: Column of the question.
        context: Column of the context.
        id: Column of the id; None: rows are numbered.
        answers: Column of objects with lists of texts and places; None: a single answer in two columns.
        answer: Column of its text.
        answer_start: Column of its place.
        labels: The names of the outputs.
    """

    question: str
    context: str
    id: str | None
    answers: str | None
    answer: str
    answer_start: str
    labels: tuple[str, ...]

    def wanted(self, *, answered: bool) -> dict[str, str]:
        """Role to column, of a file with answers or without."""
        names = {"question": self.question, "context": self.context}
        if self.id is not None:
            names["id"] = self.id
        if answered and self.answers is not None:
            names["answers"] = self.answers
        elif answered:
            names |= {"answer": self.answer, "answer_start": self.answer_start}
        return {f"{role}:columns.{role}": column for role, column in names.items()}


@dataclass(frozen=True)
class QuestionRow:
    """A question.

    Attributes:
        where: In messages.
        id: As written; None: rows are numbered.
        question: Itself.
        context: What it is about.
        answers: None: nobody says.
    """

    where: str
    id: str | None
    question: str
    context: str
    answers: Answers | None


class QuestionReader:
    """Reads the files of one split, one after the other.

    Args:
        columns: Where things stand.
        routed: Gets where rows go.
        path_in_config: The subject of faults.
        answered: Whether answers are read.

    Attributes:
        faults: What is wrong with the routes of the part that was read last.
    """

    def __init__(
        self, columns: QuestionColumns, routed: Routed, path_in_config: str, *, answered: bool
    ) -> None:
        self._columns, self._routed = columns, routed
        self._path_in_config, self._answered = path_in_config, answered
        self.faults: list[Fault] = []

    def rows(self, part: Part, problems: RowFaults) -> Iterator[QuestionRow]:
        """The questions of a file, or of a data set; what is wrong with them is added."""
        if isinstance(part, DataFile) and part.suffix == ".json":
            with part.here() as local:
                nested = unfolded(local, problems)
                if nested is not None:
                    self._routed.refuse(part.name)
                    for one in nested:
                        answers = one.answers if self._answered else None
                        yield QuestionRow(one.where, one.id, one.question, one.context, answers)
                    return
        yield from self._columned(part, problems)

    def _columned(self, part: Part, problems: RowFaults) -> Iterator[QuestionRow]:
        roles = self._columns.wanted(answered=self._answered) | self._routed.roles
        if isinstance(part, DatasetSplit):
            read = part.read(roles, labels=None, path_in_config=self._path_in_config)
        else:
            read = read_columns(part, roles, path_in_config=self._path_in_config)
        found = {role.partition(":")[0]: column for role, column in read.items()}
        self.faults = self._routed.read(found, part.name)
        names = [name for name in found if name != "route"]
        for number, cells in enumerate(
            zip(*(found[name].to_pylist() for name in names), strict=True), start=1
        ):
            row, where = dict(zip(names, cells, strict=True)), f"row {number}"
            answers = self._answers(row, where, problems) if self._answered else None
            key = row.get("id")
            if "id" in row and not (key or "").strip():
                problems.add(
                    f"have an id in column {self._columns.id!r} (task.columns.id) of every row",
                    "none",
                    where,
                    "Write task.columns.id: null to number the rows.",
                )
                key = None
            yield QuestionRow(where, key, row["question"] or "", row["context"] or "", answers)

    def _answers(
        self, row: Mapping[str, str | None], where: str, problems: RowFaults
    ) -> Answers | None:
        """Of a row of columns; None, if nobody says."""
        if self._columns.answers is None:
            text, start = row["answer"] or "", (row["answer_start"] or "").strip()
            if not text:
                return ()
            if not start.isdecimal():
                problems.add(
                    f"hold whole numbers, 0 or more, in column {self._columns.answer_start!r} "
                    "(task.columns.answer_start)",
                    "others",
                    f"{where} ({start or 'none'})",
                )
                return ()
            return ((text, int(start)),)
        cell = row["answers"]
        if cell is None or not cell.strip():
            return None
        try:
            found = as_answers(json.loads(cell))
        except (ValueError, RecursionError):
            found = None
        if found is None:
            problems.add(
                f"hold objects with lists text and answer_start of one length in column {self._columns.answers!r} "
                "(task.columns.answers)",
                "something else",
                where,
            )
            return ()
        return found
