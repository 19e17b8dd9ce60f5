"""The rows of a split, from files to a checked table.

Reading order: :func:`load_splits` for a whole configuration, :func:`load_split` for one part of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydistill.data.checks import (
    did_you_mean,
    overlap_notes,
    require_text,
    setting_of,
    text_notes,
    unseen_label_notes,
)
from raydistill.data.labels import NO_LABEL, derive_labels, encode_labels, read_labels
from raydistill.data.matrix import label_bytes
from raydistill.data.readers import SUFFIXES, Columns, read_columns
from raydistill.data.routes import Routes, encode_routes, route_note
from raydistill.data.targets import Read, Targets
from raydistill.errors import ConfigError, Fault

__all__ = [
    "SPLIT_NAMES",
    "Split",
    "find_splits",
    "load_split",
    "load_splits",
    "path_faults",
]

SPLIT_NAMES = ("train", "unlabelled", "validation", "test")
_STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "unlabelled": ("unlabelled", "unlabeled"),
}


@dataclass(frozen=True)
class Split:
    """Rows that have passed every check.

    Attributes:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``.
        table: Columns ``text`` [, ``text_pair``] (large_string), ``label`` (int32, -100 = no
            label; of several labels or numbers see `raydistill.data.matrix`), ``row_id`` (int64, unique
            over train and unlabelled together), and, if rows go to teachers by a column, ``route``
            (int32: place of the teacher, -1 = all).
        labels: Names of the classes in the order of their numbers; empty when the task has none.
        fingerprint: SHA-256 of texts and labels in order, whatever file, format or chunks they came
            in; of rows that teachers teach (train, unlabelled) also of their routes.
        paths: The files, in the order of the rows.
        notes: What may be meant but should be known.
    """

    name: str
    table: pa.Table
    labels: tuple[str, ...]
    fingerprint: str
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    @property
    def path(self) -> Path:
        """The first file."""
        return self.paths[0]


def load_split(
    name: str,
    paths: Sequence[Path],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    routes: Routes | None = None,
    path_in_config: str,
    first_row_id: int = 0,
    targets: Targets | None = None,
) -> Split:
    """Reads and checks the rows of one split.

    Args:
        name: ``train``, ``unlabelled``, ``validation`` or ``test``. Labels of ``unlabelled`` are
            ignored; in ``train`` every row must have one.
        paths: Files of any mixture of formats, joined in this order.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: Names of the classes; an empty sequence reads labels without judging them,
            and gives -100. None takes them from these rows, which only makes sense for ``train``.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: The subject of faults, such as ``data.train``.
        first_row_id: Row ids count from here: the number of training rows, for ``unlabelled``.
        targets: In place of ``label``, where labels are not one class a row.

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
        "label": None if name == "unlabelled" or targets is not None else label,
        "route": routes.column if routes is not None else None,
    }
    roles = {role: column for role, column in wanted.items() if column is not None}
    texts = [role for role in roles if role in ("text", "text_pair")]
    if targets is not None and name != "unlabelled":
        roles |= targets.columns
    faults = [fault for path in paths for fault in path_faults(Path(path), path_in_config)]
    parts: list[tuple[str, Columns]] = []
    notes: list[str] = []
    for path in [Path(path) for path in paths] if not faults else []:
        try:
            columns = read_columns(
                path,
                roles,
                path_in_config=path_in_config,
                cells=targets.cells if targets else "class",
            )
        except ConfigError as error:
            faults.extend(error.faults)
            continue
        except OSError as error:
            faults.append(
                Fault(path_in_config, f"must be readable, got {path}: {error.strerror or error}.")
            )
            continue
        parts.append((path.name, columns))
        for role in texts:
            named = f"column {roles[role]!r} ({setting_of(role)})"
            faults += require_text(
                columns[role], named=named, path_in_config=path_in_config, file_name=path.name
            )
            notes += (
                text_notes(columns[role], file_name=path.name)
                if path.suffix.lower() == ".tsv"
                else []
            )
    num_rows = sum(len(columns["text"]) for _, columns in parts)
    if not num_rows and not faults:
        files = ", ".join(file_name for file_name, _ in parts)
        faults.append(Fault(path_in_config, f"must hold at least one row, got none in {files}."))
    if targets is not None:
        read = _targets(parts, name, targets, labels, path_in_config)
        names, column = read.names, read.column
        faults += read.faults
        notes += read.notes
    else:
        names, ids = _labels(
            parts,
            name=name,
            labels=labels,
            labelled="label" in roles,
            path_in_config=path_in_config,
            faults=faults,
        )
        column = pa.array(ids, pa.int32())
    places = _places(parts, routes, path_in_config=path_in_config, faults=faults)
    if faults:
        raise ConfigError(faults)
    if "label" in roles and targets is None:
        notes += _label_notes(name, ids, names)
    table = pa.table(
        {
            **{role: _joined([columns[role] for _, columns in parts]) for role in texts},
            "label": column,
            "row_id": pa.array(np.arange(first_row_id, first_row_id + num_rows, dtype=np.int64)),
        }
    )
    split = Split(
        name, table, names, _fingerprint(table), tuple(Path(path) for path in paths), tuple(notes)
    )
    return split if routes is None else _routed(split, routes, places)


def _routed(split: Split, routes: Routes, places: np.ndarray) -> Split:
    """The split with the place of each row's teacher."""
    table = split.table.append_column("route", pa.array(places, pa.int32()))
    if split.name not in ("train", "unlabelled"):
        # Figures on these rows do not depend on it; students are compared by them across runs.
        return replace(split, table=table)
    notes = (*split.notes, route_note(places, routes))
    return replace(split, table=table, fingerprint=_fingerprint(table), notes=notes)


