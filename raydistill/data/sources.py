"""The rows of a split, from files to a checked table.

:mod:`raydistill.data.splits` does it for a whole configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.checks import (
    require_text,
    text_notes,
)
from raydistill.data.files import DataFile, find_files
from raydistill.data.fingerprint import fingerprint_of
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import NO_LABEL, derive_labels, encode_labels
from raydistill.data.readers import Columns, read_columns
from raydistill.data.stream import Stream, StreamPart
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["Origin", "Split", "load_split", "stream_split"]


Origin = str | Path | DatasetSplit
"""Path, URI, pattern, or a split of a data set."""


@dataclass(frozen=True)
class Split:
    """Rows that have passed every check.

    Attributes:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``.
        table: Columns ``text`` [, ``text_pair``] (large_string), ``label`` (int32, -100 = no
            label), ``row_id`` (int64, unique over train and unlabelled together). Of a stream its
            first rows.
        labels: Names of the classes in the order of their numbers; empty when the task has none.
        fingerprint: SHA-256 of texts and labels in order, whatever file, format or chunks they came
            in. Of a stream, of its parts' sizes and ends.
        origins: Files or splits of data sets, in the order of the rows.
        notes: What may be meant but should be known.
        stream: All its rows, if they are read while they are used.
    """

    name: str
    table: pa.Table
    labels: tuple[str, ...]
    fingerprint: str
    origins: tuple[str, ...]
    notes: tuple[str, ...] = ()
    stream: Stream | None = None

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
    path_in_config: str,
    first_row_id: int = 0,
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
        path_in_config: The subject of faults, such as ``data.train``.
        first_row_id: Row ids count from here: the number of training rows, for ``unlabelled``.

    Returns:
        The checked rows.

    Raises:
        ConfigError: Every fault in every file, one a line.
    """
    if not paths:
        raise ConfigError.of(path_in_config, "must name at least one file, got none.")
    roles = _roles(name, text=text, text_pair=text_pair, label=label)
    files, faults = _files(paths, path_in_config)
    parts: list[tuple[str, Columns]] = []
    notes: list[str] = []
    for file in files if not faults else []:
        try:
            columns = _read(file, roles, labels, path_in_config)
        except ConfigError as error:
            faults.extend(error.faults)
            continue
        except PLACE_ERRORS as error:
            why = getattr(error, "strerror", None) or first_line(error)
            faults.append(Fault(path_in_config, f"must be readable, got {file.shown}: {why}."))
            continue
        parts.append((file.name, columns))
        for role in [role for role in roles if role != "label"]:
            named = f"column {roles[role]!r} (task.{role})"
            faults += require_text(
                columns[role], named=named, path_in_config=path_in_config, file_name=file.name
            )
            if file.name.lower().endswith(".tsv"):
                notes += text_notes(columns[role], file_name=file.name)
        if isinstance(file, DatasetSplit) and "label" in roles and labels:
            notes += file.rename_notes(roles["label"], labels)
    num_rows = sum(len(columns["text"]) for _, columns in parts)
    if not num_rows and not faults:
        read = ", ".join(file_name for file_name, _ in parts)
        faults.append(Fault(path_in_config, f"must hold at least one row, got none in {read}."))
    names, ids = _labels(
        parts,
        name=name,
        labels=labels,
        labelled="label" in roles,
        path_in_config=path_in_config,
        faults=faults,
    )
    if faults:
        raise ConfigError(faults)
    if "label" in roles:
        notes += _label_notes(name, ids, names)
    data = {
        role: _joined([columns[role] for _, columns in parts]) for role in roles if role != "label"
    }
    table = pa.table(
        {
            **data,
            "label": pa.array(ids, pa.int32()),
            "row_id": pa.array(np.arange(first_row_id, first_row_id + num_rows, dtype=np.int64)),
        }
    )
    origins = tuple(file.shown for file in files)
    return Split(name, table, names, fingerprint_of(table), origins, tuple(notes))


