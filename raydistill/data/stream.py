"""Rows that are read while they are used, and never held as a whole.

Every reader of a stream sees the same rows in the same order: that of its files. What can be said of a
row alone is checked when the row is met; what needs all rows (the same text in train and test, a label
that never occurs) is not.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.checks import require_text
from raydistill.data.files import DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import NO_LABEL, encode_labels
from raydistill.data.readers import Chunk, Skip, read_chunks
from raydistill.errors import ConfigError

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

    def chunks(self, labels: tuple[str, ...], skip: Skip) -> Iterator[Chunk]:
        """Its rows as text."""
        wanted, path = dict(self.wanted), self.path_in_config
        if isinstance(self.origin, DatasetSplit):
            return self.origin.chunks(wanted, labels=labels, path_in_config=path, skip=skip)
        return read_chunks(self.origin, wanted, path_in_config=path, skip=skip)


@dataclass(frozen=True)
class Stream:
    """Parts one after the other.

    Attributes:
        parts: In the order of the rows.
        labels: Names of the classes.
    """

    parts: tuple[StreamPart, ...]
    labels: tuple[str, ...]

    @staticmethod
    def joined(streams: Iterable["Stream"]) -> "Stream":
        """Several of the same labels as one."""
        streams = list(streams)
        return Stream(tuple(part for stream in streams for part in stream.parts), streams[0].labels)

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
            Columns ``text`` [, ``text_pair``], ``label`` (int32, -100 = no label), ``row_id`` (int64:
            the row's place in the stream).

        Raises:
            ConfigError: A row cannot be used; its file and line are named.
            OSError: A file cannot be read any more.
        """
        skip = skip or Skip(0)
        at, waiting, num_waiting = skip.left, list[pa.Table](), 0
        for part in self.parts:
            for chunk in part.chunks(self.labels, skip):
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
        wanted, name = dict(part.wanted), part.origin.name
        faults = []
        for role in [role for role in wanted if role != "label"]:
            faults += require_text(
                chunk.columns[role],
                named=f"column {wanted[role]!r} (task.{role})",
                path_in_config=part.path_in_config,
                file_name=name,
                place=chunk.place,
            )
        ids = np.full(chunk.num_rows, NO_LABEL, np.int32)
        if "label" in wanted:
            ids, wrong = encode_labels(
                chunk.columns["label"],
                self.labels,
                required=True,
                path_in_config=part.path_in_config,
                file_name=name,
                place=chunk.place,
            )
            faults += wrong
        if faults:
            raise ConfigError(faults)
        texts = [role for role in ("text", "text_pair") if role in wanted]
        columns = [chunk.columns[role] for role in texts]
        return pa.table([*columns, pa.array(ids, pa.int32())], names=[*texts, "label"])

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
        for part in self.parts:
            whole.update(repr(part.wanted).encode())
            if isinstance(part.origin, DataFile):
                whole.update(part.origin.digest())
            else:
                whole.update(part.origin.shown.encode())
                whole.update(repr(head["text"].to_pylist()).encode())
        return whole.hexdigest()
