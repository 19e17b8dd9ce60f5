"""Labels that are one class a row: names and numbers of those of a split, and what should be known of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.checks import named_few
from raydistill.data.labels import (
    NO_LABEL,
    derive_labels,
    encode_labels,
    hidden_places,
    odd_names,
)
from raydistill.data.parts import Parts, joined
from raydistill.data.targets import Read
from raydistill.errors import ConfigError, Fault

__all__ = ["read_classes"]


def read_classes(
    read: Parts, name: str, labels: Sequence[str] | None, labelled: bool, path_in_config: str
) -> Read:
    """Names and numbers of labels that are one class a row.

    Args:
        read: The rows.
        name: Of the split; in ``train`` every row must have a label.
        labels: Names of the classes; an empty sequence gives -100 throughout, None takes them from the rows.
        labelled: Whether there is a column of labels.
        path_in_config: The subject of faults.
    """
    names = tuple(labels or ())
    nothing = pa.array(np.full(read.num_rows, NO_LABEL, np.int32))
    if not labelled or not read.num_rows or (labels is not None and not labels):
        return Read(names, nothing, notes=_label_notes(name, nothing, names) if labelled else ())
    if labels is None:
        try:
            names = derive_labels(joined([columns["label"] for _, columns in read.columns]))
        except ConfigError as error:
            return Read((), nothing, tuple(error.faults))
    ids, faults, hidden = [], list[Fault](), 0
    for (file_name, columns), place in zip(read.columns, read.places, strict=True):
        hidden += _num_hidden(columns["label"], names)
        numbers, wrong = encode_labels(
            columns["label"],
            names,
            required=name == "train",
            path_in_config=path_in_config,
            file_name=file_name,
            place=place,
        )
        ids.append(numbers)
        faults += wrong
    column = pa.array(np.concatenate(ids), pa.int32())
    notes = () if faults else _label_notes(name, column, names, hidden)
    if labels is None and not faults:
        notes += _odd_notes(column, names)
    return Read(names, column, tuple(faults), notes)


def _odd_notes(column: pa.Array, names: Sequence[str]) -> tuple[str, ...]:
    """One, if marks were taken for names of classes."""
    ids = column.to_numpy()
    odd = [
        f"{name!r} ({int((ids == names.index(name)).sum())} of {len(ids)} rows)"
        for name in odd_names(names)
    ]
    if not odd:
        return ()
    return (
        f"train: {named_few(odd, len(odd))} {'is a class' if len(odd) == 1 else 'are classes'} like the "
        "others. If no label is meant, name the classes in task.labels and set data.incomplete_rows: drop.",
    )


def _num_hidden(cells: pa.ChunkedArray, names: Sequence[str]) -> int:
    """How many cells are -1 and read as no label."""
    counted = pc.value_counts(cells).to_pylist()
    values = [one["values"] or "" for one in counted]
    return sum(counted[place]["counts"] for place in hidden_places(values, names))


def _label_notes(
    name: str, column: pa.Array, names: Sequence[str], hidden: int = 0
) -> tuple[str, ...]:
    ids, notes = column.to_numpy(), []
    missing = int((ids == NO_LABEL).sum())
    if missing:
        notes.append(
            f"{name}: {missing} of {len(ids)} rows have no label"
            + (f" ({hidden} of them -1)" if hidden else "")
            + "; figures that need one leave them out."
        )
    present = np.unique(ids[ids != NO_LABEL])
    if name == "train" and len(present) == 1:
        notes.append(
            f"train: every row has the label {names[int(present[0])]!r}; there is nothing to tell "
            "apart."
        )
    return tuple(notes)
