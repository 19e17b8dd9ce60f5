"""Room in a store: what was not used for longest goes."""

from raydistill.store.place import Place
from raydistill.store.segment import SUFFIX

__all__ = ["evict"]


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
