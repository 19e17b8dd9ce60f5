"""Answers that were added and are not published yet: found like others, written as segments when due."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydistill.store.block import Block, Pick, StoredPart

__all__ = ["Added", "Waiting", "joined"]


@dataclass(frozen=True, eq=False)
class Added:
    """What was added at once.

    Attributes:
        keys: Of its rows.
        block: The rows.
        at: When.
    """

    keys: NDArray[np.void]
    block: Block
    at: float

    @property
    def num_bytes(self) -> int:
        """Of all parts."""
        return sum(part.data.nbytes for part in self.block.parts.values())


class Waiting:
    """Added rows in the order they came."""

    def __init__(self) -> None:
        self._added: list[Added] = []
        self._places: dict[bytes, Pick] = {}
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._added)

    @property
    def since(self) -> float:
        """When the first came that still waits."""
        return self._added[0].at

    def add(self, added: Added) -> None:
        """At the end."""
        self._added.append(added)
        self._places |= {key.tobytes(): (added.block, row) for row, key in enumerate(added.keys)}
        self.num_bytes += added.num_bytes

    def find(self, key: bytes, names: set[str]) -> Pick | None:
        """Where a row stands, if all parts do."""
        pick = self._places.get(key)
        return pick if pick is not None and names <= pick[0].parts.keys() else None

    def groups(self) -> list[list[Added]]:
        """Those of the same parts, which one segment can hold."""
        found: dict[tuple[str, ...], list[Added]] = {}
        for added in self._added:
            found.setdefault(tuple(added.block.parts), []).append(added)
        return list(found.values())

    def remove(self, group: Sequence[Added]) -> None:
        """They wait no more."""
        gone = set(map(id, group))
        self._added = [added for added in self._added if id(added) not in gone]
        for added in group:
            self.num_bytes -= added.num_bytes
            for key in added.keys:
                if (pick := self._places.get(key.tobytes())) and pick[0] is added.block:
                    del self._places[key.tobytes()]

    def shrink(self, max_bytes: int) -> None:
        """Forget the oldest until the rest fits; the newest stays."""
        while self.num_bytes > max_bytes and len(self._added) > 1:
            self.remove(self._added[:1])


def joined(group: Sequence[Added]) -> tuple[NDArray[np.void], Block]:
    """Several blocks of the same parts as one."""
    keys = np.concatenate([added.keys for added in group])
    blocks = [added.block for added in group]
    parts = {}
    for name, first in blocks[0].parts.items():
        pieces = [block.parts[name] for block in blocks]
        begins = np.cumsum([0, *(len(piece.data) for piece in pieces)])
        offsets = [piece.offsets[:-1] + begin for piece, begin in zip(pieces, begins, strict=False)]
        parts[name] = StoredPart(
            np.concatenate([piece.data for piece in pieces]),
            np.concatenate([*offsets, begins[-1:]]).astype(np.int64),
            first.width,
        )
    lengths = np.concatenate([block.lengths for block in blocks])
    return keys, Block(lengths, parts, blocks[0].codecs)
