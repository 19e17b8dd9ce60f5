"""What a person does with a store: see what is in it, check it, make room."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from raydistill.store.codecs import Codecs
from raydistill.store.eviction import evict
from raydistill.store.place import Place
from raydistill.store.segment import (
    SUFFIX,
    SegmentError,
    content_name,
    index_segment,
    open_segment,
)
from raydistill.store.store import SET_ASIDE, SHELF_FILE

__all__ = ["ShelfFigures", "Verdict", "list_shelves", "prune", "verify"]

_ABANDONED_S = 3600.0  # a writer is long done with a file by then


@dataclass(frozen=True)
class ShelfFigures:
    """A shelf as `raydistill store list` shows it.

    Attributes:
        name: Its folder.
        teacher: What the teacher was called when the shelf was made.
        model: What it was loaded from.
        parts: What is stored of a row.
        codec: How.
        rows: Stored, those stored twice counted twice.
        num_bytes: Of its segments.
        segments: How many.
    """

    name: str
    teacher: str
    model: str
    parts: tuple[str, ...]
    codec: str
    rows: int
    num_bytes: int
    segments: int


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        segments: Looked at.
        num_bytes: Read.
        broken: Set aside now, by path.
        set_aside: Lying there from earlier.
        left: Could not be read, or are broken and could not be set aside, by path.
    """

    segments: int
    num_bytes: int
    broken: tuple[str, ...]
    set_aside: int
    left: tuple[str, ...] = ()


def list_shelves(place: Place) -> list[ShelfFigures]:
    """All shelves, the largest first."""
    found = []
    by_shelf: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for entry in place.entries(suffix=SUFFIX):
        if entry.folder != SET_ASIDE:
            by_shelf.setdefault(entry.folder, []).append(entry.path)
            sizes[entry.folder] = sizes.get(entry.folder, 0) + entry.num_bytes
    for name, paths in by_shelf.items():
        try:
            about = json.loads(place.read(f"{name}/{SHELF_FILE}"))
        except (OSError, ValueError):
            about = {}
        rows, parts = 0, dict[str, None]()
        for path in paths:
            try:
                with place.open(path) as file:
                    keys, names = index_segment(file)
            except (SegmentError, OSError):
                continue
            rows += len(keys)
            parts |= dict.fromkeys(names)
        said = [str(about.get(key, "?")) for key in ("teacher", "model", "codec")]
        teacher, model, codec = said
        found.append(
            ShelfFigures(name, teacher, model, tuple(parts), codec, rows, sizes[name], len(paths))
        )
    return sorted(found, key=lambda shelf: -shelf.num_bytes)


def verify(place: Place, on_segment: Callable[[str], None] = lambda _: None) -> Verdict:
    """Read every segment and compare it with its checksum; what differs is set aside."""
    broken, left, read, old = [], [], 0, 0
    entries = place.entries(suffix=SUFFIX)
    for entry in entries:
        if entry.folder == SET_ASIDE:
            old += 1
            continue
        on_segment(entry.path)
        try:
            content = place.map(entry.path)
            sound = content_name(content) == entry.name
            open_segment(content, Codecs())
        except FileNotFoundError:  # evicted meanwhile
            continue
        except SegmentError:
            sound = False
        except OSError:
            left.append(entry.path)
            continue
        read += entry.num_bytes
        if not sound:
            try:
                place.move(entry.path, f"{SET_ASIDE}/{entry.path.replace('/', '-')}")
                broken.append(entry.path)
            except OSError:
                left.append(entry.path)
    return Verdict(len(entries) - old, read, tuple(broken), old, tuple(left))


def prune(place: Place, max_bytes: int | None) -> tuple[int, int]:
    """Delete what was set aside or abandoned by a writer, then what was not used for longest.

    Args:
        place: The store.
        max_bytes: What may remain; None: all sound segments.

    Returns:
        Files deleted, and their bytes.
    """
    waste = list(place.entries(SET_ASIDE)) + place.unfinished(_ABANDONED_S)
    for entry in waste:
        place.delete(entry.path)
    count, freed = (0, 0) if max_bytes is None else evict(place, max_bytes)
    return count + len(waste), freed + sum(entry.num_bytes for entry in waste)
