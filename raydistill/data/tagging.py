"""The rows of tagged words, from files to checked tables.

Reading order: :func:`load_tagged_splits`, then `_Reader`, which reads one split.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.checks import (
    HALF_PAIR,
    RowFaults,
    did_you_mean,
    has_half_pair,
    overlap_notes,
    unseen_label_notes,
)
from raydistill.data.conll import CONLL_SUFFIXES, conll_rows
from raydistill.data.files import SPLIT_NAMES, SUFFIXES, DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import NO_LABEL, read_labels
from raydistill.data.parts import Origin, Part, find_parts
from raydistill.data.readers import read_columns
from raydistill.data.readers.reading import Reading, require_utf8
from raydistill.data.routes import Routes, encode_routes, route_note
from raydistill.data.schemes import OUTSIDE, Scheme, TagSet
from raydistill.data.sources import Split
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["TAGGED_SUFFIXES", "TaggedColumns", "load_tagged_splits"]

TAGGED_SUFFIXES = tuple(sorted((*SUFFIXES, *CONLL_SUFFIXES)))
_CHUNK_ROWS = 16_384
_WORDS, _LABELS = pa.large_list(pa.large_string()), pa.large_list(pa.int32())
_MAX_SHOWN = 12


@dataclass(frozen=True)
class TaggedColumns:
    """Where words and tags stand, and how.

    Attributes:
        words: Column of lists of words.
        tags: Column of lists of tags.
        separator: Between them where columns hold text; None: JSON.
        scheme: How tags write spans.
        labels: The tags in order, as the configuration has them; None: not written.
    """

    words: str
    tags: str
    separator: str | None = None
    scheme: Scheme = "iob2"
    labels: tuple[str, ...] | None = None


def load_tagged_splits(
    files: Mapping[str, Sequence[Origin]],
    columns: TaggedColumns,
    *,
    routes: Routes | None = None,
    path_in_config: str = "data",
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files or splits of data sets, joined in their order; without ``train`` tags
            must be written down.
        columns: Where words and tags stand.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.

    Returns:
        Splits by name. Their tables have the columns ``words`` (lists of text), ``label`` (lists of int32
        as long as those of words, -100 without a tag), ``row_id`` and perhaps ``route``; their labels are
        the tags in IOB2.

    Raises:
        ConfigError: Every fault of every split.
    """
    faults: list[Fault] = []
    parts: dict[str, _Part] = {}
    for name in [name for name in SPLIT_NAMES if name in files]:
        try:
            parts[name] = _read(name, files[name], columns, routes, f"{path_in_config}.{name}")
        except ConfigError as error:
            faults += error.faults
    tags: TagSet | None = None
    try:
        tags = _tag_set(files, parts.get("train"), columns)
    except ConfigError as error:
        # Without readable training rows it is not known which tags there are.
        faults += [f for f in error.faults if "train" in parts or columns.labels is not None]
    splits: dict[str, Split] = {}
    first_row_id = 0
    for name, part in parts.items():
        if tags is None:
            continue
        try:
            splits[name] = part.split(tags, first_row_id if name == "unlabelled" else 0)
        except ConfigError as error:
            faults += error.faults
        first_row_id = len(part.words) if name == "train" else first_row_id
    if faults:
        raise ConfigError(faults)
    seen = [splits[name] for name in ("train", "unlabelled") if name in splits]
    for name in ("validation", "test"):
        if name in splits:
            together = [*seen, splits[name]]
            notes = (*splits[name].notes, *overlap_notes(together), *unseen_label_notes(together))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def _tag_set(
    files: Mapping[str, Sequence[Origin]], train: "_Part | None", columns: TaggedColumns
) -> TagSet:
    origins = files.get("train") or next(iter(files.values()), ())
    first = origins[0] if origins else None
    if isinstance(first, DatasetSplit):
        written = read_labels(columns.labels, ()) or first.label_names(columns.tags)
    else:
        written = read_labels(columns.labels, [] if first is None else [first], column=columns.tags)
    if written is None:
        if train is None:
            raise ConfigError.of(
                "task.labels",
                "must be given: without training rows there is nothing to take tags from.",
            )
        written = _derived(train.tags, columns.scheme)
    return TagSet(written, columns.scheme)


