"""The rows that a configuration names."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from raydistill.config import DistillConfig
from raydistill.config.data import DataSection
from raydistill.config.ensemble import RoutingWeighting
from raydistill.config.losses import on_labels
from raydistill.config.ranking import RankedTask
from raydistill.config.task import (
    MultiLabelClassificationTask,
    QuestionAnsweringTask,
    RegressionTask,
    TaggingTask,
    TaskSection,
)
from raydistill.data import (
    SPLIT_NAMES,
    TAGGED_SUFFIXES,
    Origin,
    QuestionColumns,
    Routes,
    Split,
    TaggedColumns,
    Targets,
    find_splits,
    load_question_splits,
    load_splits,
    load_tagged_splits,
)
from raydistill.data.checks import named_few
from raydistill.data.files import DataFile, matching_files
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, shown_uri
from raydistill.prepare.answering import with_answering
from raydistill.prepare.parts import dataset_parts
from raydistill.prepare.ranking import load_ranking

__all__ = ["load_data", "targets_of"]

_COLUMN = re.compile(r"\(task\.((?:columns\.)?[a-z_]+)(?:\.\d+)?\)")


def load_data(config: DistillConfig) -> dict[str, Split]:
    """The splits that a configuration names, checked.

    Raises:
        ConfigError: Every fault of every file.
    """
    if isinstance(config.task, RankedTask):
        return load_ranking(config, config.task)
    files, faults, notes = _named_rows(config)
    splits: dict[str, Split] = {}
    try:
        splits = _load(config, files)
    except ConfigError as error:
        # Without training rows there are no names of labels: that was said above.
        faults += [f for f in error.faults if "train" in files or f.path != "task.labels"]
    if faults:
        raise ConfigError([_with_basis(fault) for fault in faults])
    train = splits["train"]
    return {**splits, "train": replace(train, notes=(*notes, *train.notes))}


def _load(config: DistillConfig, files: Mapping[str, Sequence[Origin]]) -> dict[str, Split]:
    task = config.task
    if isinstance(task, TaggingTask):
        labels = None if task.labels is None else tuple(task.labels)
        conll = (task.conll.words, task.conll.tags)
        columns = TaggedColumns(task.words, task.tags, task.separator, task.scheme, labels, conll)
        return load_tagged_splits(files, columns, routes=_routes(config))
    if isinstance(task, QuestionAnsweringTask):
        named = QuestionColumns(**task.columns.model_dump(), labels=tuple(task.labels))
        return with_answering(load_question_splits(files, named, routes=_routes(config)), task)
    return load_splits(
        files,
        text=task.text,
        text_pair=task.text_pair,
        label=task.label,
        labels=task.labels,
        routes=_routes(config),
        streaming=config.data.streaming,
        targets=targets_of(task),
        incomplete=config.data.incomplete_rows,
    )


def _named_rows(config: DistillConfig) -> tuple[dict[str, list[Origin]], list[Fault], list[str]]:
    """Split name to what is read for it; what is wrong, and what should be known."""
    data, faults, notes = config.data, list[Fault](), list[str]()
    files: dict[str, list[Origin]] = {}
    if data.folder is not None:
        try:
            known = {"suffixes": TAGGED_SUFFIXES} if isinstance(config.task, TaggingTask) else {}
            others: list[DataFile] = []
            found = find_splits(data.folder, path_in_config="data.folder", unused=others, **known)
            notes += _unused_files(data, others)
        except ConfigError as error:
            faults += error.faults
        else:
            files = {name: [file.uri] for name, file in found.items()}
    if data.dataset is not None:
        files, wrong, said = dataset_parts(data)
        faults += wrong
        notes += said
    if all(on_labels(loss) for loss in config.losses):
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
    return files, faults, notes


def _unused_files(data: DataSection, others: Sequence[DataFile]) -> list[str]:
    """A note on files of a folder that look like splits, if no other setting names them."""
    named: set[str] = set()
    for name in SPLIT_NAMES:
        written = getattr(data, name) or []
        for one in [written] if isinstance(written, str) else written:
            with suppress(*PLACE_ERRORS):  # is said where the rows are read
                named |= {_place(file) for file in matching_files(one)}
    left = [file for file in others if _place(file) not in named]
    if not left:
        return []
    is_used = "is" if len(left) == 1 else "are"
    return [
        f"{shown_uri(data.folder or '')} has also {named_few([file.name for file in left], len(left))}, which "
        f"{is_used} not used. What should be used is named under data.train, data.validation and so on."
    ]


def _place(file: DataFile) -> str:
    return file.uri if file.path is None else str(file.path.resolve())


def targets_of(task: TaskSection) -> Targets | None:
    """Where labels stand that are not one class a row; None where they are."""
    match task:
        case MultiLabelClassificationTask(label=label, labels=labels, separator=separator):
            return Targets("classes", label, None if labels is None else tuple(labels), separator)
        case RegressionTask(label=label, labels=labels):
            return Targets("numbers", label, None if labels is None else tuple(labels))
    if isinstance(task, RankedTask):
        return Targets("numbers", task.label)
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
