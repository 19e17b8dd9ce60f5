"""Queries with their candidates, from files to checked tables: a row is a pair, the pairs of a query are a group.

Reading order: :func:`load_groups` for a whole configuration, :class:`_Reader` for one file.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.checks import RowFaults, column_list, named_few
from raydistill.data.judged import Judged, read_judged
from raydistill.data.matrix import as_lists
from raydistill.data.negatives import Mined, mine_negatives
from raydistill.data.ranking_cells import file_columns, grade_of, list_of, ranking_rows
from raydistill.data.sources import SPLIT_NAMES, Split, _fingerprint, _path_faults
from raydistill.errors import ConfigError, Fault

__all__ = ["Group", "RankingFiles", "load_groups"]

_TRAINED = ("train", "unlabelled")
_FORMS = ("candidates", "positive_ids", "positives", "passage")
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
    """

    query: str
    where: str
    passages: list[str] = field(default_factory=list)
    grades: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    ordered: bool = False


@dataclass(frozen=True)
class RankingFiles:
    """What a configuration names.

    Attributes:
        splits: Split name to its files.
        columns: Names of columns, by what they hold.
        corpus: Files of passages by id.
        queries: Files of queries by id.
        qrels: Files of judgements.
        mined: How training rows get negatives that no file names; None: they do not.
        max_candidates: Of each query of the measured splits.
        label: Name of the one output.
    """

    splits: Mapping[str, Sequence[Path]]
    columns: Mapping[str, str]
    corpus: Sequence[Path] = ()
    queries: Sequence[Path] = ()
    qrels: Sequence[Path] = ()
    mined: Mined | None = None
    max_candidates: int | None = None
    label: str = "score"


def load_groups(files: RankingFiles) -> dict[str, Split]:
    """Reads and checks all splits of a configuration.

    Returns:
        Splits by name, with the columns ``text`` (query), ``text_pair`` (passage), ``label`` (a list of one
        number), ``row_id`` and ``group`` (int32, number of the query); of the measured splits ``missed`` (a
        list in the first row of a group) and ``ordered`` too.

    Raises:
        ConfigError: Every fault of every file.
    """
    named = {"corpus": files.corpus, "queries": files.queries, "qrels": files.qrels}
    faults = [
        fault
        for name, paths in named.items()
        for path in paths
        for fault in _path_faults(path, f"data.{name}")
    ]
    sound = {name: [p for p in paths if p.is_file()] for name, paths in named.items()}
    judged, wrong = read_judged(sound["corpus"], sound["queries"], sound["qrels"], files.columns)
    faults += wrong
    broken = frozenset(fault.path.removeprefix("data.") for fault in faults)
    groups: dict[str, list[Group]] = {}
    notes: dict[str, list[str]] = {}
    for name in [name for name in SPLIT_NAMES if name in files.splits]:
        reader = _Reader(name, files.columns, judged, broken)
        absent = [f for path in files.splits[name] for f in _path_faults(path, f"data.{name}")]
        for path in files.splits[name] if not absent else ():
            reader.read(path)
        faults += absent or reader.done()
        groups[name], notes[name] = reader.groups, reader.notes
    if faults:
        raise ConfigError(faults)
    if files.mined is not None:
        notes["train"] += _mine(groups["train"], files.mined, judged)
    splits: dict[str, Split] = {}
    first_row = first_group = 0
    for name, found in groups.items():
        trained = name in _TRAINED
        begin = (first_row, first_group) if trained else (0, 0)
        table = _table(name, found, files.max_candidates, *begin)
        if trained:
            first_row, first_group = first_row + table.num_rows, first_group + len(found)
        sizes = [
            len(group.passages[: None if trained else files.max_candidates]) for group in found
        ]
        said = f"{len(found):,} queries with {min(sizes)} to {max(sizes)} candidates."
        splits[name] = Split(
            name,
            table,
            (files.label,),
            _digest(table),
            tuple(files.splits[name]),
            (said, *notes[name], *_overlap(name, groups)),
        )
    return splits