def _derived(rows: Sequence[Sequence[Any] | None], scheme: Scheme) -> tuple[str, ...]:
    """The tags that occur: O, and those of each type, in the order of the alphabet."""
    found = {tag for tags in rows for tag in tags or ()}
    numbers = [tag for tag in found if not isinstance(tag, str) or tag.strip().isdigit()]
    if numbers:
        raise ConfigError.of(
            "task.labels",
            f"must be given where tags are numbers, got {numbers[0]}: as [O, B-…, I-…], or in a labels.json "
            "beside the training file.",
        )
    if not found:
        raise ConfigError.of(
            "task.labels", "must be given: no training row has a tag to take them from."
        )
    if scheme == "iob2":
        types = sorted({tag.partition("-")[2] for tag in found if tag.startswith(("B-", "I-"))})
        others = sorted(tag for tag in found if not tag.startswith(("B-", "I-", OUTSIDE)))
        return (OUTSIDE, *(f"{p}-{kind}" for kind in types for p in ("B", "I")), *others)
    return tuple(sorted({OUTSIDE, *found}, key=lambda tag: (tag != OUTSIDE, tag)))


@dataclass(frozen=True)
class _File:
    """Rows of one file within a split."""

    name: str
    begin: int
    places: Sequence[str]


@dataclass(frozen=True)
class _Part:
    """The rows of a split, whose tags are not judged yet."""

    name: str
    path_in_config: str
    origins: tuple[str, ...]
    files: tuple[_File, ...]
    words: pa.ChunkedArray
    tags: Sequence[Sequence[Any] | None]
    routes: Routes | None
    places: np.ndarray

    def split(self, tags: TagSet, first_row_id: int) -> Split:
        """The checked rows.

        Raises:
            ConfigError: Tags that are not known, or begin inside of a span.
        """
        labels, faults = self._labels(tags)
        if faults:
            raise ConfigError(faults)
        number = len(self.words)
        table = pa.table(
            {
                "words": self.words,
                "label": labels,
                "row_id": pa.array(np.arange(first_row_id, first_row_id + number, dtype=np.int64)),
            }
        )
        trains = self.name in ("train", "unlabelled")
        notes = self._notes(table, tags)
        if self.routes is not None:
            table = table.append_column("route", pa.array(self.places, pa.int32()))
            notes += [route_note(self.places, self.routes)] if trains else []
        fingerprint = _fingerprint(table, routes=trains)
        return Split(self.name, table, tags.names, fingerprint, self.origins, tuple(notes))

    def _labels(self, tags: TagSet) -> tuple[pa.ChunkedArray, list[Fault]]:
        number: dict[Any, int] = {str(place): place for place in range(len(tags.written))}
        number |= {tag: place for place, tag in enumerate(tags.written)}
        faults: list[Fault] = []
        chunks, sizes = [], pc.list_value_length(self.words).to_pylist()
        for file, end in zip(
            self.files, [*(f.begin for f in self.files[1:]), len(sizes)], strict=True
        ):
            problems = RowFaults(self.path_in_config, file.name)
            labels: list[list[int]] = []
            for row in range(file.begin, end):
                given, where = self.tags[row], file.places[row - file.begin]
                if given is None:
                    labels.append([NO_LABEL] * sizes[row])
                    continue
                numbers = [
                    number.get(tag if isinstance(tag, str) else str(tag), -1) for tag in given
                ]
                if -1 in numbers:
                    strange = given[numbers.index(-1)]
                    listed = ", ".join(tags.written[:_MAX_SHOWN])
                    more = "" if len(tags.written) <= _MAX_SHOWN else ", …"
                    guess = did_you_mean(strange, tags.written) if isinstance(strange, str) else ""
                    problems.add(
                        f"have tags out of {listed}{more} (task.labels)",
                        "others",
                        f"{strange!r} in {where}",
                        guess.strip(),
                    )
                    labels.append([NO_LABEL] * sizes[row])
                    continue
                found, stray = tags.read(numbers)
                if stray is not None:
                    problems.add(
                        f"begin every span as task.scheme: {tags.scheme} has it",
                        "tags that go on with no span",
                        f"{given[stray]!r} at word {stray + 1} of {where}",
                        "Set task.scheme: iob1, and such a word begins a span, or mend these rows."
                        if tags.scheme == "iob2"
                        else "Mend these rows.",
                    )
                labels.append(found)
                if len(labels) >= _CHUNK_ROWS:
                    chunks.append(pa.array(labels, _LABELS))
                    labels = []
            chunks.append(pa.array(labels, _LABELS))
            faults += problems.faults()
        return pa.chunked_array(chunks, type=_LABELS), faults

    def _notes(self, table: pa.Table, tags: TagSet) -> list[str]:
        without = sum(tag is None for tag in self.tags)
        notes = []
        if without and self.name != "unlabelled":
            notes.append(
                f"{self.name}: {without} of {table.num_rows} rows have no tags; figures leave them out."
            )
        if self.name == "train":
            there = set(pc.unique(pc.list_flatten(table["label"])).to_pylist())
            types = dict.fromkeys(name.partition("-")[2] for name in tags.names if "-" in name)
            absent = [kind for kind in types if tags.names.index(f"B-{kind}") not in there]
            if absent:
                notes.append(
                    f"train: no span is a {', a '.join(absent)}; there is nothing to learn from."
                )
        return notes