def stream_split(
    name: str,
    paths: Sequence[Origin],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str],
    path_in_config: str,
) -> Split:
    """A split whose rows are read while they are used; only the first ones are looked at.

    Args:
        name: ``train`` or ``unlabelled``.
        paths: As for :func:`load_split`.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: Names of the classes.
        path_in_config: The subject of faults.

    Raises:
        ConfigError: Every fault in the first rows of the first files.
    """
    roles = _roles(name, text=text, text_pair=text_pair, label=label)
    files, faults = _files(paths, path_in_config)
    if faults:
        raise ConfigError(faults)
    parts = [StreamPart(_anywhere(file), tuple(roles.items()), path_in_config) for file in files]
    stream = Stream(tuple(parts), tuple(labels))
    try:
        head = stream.head()
        fingerprint = stream.fingerprint(head)
    except PLACE_ERRORS as error:
        message = f"must be readable, got {first_line(error)}."
        raise ConfigError.of(path_in_config, message) from error
    origins = tuple(file.shown for file in files)
    return Split(name, head, stream.labels, fingerprint, origins, stream=stream)


def _anywhere(origin: DataFile | DatasetSplit) -> DataFile | DatasetSplit:
    """The same as it is found from any working directory."""
    if isinstance(origin, DataFile):
        return DataFile(str(origin.path.absolute())) if origin.path else origin
    folder = Path(origin.dataset)
    return replace(origin, dataset=str(folder.absolute())) if folder.is_dir() else origin


def _roles(name: str, **columns: str | None) -> dict[str, str]:
    """Role to column, of those that a split has."""
    return {
        role: column
        for role, column in columns.items()
        if column is not None and (role != "label" or name != "unlabelled")
    }


def _read(
    part: DataFile | DatasetSplit,
    wanted: Mapping[str, str],
    labels: Sequence[str] | None,
    path_in_config: str,
) -> Columns:
    if isinstance(part, DatasetSplit):
        return part.read(dict(wanted), labels=labels, path_in_config=path_in_config)
    return read_columns(part, dict(wanted), path_in_config=path_in_config)


def _files(
    paths: Sequence[Origin], path_in_config: str
) -> tuple[list[DataFile | DatasetSplit], list[Fault]]:
    """All files that are named, and why some are not there."""
    files: list[DataFile | DatasetSplit] = []
    faults: list[Fault] = []
    for path in paths:
        if isinstance(path, DatasetSplit):
            files.append(path)
            continue
        try:
            files += find_files(path, path_in_config=path_in_config)
        except ConfigError as error:
            faults += error.faults
    return files, faults


def _labels(
    parts: Sequence[tuple[str, Columns]],
    *,
    name: str,
    labels: Sequence[str] | None,
    labelled: bool,
    path_in_config: str,
    faults: list[Fault],
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and numbers of the labels; adds to ``faults``."""
    num_rows = sum(len(columns["text"]) for _, columns in parts)
    names = tuple(labels or ())
    if not labelled or not num_rows or (labels is not None and not labels):
        return names, np.full(num_rows, NO_LABEL, np.int32)
    if labels is None:
        try:
            names = derive_labels(_joined([columns["label"] for _, columns in parts]))
        except ConfigError as error:
            faults.extend(error.faults)
            return (), np.full(num_rows, NO_LABEL, np.int32)
    ids = []
    for file_name, columns in parts:
        numbers, wrong = encode_labels(
            columns["label"],
            names,
            required=name == "train",
            path_in_config=path_in_config,
            file_name=file_name,
        )
        ids.append(numbers)
        faults.extend(wrong)
    return names, np.concatenate(ids)


def _label_notes(name: str, ids: np.ndarray, names: Sequence[str]) -> list[str]:
    notes = []
    missing = int((ids == NO_LABEL).sum())
    if missing:
        notes.append(
            f"{name}: {missing} of {len(ids)} rows have no label; figures that need one leave "
            "them out."
        )
    present = np.unique(ids[ids != NO_LABEL])
    if name == "train" and len(present) == 1:
        notes.append(
            f"train: every row has the label {names[int(present[0])]!r}; there is nothing to tell "
            "apart."
        )
    return notes


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], type=pa.large_string()
    )
