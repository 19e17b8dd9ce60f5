"""Labels that are not one class a row, in a table: a list of fixed size with an entry for each label.

Of several classes 1, 0, or -1 where it is not known; of numbers the number, NaN where there is none.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.data.labels import NO_LABEL

__all__ = [
    "NOT_KNOWN",
    "Matrix",
    "any_label",
    "as_lists",
    "known_entries",
    "label_bytes",
    "label_matrix",
    "labels_seen",
    "without_labels",
]

NOT_KNOWN = -1
"""Of a class in a row: neither there nor not there."""
Matrix = NDArray[np.int8] | NDArray[np.float64]
"""``[rows, labels]``."""


def known_entries(matrix: Matrix) -> NDArray[np.bool_]:
    """Which labels of which rows are known, ``[rows, labels]``."""
    return ~np.isnan(matrix) if matrix.dtype == np.float64 else matrix != NOT_KNOWN


def as_lists(matrix: Matrix) -> pa.Array:
    """The column of a table."""
    if not matrix.shape[1]:  # names are not known, which is a fault
        return pa.nulls(len(matrix), pa.list_(pa.int8(), 1))
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def label_matrix(column: pa.ChunkedArray | pa.Array) -> Matrix:
    """The labels of rows, ``[rows, labels]``, as the module's docstring says."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: Matrix = array.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(array), array.type.list_size)


def label_bytes(chunk: pa.Array) -> bytes:
    """Labels of rows as bytes that are the same on every machine."""
    if pa.types.is_fixed_size_list(chunk.type):
        matrix = label_matrix(chunk)
        return matrix.astype("<f8" if matrix.dtype == np.float64 else "<i1").tobytes()
    ids: bytes = chunk.to_numpy(zero_copy_only=False).astype("<i4").tobytes()
    return ids


def any_label(table: pa.Table) -> bool:
    """Whether a row of a split has a label."""
    column = table["label"]
    if pa.types.is_fixed_size_list(column.type):
        return bool(known_entries(label_matrix(column)).any())
    return bool(pc.max(_flat(column)).as_py() >= 0)


def labels_seen(table: pa.Table) -> set[int]:
    """Classes (or numbers) that any row of a split says something about."""
    column = table["label"]
    if pa.types.is_fixed_size_list(column.type):
        return set(np.flatnonzero(known_entries(label_matrix(column)).any(0)).tolist())
    return {label for label in pc.unique(_flat(column)).to_pylist() if label >= 0}


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels of rows, or of their words."""
    return pc.list_flatten(column) if pa.types.is_large_list(column.type) else column


def without_labels(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """As many rows, none with a label."""
    if not pa.types.is_fixed_size_list(column.type):
        return pa.array(np.full(len(column), NO_LABEL, np.int32))
    matrix = label_matrix(column)
    nothing = np.nan if matrix.dtype == np.float64 else NOT_KNOWN
    return as_lists(np.full_like(matrix, nothing))
