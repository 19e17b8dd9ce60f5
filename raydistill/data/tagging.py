"""The rows of tagged words, from files to checked tables.

Reading order: :func:`load_tagged_splits`; how rows stand in files is in :mod:`raydistill.data.tagged_reader`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.checks import RowFaults, did_you_mean, overlap_notes, unseen_label_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.hub import DatasetSplit
from raydistill.data.label_names import read_labels
from raydistill.data.labels import NO_LABEL
from raydistill.data.parts import Origin
from raydistill.data.routes import Routes, route_note
from raydistill.data.schemes import OUTSIDE, Scheme, TagSet
from raydistill.data.sources import Split
from raydistill.data.tagged_reader import CHUNK_ROWS, TaggedColumns, TaggedRows, read_tagged
from raydistill.errors import ConfigError, Fault

__all__ = ["load_tagged_splits"]

_LABELS = pa.large_list(pa.int32())
_MAX_SHOWN = 12


def load_tagged_splits(
    files: Mapping[str, Sequence[Origin]],
    columns: TaggedColumns,
    *,
    routes: Routes | None = None,
    path_in_config: str = "data",
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files or splits of data sets, joined in their order; without ``train`` tags
            must be written down.
        columns: Where words and tags stand.
        routes: Which rows go to which teacher; None: every row to all.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.

    Returns:
        Splits by name. Their tables have the columns ``words`` (lists of text), ``label`` (lists of int32
        as long as those of words, -100 without a tag), ``row_id`` and perhaps ``route``; their labels are
        the tags in IOB2.

    Raises:
        ConfigError: Every fault of every split.
    """
    faults: list[Fault] = []
    parts: dict[str, TaggedRows] = {}
    for name in [name for name in SPLIT_NAMES if name in files]:
        try:
            parts[name] = read_tagged(
                name, files[name], columns, routes, f"{path_in_config}.{name}"
            )
        except ConfigError as error:
            faults += error.faults
    tags: TagSet | None = None
    try:
        tags = _tag_set(files, parts.get("train"), columns)
    except ConfigError as error:
        # Without readable training rows it is not known which tags there are.
        faults += [f for f in error.faults if "train" in parts or columns.labels is not None]
    splits: dict[str, Split] = {}
    first_row_id = 0
    for name, part in parts.items():
        if tags is None:
            continue
        try:
            splits[name] = _split(part, tags, first_row_id if name == "unlabelled" else 0)
        except ConfigError as error:
            faults += error.faults
        first_row_id = len(part.words) if name == "train" else first_row_id
    if faults:
        raise ConfigError(faults)
    seen = [splits[name] for name in ("train", "unlabelled") if name in splits]
    for name in ("validation", "test"):
        if name in splits:
            together = [*seen, splits[name]]
            notes = (*splits[name].notes, *overlap_notes(together), *unseen_label_notes(together))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def _tag_set(
    files: Mapping[str, Sequence[Origin]], train: TaggedRows | None, columns: TaggedColumns
) -> TagSet:
    origins = files.get("train") or next(iter(files.values()), ())
    first = origins[0] if origins else None
    if isinstance(first, DatasetSplit):
        written = read_labels(columns.labels, ()) or first.label_names(columns.tags)
    else:
        written = read_labels(columns.labels, [] if first is None else [first], column=columns.tags)
    if written is None:
        if train is None:
            raise ConfigError.of(
                "task.labels",
                "must be given: without training rows there is nothing to take tags from.",
            )
        written = _derived(train.tags, columns.scheme)
    return TagSet(written, columns.scheme)


def _derived(rows: Sequence[Sequence[Any] | None], scheme: Scheme) -> tuple[str, ...]:
    """The tags that occur: O, and those of each type, in the order of the alphabet."""
    found = {tag for tags in rows for tag in tags or ()}
    numbers = [tag for tag in found if not isinstance(tag, str) or tag.strip().isdigit()]
    if numbers:
        raise ConfigError.of(
            "task.labels",
            f"must be given where tags are numbers, got {numbers[0]}: as [O, B-…, I-…], or in a labels.json "
            "beside the training file.",
        )
    if not found:
        raise ConfigError.of(
            "task.labels", "must be given: no training row has a tag to take them from."
        )
    if scheme == "iob2":
        types = sorted({tag.partition("-")[2] for tag in found if tag.startswith(("B-", "I-"))})
        others = sorted(tag for tag in found if not tag.startswith(("B-", "I-", OUTSIDE)))
        return (OUTSIDE, *(f"{p}-{kind}" for kind in types for p in ("B", "I")), *others)
    return tuple(sorted({OUTSIDE, *found}, key=lambda tag: (tag != OUTSIDE, tag)))


