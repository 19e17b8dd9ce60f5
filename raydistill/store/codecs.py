"""How answers are stored, vector by vector, and what each way costs in exactness.

Every code takes a matrix ``[N, D]`` to ``[N, B]`` bytes and back, each vector by itself, so that
what is read does not depend on what it was stored beside. What a run gets in its first epoch has
gone through the code too: a cold store and a warm one give the same numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.signals.ask import SignalDtype
from raydistill.signals.signal import TORCH_DTYPES, is_square

__all__ = ["Code", "Codecs", "Float", "Int8", "TopK"]

Bytes = NDArray[np.uint8]


class Code(Protocol):
    """One way to store vectors."""

    def num_bytes(self, width: int) -> int:
        """Bytes of a vector of ``width`` numbers."""
        ...

    def encode(self, values: Tensor) -> Bytes:
        """``[N, D]`` to ``[N, B]``."""
        ...

    def decode(self, stored: Bytes, width: int, dtype: torch.dtype) -> Tensor:
        """``[N, B]`` to ``[N, D]``."""
        ...


@dataclass(frozen=True)
class Float:
    """Numbers rounded to a floating type; the signal's own type costs nothing.

    Relative error at most 2^-11 in float16 (up to 65504 in size; below 6e-5 an absolute error of
    3e-8), 2^-8 in bfloat16.
    """

    dtype: SignalDtype

    def num_bytes(self, width: int) -> int:
        """Bytes of a vector."""
        return width * TORCH_DTYPES[self.dtype].itemsize

    def too_large(self, values: Tensor) -> Tensor:
        """``[N, D]`` to ``[N]``: vectors with a number that would become infinite."""
        dtype = TORCH_DTYPES[self.dtype]
        if not values.numel() or dtype == values.dtype:
            return torch.zeros(len(values), dtype=torch.bool)
        low, high = torch.aminmax(values.detach().cpu())
        if max(-low.item(), high.item()) <= torch.finfo(dtype).max:
            return torch.zeros(len(values), dtype=torch.bool)
        return (values.isfinite() & values.to(dtype).isinf()).any(1).cpu()

    def encode(self, values: Tensor) -> Bytes:
        """Rounded to the nearest."""
        kept = values.detach().cpu().to(TORCH_DTYPES[self.dtype]).contiguous()
        return _bytes_of(kept, self.num_bytes(values.shape[1]))

    def decode(self, stored: Bytes, width: int, dtype: torch.dtype) -> Tensor:
        """As stored."""
        values = torch.from_numpy(np.ascontiguousarray(stored)).view(TORCH_DTYPES[self.dtype])
        return values.view(len(stored), width).to(dtype)


@dataclass(frozen=True)
class Int8:
    """Whole numbers from -127 to 127 times one scale a vector, ``max |x| / 127``.

    Absolute error of a number at most ``max |x| / 254`` over its vector, plus the rounding to the
    signal's type. One byte a number and four a vector.
    """

    def num_bytes(self, width: int) -> int:
        """Bytes of a vector."""
        return width + 4

    def encode(self, values: Tensor) -> Bytes:
        """Scale behind the numbers."""
        wide = values.detach().cpu().float()
        scale = wide.abs().amax(1, keepdim=True) / 127
        whole = (wide / scale.clamp_min(torch.finfo(torch.float32).tiny)).round().clamp(-127, 127)
        stored = torch.cat([whole.to(torch.int8).view(torch.uint8), scale.view(torch.uint8)], 1)
        return stored.numpy()

    def decode(self, stored: Bytes, width: int, dtype: torch.dtype) -> Tensor:
        """Numbers times scale."""
        both = torch.from_numpy(np.ascontiguousarray(stored))
        scale = both[:, width:].contiguous().view(torch.float32)
        return (both[:, :width].contiguous().view(torch.int8).float() * scale).to(dtype)


@dataclass(frozen=True)
class TopK:
    """The k largest logits as they are, and the log-sum-exp of the others: the tail mass.

    Read back, every class of the tail has the same share of the tail's mass. At temperature 1 the
    probabilities of the k classes and of the tail as a whole are exact; the Kullback-Leibler
    divergence from the true distribution is ``m (log(C - k) - H)``, with m the tail's mass and H the
    entropy within the tail. At other temperatures the tail is flatter than it was. 8 k + 4 bytes a
    vector, never more than all logits in float32 and 8 bytes.
    """

    k: int

    def _kept(self, width: int) -> int:
        return min(self.k, width)

    def num_bytes(self, width: int) -> int:
        """Bytes of a vector."""
        return 8 * self._kept(width) + 4

    def encode(self, values: Tensor) -> Bytes:
        """Positions, values, tail."""
        logits = values.detach().cpu().float()
        top, place = logits.topk(self._kept(logits.shape[1]), dim=1)
        rest = logits.scatter(1, place, -math.inf)
        tail = rest.logsumexp(1, keepdim=True)
        parts = [place.to(torch.int32), top.contiguous(), tail]
        return torch.cat([part.contiguous().view(torch.uint8) for part in parts], 1).numpy()

    def decode(self, stored: Bytes, width: int, dtype: torch.dtype) -> Tensor:
        """Dense logits."""
        k = self._kept(width)
        both = torch.from_numpy(np.ascontiguousarray(stored))
        place = both[:, : 4 * k].contiguous().view(torch.int32).long()
        top = both[:, 4 * k : 8 * k].contiguous().view(torch.float32)
        tail = both[:, 8 * k :].contiguous().view(torch.float32)
        each = tail - math.log(max(1, width - k))
        return each.expand(len(both), width).scatter(1, place, top).to(dtype)


@dataclass(frozen=True)
class Codecs:
    """Which code for which part; ``same`` is the signal's own type, without loss.

    Attributes:
        logits: Of logits.
        hidden: Of hidden states, and of queries, keys and values; their Gram matrices, which are no vectors, are never int8.
        attention: Of attention maps.
        top_k: Of the code ``topk``.
    """

    logits: Literal["same", "float16", "bfloat16", "topk"] = "same"
    hidden: Literal["same", "float16", "bfloat16", "int8"] = "same"
    attention: Literal["same", "float16", "bfloat16"] = "same"
    top_k: int = 32

    @property
    def label(self) -> str:
        """Tells one choice from another."""
        top = f":{self.top_k}" if self.logits == "topk" else ""
        return f"logits={self.logits}{top} hidden={self.hidden} attention={self.attention}"

    @staticmethod
    def setting(part: str) -> str:
        """Which of the choices is for a part, by its name in a signal."""
        kind = part.partition(".")[0]
        return kind if kind in ("logits", "attention") else "hidden"

    def of(self, part: str, dtype: SignalDtype) -> Code:
        """The code of a part, by its name in a signal."""
        chosen: str = getattr(self, self.setting(part))
        if chosen == "topk":
            return TopK(self.top_k)
        if chosen == "int8" and not is_square(part):
            return Int8()
        return Float(dtype if chosen in ("same", "int8") else chosen)  # type: ignore[arg-type]


def _bytes_of(values: Tensor, num_bytes: int) -> Bytes:
    return values.view(torch.uint8).numpy().reshape(len(values), num_bytes)
