"""How one teacher is reached: what the driver decides once and every worker opens for itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raydistill.losses import PairScorer
from raydistill.store import Codecs, Place, Shelf, ShelfStore
from raydistill.teachers.counting import CountingTeacher
from raydistill.teachers.direct import why_unable
from raydistill.teachers.pairs import PairSource
from raydistill.teachers.pool import TeacherPool
from raydistill.teachers.protocol import TeacherSettings
from raydistill.teachers.source import Source
from raydistill.teachers.sources import InlineSource, Memory, StoreSource
from raydistill.teachers.stored import StoredTeacher
from raydistill.teachers.teacher import LocalTeacher
from raydistill.teachers.transport import ActorTransport

__all__ = ["StoreLine", "TeacherLine", "open_source"]


@dataclass(frozen=True)
class StoreLine:
    """A teacher's shelf of the store, before it is opened.

    Attributes:
        uri: Of the store.
        shelf: Which one.
        codecs: How it is stored.
        about: Said in `raydistill store list`.
        max_bytes: Limit of the whole store.
        segment_bytes: Of one file.
    """

    uri: str
    shelf: Shelf
    codecs: Codecs
    about: Mapping[str, str]
    max_bytes: int | None
    segment_bytes: int

    def open(self, teacher: str, say: Callable[[str], None] = lambda _: None) -> ShelfStore:
        """For this process."""
        return ShelfStore(
            Place(self.uri),
            self.shelf,
            self.codecs,
            teacher=teacher,
            about=self.about,
            max_bytes=self.max_bytes,
            segment_bytes=self.segment_bytes,
            say=say,
        )


@dataclass(frozen=True)
class TeacherLine:
    """One teacher.

    Attributes:
        actors: Its replicas; none: it is inline, or everything is in the store.
        timeout_s: Deadline of a request.
        max_retries: How often a request may be asked again.
        start_timeout_s: How long a restart may take.
        store: Its shelf; None: no store.
        memory_bytes: What a worker keeps of its answers.
        hedge_after: When a late request is sent to a second replica too; None: never.
        elastic: Whether its replicas may become more or fewer.
        inline: What to load in the worker's own process; None: nothing.
        window_rows: Rows computed together by an inline teacher.
        direct: Whether workers take answers from its device; only what trains asks so.
        scorer: Of a teacher that embeds texts, what makes scores of pairs; None: it reads pairs, or rows.
    """

    actors: tuple[Any, ...]
    timeout_s: float
    max_retries: int
    start_timeout_s: float
    store: StoreLine | None = None
    memory_bytes: int = 0
    hedge_after: float | None = None
    elastic: bool = False
    inline: TeacherSettings | None = None
    window_rows: int = 0
    direct: bool = False
    scorer: PairScorer | None = None


def open_source(
    name: str,
    line: TeacherLine,
    *,
    offset: int = 0,
    timeout_factor: float = 1.0,
    say: Callable[[str], None] = lambda _: None,
) -> Source:
    """A teacher as one worker sees it: store and memory first, then the pool of its replicas.

    One that embeds texts is asked about pairs all the same.

    Args:
        name: Of the teacher.
        line: How it is reached.
        offset: Where this worker begins among equally loaded replicas.
        timeout_factor: Of the deadline, for requests that are larger than in training.
        say: Where decisions are told.
    """
    found = _open(name, line, offset, timeout_factor, say)
    return found if line.scorer is None else PairSource(name, found, line.scorer)


def _open(
    name: str, line: TeacherLine, offset: int, timeout_factor: float, say: Callable[[str], None]
) -> Source:
    store = line.store.open(name, say) if line.store is not None else None
    if line.inline is not None:
        # What it computed is in this process already, in the store that it writes.
        memory = Memory(line.memory_bytes if store is None else 0)
        return StoreSource(name, store, memory, _inline(line, line.inline, store))
    pool = None
    if line.actors:
        direct = line.direct
        if direct and (unable := why_unable()) is not None:
            say(f"teachers.{name} answers through host memory: {unable}")
            direct = False
        pool = TeacherPool(
            name,
            ActorTransport(name, line.actors, "offer" if direct else "answer", say),
            timeout_s=line.timeout_s * timeout_factor,
            max_retries=line.max_retries,
            start_timeout_s=line.start_timeout_s,
            offset=offset,
            hedge_after=line.hedge_after,
            say=say,
        )
    if pool is not None and store is None and not line.memory_bytes:
        return pool
    return StoreSource(name, store, Memory(line.memory_bytes), pool)


def _inline(line: TeacherLine, settings: TeacherSettings, store: ShelfStore | None) -> InlineSource:
    """A teacher in this process, that reads and writes the store itself."""
    counted = CountingTeacher(LocalTeacher(settings))
    together = counted.describe().steady
    stored = StoredTeacher(counted, store) if store is not None else None
    return InlineSource(stored or counted, line.window_rows if together else 0, counted, stored)
