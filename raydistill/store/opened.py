"""A published segment as one process sees it: indexed at once, compared with its name when first used."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.store.block import Block
from raydistill.store.codecs import Codecs
from raydistill.store.place import Place
from raydistill.store.segment import SegmentError, content_name, index_segment, open_segment

__all__ = ["OpenedSegment"]

_TOUCH_S = 300.0  # between two notes that a segment is in use


class OpenedSegment:
    """One segment.

    A local one is mapped at once, so that its rows stay though it is evicted. Of one elsewhere only
    the keys are read; it is copied here when the first of its rows is asked for.

    Args:
        place: The store.
        path: In it.
        codecs: How its parts are stored.

    Raises:
        SegmentError: It is not a segment.
        OSError: It cannot be read now.
    """

    def __init__(self, place: Place, path: str, codecs: Codecs) -> None:
        self.path, self._place, self._codecs = path, place, codecs
        self._content: pa.Buffer | None = None
        self._block: Block | None = None
        self._touched: float | None = None
        self.keys: NDArray[np.void]
        if place.is_local:
            self._content = place.map(path)
            self.keys, block = open_segment(self._content, codecs)
            self.names = block.parts.keys()
        else:
            with place.open(path) as file:
                self.keys, names = index_segment(file)
            self.names = dict.fromkeys(names).keys()

    def use(self, now: float) -> Block:
        """Its rows, and a note for eviction that they are in use.

        Args:
            now: Seconds of any clock that goes on.

        Raises:
            SegmentError: It is not what its name says.
            OSError: It is not there any more, or cannot be read now.
        """
        if self._block is None:
            content = self._place.map(self.path) if self._content is None else self._content
            if self.path.rpartition("/")[2] != content_name(content):
                raise SegmentError("is not what its checksum says")
            self._block = open_segment(content, self._codecs)[1]
        if self._touched is None or now - self._touched >= _TOUCH_S:
            self._place.used(self.path)
            self._touched = now
        return self._block
