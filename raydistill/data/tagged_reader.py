"""Tagged words as files have them: lists in columns, or CoNLL's columns; what the tags mean is not judged here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.data.checks import HALF_PAIR, RowFaults, has_half_pair
from raydistill.data.conll import CONLL_SUFFIXES, conll_rows
from raydistill.data.files import SUFFIXES, DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.parts import Origin, Part, read_each
from raydistill.data.readers import read_columns
from raydistill.data.readers.reading import Reading, require_utf8
from raydistill.data.routes import Routed, Routes
from raydistill.data.schemes import Scheme
from raydistill.errors import ConfigError, Fault

__all__ = ["CHUNK_ROWS", "TAGGED_SUFFIXES", "TaggedColumns", "TaggedRows", "read_tagged"]

TAGGED_SUFFIXES = tuple(sorted((*SUFFIXES, *CONLL_SUFFIXES)))
CHUNK_ROWS = 16_384
_WORDS = pa.large_list(pa.large_string())


@dataclass(frozen=True)
class TaggedColumns:
    """Where words and tags stand, and how.

    Attributes:
        words: Column of lists of words.
        tags: Column of lists of tags.
        separator: Between them where columns hold text; None: JSON.
        scheme: How tags write spans.
        labels: The tags in order, as the configuration has them; None: not written.
        conll: Columns of words and tags in CoNLL files, from 0; negative: from the end.
    """

    words: str
    tags: str
    separator: str | None = None
    scheme: Scheme = "iob2"
    labels: tuple[str, ...] | None = None
    conll: tuple[int, int] = (0, -1)


@dataclass(frozen=True)
class TaggedFile:
    """Rows of one file within a split.

    Attributes:
        name: In messages.
        begin: Its first row in the split.
        places: Of its rows, in messages.
    """

    name: str
    begin: int
    places: Sequence[str]


@dataclass(frozen=True)
class TaggedRows:
    """The rows of a split, whose tags are not judged yet.

    Attributes:
        name: Of the split.
        path_in_config: Of its files.
        origins: What it was read from.
        files: Its files, and where their rows begin.
        words: Lists of them.
        tags: As written, a list a row; None: without.
        routes: Which rows go to which teacher.
        places: Number of the teacher of each row; empty without routes.
    """

    name: str
    path_in_config: str
    origins: tuple[str, ...]
    files: tuple[TaggedFile, ...]
    words: pa.ChunkedArray
    tags: Sequence[Sequence[Any] | None]
    routes: Routes | None
    places: np.ndarray


def read_tagged(
    name: str,
    paths: Sequence[Origin],
    columns: TaggedColumns,
    routes: Routes | None,
    path_in_config: str,
) -> TaggedRows:
    """The rows of a split.

    Raises:
        ConfigError: What is wrong with files and rows, but for the tags.
    """
    reader = _Reader(name, columns, routes, path_in_config)
    parts = read_each(paths, path_in_config, reader.read, TAGGED_SUFFIXES)
    if not reader.num_rows:
        listed = ", ".join(part.name for part in parts)
        raise ConfigError.of(path_in_config, f"must hold at least one row, got none in {listed}.")
    return reader.part([part.shown for part in parts])


class _Reader:
    """Reads the files of one split."""

    def __init__(
        self, name: str, columns: TaggedColumns, routes: Routes | None, path_in_config: str
    ) -> None:
        self._name, self._columns, self._routes = name, columns, routes
        self._routed, self._path_in_config = Routed(routes, path_in_config), path_in_config
        self._tagged = name != "unlabelled"
        self._files: list[TaggedFile] = []
        self._chunks: list[pa.Array] = []
        self._tags: list[Sequence[Any] | None] = []
        self._faults: list[Fault] = []  # of the routes of the part that was read last
        self._seen: dict[Any, Any] = {}

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return len(self._tags)

    def part(self, origins: Sequence[str]) -> TaggedRows:
        """What was read."""
        return TaggedRows(
            self._name,
            self._path_in_config,
            tuple(origins),
            tuple(self._files),
            pa.chunked_array(self._chunks, type=_WORDS),
            self._tags,
            self._routes,
            self._routed.places,
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
            if len(words) >= CHUNK_ROWS:
                self._chunks.append(pa.array(words, _WORDS))
                words = []
        self._chunks.append(pa.array(words, _WORDS))
        self._files.append(TaggedFile(part.name, begin, places))
        return [*problems.faults(), *self._faults]

    def _one(self, tag: Any) -> Any:
        return self._seen.setdefault(tag, tag) if isinstance(tag, str) else tag

    def _conll(
        self, file: DataFile, problems: RowFaults
    ) -> Iterator[tuple[str, list[str], list[str] | None]]:
        self._routed.refuse(file.name)
        with file.here() as local:
            reading = Reading(local, {}, self._path_in_config)
            require_utf8(reading)
            columns = self._columns.conll
            yield from conll_rows(reading, problems, tagged=self._tagged, columns=columns)

    def _columned(
        self, part: Part, problems: RowFaults
    ) -> Iterator[tuple[str, Any, list[Any] | None]]:
        roles = {"words": self._columns.words, **self._routed.roles}
        if self._tagged:
            roles["tags"] = self._columns.tags
        read = part.read if isinstance(part, DatasetSplit) else partial(read_columns, part)
        found = read(
            roles,
            labels=self._columns.labels,
            path_in_config=self._path_in_config,
            cells="list",
        )
        self._faults = self._routed.read(found, part.name)
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