def _read(
    name: str,
    paths: Sequence[Origin],
    columns: TaggedColumns,
    routes: Routes | None,
    path_in_config: str,
) -> _Part:
    """The rows of a split.

    Raises:
        ConfigError: What is wrong with files and rows, but for the tags.
    """
    parts, faults = find_parts(paths, path_in_config, TAGGED_SUFFIXES)
    if faults:
        raise ConfigError(faults)
    reader = _Reader(name, columns, routes, path_in_config)
    for part in parts:
        try:
            faults += reader.read(part)
        except ConfigError as error:
            faults += error.faults
        except PLACE_ERRORS as error:
            why = getattr(error, "strerror", None) or first_line(error)
            faults.append(Fault(path_in_config, f"must be readable, got {part.shown}: {why}."))
    if not reader.num_rows and not faults:
        listed = ", ".join(part.name for part in parts)
        message = f"must hold at least one row, got none in {listed}."
        faults.append(Fault(path_in_config, message))
    if faults:
        raise ConfigError(faults)
    return reader.part([part.shown for part in parts])


class _Reader:
    """Reads the files of one split."""

    def __init__(
        self, name: str, columns: TaggedColumns, routes: Routes | None, path_in_config: str
    ) -> None:
        self._name, self._columns, self._routes = name, columns, routes
        self._path_in_config = path_in_config
        self._tagged = name != "unlabelled"
        self._files: list[_File] = []
        self._chunks: list[pa.Array] = []
        self._tags: list[Sequence[Any] | None] = []
        self._places = [np.empty(0, np.int32)]
        self._seen: dict[Any, Any] = {}

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return len(self._tags)

    def part(self, origins: Sequence[str]) -> _Part:
        """What was read."""
        return _Part(
            self._name,
            self._path_in_config,
            tuple(origins),
            tuple(self._files),
            pa.chunked_array(self._chunks, type=_WORDS),
            self._tags,
            self._routes,
            np.concatenate(self._places),
        )

    def read(self, part: Part) -> list[Fault]:
        """Add the rows of a file, or of a data set; what is wrong with it."""
        problems = RowFaults(self._path_in_config, part.name)
        begin, places, words = self.num_rows, [], []
        if isinstance(part, DataFile) and part.suffix in CONLL_SUFFIXES:
            rows = self._conll(part, problems)
        else:
            rows = self._columned(part, problems)
        for where, row, tags in rows:
            places.append(where)
            words.append(row if self._sound(row, tags, where, problems) else [])
            # Few tags are in use: each is kept once.
            self._tags.append(None if tags is None else tuple(self._one(tag) for tag in tags))
            if len(words) >= _CHUNK_ROWS:
                self._chunks.append(pa.array(words, _WORDS))
                words = []
        self._chunks.append(pa.array(words, _WORDS))
        self._files.append(_File(part.name, begin, places))
        return [*problems.faults(), *self._faults]

    _faults: tuple[Fault, ...] = ()

    def _one(self, tag: Any) -> Any:
        return self._seen.setdefault(tag, tag) if isinstance(tag, str) else tag

    def _conll(
        self, file: DataFile, problems: RowFaults
    ) -> Iterator[tuple[str, list[str], list[str] | None]]:
        if self._routes is not None:
            raise ConfigError.of(
                self._path_in_config,
                f"must be a file with columns for ensemble.weighting: routing, got {file.name}.",
            )
        self._faults = ()
        with file.here() as local:
            reading = Reading(local, {}, self._path_in_config)
            require_utf8(reading)
            yield from conll_rows(reading, problems, tagged=self._tagged)

    def _columned(
        self, part: Part, problems: RowFaults
    ) -> Iterator[tuple[str, Any, list[Any] | None]]:
        roles = {"words": self._columns.words}
        if self._tagged:
            roles["tags"] = self._columns.tags
        if self._routes is not None:
            roles["route"] = self._routes.column
        options: Any = {"path_in_config": self._path_in_config, "cells": "list"}
        if isinstance(part, DatasetSplit):
            found = part.read(roles, labels=None, **options)
        else:
            found = read_columns(part, roles, **options)
        self._faults = ()
        if self._routes is not None:
            places, wrong = encode_routes(
                found["route"],
                self._routes,
                path_in_config=self._path_in_config,
                file_name=part.name,
            )
            self._places.append(places)
            self._faults = tuple(wrong)
        in_text = isinstance(part, DataFile) and part.suffix in (".csv", ".tsv")
        for row, cell in enumerate(_cells(found["words"]), start=1):
            where = f"row {row}"
            words = self._listed(cell, "words", where, problems, in_text=in_text)
            tags = None
            if self._tagged:
                text = found["tags"][row - 1].as_py()
                if text is not None and text.strip():
                    tags = self._listed(text, "tags", where, problems, in_text=in_text)
            yield where, words, tags

    def _listed(
        self, text: str | None, role: str, where: str, problems: RowFaults, *, in_text: bool
    ) -> Any:
        """The list in a cell; None, with a fault, if there is none."""
        separator = self._columns.separator
        if text is not None and not (separator is not None and in_text):
            try:
                content = json.loads(text) if text.lstrip().startswith("[") else None
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, list):
                return content
        if text is not None and separator is not None:
            return text.split() if separator.isspace() else text.split(separator)
        column = self._columns.words if role == "words" else self._columns.tags
        problems.add(
            f"hold lists of {role} in column {column!r} (task.{role})",
            "null" if text is None else "text",
            where,
            f"Say what stands between {role} (task.separator), or write lists as JSON has them."
            if text is not None
            else "",
        )
        return None

    def _sound(self, words: Any, tags: Any, where: str, problems: RowFaults) -> bool:
        """Whether words and tags of a row are such; else a fault is added."""
        if words is None:
            return False
        if not words:
            problems.add("have at least one word in every row", "none", where, "Remove these rows.")
            return False
        odd = next((word for word in words if not _is_text(word)), None)
        if odd is not None or None in words:
            problems.add(
                f"hold words that are text in column {self._columns.words!r} (task.words)",
                _kind(odd),
                where,
            )
            return False
        if tags is None:
            if self._name == "train":
                problems.add(
                    "have tags in every row",
                    "none",
                    where,
                    "Put rows without tags under data.unlabelled.",
                )
            return True
        if len(tags) != len(words):
            problems.add(
                "have as many tags as words in every row",
                "another number",
                f"{where} ({len(words)} words, {len(tags)} tags)",
            )
            return False
        return True


