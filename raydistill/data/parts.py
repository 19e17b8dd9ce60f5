"""The parts of a split: files and splits of data sets, each as columns of text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from raydistill.data.checks import named_few, require_text, row_place, setting_of, text_notes
from raydistill.data.files import SUFFIXES, DataFile, find_files
from raydistill.data.hub import DatasetSplit
from raydistill.data.incomplete import TEXTS, Dropped
from raydistill.data.readers import Cells, Columns, Wanted, absent_roles, read_columns
from raydistill.data.readers.cells import TEXT
from raydistill.data.routes import Routes
from raydistill.data.targets import Targets
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = [
    "TEXTS",
    "Origin",
    "Part",
    "Parts",
    "find_parts",
    "joined",
    "read_each",
    "read_parts",
    "roles_of",
]

Origin = str | Path | DatasetSplit
"""Path, URI, pattern, or a split of a data set."""
Part = DataFile | DatasetSplit


@dataclass
class Parts:
    """What was read of a split.

    Attributes:
        columns: Name of a part and its columns by role, in the order of the rows.
        places: How the rows of each part are named in faults, by their number from 0.
        faults: What is wrong.
        notes: What may be meant but should be known.
    """

    columns: list[tuple[str, Columns]] = field(default_factory=list)
    places: list[Callable[[int], str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return sum(len(columns["text"]) for _, columns in self.columns)


def roles_of(
    name: str,
    *,
    text: str,
    text_pair: str | None,
    label: str | None,
    routes: Routes | None,
    targets: Targets | None,
) -> Wanted:
    """Role to column, of those that a split has."""
    wanted = {
        "text": text,
        "text_pair": text_pair,
        "label": None if name == "unlabelled" or targets is not None else label,
        "route": routes.column if routes is not None else None,
    }
    roles = {role: column for role, column in wanted.items() if column is not None}
    return roles | (targets.columns if targets is not None and name != "unlabelled" else {})


def find_parts(
    paths: Sequence[Origin], path_in_config: str, suffixes: Sequence[str] = SUFFIXES
) -> tuple[list[Part], list[Fault]]:
    """All parts that are named, and why some are not there.

    Args:
        paths: As the configuration has them.
        path_in_config: The subject of faults.
        suffixes: Of files that can be read.
    """
    found: list[Part] = []
    faults: list[Fault] = []
    if not paths:
        faults.append(Fault(path_in_config, "must name at least one file, got none."))
    for path in paths:
        if isinstance(path, DatasetSplit):
            found.append(path)
            continue
        try:
            found += find_files(path, path_in_config=path_in_config, suffixes=suffixes)
        except ConfigError as error:
            faults += error.faults
    return found, faults


def read_each(
    paths: Sequence[Origin],
    path_in_config: str,
    read: Callable[[Part], list[Fault]],
    suffixes: Sequence[str] = SUFFIXES,
) -> list[Part]:
    """The parts of a split, each read.

    Args:
        paths: In the order of the rows.
        path_in_config: The subject of faults.
        read: Reads one, and says what is wrong with it.
        suffixes: Of files that can be read.

    Raises:
        ConfigError: Every fault of every part.
    """
    parts, faults = find_parts(paths, path_in_config, suffixes)
    if faults:
        raise ConfigError(faults)
    faults = _each(parts, path_in_config, read)
    if faults:
        raise ConfigError(faults)
    return parts


def _each(
    parts: Sequence[Part], path_in_config: str, read: Callable[[Part], list[Fault]]
) -> list[Fault]:
    """What is wrong with some parts, what stops one from being read among it."""
    faults: list[Fault] = []
    for part in parts:
        try:
            faults += read(part)
        except ConfigError as error:
            faults += error.faults
        except PLACE_ERRORS as error:
            why = getattr(error, "strerror", None) or first_line(error)
            faults.append(Fault(path_in_config, f"must be readable, got {part.shown}: {why}."))
    return faults


def read_parts(
    name: str,
    parts: Sequence[Part],
    roles: Wanted,
    *,
    cells: Cells,
    labels: Sequence[str] | None,
    path_in_config: str,
    dropped: Dropped | None = None,
) -> Parts:
    """Each as columns of text, with a fault where a text is missing.

    Args:
        name: Of the split. In ``test`` there need be no column of labels: benchmarks keep theirs to themselves.
        parts: In the order of the rows.
        roles: Role to column.
        cells: What columns of labels hold.
        labels: Names of the classes, as far as they are known.
        path_in_config: The subject of faults.
        dropped: Leaves out rows that are incomplete, and counts them; None: they are a fault.
    """
    read = Parts()

    def add(part: Part) -> list[Fault]:
        if name == "test":
            columns, notes = _with_labels_or_not(part, roles, cells, labels, path_in_config)
            read.notes += notes
        else:
            columns = _read(part, roles, cells, labels, path_in_config)
        place: Callable[[int], str] = row_place
        if dropped is not None:
            columns, place = dropped.rest(columns)
        read.columns.append((part.name, columns))
        read.places.append(place)
        faults: list[Fault] = []
        for role in [role for role in TEXTS if role in roles]:
            named = f"column {roles[role]!r} ({setting_of(role)})"
            faults += require_text(
                columns[role],
                named=named,
                path_in_config=path_in_config,
                file_name=part.name,
                place=place,
            )
            if isinstance(part, DataFile) and part.suffix == ".tsv":
                read.notes += text_notes(columns[role], file_name=part.name)
        if isinstance(part, DatasetSplit) and "label" in roles and labels and cells != "number":
            read.notes += part.rename_notes(roles["label"], labels)
        return faults

    read.faults += _each(parts, path_in_config, add)
    read.notes += dropped.notes if dropped is not None else ()
    if not read.num_rows and not read.faults:
        names = ", ".join(name for name, _ in read.columns)
        what = "complete row" if dropped is not None and dropped.num_rows else "row"
        message = f"must hold at least one {what}, got none in {names}."
        read.faults.append(Fault(path_in_config, message))
    return read


def _with_labels_or_not(
    part: Part, roles: Wanted, cells: Cells, labels: Sequence[str] | None, path_in_config: str
) -> tuple[Columns, list[str]]:
    """The columns, nulls for those of labels if it has none of them; and a note, if so."""
    try:
        return _read(part, roles, cells, labels, path_in_config), []
    except ConfigError as error:
        own = [role for role in roles if role.startswith("label")]
        if not own or absent_roles(error.faults, roles) != set(own):
            raise
    others = {role: column for role, column in roles.items() if role not in own}
    columns = _read(part, others, cells, labels, path_in_config)
    nothing = pa.chunked_array([pa.nulls(len(columns["text"]), TEXT)], TEXT)
    named = named_few([f"{roles[role]!r} ({setting_of(role)})" for role in own], len(own))
    what = "column" if len(own) == 1 else "columns"
    note = f"{part.name} has no {what} {named}: its rows are read as rows without labels."
    return columns | dict.fromkeys(own, nothing), [note]


def _read(
    part: Part, roles: Wanted, cells: Cells, labels: Sequence[str] | None, path_in_config: str
) -> Columns:
    if isinstance(part, DatasetSplit):
        return part.read(roles, labels=labels, path_in_config=path_in_config, cells=cells)
    return read_columns(part, roles, path_in_config=path_in_config, cells=cells, labels=labels)


def joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Columns of text, one behind the other."""
    return pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], type=pa.large_string()
    )
