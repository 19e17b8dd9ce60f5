"""The signal store: what teachers answered, for every later epoch, trial, run and student.

A store is a folder of shelves, one a teacher (`keys.Shelf`); a shelf is a set of immutable segments.
Writers only add segments, each published whole under the hash of its content; readers look which
are new. So there are no locks, and any number of processes may read and write at once.

A store that fails makes a run slower, never wrong, and does not end it: what cannot be read is
computed again, what cannot be written is given out from memory as long as there is room.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.filesystems import first_line
from raydistill.signals import Ask, TeacherSignal
from raydistill.store.block import Block, Pick, encode_signal, read_signal
from raydistill.store.codecs import Codecs
from raydistill.store.eviction import evict
from raydistill.store.index import Index
from raydistill.store.keys import Shelf, part_names
from raydistill.store.opened import OpenedSegment
from raydistill.store.place import Place
from raydistill.store.segment import SUFFIX, SegmentError, content_name, pack_segment
from raydistill.store.waiting import Added, Waiting, joined

__all__ = ["SET_ASIDE", "SHELF_FILE", "ShelfStore"]

SET_ASIDE = "set-aside"
"""Folder for segments that are not what their names say."""
SHELF_FILE = "shelf.json"
"""In each shelf: which teacher it is of."""
_ROOM = 0.9  # of the limit that eviction leaves, so that it is not needed at every segment
_KEPT = 4  # segments' bytes that wait in memory while nothing can be written
_AGAIN_S = 60.0  # until writing is tried again


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
        self._segments: list[OpenedSegment] = []
        self._bad: set[str] = set()  # could not be set aside
        self._index = Index([])
        self._waiting = Waiting()
        self._failed_at: float | None = None  # the last attempt to write
        self._troubles: set[str] = set()  # that were told
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
        """Look for segments that others published; one that cannot be read now is tried next time."""
        self._looked_at = self._clock()
        try:
            entries = self.place.entries(self.shelf.name, SUFFIX)
        except OSError as error:
            self._trouble(
                "list", f"cannot be listed ({first_line(error)}); rows are computed again"
            )
            return
        self._troubles.discard("list")
        known = self._bad | {segment.path for segment in self._segments}
        new = []
        for path in (entry.path for entry in entries if entry.path not in known):
            try:
                new.append(OpenedSegment(self.place, path, self.codecs))
            except SegmentError as error:
                self._set_aside(path, f"cannot be read ({error})")
            except OSError:  # evicted meanwhile, or out of reach
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
        self.publish_due()
        names = set(part_names(ask))
        may_look = self._clock() - self._looked_at > self._refresh_s
        while True:
            found, failed = self._find(keys, names)
            if not failed and not (may_look and None in found):
                return found
            if may_look:
                self.refresh()
                may_look = False
            self._segments = [segment for segment in self._segments if segment not in failed]
            for segment, error in failed.items():
                if isinstance(error, SegmentError):
                    self._set_aside(segment.path, str(error))
            self._rebuild()

    def _find(
        self, keys: NDArray[np.void], names: set[str]
    ) -> tuple[list[Pick | None], dict[OpenedSegment, Exception]]:
        """Picks, and segments that could not be used, with the reason."""
        failed: dict[OpenedSegment, Exception] = {}
        blocks: dict[int, Block | None] = {-1: None}
        now = self._clock()

        def usable(number: int) -> Block | None:
            if number not in blocks:
                blocks[number] = self._use(self._segments[number], names, now, failed)
            return blocks[number]

        segments, rows, others = self._index.first(keys)
        found: list[Pick | None] = []
        for number, row in zip(segments.tolist(), rows.tolist(), strict=True):
            block = usable(number)
            found.append(None if block is None else (block, row))
        # The others one by one: they stand at several places, or were added and are not published.
        for i in range(len(keys)) if len(self._waiting) else np.flatnonzero(others).tolist():
            pick = self._waiting.find(keys[i].tobytes(), names) or found[i]
            for number, row in self._index.places(keys[i]) if pick is None else ():
                if (block := usable(number)) is not None:
                    pick = (block, row)
                    break
            found[i] = pick
        return found, failed

    @staticmethod
    def _use(
        segment: OpenedSegment, names: set[str], now: float, failed: dict[OpenedSegment, Exception]
    ) -> Block | None:
        """A segment's rows, if they have all parts; why not is noted if it cannot be used."""
        if not names <= segment.names:
            return None
        try:
            return segment.use(now)
        except (SegmentError, OSError) as error:
            failed[segment] = error
            return None

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
        """File what the teacher answered; found at once here, by others once it is published.

        Raises:
            NotFiniteError: A number is too large for the code of its part.
        """
        block = encode_signal(signal, self.codecs)
        self._waiting.add(Added(keys, block, self._clock()))
        self.publish_due()
        self._waiting.shrink(_KEPT * self._segment_bytes)
        return block

    def publish_due(self) -> None:
        """Write what is large or old enough; costs next to nothing if nothing is."""
        self.publish(only_due=True)

    def publish(self, *, only_due: bool = False) -> None:
        """Write what was added as segments, one for each set of parts.

        If that fails the run goes on, and what was added is given out from memory.

        Args:
            only_due: Only if it is large or old enough, and writing did not fail just now.
        """
        if not self._waiting or (only_due and not self._is_due(self._clock())):
            return
        try:
            self._write()
        except OSError as error:
            self._failed_at = self._clock()
            self._trouble(
                "write",
                f"cannot be written ({first_line(error)}); answers are kept in memory, at most "
                f"{_KEPT * self._segment_bytes:,} bytes of them, and it is tried again every {_AGAIN_S:g} s",
            )
        else:
            if self._failed_at is not None:
                self._say(f"store: {self.place.uri} can be written again")
            self._failed_at = None
            self._troubles.discard("write")
        self.refresh()
        if self._max_bytes is not None:
            self._evict(self._max_bytes)

    def _is_due(self, now: float) -> bool:
        if self._failed_at is not None and now - self._failed_at < _AGAIN_S:
            return False
        large = self._waiting.num_bytes >= self._segment_bytes
        return large or now - self._waiting.since >= self._publish_s

    def _write(self) -> None:
        about = f"{self.shelf.name}/{SHELF_FILE}"
        if not self.place.exists(about):
            said = {"teacher": self.teacher} | self._about | self.shelf.__dict__
            self.place.publish(about, pa.py_buffer(json.dumps(said, indent=1).encode()))
        for group in self._waiting.groups():
            content = pack_segment(*joined(group))
            path = f"{self.shelf.name}/{content_name(content)}"
            self.place.publish(path, content)
            self._bad.discard(path)
            self._waiting.remove(group)

    def _evict(self, max_bytes: int) -> None:
        try:
            evict(self.place, max_bytes, room=_ROOM)
        except OSError as error:
            self._trouble("evict", f"exceeds store.max_bytes ({first_line(error)})")
        else:
            self._troubles.discard("evict")

    def _trouble(self, kind: str, what: str) -> None:
        """Say it once, until it is over."""
        if kind not in self._troubles:
            self._troubles.add(kind)
            self._say(f"store: {self.place.uri} {what}")

    def _set_aside(self, path: str, why: str) -> None:
        """What is broken goes out of the way, unless somebody put a sound one in its place."""
        try:
            OpenedSegment(self.place, path, self.codecs).use(self._clock())
        except SegmentError:
            pass
        except OSError:
            return
        else:
            return
        try:
            self.place.move(path, f"{SET_ASIDE}/{path.replace('/', '-')}")
        except OSError as error:
            self._bad.add(path)
            end = f"it could not be moved away ({first_line(error)}) and is not used"
        else:
            end = f"it was moved to {SET_ASIDE}/"
        self._say(f"store: {path} {why}; {end}, and what it held is computed again")