class _Reader:
    """The files of one split."""

    def __init__(
        self, split: str, columns: Mapping[str, str], judged: Judged, broken: frozenset[str]
    ) -> None:
        self.groups: list[Group] = []
        self.notes: list[str] = []
        self._split, self._columns, self._judged = split, columns, judged
        self._path, self._broken = f"data.{split}", broken
        self._faults: list[Fault] = []
        self._labelled, self._measured = split != "unlabelled", split not in _TRAINED
        self._by_id: set[str] = set()
        self._doubled = 0
        self._blank: list[str] = []

    def done(self) -> list[Fault]:
        """What is wrong; adds what should be known to the notes."""
        if not self.groups and not self._faults:
            self._faults.append(Fault(self._path, "must hold at least one query, got none."))
        if self._doubled:
            self.notes.append(
                f"{self._doubled} passages stood twice with a query; they count once."
            )
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

    def read(self, path: Path) -> None:
        """One file."""
        there = file_columns(path)
        form = next((name for name in _FORMS if self._columns[name] in there), None)
        if form is None and there:
            shown = ", ".join(f"{self._columns[name]!r} (task.columns.{name})" for name in _FORMS)
            self._faults.append(
                Fault(
                    self._path,
                    f"must hold one of the columns {shown}, got the columns {column_list(there)} in {path.name}.",
                )
            )
            return
        needed, optional = self._wanted(form or "passage", there)
        wanted = [*needed, *(name for name in optional if self._columns[name] in there)]
        try:
            rows = ranking_rows(
                path, {n: self._columns[n] for n in wanted}, path_in_config=self._path
            )
        except ConfigError as error:
            self._faults += error.faults
            return
        problems = RowFaults(self._path, path.name)
        of_pairs: dict[str, Group] = {}
        for number, row in enumerate(rows, start=1):
            where = f"row {number}"
            if form == "passage":
                self._pair(row, where, problems, of_pairs)
            else:
                self._list(row, form or "", where, problems)
        self.groups += of_pairs.values()
        for group in self.groups if self._split == "train" else ():
            if not any(grade > 0 for grade in group.grades) and not problems:
                problems.add(
                    "have a relevant passage for every query",
                    "none",
                    group.where,
                    "Remove such queries, or move them to data.unlabelled.",
                )
        self._faults += problems.faults()

    def _wanted(self, form: str, there: Sequence[str]) -> tuple[list[str], list[str]]:
        """Columns that a file of this form must have, and may have."""
        key = ["query"] if self._columns["query"] in there else ["query_id"]
        more = [] if key == ["query_id"] else ["query_id"]
        if form == "passage":
            label = ["label"] if self._labelled else []
            return ["query", "passage", *label], []
        optional = {
            "candidates": [],
            "positive_ids": ["negative_ids"],
            "positives": ["negatives"],
        }[form]
        if form == "candidates":
            return ["query_id", form], ["query"]
        return [*key, form], [*more, *optional]

    def _pair(
        self,
        row: Mapping[str, str | None],
        where: str,
        problems: RowFaults,
        groups: dict[str, Group],
    ) -> None:
        query, passage = (row["query"] or "").strip(), (row["passage"] or "").strip()
        if not query or not passage:
            problems.add("have a query and a passage in every row", "an empty one", where)
            return
        grade = grade_of(row["label"]) if self._labelled else math.nan
        if grade is None or (self._split == "train" and math.isnan(grade)):
            got = repr(row["label"]) if row.get("label") else "none"
            rule = f"hold numbers of 0 or more in column {self._columns['label']!r} (task.columns.label)"
            problems.add(rule, got, where)
            return
        if self._measured and not (math.isnan(grade) or grade.is_integer()):
            rule = f"hold whole numbers in column {self._columns['label']!r} (task.columns.label), which nDCG takes"
            problems.add(rule, repr(row["label"]), where)
            return
        group = groups.setdefault(query, Group(query, where))
        self._add(group, passage, grade, where, problems)

    def _list(
        self, row: Mapping[str, str | None], form: str, where: str, problems: RowFaults
    ) -> None:
        query = self._query(row, where, problems)
        if query is None:
            return
        group = Group(query, where, ordered=form == "candidates")
        if form == "positives":
            parts = [(list_of(row["positives"]), 1.0), (list_of(row.get("negatives")), 0.0)]
            for texts, grade in parts:
                for text in texts:
                    if not text.strip():
                        problems.add("have text in every passage", "an empty one", where)
                    else:
                        self._add(group, text.strip(), grade, where, problems)
        elif form == "positive_ids":
            ids = [(one, 1.0) for one in list_of(row["positive_ids"])]
            ids += [(one, 0.0) for one in list_of(row.get("negative_ids"))]
            self._add_ids(group, ids, where, problems)
        else:
            graded = (self._judged.grades or {}).get(row["query_id"] or "", {})
            if self._judged.grades is None and self._labelled and "qrels" not in self._broken:
                problems.add("be judged by data.qrels", "no such files", where)
                return
            listed = list_of(row["candidates"])
            known = graded if self._labelled else {}
            unknown = 0.0 if self._labelled else math.nan
            self._add_ids(
                group, [(one, known.get(one, unknown)) for one in listed], where, problems
            )
            group.missed = [g for one, g in known.items() if g > 0 and one not in set(listed)]
        if not group.passages and not problems:
            problems.add("have at least one passage for every query", "none", where)
        self.groups.append(group)

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
            seen.add(one)

    def _add(
        self, group: Group, passage: str, grade: float, where: str, problems: RowFaults
    ) -> None:
        grade = grade if self._labelled else math.nan
        if passage in group.passages:
            before = group.grades[group.passages.index(passage)]
            if before != grade and not (math.isnan(before) and math.isnan(grade)):
                problems.add("judge a passage of a query once", "two judgements that differ", where)
            self._doubled += 1
            return
        group.passages.append(passage)
        group.grades.append(grade)


