"""All splits of a configuration together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from raydistill.data.checks import overlap_notes, unseen_label_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.hub import DatasetSplit
from raydistill.data.incomplete import IncompleteRows
from raydistill.data.label_names import read_labels
from raydistill.data.parts import Origin
from raydistill.data.routes import Routes
from raydistill.data.sources import Split, load_split, stream_split
from raydistill.data.targets import Targets
from raydistill.errors import ConfigError, Fault

__all__ = ["load_splits"]

_NO_TRAINING_ROWS = "must be given: without training rows there is nothing to take names from."
_NAMES_OF_A_STREAM = (
    "must be given with data.streaming: rows that are not read as a whole do not tell which labels "
    "there are. A labels.json beside the first file serves, too."
)


def load_splits(
    files: Mapping[str, Sequence[Origin]],
    *,
    text: str,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    routes: Routes | None = None,
    streaming: bool = False,
    path_in_config: str = "data",
    targets: Targets | None = None,
    incomplete: IncompleteRows = "refuse",
) -> dict[str, Split]:
    """Reads and checks all splits of a configuration, each file once.

    Args:
        files: Split name to its files or splits of data sets; without ``train``, names must be written down.
        text: Column of the text.
        text_pair: Column of the second text, if the task has pairs.
        label: Column of the label; None for a task without labels.
        labels: The list in the configuration; None looks for ``labels.json``, or asks the data set,
            then looks into the training rows.
        routes: Which rows go to which teacher; None: every row to all.
        streaming: Whether train and unlabelled are read while they are used.
        path_in_config: ``data`` gives faults about ``data.train`` and so on.
        targets: In place of ``label``, where labels are not one class a row.
        incomplete: As of :func:`raydistill.data.sources.load_split`.

    Returns:
        Splits by name, in the order train, unlabelled, validation, test; notes over several splits
        (the same text in train and test) stand at the split that is measured.

    Raises:
        ConfigError: Every fault of every split.
    """
    splits: dict[str, Split] = {}
    labelled = bool(label) or targets is not None
    names, faults = _names(files, labels, label, targets, streaming=streaming)
    columns: dict[str, Any] = {"text": text, "text_pair": text_pair, "routes": routes}
    for name in [name for name in SPLIT_NAMES if name in files]:
        path = f"{path_in_config}.{name}"
        try:
            if streaming and name in ("train", "unlabelled"):
                given: dict[str, Any] = {"label": label, "targets": targets} if names else {}
                splits[name] = stream_split(
                    name, files[name], labels=names or (), path_in_config=path, **columns, **given
                )
                continue
            before = splits["train"].table.num_rows if "train" in splits else 0
            splits[name] = load_split(
                name,
                files[name],
                label=label,
                # Without names labels are not judged; all other faults are still found.
                labels=() if names is None and name != "train" else names,
                path_in_config=path,
                first_row_id=before if name == "unlabelled" else 0,
                targets=targets,
                incomplete=incomplete,
                **columns,
            )
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = splits[name].labels if name == "train" and labelled else names
    if faults:
        raise ConfigError(faults)
    return _with_notes(splits)


def _with_notes(splits: dict[str, Split]) -> dict[str, Split]:
    """What is to be known of several splits together."""
    seen = [splits[n] for n in ("train", "unlabelled") if n in splits and not splits[n].stream]
    for name in ("validation", "test"):
        if name in splits:
            together = [*seen, splits[name]]
            notes = (*splits[name].notes, *overlap_notes(together), *unseen_label_notes(together))
            splits[name] = replace(splits[name], notes=notes)
    return splits


def _names(
    files: Mapping[str, Sequence[Origin]],
    labels: Sequence[str] | None,
    label: str | None,
    targets: Targets | None,
    *,
    streaming: bool,
) -> tuple[tuple[str, ...] | None, list[Fault]]:
    """Of the labels, where somebody wrote them down; an empty tuple after a fault."""
    if targets is None and not label:
        return None, []
    try:
        names = _written(files, labels, label, targets)
    except ConfigError as error:
        return (), list(error.faults)
    if names is None and "train" not in files:
        return None, [Fault("task.labels", _NO_TRAINING_ROWS)]
    if names is None and streaming:
        return (), [Fault("task.labels", _NAMES_OF_A_STREAM)]
    return names, []


def _written(
    files: Mapping[str, Sequence[Origin]],
    labels: Sequence[str] | None,
    label: str | None,
    targets: Targets | None,
) -> tuple[str, ...] | None:
    """In the configuration, beside the first file, or in the data set."""
    if targets is not None and not targets.in_one_column:
        return targets.names
    column = label if targets is None else targets.label
    origins = files.get("train") or next(iter(files.values()), ())
    first = origins[0] if origins else None
    assert column is not None
    if isinstance(first, DatasetSplit):
        return read_labels(labels, ()) or first.label_names(column)
    return read_labels(labels, [] if first is None else [first], column=column)
