"""What an answer is filed under: content, never position."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raydistill.signals import Ask, Cell

__all__ = ["KEY_BYTES", "Shelf", "row_keys"]

KEY_BYTES = 16
"""Of a row's key: with 10^9 rows, two of one key are as likely as 1 in 10^21."""
_OF_WORDS = 1 << 63
_VERSION = 3  # of what is hashed and how segments are laid out


@dataclass(frozen=True)
class Shelf:
    """Where the answers of one teacher stand: what decides an answer beside the row and the part.

    Attributes:
        weights: Fingerprint of weights, configuration and tokenizer.
        dtype: What the teacher computes in.
        max_tokens: Where it cuts long rows.
        attention_maps: Whether its attention is computed in the way that yields maps.
        signal_dtype: What its answers are rounded to.
        codec: How they are stored, as `Codecs.label` says it.
        device: ``cpu`` or ``cuda``, whose sums differ in the last bits.
        software: Versions of torch and transformers, which bring kernels and models; of ONNX Runtime, if
            that computes.
        tokenizer: Fingerprint of what it does; one named by a hub id may change under its name.
        embedding: Of a teacher that embeds texts, what decides an embedding beside the encoder.
        units: Of a teacher that answers by units of texts, how these are cut.

    The number of threads is not among them. Measured with 1, 2 and 4 threads on one machine (2 cores of
    an AMD EPYC, torch 2.13 with MKL 2024.2, which did share the work between so many) and one MiniLM, up
    to 256 tokens: the same request had the same bits in float32 (logits, hidden states whole and
    averaged, maps) and in bfloat16 (logits, hidden states whole). `torch.sum` of a large tensor had
    not, so this rests on where a model adds up; other processors and models were not tried.
    """

    weights: str
    dtype: str
    max_tokens: int
    attention_maps: bool
    signal_dtype: str
    codec: str
    device: Literal["cpu", "cuda"]
    software: str
    tokenizer: str
    embedding: str = field(default="", repr=False)  # shelves without keep their names
    units: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Folder of this shelf: a hash of all its attributes."""
        return hashlib.sha256(
            f"{_VERSION} {self}{self.embedding}{self.units}".encode()
        ).hexdigest()[:32]


def row_keys(texts: Sequence[Sequence[Cell]]) -> NDArray[np.void]:
    """A key for every row, ``[N]`` of 16 bytes: BLAKE2b over its texts, each after its length.

    Words come after their number, in which a bit is set that no length has: they are no text.

    Args:
        texts: One sequence of strings a column of text, or of tuples of words.
    """
    keys = bytearray()
    for row in zip(*texts, strict=True):
        digest = hashlib.blake2b(digest_size=KEY_BYTES)
        for text in _strings(row, digest.update):
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        keys += digest.digest()
    return np.frombuffer(bytes(keys), dtype=f"V{KEY_BYTES}")


def part_names(ask: Ask) -> tuple[str, ...]:
    """Parts of an answer, in the order of a signal."""
    return ask.keys


def _strings(row: Sequence[Cell], mark: Callable[[bytes], None]) -> Iterator[str]:
    """Texts and words of a row; where words begin, their number is marked."""
    for cell in row:
        if isinstance(cell, str):
            yield cell
            continue
        mark((len(cell) | _OF_WORDS).to_bytes(8, "little"))
        yield from cell
