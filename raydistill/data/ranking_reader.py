"""One split of queries with their candidates: files of five forms to groups, and every odd row named."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raydistill.data.checks import RowFaults, column_list, named_few
from raydistill.data.judged import Judged
from raydistill.data.parts import Part
from raydistill.data.ranking_cells import (
    file_columns,
    grade_of,
    ids_of,
    is_below_zero,
    named_columns,
    passages_of,
    ranking_rows,
)
from raydistill.errors import ConfigError, Fault

__all__ = ["TRAINED", "Group", "GroupReader"]

TRAINED = ("train", "unlabelled")
"""Splits that are trained on; of the others an order is measured."""
_FORMS = ("candidates", "positive_ids", "positives", "passage", "doc_id")
"""The column that says what the rows of a file are; the first that is there."""


@dataclass
class Group:
    """One query.

    Attributes:
        query: Its text.
        where: File and row, for messages.
        passages: Texts of its candidates.
        grades: How relevant they are, NaN where it is not known.
        missed: Grades of relevant passages that are no candidates.
        ordered: Whether the candidates stand in the order of a first stage.
        relevant: Grades of all that is known to be relevant, by id; None: passages have no ids.
        key: Id of the query; None: it has none.
        places: Where a text stands among the candidates, of those that came as texts.
    """

    query: str
    where: str
    passages: list[str] = field(default_factory=list)
    grades: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    ordered: bool = False
    relevant: dict[str, float] | None = None
    key: str | None = None
    places: dict[str, int] = field(default_factory=dict, repr=False)


class GroupReader:
    """The files of one split.

    Args:
        split: Its name.
        columns: Names of columns, by what they hold.
        judged: What ids mean.
        broken: Of ``corpus``, ``queries`` and ``qrels`` those at fault: what is missing there is no news.

    Attributes:
        groups: What was read.
        notes: What may be meant but should be known.
    """

    def __init__(
        self, split: str, columns: Mapping[str, str], judged: Judged, broken: frozenset[str]
    ) -> None:
        self.groups: list[Group] = []
        self.notes: list[str] = []
        self._split, self._columns, self._judged = split, columns, judged
        self._path, self._broken = f"data.{split}", broken
        self._faults: list[Fault] = []
        self._labelled, self._measured = split != "unlabelled", split not in TRAINED
        self._by_id: set[str] = set()
        self._by_query: dict[str, Group] = {}
        self._pairs: set[tuple[str, str]] = set()
        self._doubled = self._below = 0
        self._named = columns  # as one file has them
        self._blank: list[str] = []

    def done(self) -> list[Fault]:
        """What is wrong; adds what should be known to the notes."""
        if not self.groups and not self._faults and not self._broken:
            self._faults.append(Fault(self._path, "must hold at least one query, got none."))
        useless = [g.where for g in self.groups if not any(grade > 0 for grade in g.grades)]
        if self._split == "train" and useless and not self._faults:
            message = (
                f"must have a relevant passage for every query, got none in {named_few(useless, len(useless))}. "
                "Remove such queries, or move them to data.unlabelled."
            )
            self._faults.append(Fault(self._path, message))
        if self._doubled:
            self.notes.append(
                f"{self._doubled} passages stood twice with a query; they count once."
            )
        if self._below:
            self.notes.append(f"{self._below} judgements are below 0; they count as 0.")
        if self._blank:
            rows = named_few(self._blank, len(self._blank))
            self.notes.append(f"{len(self._blank)} queries have no text ({rows}) and are left out.")
        if self._measured:
            without = [
                g.where for g in self.groups if not any(x > 0 for x in (*g.grades, *g.missed))
            ]
            if without:
                self.notes.append(
                    f"{len(without)} of {len(self.groups)} queries have no relevant passage "
                    f"({named_few(without, len(without))}); figures leave them out."
                )
        return self._faults

    def read(self, file: Part) -> None:
        """One file, or one split of a data set."""
        there = file_columns(file)
        named = named_columns(self._columns, there, _FORMS)
        form = next((name for name in _FORMS if named[name] in there), None)
        if form is None and there:
            shown = ", ".join(f"{self._columns[name]!r} (task.columns.{name})" for name in _FORMS)
            self._faults.append(
                Fault(
                    self._path,
                    f"must hold one of the columns {shown}, got the columns {column_list(there)} in {file.name}.",
                )
            )
            return
        needed, optional = self._wanted(form or "passage", there)
        wanted = [*needed, *(name for name in optional if self._columns[name] in there)]
        columns = {name: self._columns[name] for name in wanted}
        if form == "doc_id":
            columns = named_columns(self._columns, there, needed)
        self._named = columns
        try:
            rows = ranking_rows(file, columns, path_in_config=self._path)
        except ConfigError as error:
            self._faults += error.faults
            return
        problems = RowFaults(self._path, file.name)
        for number, row in enumerate(rows, start=1):
            if form == "passage":
                self._pair(row, f"row {number}", problems, file.name)
            elif form == "doc_id":
                self._pair_of_ids(row, f"row {number}", problems, file.name)
            else:
                self._list(row, form or "", f"row {number}", problems, file.name)
        self._faults += problems.faults()

    def _wanted(self, form: str, there: Sequence[str]) -> tuple[list[str], list[str]]:
        """Columns that a file of this form must have, and may have."""
        key = ["query"] if self._columns["query"] in there else ["query_id"]
        more = [] if key == ["query_id"] else ["query_id"]
        if form == "passage":
            label = ["label"] if self._labelled else []
            return ["query", "passage", *label], []
        if form == "doc_id":
            return ["query_id", "doc_id", *(["relevance"] if self._labelled else [])], []
        if form == "candidates":
            return ["query_id", form], ["query"]
        beside = self._beside(form)
        if len(beside) > 1 and any(self._columns[name] in there for name in beside):
            return [*key, form, *beside], more  # one that is missing is written in another way
        return [*key, form], [*more, *beside]

    def _beside(self, form: str) -> list[str]:
        """Columns of what is not relevant, where others hold what is."""
        if form == "positives":
            return [name for name in self._columns if name.partition(".")[0] == "negatives"]
        return ["negative_ids"] if form == "positive_ids" else []

    def _pair(
        self,
        row: Mapping[str, str | None],
        where: str,
        problems: RowFaults,
        file: str,
    ) -> None:
        query, passage = (row["query"] or "").strip(), (row["passage"] or "").strip()
        if not query or not passage:
            problems.add("have a query and a passage in every row", "an empty one", where)
            return
        grade = self._grade(row, "label", where, problems)
        if grade is None:
            return
        if query not in self._by_query:
            self._by_query[query] = Group(query, f"{file}, {where}")
            self.groups.append(self._by_query[query])
        group = self._by_query[query]
        self._add(group, passage, grade, where, problems)

    def _pair_of_ids(
        self, row: Mapping[str, str | None], where: str, problems: RowFaults, file: str
    ) -> None:
        key, passage = row["query_id"] or "", row["doc_id"] or ""
        grade = self._grade(row, "relevance", where, problems)
        if grade is None:
            return
        if key not in self._by_query:
            query = self._text_of(key, where, problems)
            if not query:
                if query is not None:
                    problems.add("have a query in every row", "an empty one", where)
                return
            self._by_query[key] = Group(query, f"{file}, {where}", key=key)
            self.groups.append(self._by_query[key])
        if (key, passage) in self._pairs:
            problems.add("name every passage of a query once", f"{passage!r} twice", where)
            return
        self._pairs.add((key, passage))
        self._add_ids(self._by_query[key], [(passage, grade)], where, problems)

    def _grade(
        self, row: Mapping[str, str | None], name: str, where: str, problems: RowFaults
    ) -> float | None:
        """How relevant, NaN where it is not known; None if that is at fault."""
        if not self._labelled:
            return math.nan
        if name == "relevance" and is_below_zero(row[name]):
            self._below += 1
            return 0.0
        grade, column = grade_of(row[name]), f"{self._named[name]!r} (task.columns.{name})"
        if grade is None or (self._split == "train" and math.isnan(grade)):
            got = repr(row[name]) if row[name] else "none"
            problems.add(f"hold numbers of 0 or more in column {column}", got, where)
            return None
        if self._measured and not (math.isnan(grade) or grade.is_integer()):
            rule = f"hold whole numbers in column {column}, which nDCG takes"
            problems.add(rule, repr(row[name]), where)
            return None
        return grade

    def _list(
        self,
        row: Mapping[str, str | None],
        form: str,
        where: str,
        problems: RowFaults,
        file: str,
    ) -> None:
        query = self._query(row, where, problems)
        if query is None:
            return
        key = row.get("query_id")
        group = Group(query, f"{file}, {where}", ordered=form == "candidates", key=key)
        first, second = self._lists(row, form, where, problems) or ([], [])
        if not first and not second:
            return
        if form == "positives":
            for texts, grade in ((first, 1.0), (second, 0.0)):
                for text in texts:
                    if not text.strip():
                        problems.add("have text in every passage", "an empty one", where)
                    else:
                        self._add(group, text.strip(), grade, where, problems)
        elif form == "positive_ids":
            ids = [(one, 1.0) for one in first] + [(one, 0.0) for one in second]
            self._add_ids(group, ids, where, problems)
            of_query = (self._judged.grades or {}).get(key or "", {})
            group.relevant = (group.relevant or {}) | {k: g for k, g in of_query.items() if g > 0}
        else:
            graded = (self._judged.grades or {}).get(key or "", {})
            if self._judged.grades is None and self._labelled and "qrels" not in self._broken:
                problems.add("be judged by data.qrels", "no such files", where)
                return
            known = graded if self._labelled else {}
            unknown = 0.0 if self._labelled else math.nan
            ids = [(one, known.get(one, unknown)) for one in first]
            self._add_ids(group, ids, where, problems)
            listed = set(first)
            group.missed = [g for one, g in known.items() if g > 0 and one not in listed]
            group.relevant = {one: grade for one, grade in known.items() if grade > 0}
        self.groups.append(group)

    def _lists(
        self, row: Mapping[str, str | None], form: str, where: str, problems: RowFaults
    ) -> tuple[list[str], list[str]] | None:
        """What a row lists, first and second; None if that is at fault."""
        found: list[list[str]] = [[], []]
        sound = True
        for place, name in ((0, form), *((1, name) for name in self._beside(form))):
            if form == "positives":
                title, text = self._columns["title"], self._columns["text"]
                listed, odd = passages_of(row.get(name), title=title, text=text)
                rule = "hold a text, a list of texts, or of objects with a text,"
            else:
                listed, odd = ids_of(row.get(name))
                rule = "hold a list of ids"
            found[place] += listed
            if odd is not None:
                rule = f"{rule} in column {self._columns[name]!r} (task.columns.{name})"
                problems.add(rule, odd, where)
                sound = False
        if sound and not any(found):
            problems.add("have at least one passage for every query", "none", where)
        return (found[0], found[1]) if sound else None

    def _query(self, row: Mapping[str, str | None], where: str, problems: RowFaults) -> str | None:
        """Its text."""
        key = row.get("query_id")
        text: str | None = (row.get("query") or "").strip()
        if key is not None and key in self._by_id:
            problems.add("have every query once", "an id twice", f"{where} ({key})")
            return None
        if key is not None:
            self._by_id.add(key)
        if not text and "query" not in row:
            text = self._text_of(key, where, problems)
        if text == "" and self._measured:
            self._blank.append(where)
            return None
        if text == "":
            problems.add("have a query in every row", "an empty one", where)
        return text or None

    def _text_of(self, key: str | None, where: str, problems: RowFaults) -> str | None:
        """Of a query that is named by its id; None if that is at fault."""
        if self._judged.queries is None:
            if "queries" not in self._broken:
                name = f"{self._columns['query']!r} (task.columns.query)"
                rule = f"hold the queries in column {name}, or name data.queries"
                problems.add(rule, "neither", where)
            return None
        if key is None or key not in self._judged.queries:
            if "queries" not in self._broken:
                problems.add("name queries of data.queries", f"the id {key!r}", where)
            return None
        return self._judged.queries[key]

    def _add_ids(
        self,
        group: Group,
        ids: Sequence[tuple[str, float]],
        where: str,
        problems: RowFaults,
    ) -> None:
        passages = self._judged.passages
        if passages is None:
            if "corpus" not in self._broken:
                problems.add("hold texts, or name data.corpus", "ids without texts", where)
            return
        seen: set[str] = set()
        for one, grade in ids:
            if one in seen:
                problems.add("name every passage of a query once", f"{one!r} twice", where)
            elif one not in passages:
                if "corpus" not in self._broken:
                    problems.add("name passages of data.corpus", f"the id {one!r}", where)
            else:
                # Two documents may have the same text, and are two candidates nevertheless.
                group.passages.append(passages[one])
                group.grades.append(grade if self._labelled else math.nan)
                if self._labelled and grade > 0:
                    group.relevant = {} if group.relevant is None else group.relevant
                    group.relevant[one] = grade
            seen.add(one)

    def _add(
        self, group: Group, passage: str, grade: float, where: str, problems: RowFaults
    ) -> None:
        grade = grade if self._labelled else math.nan
        place = group.places.setdefault(passage, len(group.passages))
        if place < len(group.passages):
            before = group.grades[place]
            if before != grade and not (math.isnan(before) and math.isnan(grade)):
                problems.add("judge a passage of a query once", "two judgements that differ", where)
            self._doubled += 1
            return
        group.passages.append(passage)
        group.grades.append(grade)