def _mine(groups: Sequence[Group], mined: Mined, judged: Judged) -> list[str]:
    """Negatives for training groups; what should be known."""
    corpus: Sequence[str]
    if judged.passages is not None:
        corpus = list(dict.fromkeys(judged.passages.values()))
    else:
        corpus = list(dict.fromkeys(text for group in groups for text in group.passages))
    found = mine_negatives(
        [group.query for group in groups], [group.passages for group in groups], corpus, mined
    )
    for group, texts in zip(groups, found, strict=True):
        group.passages += texts
        group.grades += [0.0] * len(texts)
    short = sum(len(texts) < mined.count for texts in found)
    notes = [f"{sum(map(len, found)):,} negatives by BM25 from {len(corpus):,} passages."]
    if short:
        notes.append(f"BM25 finds fewer than {mined.count} passages for {short} queries.")
    return notes


def _table(
    name: str,
    groups: Sequence[Group],
    max_candidates: int | None,
    first_row: int,
    first_group: int,
) -> pa.Table:
    """A row for each candidate."""
    measured = name not in _TRAINED
    most = max_candidates if measured else None
    kept = [group.passages[:most] for group in groups]
    sizes = np.array([len(passages) for passages in kept])
    grades = np.array([grade for group in groups for grade in group.grades[:most]], np.float64)
    number = int(sizes.sum())
    of = np.repeat(np.arange(len(groups), dtype=np.int32), sizes)
    queries = pa.array([group.query for group in groups], pa.large_string())
    columns = {
        "text": queries.take(pa.array(of)),
        "text_pair": pa.array([text for texts in kept for text in texts], pa.large_string()),
        "label": as_lists(grades.reshape(-1, 1)),
        "row_id": pa.array(np.arange(first_row, first_row + number, dtype=np.int64)),
        "group": pa.array(of + first_group, pa.int32()),
    }
    if measured:
        behind = [
            [*group.missed, *(g for g in group.grades[len(texts) :] if g > 0)]
            for group, texts in zip(groups, kept, strict=True)
        ]
        rows: list[list[float]] = [[] for _ in range(number)]
        for place, missed in zip(np.cumsum(sizes) - sizes, behind, strict=True):
            rows[place] = missed
        columns["missed"] = pa.array(rows, pa.list_(pa.float64()))
        columns["ordered"] = pa.array([all(group.ordered for group in groups)] * number)
    return pa.table({key: pa.chunked_array([value]) for key, value in columns.items()})


def _digest(table: pa.Table) -> str:
    """SHA-256 of texts, labels, groups, and what was missed."""
    whole = hashlib.sha256(_fingerprint(table.select(["text", "text_pair", "label"])).encode())
    whole.update(table["group"].to_numpy().astype("<i4").tobytes())
    if "missed" in table.column_names:
        missed = table["missed"].combine_chunks()
        whole.update(missed.offsets.to_numpy().astype("<i4").tobytes())
        whole.update(missed.flatten().to_numpy().astype("<f8").tobytes())
    return whole.hexdigest()


def _overlap(name: str, groups: Mapping[str, Sequence[Group]]) -> list[str]:
    """A note on queries that are trained on and measured."""
    if name in _TRAINED:
        return []
    trained = {group.query for one in _TRAINED for group in groups.get(one, ())}
    again = sum(group.query in trained for group in groups[name])
    if not again:
        return []
    return [f"{again} of {len(groups[name])} queries are trained on, too: figures may be too good."]