def _cells(column: pa.ChunkedArray) -> Iterator[str | None]:
    for chunk in column.chunks:
        yield from chunk.to_pylist()


def _is_text(word: object) -> bool:
    return isinstance(word, str) and not has_half_pair(word)


def _kind(word: object) -> str:
    if isinstance(word, str):
        return HALF_PAIR
    if isinstance(word, bool | int | float):
        return "a truth value" if isinstance(word, bool) else "a number"
    return "null" if word is None else "a list" if isinstance(word, list) else "an object"


def _fingerprint(table: pa.Table, *, routes: bool) -> str:
    """SHA-256 over words and tags in order; lengths and bytes apart, so that chunks leave no trace."""
    whole = hashlib.sha256(b"raydistill words 1")
    lengths = pc.list_value_length(table["words"]).to_numpy().astype("<i8")
    flat = pc.list_flatten(table["words"])
    whole.update(lengths.tobytes())
    whole.update(pc.binary_length(flat).to_numpy().astype("<i8").tobytes())
    for chunk in flat.chunks:
        whole.update("".join(chunk.to_pylist()).encode())
    whole.update(pc.list_flatten(table["label"]).to_numpy().astype("<i4").tobytes())
    if routes and "route" in table.column_names:
        whole.update(table["route"].to_numpy().astype("<i4").tobytes())
    return whole.hexdigest()
