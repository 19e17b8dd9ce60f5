"""Queries with their candidates, from files to checked tables: a row is a pair, the pairs of a query are a group.

Reading order: :func:`load_groups` for a whole configuration, ``ranking_reader`` for one file.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.files import SPLIT_NAMES, DataFile, find_files
from raydistill.data.fingerprint import fingerprint_of
from raydistill.data.judged import Judged, read_judged
from raydistill.data.matrix import as_lists
from raydistill.data.negatives import Mined, mine_negatives
from raydistill.data.parts import Origin, find_parts
from raydistill.data.ranking_reader import TRAINED, Group, GroupReader
from raydistill.data.sources import Split
from raydistill.errors import ConfigError, Fault

__all__ = ["RankingFiles", "load_groups"]


@dataclass(frozen=True)
class RankingFiles:
    """What a configuration names.

    Attributes:
        splits: Split name to its files, or splits of data sets.
        columns: Names of columns, by what they hold.
        corpus: Files of passages by id.
        queries: Files of queries by id.
        qrels: Files of judgements.
        mined: How training rows get negatives that no file names; None: they do not.
        max_candidates: Of each query of the measured splits.
        label: Name of the one output.
        whole_corpus: Whether measured splits are to say which passages of the corpus are relevant.
    """

    splits: Mapping[str, Sequence[Origin]]
    columns: Mapping[str, str]
    corpus: Sequence[str | Path] = ()
    queries: Sequence[str | Path] = ()
    qrels: Sequence[str | Path] = ()
    mined: Mined | None = None
    max_candidates: int | None = None
    label: str = "score"
    whole_corpus: bool = False


def load_groups(files: RankingFiles) -> dict[str, Split]:
    """Reads and checks all splits of a configuration.

    Returns:
        Splits by name, with the columns ``text`` (query), ``text_pair`` (passage), ``label`` (a list of one
        number), ``row_id`` and ``group`` (int32, number of the query); of the measured splits ``missed`` (a
        list in the first row of a group) and ``ordered`` too, and with a whole corpus ``relevant``,
        ``relevant_grades`` and ``itself``.

    Raises:
        ConfigError: Every fault of every file.
    """
    faults: list[Fault] = []
    sound = {
        name: _found(getattr(files, name), f"data.{name}", faults)
        for name in ("corpus", "queries", "qrels")
    }
    judged, wrong = read_judged(sound["corpus"], sound["queries"], sound["qrels"], files.columns)
    faults += wrong
    broken = frozenset(fault.path.removeprefix("data.") for fault in faults)
    groups: dict[str, list[Group]] = {}
    notes: dict[str, list[str]] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for name in [name for name in SPLIT_NAMES if name in files.splits]:
        reader = GroupReader(name, files.columns, judged, broken)
        found, absent = find_parts(files.splits[name], f"data.{name}")
        for file in found if not absent else ():
            reader.read(file)
        wrong = absent or reader.done()
        origins[name] = tuple(file.shown for file in found)
        groups[name], notes[name] = reader.groups, reader.notes
        measured = name not in TRAINED and not (wrong or broken)
        if measured and _without_choice(reader.groups, files.max_candidates):
            wrong += _constant_figures(name, notes[name], files.max_candidates)
        faults += wrong
    if faults:
        raise ConfigError(faults)
    notes["train"] += judged.notes
    if files.mined is not None:
        notes["train"] += _mine(groups["train"], files.mined, judged)
    corpus = _Corpus(judged.passages or {}) if files.whole_corpus else None
    splits: dict[str, Split] = {}
    first_row = first_group = 0
    for name, read in groups.items():
        trained = name in TRAINED
        begin = (first_row, first_group) if trained else (0, 0)
        table = _table(name, read, files.max_candidates, *begin)
        if trained:
            first_row, first_group = first_row + table.num_rows, first_group + len(read)
        if corpus is not None and not trained:
            table = corpus.with_relevant(table, read)
            notes[name] += corpus.notes(read)
        sizes = [len(group.passages[: None if trained else files.max_candidates]) for group in read]
        said = f"{len(read):,} queries with {min(sizes)} to {max(sizes)} candidates."
        splits[name] = Split(
            name,
            table,
            (files.label,),
            _digest(table),
            origins[name],
            (said, *notes[name], *_overlap(name, groups)),
            corpus=None if corpus is None or trained else corpus.texts,
        )
    return splits


def _without_choice(groups: Sequence[Group], max_candidates: int | None) -> bool:
    """Whether any order of the candidates has the same figures, 1 or 0, of every query."""
    there = [[g if g > 0 else 0.0 for g in group.grades[:max_candidates]] for group in groups]
    relevant = any(g > 0 for group in groups for g in (*group.grades, *group.missed))
    return relevant and all(len(set(grades)) <= 1 for grades in there)


def _constant_figures(name: str, notes: list[str], max_candidates: int | None) -> list[Fault]:
    """Of a split that tells no order from another: a fault where it chooses the student, else a note."""
    if name != "validation":
        notes.append(
            "No query has candidates that are relevant and others that are not: figures of candidates are the "
            "same for every model."
        )
        return []
    first = f" among the first {max_candidates} (task.max_candidates)" if max_candidates else ""
    message = (
        "must have a query with a relevant candidate and one that is not"
        f"{first}, got none: every student has the same "
        "figures, and the first would be kept as the best. Name a file of candidates (query_id and doc_ids, judged by "
        "data.qrels) or of negatives, or leave data.validation out, and the last student is kept."
    )
    basis = ("data.validation", "data.folder", *(("task.max_candidates",) if first else ()))
    return [Fault("data.validation", message, rests_on=basis)]


class _Corpus:
    """All passages, and where they stand.

    Args:
        passages: Texts by id.
    """

    def __init__(self, passages: Mapping[str, str]) -> None:
        self.texts = pa.array(list(passages.values()), pa.large_string())
        self._by_id = {key: place for place, key in enumerate(passages)}
        self._by_text = {text: place for place, text in reversed(list(enumerate(passages.values())))}  # fmt: skip

    def with_relevant(self, table: pa.Table, groups: Sequence[Group]) -> pa.Table:
        """In the first row of each group what is relevant for it in the corpus, and where it stands there itself.

        Args:
            table: Rows of all groups.
            groups: In order.

        Returns:
            The table with ``relevant`` (places, -1 if not in the corpus), ``relevant_grades``, and ``itself``
            (the place of the query's own document, -1 if it is none, and in other rows).
        """
        places: list[list[int]] = [[] for _ in range(table.num_rows)]
        grades: list[list[float]] = [[] for _ in range(table.num_rows)]
        itself = [-1] * table.num_rows
        starts = np.flatnonzero(np.diff(table["group"].to_numpy(), prepend=-1))
        for row, group in zip(starts, groups, strict=True):
            if group.relevant is not None:
                found = [(self._by_id.get(k, -1), grade) for k, grade in group.relevant.items()]
            else:
                there = zip(group.passages, group.grades, strict=True)
                found = [(self._by_text.get(text, -1), grade) for text, grade in there if grade > 0]
            places[row] = [place for place, _ in found]
            grades[row] = [grade for _, grade in found]
            itself[row] = self._itself(group)
        table = table.append_column("relevant", pa.array(places, pa.list_(pa.int32())))
        table = table.append_column("relevant_grades", pa.array(grades, pa.list_(pa.float64())))
        return table.append_column("itself", pa.array(itself, pa.int32()))

    def notes(self, groups: Sequence[Group]) -> list[str]:
        """What should be known of their ids."""
        number = sum(self._itself(group) >= 0 for group in groups)
        if not number:
            return []
        return [
            f"{number} queries have the id of a document of data.corpus, which is left out of what is found for them."
        ]

    def _itself(self, group: Group) -> int:
        """Where the document stands that the query is, by its id; -1: there is none, or it is judged relevant."""
        if group.key is None or group.key in (group.relevant or ()):
            return -1
        return self._by_id.get(group.key, -1)


def _found(
    written: Sequence[str | Path], path_in_config: str, faults: list[Fault]
) -> list[DataFile]:
    """The files that paths, URIs and patterns name; adds to the faults."""
    files: list[DataFile] = []
    for one in written:
        try:
            files += find_files(one, path_in_config=path_in_config)
        except ConfigError as error:
            faults += error.faults
    return files


def _mine(groups: Sequence[Group], mined: Mined, judged: Judged) -> list[str]:
    """Negatives for training groups; what should be known."""
    corpus: Sequence[str]
    if judged.passages is not None:
        corpus = list(dict.fromkeys(judged.passages.values()))
    else:
        corpus = list(dict.fromkeys(text for group in groups for text in group.passages))
    known = _known_to_be_relevant(groups, judged)
    own = [{*group.passages, *known.get(group.query, ())} for group in groups]
    found = mine_negatives([group.query for group in groups], own, corpus, mined)
    for group, texts in zip(groups, found, strict=True):
        group.passages += texts
        group.grades += [0.0] * len(texts)
    short = sum(len(texts) < mined.count for texts in found)
    notes = [f"{sum(map(len, found)):,} negatives by BM25 from {len(corpus):,} passages."]
    if short:
        notes.append(f"BM25 finds fewer than {mined.count} passages for {short} queries.")
    return notes


def _known_to_be_relevant(groups: Sequence[Group], judged: Judged) -> dict[str, set[str]]:
    """Of each query, by its text, the passages that no group of it takes for negatives: relevant ones, and itself."""
    passages, asked = judged.passages or {}, dict(judged.queries or {})
    found: dict[str, set[str]] = {}
    for group in groups:
        there = zip(group.passages, group.grades, strict=True)
        ids = (*(group.relevant or ()), *(() if group.key is None else (group.key,)))
        of_query = found.setdefault(group.query, set())
        of_query |= {text for text, grade in there if grade > 0}
        of_query |= {passages[one] for one in ids if one in passages}
        if group.key is not None:
            asked[group.key] = group.query
    for key, grades in (judged.grades or {}).items():
        if key in asked and asked[key] in found:
            relevant = (one for one, grade in grades.items() if grade > 0 and one in passages)
            found[asked[key]] |= {passages[one] for one in relevant}
    return found


def _table(
    name: str,
    groups: Sequence[Group],
    max_candidates: int | None,
    first_row: int,
    first_group: int,
) -> pa.Table:
    """A row for each candidate."""
    measured = name not in TRAINED
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
    whole = hashlib.sha256(fingerprint_of(table.select(["text", "text_pair", "label"])).encode())
    whole.update(table["group"].to_numpy().astype("<i4").tobytes())
    if "missed" in table.column_names:
        missed = table["missed"].combine_chunks()
        whole.update(missed.offsets.to_numpy().astype("<i4").tobytes())
        whole.update(missed.flatten().to_numpy().astype("<f8").tobytes())
    return whole.hexdigest()


def _overlap(name: str, groups: Mapping[str, Sequence[Group]]) -> list[str]:
    """A note on queries that are trained on and measured."""
    if name in TRAINED:
        return []
    trained = {group.query for one in TRAINED for group in groups.get(one, ())}
    again = sum(group.query in trained for group in groups[name])
    if not again:
        return []
    return [f"{again} of {len(groups[name])} queries are trained on, too: figures may be too good."]
