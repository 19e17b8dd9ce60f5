"""All splits of a configuration together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raydistill.data.checks import overlap_notes, unseen_label_notes
from raydistill.data.files import SPLIT_NAMES
from raydistill.data.hub import DatasetSplit
from raydistill.data.labels import read_labels
from raydistill.data.sources import Origin, Split, load_split, stream_split
from raydistill.errors import ConfigError, Fault

__all__ = ["load_splits"]

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
    streaming: bool = False,
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
        streaming: Whether train and unlabelled are read while they are used.
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
        elif label and names is None and streaming:
            faults.append(Fault("task.labels", _NAMES_OF_A_STREAM))
            names = ()
    except ConfigError as error:
        faults.extend(error.faults)
        names = ()
    for name in [name for name in SPLIT_NAMES if name in files]:
        path = f"{path_in_config}.{name}"
        try:
            if streaming and name in ("train", "unlabelled"):
                given = label if names else None  # without names labels are not judged
                splits[name] = stream_split(
                    name,
                    files[name],
                    text=text,
                    text_pair=text_pair,
                    label=given,
                    labels=names or (),
                    path_in_config=path,
                )
                continue
            before = splits["train"].table.num_rows if "train" in splits else 0
            splits[name] = load_split(
                name,
                files[name],
                text=text,
                text_pair=text_pair,
                label=label,
                # Without names labels are not judged; all other faults are still found.
                labels=() if names is None and name != "train" else names,
                path_in_config=path,
                first_row_id=before if name == "unlabelled" else 0,
            )
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = splits[name].labels if name == "train" and label else names
    if faults:
        raise ConfigError(faults)
    seen = [splits[n] for n in ("train", "unlabelled") if n in splits and not splits[n].stream]
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