def load_splits(
    files: Mapping[str, Sequence[Path]],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    routes: Routes | None = None,
    path_in_config: str = "data",
    targets: Targets | None = None,
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files; without ``train``, names must be written down.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: The list in the configuration; None looks for ``labels.json``, then into the
            training rows.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.
        targets: In place of ``label``, where labels are not one class a row.

    Returns:
        Splits by name, in the order train, unlabelled, validation, test; notes over several splits
        (the same text in train and test) stand at the split that is measured.

    Raises:
        ConfigError: Every fault of every split.
    """
    faults: list[Fault] = []
    splits: dict[str, Split] = {}
    names: tuple[str, ...] | None = None
    labelled = bool(label) or targets is not None
    try:
        beside = files.get("train") or next(iter(files.values()), ())
        if targets is not None and not targets.in_one_column:
            names = targets.names
        elif labelled:
            names = read_labels(labels, [Path(path) for path in beside])
        if labelled and names is None and "train" not in files:
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
                routes=routes,
                path_in_config=f"{path_in_config}.{name}",
                first_row_id=(
                    splits["train"].num_rows if name == "unlabelled" and "train" in splits else 0
                ),
                targets=targets,
            )
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = splits[name].labels if name == "train" and labelled else names
    if faults:
        raise ConfigError(faults)
    seen = [splits[name] for name in ("train", "unlabelled") if name in splits]
    for name in ("validation", "test"):
        if name in splits:
            together = [*seen, splits[name]]
            notes = (*splits[name].notes, *overlap_notes(together), *unseen_label_notes(together))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def find_splits(
    folder: Path, *, path_in_config: str = "data", suffixes: Sequence[str] = SUFFIXES
) -> dict[str, Path]:
    """The files of a folder that are splits by their names: ``train.jsonl``, ``dev.csv``, ….

    Args:
        folder: Looked into, not below. ``dev``, ``valid`` and ``val`` are validation.
        path_in_config: The subject of faults.
        suffixes: Of files that can be read.

    Returns:
        Split name to file, in the order train, unlabelled, validation, test; those there are.

    Raises:
        ConfigError: No such folder, no split in it, or two files for one split.
    """
    if not folder.is_dir():
        raise ConfigError.of(
            path_in_config, f"must be an existing folder, got {folder}.{_nearest(folder)}"
        )
    files = sorted(
        file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in suffixes
    )
    found = {
        name: [file for file in files if file.stem.lower() in _STEMS[name]] for name in SPLIT_NAMES
    }
    faults = [
        Fault(
            path_in_config,
            f"must have one file for {name} in {folder}, got "
            f"{', '.join(file.name for file in matching)}. "
            f"Remove all but one, or name the files: {path_in_config}.{name}.",
        )
        for name, matching in found.items()
        if len(matching) > 1
    ]
    if not any(found.values()):
        there = ", ".join(file.name for file in sorted(folder.iterdir())[:10]) or "nothing"
        stems = ", ".join(SPLIT_NAMES)
        faults.append(
            Fault(
                path_in_config,
                f"must hold files named {stems} with a suffix out of {', '.join(suffixes)}, "
                f"got {there} in {folder}.",
            )
        )
    if faults:
        raise ConfigError(faults)
    return {name: matching[0] for name, matching in found.items() if matching}


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


def _targets(
    parts: Sequence[tuple[str, Columns]],
    name: str,
    targets: Targets,
    labels: Sequence[str] | None,
    path_in_config: str,
) -> Read:
    """Names and column of labels that are not one class a row."""
    num_rows = sum(len(columns["text"]) for _, columns in parts)
    names = tuple(labels or ())
    if name == "unlabelled" or not num_rows or (labels is not None and not labels):
        return Read(names, targets.nothing(num_rows, names))
    return targets.read(parts, labels, split=name, path_in_config=path_in_config)


def _places(
    parts: Sequence[tuple[str, Columns]],
    routes: Routes | None,
    *,
    path_in_config: str,
    faults: list[Fault],
) -> np.ndarray:
    """Where the rows go, none without routes; adds to ``faults``."""
    found = [np.empty(0, np.int32)]
    for file_name, columns in parts:
        if routes is None:
            continue
        places, wrong = encode_routes(
            columns["route"], routes, path_in_config=path_in_config, file_name=file_name
        )
        found.append(places)
        faults.extend(wrong)
    return np.concatenate(found)


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


def path_faults(path: Path, path_in_config: str, suffixes: Sequence[str] = SUFFIXES) -> list[Fault]:
    """Why a path is no file that can be read.

    Args:
        path: Of a split.
        path_in_config: The subject of faults.
        suffixes: That are known.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        return [
            Fault(path_in_config, f"must be an existing file, got {path} ({what}).{_nearest(path)}")
        ]
    if path.suffix.lower() not in suffixes:
        known = ", ".join(suffixes)
        return [
            Fault(
                path_in_config,
                f"must have a suffix out of {known}, got "
                f"{path.name}.{did_you_mean(path.suffix, suffixes)}",
            )
        ]
    return []


def _nearest(path: Path) -> str:
    """A sentence with the nearest name beside a path that is not there."""
    if path.exists():
        return ""
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    near = get_close_matches(
        path.name, [file.name for file in path.parent.iterdir()], n=1, cutoff=0.5
    )
    return f" Nearest in that folder: {near[0]}." if near else ""


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
