"""Passages, queries and judgements by id, from files of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raydistill.data.checks import RowFaults, column_list, did_you_mean
from raydistill.data.files import DataFile
from raydistill.data.ranking_cells import (
    file_columns,
    grade_of,
    is_below_zero,
    named_columns,
    ranking_rows,
    titled,
)
from raydistill.errors import ConfigError, Fault

__all__ = ["Judged", "read_judged"]


@dataclass(frozen=True)
class Judged:
    """What ids mean.

    Attributes:
        passages: Text of each passage, by id; None: no corpus is named.
        queries: Text of each query, by id; None: none are named.
        grades: Of each query the relevance of passages, by their ids; None: no judgements are named.
        notes: What may be meant but should be known.
    """

    passages: Mapping[str, str] | None = None
    queries: Mapping[str, str] | None = None
    grades: Mapping[str, Mapping[str, float]] | None = None
    notes: Sequence[str] = ()


@dataclass
class _Reading:
    columns: Mapping[str, str]
    path_in_config: str
    faults: list[Fault] = field(default_factory=list)
    named: Mapping[str, str] = field(default_factory=dict)  # columns of the file that is read

    def rows(
        self, file: DataFile, needed: Sequence[str], optional: Sequence[str] = ()
    ) -> list[tuple[str, dict[str, str | None]]]:
        """Where, and the cells; none of a file that is at fault."""
        there = file_columns(file)
        columns = named_columns(self.columns, there, [*needed, *optional])
        self.named = columns
        missing = [name for name in needed if there and columns[name] not in there]
        if missing:
            name = columns[missing[0]]
            self.faults.append(
                Fault(
                    self.path_in_config,
                    f"must hold a column {name!r} (task.columns.{missing[0]}), got the columns "
                    f"{column_list(there)} in {file.name}.{did_you_mean(name, there)}",
                )
            )
            return []
        wanted = [*needed, *(name for name in optional if columns[name] in there)]
        try:
            found = ranking_rows(
                file, {n: columns[n] for n in wanted}, path_in_config=self.path_in_config
            )
        except ConfigError as error:
            self.faults += error.faults
            return []
        return [(f"row {number}", row) for number, row in enumerate(found, start=1)]


def read_judged(
    corpus: Sequence[DataFile],
    queries: Sequence[DataFile],
    qrels: Sequence[DataFile],
    columns: Mapping[str, str],
) -> tuple[Judged, list[Fault]]:
    """What the files say, and what is wrong with them.

    Args:
        corpus: Files of passages.
        queries: Files of queries.
        qrels: Files of judgements.
        columns: Names of columns, by what they hold.
    """
    passages, faults = _texts(corpus, columns)
    texts, more = _queries(queries, columns)
    grades, below, wrong = _grades(qrels, columns)
    notes = [f"{below} judgements of data.qrels are below 0; they count as 0."] if below else []
    return Judged(passages, texts, grades, notes), [*faults, *more, *wrong]


def _texts(
    files: Sequence[DataFile], columns: Mapping[str, str]
) -> tuple[dict[str, str] | None, list[Fault]]:
    reading = _Reading(columns, "data.corpus")
    found: dict[str, str] = {}
    for file in files:
        problems = RowFaults("data.corpus", file.name)
        for where, row in reading.rows(file, ("doc_id", "text"), ("title",)):
            key = row["doc_id"]
            text = titled(row.get("title"), row["text"])
            if not key:
                problems.add("have an id in every row", "none", where)
            elif key in found:
                problems.add("have every id once", "an id twice", f"{where} ({key})")
            elif not text:
                problems.add("have text in every row", "none", where)
            else:
                found[key] = text
        reading.faults += problems.faults()
    return found if files else None, reading.faults


def _queries(
    files: Sequence[DataFile], columns: Mapping[str, str]
) -> tuple[dict[str, str] | None, list[Fault]]:
    reading = _Reading(columns, "data.queries")
    found: dict[str, str] = {}
    for file in files:
        problems = RowFaults("data.queries", file.name)
        for where, row in reading.rows(file, ("query_id", "query")):
            key, text = row["query_id"], (row["query"] or "").strip()
            if not key:
                problems.add("have an id in every row", "none", where)
            elif found.get(key, text) != text:
                problems.add("have one text for every id", "two", f"{where} ({key})")
            else:
                found[key] = text
        reading.faults += problems.faults()
    return found if files else None, reading.faults


def _grades(
    files: Sequence[DataFile], columns: Mapping[str, str]
) -> tuple[dict[str, dict[str, float]] | None, int, list[Fault]]:
    """Grades, how many of them are below 0, and faults."""
    reading = _Reading(columns, "data.qrels")
    found: dict[str, dict[str, float]] = {}
    below = 0
    for file in files:
        problems = RowFaults("data.qrels", file.name)
        for where, row in reading.rows(file, ("query_id", "doc_id", "relevance")):
            query, passage, cell = row["query_id"], row["doc_id"], row["relevance"]
            less = is_below_zero(cell)
            below += less
            grade = 0.0 if less else grade_of(cell)
            if not query or not passage:
                problems.add("have two ids in every row", "fewer", where)
            elif grade is None or not grade.is_integer():
                column = f"{reading.named['relevance']!r} (task.columns.relevance)"
                problems.add(f"hold whole numbers in column {column}", repr(cell), where)
            elif found.setdefault(query, {}).setdefault(passage, grade) != grade:
                problems.add("judge a pair once", "two judgements that differ", where)
        reading.faults += problems.faults()
    return found if files else None, below, reading.faults
