"""Word vectors from a file, those of some words only.

Files hold millions of words, a data set thousands of them. So a file is read once from the beginning and
only what is wanted is kept; gensim, which reads the same formats, keeps all of it.

Formats: word2vec text (a first line ``words width``, then a word and its numbers a line), word2vec binary (the
same first line, then each word, a blank, and its numbers as little-endian float32), GloVe (the text without
the first line).
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["WordVectors", "read_vectors"]

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 20
_LONGEST_WORD = 1 << 16
_HEADER_FIELDS = 2


@dataclass(frozen=True)
class WordVectors:
    """Some words of a file, in its order.

    Attributes:
        words: Each once; of one that stands twice, the first.
        places: In the file, from 0.
        vectors: ``[words, width]``.
    """

    words: tuple[str, ...]
    places: tuple[int, ...]
    vectors: NDArray[np.float32]


def read_vectors(path: Path, wanted: Collection[str], *, first: int = 0) -> WordVectors:
    """Vectors of the wanted words, as far as the file has them.

    Args:
        path: Of a format named above; ``.gz``, ``.bz2`` and ``.xz`` are unpacked.
        wanted: Words.
        first: So many words at the beginning of the file are wanted as well.

    Raises:
        ValueError: It is no such file, cannot be read, or is damaged. The message continues a sentence that begins with
            the file.
    """
    try:
        with _opened(path) as stream:
            return _read(stream, {word.encode("utf-8") for word in wanted}, first)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"cannot be read: {error}") from error


def _read(stream: IO[bytes], names: Collection[bytes], first: int) -> WordVectors:
    found: dict[str, NDArray[np.float32]] = {}
    places: list[int] = []
    records, width, count = _records(stream)
    seen = 0
    for number, (name, vector) in enumerate(records):
        seen += 1
        if name not in names and number >= first:
            continue
        try:
            word = name.decode("utf-8")
        except UnicodeDecodeError:
            continue  # among the first ones; none that is wanted by name
        if word in found or not word:
            continue
        values = vector()
        if values is None or not np.isfinite(values).all():
            raise ValueError(
                f"is damaged: the vector of '{word}' (the {number + 1}. word) is not {width} finite numbers"
            )
        found[word] = values
        places.append(number)
    if count is not None and seen < count:
        raise ValueError(f"is damaged: it says that it holds {count} words, and ends after {seen}")
    vectors = np.stack(list(found.values())) if found else np.empty((0, width), np.float32)
    return WordVectors(tuple(found), tuple(places), vectors)


class _Vector:
    """Numbers that are only looked at when the word is wanted."""

    __slots__ = ("_binary", "_data", "_width")

    def __init__(self, data: bytes, width: int, *, binary: bool) -> None:
        self._data, self._width, self._binary = data, width, binary

    def __call__(self) -> NDArray[np.float32] | None:
        """The vector; None if it is none of this width."""
        if self._binary:
            return np.frombuffer(self._data, "<f4").astype(np.float32)
        return _numbers(self._data.split(), self._width)


def _numbers(fields: list[bytes], width: int) -> NDArray[np.float32] | None:
    if len(fields) != width:
        return None
    try:
        return np.array([float(field) for field in fields], np.float32)
    except ValueError:
        return None


def _opened(path: Path) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.open(path))
        case ".bz2":
            return cast(IO[bytes], bz2.open(path))
        case ".xz":
            return cast(IO[bytes], lzma.open(path))
    return path.open("rb")


def _records(stream: IO[bytes]) -> tuple[Iterator[tuple[bytes, _Vector]], int, int | None]:
    """Words with their vectors, the width, and how many there are said to be."""
    head = stream.readline(_LONGEST_LINE)
    fields = head.split()
    if len(fields) == _HEADER_FIELDS and all(field.isdigit() for field in fields):
        count, width = (int(field) for field in fields)
        start = stream.readline(_LONGEST_LINE)
        if width > 0 and _numbers(_cut(start, width)[1].split(), width) is not None:
            return _text(stream, start, width), width, count
        if width > 0:
            return _binary(stream, start, count, width), width, count
        fields = []
    width = len(fields) - 1
    if width < 1 or _numbers(fields[1:], width) is None:
        raise ValueError(
            "holds no word vectors: the first line is neither the number of words and their width (word2vec) "
            "nor a word and its numbers (GloVe)"
        )
    return _text(stream, head, width), width, None


def _cut(line: bytes, width: int) -> tuple[bytes, bytes]:
    """A line's word, which may hold blanks, and the rest."""
    word, _, rest = line.rstrip().partition(b" ")
    if rest.count(b" ") < width:
        return word, rest
    word, *numbers = line.rstrip().rsplit(b" ", width)
    return word, b" ".join(numbers)


def _text(stream: IO[bytes], start: bytes, width: int) -> Iterator[tuple[bytes, _Vector]]:
    line = start
    while line:
        if line.strip():
            word, numbers = _cut(line, width)
            yield word, _Vector(numbers, width, binary=False)
        line = stream.readline(_LONGEST_LINE)


def _binary(
    stream: IO[bytes], start: bytes, count: int, width: int
) -> Iterator[tuple[bytes, _Vector]]:
    size, buffer, at = 4 * width, start, 0
    for number in range(count):
        end = buffer.find(b" ", at)
        while end < 0 or len(buffer) < end + 1 + size:
            chunk = stream.read(_CHUNK)
            too_long = end < 0 and len(buffer) - at > _LONGEST_WORD
            if not chunk or too_long:
                raise ValueError(
                    f"is damaged: it says that it holds {count} words of width {width}, and ends or makes no "
                    f"sense at the {number + 1}."
                )
            buffer, at = buffer[at:] + chunk, 0
            end = buffer.find(b" ", at)
        word, at = buffer[at:end].lstrip(b"\n"), end + 1 + size
        yield word, _Vector(buffer[end + 1 : at], width, binary=True)
