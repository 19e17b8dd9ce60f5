"""The files that a configuration names: paths, URIs, patterns.

A file that is not local is read from where it lies if it is Parquet, of which only some columns are
wanted; any other is copied for as long as it is read.
"""

import functools
import glob
import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from fsspec.utils import glob_translate
from pyarrow import fs

from raydistill.data.checks import did_you_mean
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line, is_uri, located, shown_uri

__all__ = [
    "SPLIT_NAMES",
    "SPLIT_STEMS",
    "SUFFIXES",
    "DataFile",
    "find_files",
    "find_folder",
    "join_uri",
    "local_path",
    "matching_files",
    "nearest_name",
    "unreachable",
]

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".tsv")
SPLIT_NAMES = ("train", "unlabelled", "validation", "test")
SPLIT_STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "unlabelled": ("unlabelled", "unlabeled"),
}
_COPY = 1 << 24  # bytes at once
_READ = 1 << 22  # bytes at once, where rows are read one after the other
_ENDS = 1 << 16  # bytes at either end that stand for a large file
_WAYS_OUT = {
    "s3": " Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws; "
    "a server other than Amazon's is named by ?endpoint_override=HOST behind the URI.",
    "gs": " Credentials come from GOOGLE_APPLICATION_CREDENTIALS or "
    "`gcloud auth application-default login`; a public bucket is gs://anonymous@BUCKET.",
}


