"""The rows of a split, from files to a checked table.

:mod:`raydistill.data.splits` does it for a whole configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.classes import read_classes
from raydistill.data.files import DataFile
from raydistill.data.fingerprint import fingerprint_of
from raydistill.data.incomplete import Dropped, IncompleteRows
from raydistill.data.parts import (
    TEXTS,
    Origin,
    Part,
    Parts,
    find_parts,
    joined,
    read_parts,
    roles_of,
)
from raydistill.data.routes import Routed, Routes, route_note
from raydistill.data.stream import Stream, StreamPart
from raydistill.data.targets import Read, Targets
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["Split", "load_split", "stream_split"]


@dataclass(frozen=True)
class Split:
    """Rows that have passed every check.

    Attributes:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``.
        table: Columns ``text`` [, ``text_pair``] (large_string), ``label`` (int32, -100 = no
            label; of several labels or numbers see `raydistill.data.matrix`), ``row_id`` (int64, unique
            over train and unlabelled together), and, if rows go to teachers by a column, ``route``
            (int32: place of the teacher, -1 = all). Of a stream its first rows.
        labels: Names of the classes in the order of their numbers; empty when the task has none.
        fingerprint: SHA-256 of texts and labels in order, whatever file, format or chunks they came
            in; of rows that teachers teach (train, unlabelled) also of their routes. Of a stream, of
            its parts' sizes and ends, and of what is read of them.
        origins: Files or splits of data sets, in the order of the rows.
        notes: What may be meant but should be known.
        stream: All its rows, if they are read while they are used.
        corpus: Of a split that is measured by what is found among all passages, these; ``relevant``,
            ``relevant_grades`` and ``itself`` of the table then say which.
    """

    name: str
    table: pa.Table
    labels: tuple[str, ...]
    fingerprint: str
    origins: tuple[str, ...]
    notes: tuple[str, ...] = ()
    stream: Stream | None = None
    corpus: pa.Array | None = field(default=None, repr=False, compare=False)

    @property
    def num_rows(self) -> int | None:
        """How many rows there are; None: nobody knows."""
        return int(self.table.num_rows) if self.stream is None else None


def load_split(
    name: str,
    paths: Sequence[Origin],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    routes: Routes | None = None,
    path_in_config: str,
    first_row_id: int = 0,
    targets: Targets | None = None,
    incomplete: IncompleteRows = "refuse",
) -> Split:
    """Reads and checks the rows of one split.

    Args:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``. Labels of ``unlabelled`` are
            ignored; in ``train`` every row must have one.
        paths: Files of any mixture of formats (paths, URIs, patterns) and splits of data sets,
            joined in this order.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: Names of the classes; an empty sequence reads labels without judging them,
            and gives -100. None takes them from these rows, which only makes sense for ``train``.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: The subject of faults, such as ``data.train``.
        first_row_id: Row ids count from here: the number of training rows, for ``unlabelled``.
        targets: In place of ``label``, where labels are not one class a row.
        incomplete: Whether rows without a text, and of ``train`` those without a label, are a fault or left out,
            as if the files did not hold them.

    Returns:
        The checked rows.

    Raises:
        ConfigError: Every fault in every file, one a line.
    """
    roles = roles_of(
        name, text=text, text_pair=text_pair, label=label, routes=routes, targets=targets
    )
    found, faults = find_parts(paths, path_in_config)
    if faults:
        raise ConfigError(faults)
    dropped = Dropped(name, labels, targets) if incomplete == "drop" else None
    read = read_parts(
        name,
        found,
        roles,
        cells=targets.cells if targets else "class",
        labels=labels,
        path_in_config=path_in_config,
        dropped=dropped,
    )
    if targets is not None:
        label_read = _targets(read, name, targets, labels, path_in_config)
    else:
        label_read = read_classes(read, name, labels, "label" in roles, path_in_config)
    places, wrong = _places(read, routes, path_in_config)
    faults = [*read.faults, *label_read.faults, *wrong]
    if faults:
        raise ConfigError(faults)
    ids = np.arange(first_row_id, first_row_id + read.num_rows, dtype=np.int64)
    texts = [role for role in TEXTS if role in roles]
    table = pa.table(
        {
            **{role: joined([columns[role] for _, columns in read.columns]) for role in texts},
            "label": label_read.column,
            "row_id": pa.array(ids),
        }
    )
    split = Split(
        name,
        table,
        label_read.names,
        fingerprint_of(table),
        tuple(part.shown for part in found),
        (*read.notes, *label_read.notes),
    )
    return split if routes is None else _routed(split, routes, places)


def stream_split(
    name: str,
    paths: Sequence[Origin],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str],
    routes: Routes | None = None,
    path_in_config: str,
    targets: Targets | None = None,
) -> Split:
    """A split whose rows are read while they are used; only the first ones are looked at.

    Args:
        name: ``train`` or ``unlabelled``.
        paths: As for :func:`load_split`.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: Names of the classes.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: The subject of faults.
        targets: In place of ``label``, where labels are not one class a row.

    Raises:
        ConfigError: Every fault in the first rows of the first files.
    """
    roles = roles_of(
        name, text=text, text_pair=text_pair, label=label, routes=routes, targets=targets
    )
    found, faults = find_parts(paths, path_in_config)
    if faults:
        raise ConfigError(faults)
    parts = [StreamPart(_anywhere(part), tuple(roles.items()), path_in_config) for part in found]
    stream = Stream(tuple(parts), tuple(labels), targets, routes)
    try:
        head = stream.head()
        fingerprint = stream.fingerprint(head)
    except PLACE_ERRORS as error:
        message = f"must be readable, got {first_line(error)}."
        raise ConfigError.of(path_in_config, message) from error
    notes = []
    if routes is not None:
        rows = f"the first {head.num_rows:,} rows"
        notes.append(route_note(head["route"].to_numpy(), routes, rows))
    origins = tuple(part.shown for part in found)
    return Split(name, head, stream.labels, fingerprint, origins, tuple(notes), stream)


def _anywhere(part: Part) -> Part:
    """The same as it is found from any working directory."""
    if isinstance(part, DataFile):
        return DataFile(str(part.path.absolute())) if part.path else part
    folder = Path(part.dataset)
    return replace(part, dataset=str(folder.absolute())) if folder.is_dir() else part


def _routed(split: Split, routes: Routes, places: np.ndarray) -> Split:
    """The split with the place of each row's teacher."""
    table = split.table.append_column("route", pa.array(places, pa.int32()))
    if split.name not in ("train", "unlabelled"):
        # Figures on these rows do not depend on it; students are compared by them across runs.
        return replace(split, table=table)
    notes = (*split.notes, route_note(places, routes))
    return replace(split, table=table, fingerprint=fingerprint_of(table), notes=notes)


def _targets(
    read: Parts, name: str, targets: Targets, labels: Sequence[str] | None, path_in_config: str
) -> Read:
    """Names and column of labels that are not one class a row."""
    names = tuple(labels or ())
    if name == "unlabelled" or not read.num_rows or (labels is not None and not labels):
        return Read(names, targets.nothing(read.num_rows, names))
    return targets.read(
        read.columns, labels, split=name, path_in_config=path_in_config, places=read.places
    )


def _places(
    read: Parts, routes: Routes | None, path_in_config: str
) -> tuple[np.ndarray, list[Fault]]:
    """Where the rows go, none without routes."""
    routed, faults = Routed(routes, path_in_config), list[Fault]()
    for (file_name, columns), place in zip(read.columns, read.places, strict=True):
        faults += routed.read(columns, file_name, place)
    return routed.places, faults
