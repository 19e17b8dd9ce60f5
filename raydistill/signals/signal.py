"""A teacher's answer to one request: one contiguous buffer plus offsets.

Why one buffer: it crosses processes as a single out-of-band block of shared memory, without padding
and without a copy at the receiver. Tokens of all rows stand one behind the other, ``[T, D]`` with
``T`` the sum of lengths; a student's states selected by its attention mask have the same order.

Dimensions: R rows, T tokens of all rows, W words or units of all rows, C classes, D width, H heads, L tokens of one row.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.signals.ask import (
    MAPPED,
    MAPPED_UNITS,
    REST,
    UNIT_LOGITS,
    WORD_LOGITS,
    AttentionAsk,
    HiddenAsk,
    Side,
    SignalDtype,
    embedding_key,
)

__all__ = [
    "ALIGNMENT",
    "TORCH_DTYPES",
    "Part",
    "TeacherSignal",
    "is_square",
    "on_device",
    "pack_signal",
    "select_rows",
    "vectors_per_row",
]

TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ALIGNMENT = 64  # bytes; what vector loads like
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """Where one part lies in the buffer.

    Attributes:
        offset: In bytes.
        shape: ``[R, C]`` for logits, or ``[W, C]``, ``[T, D]``, ``[W, D]`` or ``[R, D]`` for hidden states, queries, keys and
            values, ``[H * sum(L * L)]`` for attention maps, ``[sum(L * L)]`` for their mean over heads and for Gram matrices.
    """

    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TeacherSignal:
    """What one teacher says about the rows of one request.

    Attributes:
        teacher: Its name.
        row_ids: The rows, in the order of the request.
        lengths: Tokens of each row as this teacher cuts it, ``[R]`` int32; if words were asked about, all
            words of each row, if spans, all units.
        dtype: Of everything in the buffer.
        parts: ``logits``, ``hidden.<layer>.<pooling>`` (or ``query``, ``key``, ``value``),
            ``attention.<layer>.<heads>``, ``embedding.<side>``.
        buffer: All parts, uint8; read-only when it lies in shared memory or in a mapped file, of which
            the parts are then only a piece. A tensor when it lies on a device.
    """

    teacher: str
    row_ids: tuple[int, ...]
    lengths: NDArray[np.int32]
    dtype: SignalDtype
    parts: Mapping[str, Part]
    buffer: NDArray[np.uint8] | Tensor = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where its parts are."""
        return self.buffer.device if isinstance(self.buffer, Tensor) else CPU

    @property
    def num_bytes(self) -> int:
        """Of its parts, without what else the buffer holds."""
        item = TORCH_DTYPES[self.dtype].itemsize
        return sum(int(np.prod(p.shape, dtype=np.int64)) * item for p in self.parts.values())

    @property
    def logits(self) -> Tensor:
        """Unnormalised scores, ``[R, C]``, of words ``[W, C]``, of units ``[W, 2]``, a view in the signal's dtype."""
        named = (name for name in (WORD_LOGITS, UNIT_LOGITS) if name in self.parts)
        return self.part(next(named, "logits"))

    @property
    def mapped(self) -> Tensor | None:
        """Which words have a piece, ``[W]`` bool, of units which kinds, ``[W, 3]``; None: the answer is about texts."""
        if MAPPED_UNITS in self.parts:
            return self.part(MAPPED_UNITS) != 0
        return self.part(MAPPED).squeeze(1) != 0 if MAPPED in self.parts else None

    @property
    def rest(self) -> Tensor | None:
        """What rows have beside units, ``[R, 4]``, see :data:`raydistill.signals.ask.REST`; None: nothing was asked."""
        return self.part(REST) if REST in self.parts else None

    def hidden(self, ask: HiddenAsk) -> Tensor:
        """Hidden states, queries, keys or values, ``[T, D]`` for all positions, ``[W, D]`` or ``[R, D]`` when pooled; a view."""
        return self.part(ask.key)

    def embedding(self, side: Side) -> Tensor:
        """Embeddings of one side's texts, ``[R, D]``, a view."""
        return self.part(embedding_key(side))

    def gram(self, layer: int) -> list[Tensor]:
        """Products of a layer's tokens over its width, a view ``[L, L]`` for each row."""
        return [square[0] for square in self._squares(HiddenAsk(layer, "gram").key)]

    def attention(self, ask: AttentionAsk) -> list[Tensor]:
        """Attention probabilities of one block, a view ``[H, L, L]`` for each row; H is 1 for a mean."""
        return self._squares(ask.key)

    def _squares(self, key: str) -> list[Tensor]:
        flat = self.part(key)
        squares = self.lengths.astype(np.int64) ** 2
        heads = flat.numel() // max(1, int(squares.sum()))
        pieces = torch.split(flat, [int(heads * square) for square in squares])
        return [
            piece.view(heads, int(length), int(length))
            for piece, length in zip(pieces, self.lengths, strict=True)
        ]

    def part(self, key: str) -> Tensor:
        """One part by its name, a view."""
        if key not in self.parts:
            raise SignalError(
                f"teachers.{self.teacher} answered {', '.join(sorted(self.parts))}, but {key} is needed."
            )
        part = self.parts[key]
        dtype = TORCH_DTYPES[self.dtype]
        num_bytes = int(np.prod(part.shape, dtype=np.int64)) * dtype.itemsize
        whole = self.buffer
        if not isinstance(whole, Tensor):
            with warnings.catch_warnings():  # nobody writes into it: shared memory is read-only
                warnings.filterwarnings("ignore", message=".*not writable.*")
                whole = torch.from_numpy(whole)
        return whole[part.offset : part.offset + num_bytes].view(dtype).view(part.shape)


