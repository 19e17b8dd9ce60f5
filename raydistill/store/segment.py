"""Segments: immutable Arrow IPC files of stored rows, each named by the hash of its content.

The name is the checksum: a file that was torn, cut or changed is not what its name says. Files are
published by renaming (on object stores: by closing the upload), so a reader sees a whole one or none.
"""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from raydistill.store.block import Block, StoredPart
from raydistill.store.codecs import Codecs
from raydistill.store.keys import KEY_BYTES

__all__ = [
    "SUFFIX",
    "SegmentError",
    "content_name",
    "index_segment",
    "open_segment",
    "pack_segment",
]

SUFFIX = ".arrow"
_WIDTHS = b"raydistill.widths"


class SegmentError(Exception):
    """Not a whole segment."""


def content_name(content: pa.Buffer) -> str:
    """XXH3 of 128 bits: against accidents, not against forgers; as fast as memory is read."""
    return xxhash.xxh3_128_hexdigest(content) + SUFFIX


def pack_segment(keys: NDArray[np.void], block: Block) -> pa.Buffer:
    """A segment's bytes: columns ``key``, ``length``, and each part as binary."""
    columns: dict[str, pa.Array] = {
        "key": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys.tobytes())]
        ),
        "length": pa.array(block.lengths, pa.int32()),
    }
    for name, part in block.parts.items():
        columns[name] = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(),
            len(keys),
            [None, pa.py_buffer(part.offsets), pa.py_buffer(part.data)],
        )
    widths = {name: part.width for name, part in block.parts.items()}
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in columns.items()],
        metadata={_WIDTHS: json.dumps(widths).encode()},
    )
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def open_segment(content: pa.Buffer, codecs: Codecs) -> tuple[NDArray[np.void], Block]:
    """Keys and rows, without copying; the content itself is not compared with its name here.

    Raises:
        SegmentError: It cannot be read.
    """
    try:
        reader = pa.ipc.open_file(content)
        widths: Mapping[str, int] = json.loads(reader.schema.metadata[_WIDTHS])
        if reader.num_record_batches != 1:
            raise SegmentError("has not one batch of rows")
        batch = reader.get_batch(0)
        batch.validate()
        keys = np.frombuffer(
            batch.column("key").buffers()[1], dtype=f"V{KEY_BYTES}", count=batch.num_rows
        )
        parts = {name: _part(batch.column(name), width) for name, width in widths.items()}
        lengths = batch.column("length").to_numpy()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise SegmentError(str(error)) from error
    return keys, Block(lengths, parts, codecs, np.frombuffer(content, np.uint8))


def index_segment(file: pa.NativeFile) -> tuple[NDArray[np.void], tuple[str, ...]]:
    """Keys, and which parts there are; nothing else of the file is read.

    Raises:
        SegmentError: It is not a segment.
        OSError: It cannot be read now.
    """
    try:
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[0]))
        widths: Mapping[str, int] = json.loads(reader.schema.metadata[_WIDTHS])
        if reader.num_record_batches != 1:
            raise SegmentError("has not one batch of rows")
        batch = reader.get_batch(0)
        batch.validate()
        content = batch.column("key").buffers()[1]
        keys = np.frombuffer(content, dtype=f"V{KEY_BYTES}", count=batch.num_rows)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise SegmentError(str(error)) from error
    return keys, tuple(widths)


def _part(column: pa.Array, width: int) -> StoredPart:
    _, offsets, data = column.buffers()
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return StoredPart(whole, np.frombuffer(offsets, np.int64, len(column) + 1), width)
