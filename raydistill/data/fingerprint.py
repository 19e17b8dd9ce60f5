"""What tells one set of rows from another."""

import hashlib

import numpy as np
import pyarrow as pa

from raydistill.data.matrix import label_bytes

__all__ = ["fingerprint_of"]


def fingerprint_of(table: pa.Table) -> str:
    """SHA-256 over the used columns; lengths and bytes apart, so that chunks leave no trace."""
    whole = hashlib.sha256(b"raydistill split 1")
    for name in table.column_names:
        if name == "row_id":
            continue
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for chunk in table[name].chunks:
            if name in ("label", "route"):
                content.update(label_bytes(chunk))
                continue
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[
                chunk.offset : chunk.offset + len(chunk) + 1
            ]
            lengths.update(np.diff(offsets).astype("<i8").tobytes())
            if len(chunk) and offsets[-1] > offsets[0]:
                content.update(memoryview(chunk.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
        whole.update(name.encode() + lengths.digest() + content.digest())
    return whole.hexdigest()
