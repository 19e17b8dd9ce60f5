"""The rows of a split, from files to a checked table.

Reading order: :func:`load_splits` for a whole configuration, :func:`load_split` for one part of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.checks import (
    overlap_notes,
    require_text,
    text_notes,
    unseen_label_notes,
)
from raydistill.data.files import SPLIT_NAMES, DataFile, find_files
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import NO_LABEL, derive_labels, encode_labels, read_labels
from raydistill.data.readers import Columns, read_columns
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, first_line

__all__ = ["Origin", "Split", "load_split", "load_splits"]


Origin = str | Path | DatasetSplit
"""Path, URI, pattern, or a split of a data set."""


@dataclass(frozen=True)
class Split:
    """Rows that have passed every check.

    Attributes:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``.
        table: Columns ``text`` [, ``text_pair``] (large_string), ``label`` (int32, -100 = no
            label), ``row_id`` (int64, unique over train and unlabelled together).
        labels: Names of the classes in the order of their numbers; empty when the task has none.
        fingerprint: SHA-256 of texts and labels in order, whatever file, format or chunks they came
            in.
        origins: Files or splits of data sets, in the order of the rows.
        notes: What may be meant but should be known.
    """

    name: str
    table: pa.Table
    labels: tuple[str, ...]
    fingerprint: str
    origins: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)


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
    wanted = {
        "text": text,
        "text_pair": text_pair,
        "label": None if name == "unlabelled" else label,
    }
    roles = {role: column for role, column in wanted.items() if column is not None}
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
    return Split(name, table, names, _fingerprint(table), origins, tuple(notes))


def load_splits(
    files: Mapping[str, Sequence[Origin]],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    path_in_config: str = "data",
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files or splits of data sets; without ``train``, names must be written down.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: The list in the configuration; None looks for ``labels.json``, or asks the data set,
            then looks into the training rows.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.

    Returns:
        Splits by name, in the order train, unlabelled, validation, test; notes over several splits
        (the same text in train and test) stand at the split that is measured.

    Raises:
        ConfigError: Every fault of every split.
    """
    faults: list[Fault] = []
    splits: dict[str, Split] = {}
    names: tuple[str, ...] | None = None
    try:
        beside = files.get("train") or next(iter(files.values()), ())
        names = _named_labels(labels, beside, label) if label else None
        if label and names is None and "train" not in files:
            message = "must be given: without training rows there is nothing to take names from."
            faults.append(Fault("task.labels", message))
    except ConfigError as error:
        faults.extend(error.faults)
        names = ()
    for name in [name for name in SPLIT_NAMES if name in files]:
        try:
            splits[name] = load_split(
                name,
                files[name],
                text=text,
                text_pair=text_pair,
                label=label,
                # Without names labels are not judged; all other faults are still found.
                labels=() if names is None and name != "train" else names,
                path_in_config=f"{path_in_config}.{name}",
                first_row_id=(
                    splits["train"].num_rows if name == "unlabelled" and "train" in splits else 0
                ),
            )
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = splits[name].labels if name == "train" and label else names
    if faults:
        raise ConfigError(faults)
    seen = [splits[name] for name in ("train", "unlabelled") if name in splits]
    for name in ("validation", "test"):
        if name in splits:
            together = [*seen, splits[name]]
            notes = (*splits[name].notes, *overlap_notes(together), *unseen_label_notes(together))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def _named_labels(
    configured: Sequence[str] | None, origins: Sequence[Origin], column: str
) -> tuple[str, ...] | None:
    """What somebody wrote down: in the configuration, beside the first file, or in the data set."""
    first = origins[0] if origins else None
    if isinstance(first, DatasetSplit):
        return read_labels(configured, ()) or first.label_names(column)
    return read_labels(configured, [] if first is None else [first])


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


def _fingerprint(table: pa.Table) -> str:
    """SHA-256 over the used columns; lengths and bytes apart, so that chunks leave no trace."""
    whole = hashlib.sha256(b"raydistill split 1")
    for name in table.column_names:
        if name == "row_id":
            continue
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for chunk in table[name].chunks:
            if name == "label":
                content.update(chunk.to_numpy(zero_copy_only=False).astype("<i4").tobytes())
                continue
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[
                chunk.offset : chunk.offset + len(chunk) + 1
            ]
            lengths.update(np.diff(offsets).astype("<i8").tobytes())
            if len(chunk) and offsets[-1] > offsets[0]:
                content.update(memoryview(chunk.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
        whole.update(name.encode() + lengths.digest() + content.digest())
    return whole.hexdigest()