@dataclass(frozen=True)
class DataFile:
    """One existing file.

    Attributes:
        uri: Path or URI.
    """

    uri: str

    @property
    def shown(self) -> str:
        """Path or URI, without secrets."""
        return shown_uri(self.uri)

    @property
    def name(self) -> str:
        """Last component."""
        return self.shown.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Lower case, with its dot."""
        return Path(self.name).suffix.lower()

    @property
    def path(self) -> Path | None:
        """Where it is on this machine, if it is."""
        return None if is_uri(self.uri) else Path(self.uri)

    def beside(self, name: str) -> "DataFile":
        """A file in the same folder, which need not exist."""
        folder, _, query = _parted(self.uri)
        return DataFile(join_uri(folder, name, query))

    def digest(self) -> bytes:
        """Of its size, its first and its last bytes: of any file the whole is too much to ask."""
        with self.open_anywhere() if self.path is None else pa.OSFile(self.uri) as file:
            size = file.size()
            whole = hashlib.sha256(f"{size}".encode() + file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            whole.update(file.read(_ENDS))
        return whole.digest()

    def exists(self) -> bool:
        """Whether it is there, and no folder."""
        filesystem, path = self._located()
        return bool(filesystem.get_file_info(path).is_file)

    def open(self) -> BinaryIO:
        """To be read from its beginning on."""
        if self.path is not None:
            return self.path.open("rb")
        filesystem, path = self._located()
        return io.BufferedReader(
            filesystem.open_input_stream(path, compression=None, buffer_size=_READ)
        )

    def open_anywhere(self) -> pa.NativeFile:
        """To be read here and there."""
        if self.path is not None:
            return pa.memory_map(str(self.path))
        filesystem, path = self._located()
        return filesystem.open_input_file(path)

    @contextmanager
    def here(self) -> Iterator["DataFile"]:
        """The file itself, or a copy on this machine that is removed afterwards."""
        if self.path is not None:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="raydistill-") as folder:
            copy = Path(folder) / self.name
            with self.open() as content, copy.open("wb") as target:
                shutil.copyfileobj(content, target, _COPY)
            yield DataFile(str(copy))

    def _located(self) -> tuple[fs.FileSystem, str]:
        folder, name, query = _parted(self.uri)
        filesystem, base = find_folder(f"{folder}?{query}" if query else folder)
        return filesystem, f"{base.rstrip('/')}/{name}"


@functools.lru_cache(maxsize=64)
def find_folder(uri: str) -> tuple[fs.FileSystem, str]:
    """To find a bucket takes a question over the network; the files of a folder share the answer."""
    return located(uri)


def _parted(uri: str) -> tuple[str, str, str]:
    """Folder, name, and what a URI has behind the question mark."""
    scheme, mark, path = uri.rpartition("://")
    path, _, query = path.partition("?") if mark else (path, "", "")
    folder, slash, name = path.rpartition("/")
    return f"{scheme}{mark}{folder if folder or not slash else slash}", name, query


def join_uri(folder: str, name: str, query: str) -> str:
    """A file of a folder."""
    path = f"{folder}{'' if folder.endswith('/') or not folder else '/'}{name}"
    return f"{path}?{query}" if query else path


def unreachable(path_in_config: str, uri: str, error: BaseException) -> Fault:
    """What to say of a place that cannot be reached."""
    way_out = _WAYS_OUT.get(uri.partition("://")[0].replace("gcs", "gs"), "")
    return Fault(
        path_in_config,
        f"must be a place that can be read, got {shown_uri(uri)} ({first_line(error)}).{way_out}",
    )


def find_files(
    written: str | Path, *, path_in_config: str, suffixes: Sequence[str] = SUFFIXES
) -> list[DataFile]:
    """The files that one path, URI or pattern (``*``, ``**``, ``[…]``; ``?`` in paths only) names.

    Args:
        written: As the configuration has it.
        path_in_config: The subject of faults.
        suffixes: Of files that can be read.

    Returns:
        At least one; those of a pattern sorted by name.

    Raises:
        ConfigError: No such file, or one of another kind.
    """
    uri = local_path(str(written))
    try:
        files = matching_files(uri)
        found = files != [DataFile(uri)]  # else it was only named
        missing = [file for file in files if not (found or file.exists())]
    except PLACE_ERRORS as error:
        raise ConfigError([unreachable(path_in_config, uri, error)]) from error
    if not files:
        raise ConfigError.of(
            path_in_config,
            f"must match at least one file, got {shown_uri(uri)}, which matches none.",
        )
    faults = [_missing_fault(file, path_in_config) for file in missing]
    faults += [
        Fault(
            path_in_config,
            f"must have a suffix out of {', '.join(suffixes)}, got "
            f"{file.name}.{did_you_mean(file.suffix, suffixes)}",
        )
        for file in files
        if file not in missing and file.suffix not in suffixes
    ]
    if faults:
        raise ConfigError(faults)
    return files


def local_path(uri: str) -> str:
    """A local URI as a path."""
    if uri.startswith("file://"):
        return located(uri)[1]
    return uri if is_uri(uri) else str(Path(uri).expanduser())


def matching_files(written: str | Path) -> list[DataFile]:
    """The files of a pattern, sorted, or the one named, which need not exist.

    Raises:
        OSError: The folder of a pattern cannot be listed; or another of ``PLACE_ERRORS``.
    """
    uri = local_path(str(written))
    if not is_uri(uri):
        if not glob.has_magic(uri) or Path(uri).exists():
            return [DataFile(uri)]
        found = glob.glob(uri, recursive=True)  # noqa: PTH207 - takes what Path.glob does not
        return [DataFile(file) for file in sorted(found) if Path(file).is_file()]
    address, _, query = uri.partition("?")
    if "*" in address.partition("://")[2].partition("/")[0]:
        raise OSError("a pattern must not begin before the first folder")
    if not glob.has_magic(address) or DataFile(uri).exists():
        return [DataFile(uri)]
    fixed = re.split(r"(?<!/)/[^/]*[*\[]", address, maxsplit=1)[0]
    pattern = address[len(fixed) + 1 :]
    filesystem, base = find_folder(f"{fixed}?{query}" if query else fixed)
    whole = re.compile(glob_translate(pattern))
    select = fs.FileSelector(base, recursive="/" in pattern or "**" in pattern)
    names = [
        info.path[len(base) :].lstrip("/")
        for info in filesystem.get_file_info(select)
        if info.is_file
    ]
    return [DataFile(join_uri(fixed, name, query)) for name in sorted(names) if whole.match(name)]


def _missing_fault(file: DataFile, path_in_config: str) -> Fault:
    what, near = "no such file", ""
    if file.path is not None:
        near = nearest_name(file.path)
        is_folder = file.path.is_dir()
    else:
        filesystem, path = file._located()
        is_folder = filesystem.get_file_info(path).type == fs.FileType.Directory
    if is_folder:
        what, near = "a folder", " Name its files, for instance by *.parquet in it."
    return Fault(path_in_config, f"must be an existing file, got {file.shown} ({what}).{near}")


def nearest_name(path: Path) -> str:
    """A sentence with the nearest name beside a path that is not there."""
    if path.exists():
        return ""
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    near = get_close_matches(
        path.name, [file.name for file in path.parent.iterdir()], n=1, cutoff=0.5
    )
    return f" Nearest in that folder: {near[0]}." if near else ""
