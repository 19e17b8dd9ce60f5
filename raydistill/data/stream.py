"""Rows that are read while they are used, and never held as a whole.

Every reader of a stream sees the same rows in the same order: that of its files. What can be said of a
row alone is checked when the row is met; what needs all rows (the same text in train and test, a label
that never occurs) is not.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.data.checks import require_text, setting_of
from raydistill.data.files import DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import NO_LABEL, encode_labels
from raydistill.data.matrix import as_lists
from raydistill.data.readers import Cells, Chunk, Skip, read_chunks
from raydistill.data.routes import Routes, encode_routes
from raydistill.data.targets import Targets
from raydistill.errors import ConfigError, Fault

__all__ = ["Stream", "StreamPart"]

_HEAD_ROWS = 1000
_HEADS = 16  # parts whose first rows are looked at before anything starts


@dataclass(frozen=True)
class StreamPart:
    """One file, or one split of a data set.

    Attributes:
        origin: It.
        wanted: Role to column; every row must have all of them.
        path_in_config: The subject of faults.
    """

    origin: DataFile | DatasetSplit
    wanted: tuple[tuple[str, str], ...]
    path_in_config: str

    @property
    def labelled(self) -> bool:
        """Whether rows have labels."""
        return any(role.startswith("label") for role, _ in self.wanted)

    def chunks(self, labels: tuple[str, ...], cells: Cells, skip: Skip) -> Iterator[Chunk]:
        """Its rows as text."""
        wanted, path = dict(self.wanted), self.path_in_config
        if isinstance(self.origin, DatasetSplit):
            return self.origin.chunks(
                wanted, labels=labels, path_in_config=path, skip=skip, cells=cells
            )
        return read_chunks(
            self.origin, wanted, path_in_config=path, skip=skip, cells=cells, labels=labels
        )


@dataclass(frozen=True)
class Stream:
    """Parts one after the other.

    Attributes:
        parts: In the order of the rows.
        labels: Names of the classes, or of the numbers.
        targets: Where labels stand that are not one class a row; None where they are.
        routes: Which rows go to which teacher; None: every row to all.
    """

    parts: tuple[StreamPart, ...]
    labels: tuple[str, ...]
    targets: Targets | None = None
    routes: Routes | None = None

    @staticmethod
    def joined(streams: Iterable["Stream"]) -> "Stream":
        """Several of the same labels and routes as one."""
        streams = list(streams)
        parts = tuple(part for stream in streams for part in stream.parts)
        return replace(streams[0], parts=parts)

    @property
    def files(self) -> list[Path]:
        """Those of its files that lie in folders."""
        origins = [part.origin for part in self.parts]
        return [file.path for file in origins if isinstance(file, DataFile) and file.path]

    def tables(self, rows: int, skip: Skip | None = None) -> Iterator[pa.Table]:
        """All rows, so many at a time; the last table may have fewer.

        Args:
            rows: Of a table.
            skip: Rows to pass over; what the stream has not is left.

        Yields:
            Columns as of :class:`raydistill.data.sources.Split`; ``row_id`` is the row's place in the
            stream.

        Raises:
            ConfigError: A row cannot be used; its file and line are named.
            OSError: A file cannot be read any more.
        """
        skip = skip or Skip(0)
        cells = self.targets.cells if self.targets else "class"
        at, waiting, num_waiting = skip.left, list[pa.Table](), 0
        for part in self.parts:
            for chunk in part.chunks(self.labels, cells, skip):
                table = self._checked(chunk, part)
                ids = np.arange(at, at + table.num_rows, dtype=np.int64)
                waiting.append(table.append_column("row_id", pa.array(ids)))
                at, num_waiting = at + table.num_rows, num_waiting + table.num_rows
                while num_waiting >= rows:
                    joined = pa.concat_tables(waiting)
                    yield joined.slice(0, rows)
                    waiting, num_waiting = [joined.slice(rows)], num_waiting - rows
        if num_waiting:
            yield pa.concat_tables(waiting)

    def _checked(self, chunk: Chunk, part: StreamPart) -> pa.Table:
        wanted = dict(part.wanted)
        said: dict[str, Any] = {
            "path_in_config": part.path_in_config,
            "file_name": part.origin.name,
            "place": chunk.place,
        }
        faults: list[Fault] = []
        columns: dict[str, Any] = {
            role: chunk.columns[role] for role in ("text", "text_pair") if role in wanted
        }
        for role, column in columns.items():
            named = f"column {wanted[role]!r} ({setting_of(role)})"
            faults += require_text(column, named=named, **said)
        columns["label"], wrong = self._labels(chunk, part, said)
        faults += wrong
        if self.routes is not None:
            places, wrong = encode_routes(chunk.columns["route"], self.routes, **said)
            columns["route"] = pa.array(places, pa.int32())
            faults += wrong
        if faults:
            raise ConfigError(faults)
        return pa.table(columns)

    def _labels(
        self, chunk: Chunk, part: StreamPart, said: Mapping[str, Any]
    ) -> tuple[pa.Array, list[Fault]]:
        """The column of labels, and what is wrong with it."""
        if self.targets is not None:
            if not part.labelled:
                return self.targets.nothing(chunk.num_rows, self.labels), []
            matrix, wrong, _ = self.targets.matrix(
                chunk.columns, self.labels, required=True, **said
            )
            return as_lists(matrix), wrong
        if not part.labelled:
            return pa.array(np.full(chunk.num_rows, NO_LABEL, np.int32)), []
        ids, wrong = encode_labels(chunk.columns["label"], self.labels, required=True, **said)
        return pa.array(ids, pa.int32()), wrong

    def head(self) -> pa.Table:
        """Its first rows; the first rows of further files are looked at, too.

        Raises:
            ConfigError: Every fault that is met there; or there is no row at all.
        """
        faults = []
        heads = [replace(self, parts=(part,)) for part in self.parts[1:_HEADS]]
        table: pa.Table | None = None
        for stream in (self, *heads):
            try:
                found = next(stream.tables(_HEAD_ROWS), None)
            except ConfigError as error:
                faults += [fault for fault in error.faults if fault not in faults]
            else:
                table = found if table is None else table
        if not faults and table is None:
            names = ", ".join(part.origin.name for part in self.parts)
            message = f"must hold at least one row, got none in {names}."
            raise ConfigError.of(self.parts[0].path_in_config, message)
        if faults:
            raise ConfigError(faults)
        return table

    def fingerprint(self, head: pa.Table) -> str:
        """Of its parts' sizes and ends, and of what is read of them: all rows are too much to ask.

        Args:
            head: The first rows; with the revision they stand for a data set of the hub.
        """
        whole = hashlib.sha256(b"raydistill stream 1")
        if self.targets is not None:
            whole.update(f"{self.targets.kind} {self.targets.separator!r}".encode())
        if self.routes is not None:
            places = sorted(self.routes.places().items())
            whole.update(f"{places} {self.routes.others_to_all}".encode())
        for part in self.parts:
            whole.update(repr(part.wanted).encode())
            if isinstance(part.origin, DataFile):
                whole.update(part.origin.digest())
            else:
                whole.update(part.origin.shown.encode())
                whole.update(repr(head["text"].to_pylist()).encode())
        return whole.hexdigest()