def pack_signal(
    teacher: str,
    row_ids: Sequence[int],
    lengths: Sequence[int],
    parts: Mapping[str, Tensor],
    dtype: SignalDtype,
    *,
    device: torch.device = CPU,
) -> TeacherSignal:
    """Put the parts into one buffer.

    Args:
        teacher: Its name.
        row_ids: Rows in the order of the request.
        lengths: Tokens of each row, or words.
        parts: Tensors of any floating dtype on any device, in the shapes that :class:`Part` states.
        dtype: What they are rounded to. float16 keeps 11 bits of the mantissa, up to 65504;
            bfloat16 keeps 8 bits over the range of float32.
        device: Where the buffer is made. From pinned memory to a GPU the copies are asynchronous.
    """
    target = TORCH_DTYPES[dtype]
    layout: dict[str, Part] = {}
    size = 0
    for key, tensor in parts.items():
        layout[key] = Part(size, tuple(tensor.shape))
        size += -(-tensor.numel() * target.itemsize // ALIGNMENT) * ALIGNMENT
    size = max(size, ALIGNMENT)  # torch cannot view an empty one
    if device.type == "cpu":
        buffer: NDArray[np.uint8] | Tensor = np.zeros(size, dtype=np.uint8)
    else:
        buffer = torch.zeros(size, dtype=torch.uint8, device=device)
    whole = torch.as_tensor(buffer)
    for key, tensor in parts.items():
        begin = layout[key].offset
        end = begin + tensor.numel() * target.itemsize
        whole[begin:end].view(target).copy_(tensor.reshape(-1), non_blocking=device.type == "cuda")
    return TeacherSignal(
        teacher, tuple(row_ids), np.asarray(lengths, dtype=np.int32), dtype, layout, buffer
    )


def on_device(signal: TeacherSignal, device: torch.device) -> TeacherSignal:
    """The same signal with its buffer on a device; to a GPU through pinned memory, asynchronously.

    Pinned memory lets the copy run beside kernels; without it ``non_blocking`` blocks all the same.
    """
    if signal.device == device:
        return signal
    parts = {name: signal.part(name) for name in signal.parts}
    if device.type == "cuda" and signal.device.type == "cpu":
        parts = {name: part.pin_memory() for name, part in parts.items()}
    return pack_signal(
        signal.teacher, signal.row_ids, signal.lengths.tolist(), parts, signal.dtype, device=device
    )


def is_square(name: str) -> bool:
    """Whether a part holds squares of tokens, flat: numbers of all rows one behind the other."""
    return name.startswith("attention.") or name.endswith(".gram")


def vectors_per_row(name: str, lengths: NDArray[np.int32], total: int) -> NDArray[np.int64]:
    """How many vectors of a part each row has, ``[R]``; of squares, which are flat, numbers.

    Args:
        name: Of the part.
        lengths: Tokens of each row, or words.
        total: Vectors of the whole part.
    """
    tokens = lengths.astype(np.int64)
    if is_square(name):
        squares = tokens**2
        return squares * (total // max(1, int(squares.sum())))
    return tokens if name.endswith((".all", ".words", ".units")) else np.ones_like(tokens)


def select_rows(signal: TeacherSignal, begin: int, end: int) -> TeacherSignal:
    """Consecutive rows of a signal, copied into a buffer of their own."""
    parts = {}
    for name in signal.parts:
        part = signal.part(name)
        ends = np.cumsum([0, *vectors_per_row(name, signal.lengths, len(part))])
        parts[name] = part[ends[begin] : ends[end]]
    return pack_signal(
        signal.teacher,
        signal.row_ids[begin:end],
        signal.lengths[begin:end].tolist(),
        parts,
        signal.dtype,
        device=signal.device,
    )
