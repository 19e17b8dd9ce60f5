"""Rows of stored answers, in memory or in a mapped file, and how a signal is made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.errors import NotFiniteError
from raydistill.signals import TeacherSignal
from raydistill.signals.ask import SignalDtype
from raydistill.signals.signal import ALIGNMENT, TORCH_DTYPES, Part, is_square, vectors_per_row
from raydistill.store.codecs import Codecs, Float

__all__ = ["Block", "Pick", "StoredPart", "encode_signal", "read_signal"]


@dataclass(frozen=True)
class StoredPart:
    """One part of all rows of a block, encoded.

    Attributes:
        data: Bytes of all rows, one behind the other.
        offsets: Where rows begin, ``[R + 1]``.
        width: Numbers of a vector.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    width: int


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of one teacher's answers.

    Attributes:
        lengths: Tokens of each row, ``[R]`` int32.
        parts: By their names in a signal.
        codecs: How they are encoded.
        file: The whole mapped file that all ``data`` are views of; None in memory.
    """

    lengths: NDArray[np.int32]
    parts: Mapping[str, StoredPart]
    codecs: Codecs
    file: NDArray[np.uint8] | None = None


Pick = tuple[Block, int]
"""A row of a block."""


def encode_signal(signal: TeacherSignal, codecs: Codecs) -> Block:
    """A signal's rows as they are stored.

    Raises:
        NotFiniteError: A number is too large for the code of its part.
    """
    parts = {}
    for name in signal.parts:
        values = _vectors(name, signal.part(name))
        vectors = vectors_per_row(name, signal.lengths, len(values))
        code = codecs.of(name, signal.dtype)
        if isinstance(code, Float):
            _refuse_too_large(signal, name, code, values, vectors)
        stored = code.encode(values)
        offsets = np.concatenate([[0], np.cumsum(vectors)]).astype(np.int64) * stored.shape[1]
        parts[name] = StoredPart(stored.reshape(-1), offsets, values.shape[1])
    return Block(signal.lengths, parts, codecs)


def _refuse_too_large(
    signal: TeacherSignal, name: str, code: Float, values: Tensor, vectors: NDArray[np.int64]
) -> None:
    large = code.too_large(values)
    if not large.any():
        return
    row = torch.arange(len(vectors)).repeat_interleave(torch.from_numpy(vectors))
    others = "same" if code.dtype == "bfloat16" else "bfloat16 or same"
    raise NotFiniteError(
        f"teachers.{signal.teacher}: {name} in {code.dtype}",
        [signal.row_ids[i] for i in sorted(set(row[large].tolist()))],
        f"Its values are too large for store.codecs.{Codecs.setting(name)} = {code.dtype}; use {others}.",
    )


def read_signal(
    teacher: str,
    row_ids: Sequence[int],
    picks: Sequence[Pick],
    names: Sequence[str],
    dtype: SignalDtype,
    *,
    view: bool = False,
) -> TeacherSignal:
    """Some rows as the signal that a teacher would have answered.

    Args:
        teacher: Its name.
        row_ids: Names of the rows.
        picks: Where each row stands, in order.
        names: Parts wanted; every block has them.
        dtype: Of the signal.
        view: Rows that stand one behind the other in one mapped file, stored as they are, are not
            copied: the signal's buffer is the file. Such a signal should not be sent elsewhere.
    """
    lengths = np.fromiter((block.lengths[row] for block, row in picks), np.int32, len(picks))
    runs = list(_runs(picks))
    if view and len(runs) == 1 and _is_mapped(runs[0][0], names, dtype):
        return _view(teacher, row_ids, runs[0], lengths, names, dtype)
    item = TORCH_DTYPES[dtype].itemsize
    layout: dict[str, Part] = {}
    pieces: dict[str, list[NDArray[np.uint8]]] = {}
    size = 0
    for name in names:
        width = picks[0][0].parts[name].width
        pieces[name] = [_values(block, name, begin, end, dtype) for block, begin, end in runs]
        num_bytes = sum(map(len, pieces[name]))
        layout[name] = Part(size, _shape(name, num_bytes // (width * item), width))
        size += -(-num_bytes // ALIGNMENT) * ALIGNMENT
    buffer = np.empty(max(size, ALIGNMENT), dtype=np.uint8)
    for name in names:
        begin = layout[name].offset
        end = begin + sum(map(len, pieces[name]))
        np.concatenate(pieces[name], out=buffer[begin:end])
    return TeacherSignal(teacher, tuple(row_ids), lengths, dtype, layout, buffer)


def _is_mapped(block: Block, names: Sequence[str], dtype: SignalDtype) -> bool:
    """Whether what stands in a file is what a signal holds."""
    same = all(block.codecs.of(name, dtype) == Float(dtype) for name in names)
    return same and block.file is not None


def _values(block: Block, name: str, begin: int, end: int, dtype: SignalDtype) -> NDArray[np.uint8]:
    """Some rows of a part as bytes of the signal's type."""
    stored = _slice(block.parts[name], begin, end)
    code = block.codecs.of(name, dtype)
    if code == Float(dtype):
        return stored
    width = block.parts[name].width
    values = code.decode(stored.reshape(-1, code.num_bytes(width)), width, TORCH_DTYPES[dtype])
    return values.contiguous().view(-1).view(torch.uint8).numpy()


def _view(  # noqa: PLR0917 - private
    teacher: str,
    row_ids: Sequence[int],
    run: tuple[Block, int, int],
    lengths: NDArray[np.int32],
    names: Sequence[str],
    dtype: SignalDtype,
) -> TeacherSignal:
    block, begin, end = run
    assert block.file is not None
    start = block.file.__array_interface__["data"][0]
    layout = {}
    for name in names:
        part = block.parts[name]
        piece = _slice(part, begin, end)
        offset = piece.__array_interface__["data"][0] - start if len(piece) else 0
        count = len(piece) // (part.width * TORCH_DTYPES[dtype].itemsize)
        layout[name] = Part(offset, _shape(name, count, part.width))
    return TeacherSignal(teacher, tuple(row_ids), lengths, dtype, layout, block.file)


def _slice(part: StoredPart, begin: int, end: int) -> NDArray[np.uint8]:
    return part.data[part.offsets[begin] : part.offsets[end]]


def _runs(picks: Sequence[Pick]) -> Iterator[tuple[Block, int, int]]:
    """Rows that stand one behind the other, as one stretch."""
    block, begin, end = picks[0][0], picks[0][1], picks[0][1] + 1
    for other, row in picks[1:]:
        if other is block and row == end:
            end += 1
            continue
        yield block, begin, end
        block, begin, end = other, row, row + 1
    yield block, begin, end


def _vectors(name: str, values: Tensor) -> Tensor:
    return values.view(-1, 1) if is_square(name) else values


def _shape(name: str, count: int, width: int) -> tuple[int, ...]:
    return (count,) if is_square(name) else (count, width)
