"""Where a store lies: a local folder, or another filesystem (s3://, gs://, hdfs://)."""

import os
import re
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from raydistill.filesystems import PLACE_ERRORS, first_line, located

__all__ = ["Entry", "Place", "place_faults", "uri_faults"]

_COPY = 1 << 24  # bytes at once from an object store
_UNFINISHED = ".tmp"
_OWN = re.compile(
    r"([0-9a-f]{32}/|set-aside/[0-9a-f]{32}-)([0-9a-f]{32}\.arrow|shelf\.json)(\.[0-9a-f]{32}\.tmp)?"
)
"""Names that a store gives. Other files under its folder, whatever they end in, are somebody else's."""
_SHELF = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Entry:
    """A file of a store.

    Attributes:
        path: Relative to the store.
        num_bytes: Its size.
        used_at: Seconds since 1970 of its last use as far as known (locally; else its making).
    """

    path: str
    num_bytes: int
    used_at: float

    @property
    def folder(self) -> str:
        """The folder it stands in, relative to the store."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Last component."""
        return self.path.rpartition("/")[2]


class Place:
    """A folder of immutable files.

    Args:
        uri: A folder, or a URI, see :mod:`raydistill.filesystems`.
        filesystem: Instead of the URI's own; then ``uri`` is a path in it.
    """

    def __init__(self, uri: str, filesystem: fs.FileSystem | None = None) -> None:
        self.uri = uri
        self._fs, self._base = located(uri) if filesystem is None else (filesystem, uri)
        self.is_local = isinstance(self._fs, fs.LocalFileSystem)

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def entries(self, folder: str = "", suffix: str = "") -> list[Entry]:
        """Files under a folder, however deep, whose names end so; those being written left out."""
        select = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
        found = [
            Entry(
                info.path[len(self._base) :].lstrip("/"),
                int(info.size or 0),
                0.0 if info.mtime_ns is None else info.mtime_ns / 1e9,
            )
            for info in self._fs.get_file_info(select)
            if info.is_file and info.path.endswith(suffix)
        ]
        return sorted(
            (e for e in found if _OWN.fullmatch(e.path) and not e.name.endswith(_UNFINISHED)),
            key=lambda entry: entry.path,
        )

    def unfinished(self, older_s: float) -> list[Entry]:
        """Files that a writer left in the middle, so long ago that it is certainly gone."""
        found = []
        for info in self._fs.get_file_info(
            fs.FileSelector(self._base, allow_not_found=True, recursive=True)
        ):
            made = 0.0 if info.mtime_ns is None else info.mtime_ns / 1e9
            if info.is_file and info.path.endswith(_UNFINISHED) and time.time() - made > older_s:
                found.append(Entry(info.path[len(self._base) :].lstrip("/"), info.size or 0, made))
        return [entry for entry in found if _OWN.fullmatch(entry.path)]

    def has_shelves(self) -> bool:
        """Whether a store was ever here."""
        select = fs.FileSelector(self._base, allow_not_found=True)
        return any(
            info.type == fs.FileType.Directory and _SHELF.fullmatch(info.base_name)
            for info in self._fs.get_file_info(select)
        )

    def publish(self, path: str, content: pa.Buffer) -> None:
        """Write a file so that it is seen whole or not at all."""
        target = self._path(path)
        self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        if not self.is_local:  # an upload that was not closed is not there
            with self._fs.open_output_stream(target) as stream:
                stream.write(content)
            return
        unfinished = Path(f"{target}.{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            with unfinished.open("wb") as file:
                file.write(memoryview(content))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def map(self, path: str) -> pa.Buffer:
        """A file's content, mapped; from elsewhere it is copied to local disk first.

        Raises:
            OSError: It is not there (any more), or cannot be read.
        """
        if self.is_local:
            return _mapped(self._path(path))
        with tempfile.NamedTemporaryFile() as local:
            with self._fs.open_input_stream(self._path(path)) as stream:
                while chunk := stream.read(_COPY):
                    local.write(chunk)
            local.flush()
            return _mapped(local.name)  # the mapping outlives the name

    def open(self, path: str) -> pa.NativeFile:
        """A file of which only some stretches will be read."""
        return self._fs.open_input_file(self._path(path))

    def read(self, path: str) -> bytes:
        """A small file."""
        with self._fs.open_input_stream(self._path(path)) as stream:
            return bytes(stream.read())

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._fs.get_file_info(self._path(path)).type != fs.FileType.NotFound)

    def move(self, path: str, target: str) -> None:
        """To another name in the same place; nothing happens if somebody else moved it."""
        self._fs.create_dir(self._path(target).rpartition("/")[0], recursive=True)
        try:
            self._fs.move(self._path(path), self._path(target))
        except FileNotFoundError:
            return

    def delete(self, path: str) -> None:
        """Nothing happens if somebody else deleted it."""
        try:
            self._fs.delete_file(self._path(path))
        except FileNotFoundError:
            return

    def used(self, path: str) -> None:
        """Note that a file was used just now, for eviction; local folders only."""
        if self.is_local:
            try:
                os.utime(self._path(path))
            except OSError:  # read-only, or gone
                return


def uri_faults(uri: str) -> list[str]:
    """Why no store can be looked for there; each continues a sentence.

    Args:
        uri: Of a store. What is not local is asked whether it is there.
    """
    if not uri.strip():
        return ["must be a folder or a URI, got an empty text."]
    if uri.startswith("memory://"):
        return [f"must be seen by all processes, got {uri}, which is another in each."]
    try:
        filesystem, base = located(uri)
        if not base.strip("/") and not isinstance(filesystem, fs.LocalFileSystem):
            return [f"must name a bucket or host and a folder in it, got {uri}."]
        filesystem.get_file_info(base)
    except PLACE_ERRORS as error:
        return [f"must be a folder or a URI that can be reached, got {uri} ({first_line(error)})."]
    return []


def place_faults(uri: str) -> list[str]:
    """Why no store can be kept there; each continues a sentence.

    Args:
        uri: Of a store. Its folder need not exist yet; nothing is made or written.
    """
    if faults := uri_faults(uri):
        return faults
    filesystem, base = located(uri)
    if not isinstance(filesystem, fs.LocalFileSystem):
        return []
    there = next(folder for folder in (Path(base), *Path(base).parents) if folder.exists())
    if not there.is_dir():
        return [f"must be a folder, but {there} is a file."]
    if not os.access(there, os.W_OK | os.X_OK):
        return [f"must be a folder that can be written, got {uri}; {there} is read-only for you."]
    return []


def _mapped(path: str) -> pa.Buffer:
    with pa.memory_map(path) as file:
        return file.read_buffer()
