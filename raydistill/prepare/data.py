"""The rows that a configuration names."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from raydistill.config import DistillConfig
from raydistill.config.ensemble import RoutingWeighting
from raydistill.config.losses import HardLoss
from raydistill.config.task import (
    MultiLabelClassificationTask,
    RegressionTask,
    TaggingTask,
    TaskSection,
)
from raydistill.data import (
    TAGGED_SUFFIXES,
    Routes,
    Split,
    TaggedColumns,
    Targets,
    find_splits,
    load_splits,
    load_tagged_splits,
)
from raydistill.data.sources import SPLIT_NAMES
from raydistill.errors import ConfigError, Fault

__all__ = ["load_data", "targets_of"]

_COLUMN = re.compile(r"\(task\.([a-z_]+)(?:\.\d+)?\)")


def load_data(config: DistillConfig) -> dict[str, Split]:
    """The splits that a configuration names, checked.

    Raises:
        ConfigError: Every fault of every file.
    """
    data, task = config.data, config.task
    faults: list[Fault] = []
    files: dict[str, list[Path]] = {}
    if data.folder is not None:
        try:
            folder, tagged = Path(data.folder).expanduser(), isinstance(task, TaggingTask)
            known = {"suffixes": TAGGED_SUFFIXES} if tagged else {}
            found = find_splits(folder, path_in_config="data.folder", **known)
        except ConfigError as error:
            faults += error.faults
        else:
            files = {name: [path] for name, path in found.items()}
        if all(isinstance(loss, HardLoss) for loss in config.losses):
            files.pop("unlabelled", None)  # nothing would be learnt from it
    for name in SPLIT_NAMES:
        written = getattr(data, name)
        if written is not None:
            paths = [written] if isinstance(written, str) else written
            files[name] = [Path(path).expanduser() for path in paths]
    if "train" not in files and not faults:
        where = f": {data.folder} holds no file named train." if data.folder else "."
        faults.append(
            Fault("data.train", f"is missing{where}", rests_on=("data.train", "data.folder"))
        )
    splits: dict[str, Split] = {}
    try:
        splits = _load(files, config)
    except ConfigError as error:
        # Without training rows there are no names of labels: that was said above.
        faults += [f for f in error.faults if "train" in files or f.path != "task.labels"]
    if faults:
        raise ConfigError([_with_basis(fault) for fault in faults])
    return splits


def _load(files: Mapping[str, list[Path]], config: DistillConfig) -> dict[str, Split]:
    task = config.task
    if isinstance(task, TaggingTask):
        labels = None if task.labels is None else tuple(task.labels)
        columns = TaggedColumns(task.words, task.tags, task.separator, task.scheme, labels)
        return load_tagged_splits(files, columns, routes=_routes(config))
    return load_splits(
        files,
        text=task.text,
        text_pair=task.text_pair,
        label=task.label,
        labels=task.labels,
        routes=_routes(config),
        targets=targets_of(task),
    )


def targets_of(task: TaskSection) -> Targets | None:
    """Where labels stand that are not one class a row; None where they are."""
    match task:
        case MultiLabelClassificationTask(label=label, labels=labels, separator=separator):
            return Targets("classes", label, None if labels is None else tuple(labels), separator)
        case RegressionTask(label=label, labels=labels):
            return Targets("numbers", label, None if labels is None else tuple(labels))
    return None


def _routes(config: DistillConfig) -> Routes | None:
    """Which rows go to which teacher, if a column says so."""
    weighting = config.ensemble.weighting
    if not isinstance(weighting, RoutingWeighting):
        return None
    return Routes(
        weighting.column, tuple(config.teachers), weighting.routes, weighting.others == "all"
    )


def _with_basis(fault: Fault) -> Fault:
    """A complaint about a column rests on its name, too."""
    named = tuple(f"task.{name}" for name in _COLUMN.findall(fault.message))
    named += ("ensemble.weighting",) if "(ensemble.weighting.column)" in fault.message else ()
    return replace(fault, rests_on=(fault.path, *named)) if named else fault
