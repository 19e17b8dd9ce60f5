"""The rows that a configuration names."""

from dataclasses import replace

from raydistill.config import DistillConfig
from raydistill.config.losses import CrossEntropyLoss
from raydistill.data import (
    SPLIT_NAMES,
    Origin,
    Split,
    find_dataset_splits,
    find_splits,
    load_splits,
)
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import shown_uri

__all__ = ["load_data"]


def load_data(config: DistillConfig) -> dict[str, Split]:
    """The splits that a configuration names, checked.

    Raises:
        ConfigError: Every fault of every file.
    """
    data, task = config.data, config.task
    faults: list[Fault] = []
    files: dict[str, list[Origin]] = {}
    if data.folder is not None:
        try:
            found = find_splits(data.folder, path_in_config="data.folder")
        except ConfigError as error:
            faults += error.faults
        else:
            files = {name: [file.uri] for name, file in found.items()}
    if data.dataset is not None:
        try:
            parts = find_dataset_splits(
                data.dataset,
                config=data.config,
                revision=data.revision,
                splits={str(name): split for name, split in data.splits.items()},
                needs_train=data.train is None,
                streaming=data.streaming,
            )
        except ConfigError as error:
            faults += error.faults
        else:
            files = {name: [part] for name, part in parts.items()}
    if data.unlabelled is None and all(
        isinstance(loss, CrossEntropyLoss) for loss in config.losses
    ):
        files.pop("unlabelled", None)  # nothing would be learnt from it
    for name in SPLIT_NAMES:
        written = getattr(data, name)
        if written is not None:
            files[name] = [written] if isinstance(written, str) else [*written]
    if "train" not in files and not faults:
        where = f": {shown_uri(data.folder)} holds no file named train." if data.folder else "."
        faults.append(
            Fault(
                "data.train",
                f"is missing{where}",
                rests_on=("data.train", "data.folder", "data.dataset"),
            )
        )
    splits: dict[str, Split] = {}
    try:
        splits = load_splits(
            files,
            text=task.text,
            text_pair=task.text_pair,
            label=task.label,
            labels=task.labels,
            streaming=data.streaming,
        )
    except ConfigError as error:
        # Without training rows there are no names of labels: that was said above.
        faults += [f for f in error.faults if "train" in files or f.path != "task.labels"]
    if faults:
        raise ConfigError([_with_basis(fault) for fault in faults])
    return splits


def _with_basis(fault: Fault) -> Fault:
    """A complaint about a column rests on its name, too."""
    columns = ("text", "text_pair", "label", "labels")
    named = tuple(f"task.{name}" for name in columns if f"(task.{name})" in fault.message)
    return replace(fault, rests_on=(fault.path, *named)) if named else fault