def _split(part: TaggedRows, tags: TagSet, first_row_id: int) -> Split:
    """The checked rows.

    Raises:
        ConfigError: Tags that are not known, or begin inside of a span.
    """
    labels, faults = _labels(part, tags)
    if faults:
        raise ConfigError(faults)
    number = len(part.words)
    table = pa.table(
        {
            "words": part.words,
            "label": labels,
            "row_id": pa.array(np.arange(first_row_id, first_row_id + number, dtype=np.int64)),
        }
    )
    trains = part.name in ("train", "unlabelled")
    notes = _notes(part, table, tags)
    if part.routes is not None:
        table = table.append_column("route", pa.array(part.places, pa.int32()))
        notes += [route_note(part.places, part.routes)] if trains else []
    fingerprint = _fingerprint(table, routes=trains)
    return Split(part.name, table, tags.names, fingerprint, part.origins, tuple(notes))


def _labels(part: TaggedRows, tags: TagSet) -> tuple[pa.ChunkedArray, list[Fault]]:
    number: dict[Any, int] = {str(place): place for place in range(len(tags.written))}
    number |= {tag: place for place, tag in enumerate(tags.written)}
    faults: list[Fault] = []
    chunks, sizes = [], pc.list_value_length(part.words).to_pylist()
    for file, end in zip(part.files, [*(f.begin for f in part.files[1:]), len(sizes)], strict=True):
        problems = RowFaults(part.path_in_config, file.name)
        labels: list[list[int]] = []
        for row in range(file.begin, end):
            given, where = part.tags[row], file.places[row - file.begin]
            if given is None:
                labels.append([NO_LABEL] * sizes[row])
                continue
            numbers = [number.get(tag if isinstance(tag, str) else str(tag), -1) for tag in given]
            if -1 in numbers:
                strange = given[numbers.index(-1)]
                listed = ", ".join(tags.written[:_MAX_SHOWN])
                more = "" if len(tags.written) <= _MAX_SHOWN else ", …"
                guess = did_you_mean(strange, tags.written) if isinstance(strange, str) else ""
                problems.add(
                    f"have tags out of {listed}{more} (task.labels)",
                    "others",
                    f"{strange!r} in {where}",
                    guess.strip(),
                )
                labels.append([NO_LABEL] * sizes[row])
                continue
            found, stray = tags.read(numbers)
            if stray is not None:
                problems.add(
                    f"begin every span as task.scheme: {tags.scheme} has it",
                    "tags that go on with no span",
                    f"{given[stray]!r} at word {stray + 1} of {where}",
                    "Set task.scheme: iob1, and such a word begins a span, or mend these rows."
                    if tags.scheme == "iob2"
                    else "Mend these rows.",
                )
            labels.append(found)
            if len(labels) >= CHUNK_ROWS:
                chunks.append(pa.array(labels, _LABELS))
                labels = []
        chunks.append(pa.array(labels, _LABELS))
        faults += problems.faults()
    return pa.chunked_array(chunks, type=_LABELS), faults


def _notes(part: TaggedRows, table: pa.Table, tags: TagSet) -> list[str]:
    without = sum(tag is None for tag in part.tags)
    notes = []
    if without and part.name != "unlabelled":
        notes.append(
            f"{part.name}: {without} of {table.num_rows} rows have no tags; figures leave them out."
        )
    if part.name == "train":
        there = set(pc.unique(pc.list_flatten(table["label"])).to_pylist())
        types = dict.fromkeys(name.partition("-")[2] for name in tags.names if "-" in name)
        absent = [kind for kind in types if tags.names.index(f"B-{kind}") not in there]
        if absent:
            notes.append(
                f"train: no span is a {', a '.join(absent)}; there is nothing to learn from."
            )
    return notes


def _fingerprint(table: pa.Table, *, routes: bool) -> str:
    """SHA-256 over words and tags in order; lengths and bytes apart, so that chunks leave no trace."""
    whole = hashlib.sha256(b"raydistill words 1")
    lengths = pc.list_value_length(table["words"]).to_numpy().astype("<i8")
    flat = pc.list_flatten(table["words"])
    whole.update(lengths.tobytes())
    whole.update(pc.binary_length(flat).to_numpy().astype("<i8").tobytes())
    for chunk in flat.chunks:
        whole.update("".join(chunk.to_pylist()).encode())
    whole.update(pc.list_flatten(table["label"]).to_numpy().astype("<i4").tobytes())
    if routes and "route" in table.column_names:
        whole.update(table["route"].to_numpy().astype("<i4").tobytes())
    return whole.hexdigest()
