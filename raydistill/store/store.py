"""The signal store: what teachers answered, for every later epoch, trial, run and student.

A store is a folder of shelves, one a teacher (`keys.Shelf`); a shelf is a set of immutable segments.
Writers only add segments, each published whole under the hash of its content; readers look which
are new. So there are no locks, and any number of processes may read and write at once.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.signals import Ask, TeacherSignal
from raydistill.store.block import Block, Pick, StoredPart, encode_signal, read_signal
from raydistill.store.codecs import Codecs
from raydistill.store.index import Index
from raydistill.store.keys import Shelf, part_names
from raydistill.store.place import Place
from raydistill.store.segment import (
    SUFFIX,
    SegmentError,
    content_name,
    open_segment,
    pack_segment,
)

__all__ = ["SET_ASIDE", "SHELF_FILE", "ShelfStore"]

SET_ASIDE = "set-aside"
"""Folder for segments that are not what their names say."""
SHELF_FILE = "shelf.json"
"""In each shelf: which teacher it is of."""
_ROOM = 0.9  # of the limit that eviction leaves, so that it is not needed at every segment


@dataclass(eq=False)
class _Segment:
    path: str
    content: pa.Buffer
    keys: NDArray[np.void]
    block: Block
    sound: bool = False  # compared with its name


class ShelfStore:
    """The answers of one teacher, as one process sees them.

    Args:
        place: The store.
        shelf: What decides an answer beside the row and the part.
        codecs: How parts are stored; the shelf names them.
        teacher: Its name in this run.
        about: Said of the teacher in `raydistill store list`.
        segment_bytes: Added rows are published when they take that much,
        publish_s: or when the first of them is that old.
        refresh_s: How long what others publish may go unnoticed while rows are missing.
        max_bytes: Of the whole store; what was not used for longest makes room. None: no limit.
        say: Where losses are told.
        clock: Seconds; tests bring their own.
    """

    def __init__(
        self,
        place: Place,
        shelf: Shelf,
        codecs: Codecs,
        *,
        teacher: str,
        about: Mapping[str, object] | None = None,
        segment_bytes: int = 64 << 20,
        publish_s: float = 20.0,
        refresh_s: float = 5.0,
        max_bytes: int | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place, self.shelf, self.codecs, self.teacher = place, shelf, codecs, teacher
        self._about: dict[str, object] = dict(about or {})
        self._segment_bytes, self._publish_s, self._max_bytes = segment_bytes, publish_s, max_bytes
        self._refresh_s, self._say, self._clock = refresh_s, say, clock
        self._segments: list[_Segment] = []
        self._known: set[str] = set()
        self._index = Index([])
        self._added: list[tuple[NDArray[np.void], Block]] = []
        self._places: dict[bytes, Pick] = {}  # of what was added and is not published yet
        self._added_bytes, self._added_at = 0, 0.0
        self.refresh()

    def tell(self, about: Mapping[str, object]) -> None:
        """More that is said of the teacher once something is published."""
        self._about |= about

    def about(self) -> Mapping[str, object]:
        """What was said of the teacher when the shelf was made; nothing if it is new or damaged."""
        try:
            return dict(json.loads(self.place.read(f"{self.shelf.name}/{SHELF_FILE}")))
        except (OSError, ValueError):
            return {}

    def refresh(self) -> None:
        """Look for segments that others published."""
        self._looked_at = self._clock()
        new = []
        for entry in self.place.entries(self.shelf.name, SUFFIX):
            if entry.path in self._known:
                continue
            self._known.add(entry.path)
            try:
                content = self.place.map(entry.path)
                new.append(_Segment(entry.path, content, *open_segment(content, self.codecs)))
            except SegmentError as error:
                self._set_aside(entry.path, f"cannot be read ({error})")
            except OSError:  # evicted meanwhile
                continue
        if new:
            self._segments += new
            self._rebuild()

    def _rebuild(self) -> None:
        self._index = Index([segment.keys for segment in self._segments])

    def find(self, keys: NDArray[np.void], ask: Ask) -> list[Pick | None]:
        """Where the asked parts of each row stand; None: not here.

        A segment is compared with its checksum before its first row is given out; if it differs it
        is set aside, and its rows are not here.
        """
        if ask.dtype != self.shelf.signal_dtype:
            raise AssertionError("a shelf holds answers of one dtype")
        names = set(part_names(ask))
        may_look = self._clock() - self._looked_at > self._refresh_s
        while True:
            found, broken = self._find(keys, names)
            if not broken and not (may_look and None in found):
                return found
            if may_look:
                self.refresh()
                may_look = False
            for segment in broken:
                self._segments.remove(segment)
                self._set_aside(segment.path, "is not what its checksum says")
            self._rebuild()

    def _find(
        self, keys: NDArray[np.void], names: set[str]
    ) -> tuple[list[Pick | None], list[_Segment]]:
        found: list[Pick | None] = []
        broken: list[_Segment] = []
        for key, places in zip(keys, self._index.find(keys), strict=True):
            pick = self._places.get(key.tobytes())
            if pick is not None and not names <= pick[0].parts.keys():
                pick = None
            for number, row in places if pick is None else ():
                segment = self._segments[number]
                if names <= segment.block.parts.keys() and segment not in broken:
                    if self._is_sound(segment):
                        pick = (segment.block, row)
                        break
                    broken.append(segment)
            found.append(pick)
        return found, broken

    def _is_sound(self, segment: _Segment) -> bool:
        if not segment.sound:
            segment.sound = segment.path.endswith(f"/{content_name(segment.content)}")
            self.place.used(segment.path)
        return segment.sound

    def read(
        self, row_ids: Sequence[int], picks: Sequence[Pick], ask: Ask, *, view: bool = False
    ) -> TeacherSignal:
        """Found rows as the signal that the teacher would answer.

        Args:
            row_ids: Names of the rows.
            picks: Where each stands.
            ask: Which parts.
            view: Do not copy where that is possible.
        """
        names = part_names(ask)
        return read_signal(self.teacher, row_ids, picks, names, ask.dtype, view=view)

    def add(self, keys: NDArray[np.void], signal: TeacherSignal) -> Block:
        """File what the teacher answered; found at once here, by others once it is published."""
        block = encode_signal(signal, self.codecs)
        if not self._added:
            self._added_at = self._clock()
        self._added.append((keys, block))
        self._places |= {key.tobytes(): (block, row) for row, key in enumerate(keys)}
        self._added_bytes += sum(part.data.nbytes for part in block.parts.values())
        self.publish(only_due=True)
        return block

    def publish(self, *, only_due: bool = False) -> None:
        """Write what was added as segments, one for each set of parts.

        Args:
            only_due: Only if it is large or old enough.
        """
        due = self._added_bytes >= self._segment_bytes or (
            self._added and self._clock() - self._added_at >= self._publish_s
        )
        if not self._added or (only_due and not due):
            return
        groups: dict[tuple[str, ...], list[tuple[NDArray[np.void], Block]]] = {}
        for keys, block in self._added:
            groups.setdefault(tuple(block.parts), []).append((keys, block))
        self._write_about()
        for group in groups.values():
            keys, block = _joined(group)
            content = pack_segment(keys, block)
            self.place.publish(f"{self.shelf.name}/{content_name(content)}", content)
        self._added, self._places, self._added_bytes = [], {}, 0
        self.refresh()
        if self._max_bytes is not None:
            evict(self.place, self._max_bytes, room=_ROOM)

    def _write_about(self) -> None:
        path = f"{self.shelf.name}/{SHELF_FILE}"
        if not self.place.exists(path):
            about = {"teacher": self.teacher} | self._about | self.shelf.__dict__
            self.place.publish(path, pa.py_buffer(json.dumps(about, indent=1).encode()))

    def _set_aside(self, path: str, why: str) -> None:
        name = path.replace("/", "-")
        self.place.move(path, f"{SET_ASIDE}/{name}")
        self._say(
            f"store: {path} {why}; it was moved to {SET_ASIDE}/, and what it held is computed again"
        )


def evict(place: Place, max_bytes: int, *, room: float = 1.0) -> tuple[int, int]:
    """Delete the segments that were not used for longest until the rest fits.

    Args:
        place: The store.
        max_bytes: The limit.
        room: Share of the limit to go down to once it is exceeded.

    Returns:
        Segments deleted, and their bytes.
    """
    entries = place.entries(suffix=SUFFIX)
    total = sum(entry.num_bytes for entry in entries)
    if total <= max_bytes:
        return 0, 0
    count = freed = 0
    for entry in sorted(entries, key=lambda entry: entry.used_at):
        if total - freed <= max_bytes * room:
            break
        place.delete(entry.path)
        count, freed = count + 1, freed + entry.num_bytes
    return count, freed


def _joined(group: Sequence[tuple[NDArray[np.void], Block]]) -> tuple[NDArray[np.void], Block]:
    """Several blocks of the same parts as one."""
    keys = np.concatenate([keys for keys, _ in group])
    blocks = [block for _, block in group]
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
