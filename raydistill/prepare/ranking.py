"""The queries and passages that a configuration names."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from raydistill.config import DistillConfig
from raydistill.config.losses import on_labels
from raydistill.config.ranking import SCORE, BM25Negatives, RankedTask
from raydistill.data import Split
from raydistill.data.files import SPLIT_NAMES, SUFFIXES, DataFile, local_path
from raydistill.data.folder import listed_files
from raydistill.data.negatives import Mined
from raydistill.data.ranking import RankingFiles, load_groups
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import shown_uri

__all__ = ["load_ranking"]

_COLUMN = re.compile(r"\(task\.columns\.([a-z_]+)\)")
_BESIDE = ("corpus", "queries", "qrels")
_JUDGED_BY = "qrels"
"""The folder in which BEIR's data sets have the judgements of each split."""
_STEMS = {
    "train": ("train", "train_rerank"),
    "unlabelled": ("unlabelled", "unlabeled"),
    "validation": ("validation", "validation_candidates", "dev", "dev_candidates"),
    "test": ("test", "test_candidates"),
}


def load_ranking(config: DistillConfig, task: RankedTask) -> dict[str, Split]:
    """The splits, checked.

    Raises:
        ConfigError: Every fault of every file.
    """
    faults: list[Fault] = []
    files: dict[str, list[str]] = {}
    if config.data.folder is not None:
        named = {name for name in SPLIT_NAMES if getattr(config.data, name) is not None}
        files, faults = _in_folder(config.data.folder, named)
        if all(on_labels(loss) for loss in config.losses):
            files.pop("unlabelled", None)  # nothing would be learnt from it
    for name in (*SPLIT_NAMES, *_BESIDE):
        written = getattr(config.data, name)
        if written is not None:
            files[name] = [written] if isinstance(written, str) else [*written]
    if "train" not in files and not faults:
        where = f": {shown_uri(config.data.folder)} holds none" if config.data.folder else ""
        message = f"is missing{where}. Name a file of training rows."
        faults.append(Fault("data.train", message, rests_on=("data.train", "data.folder")))
    if faults:
        raise ConfigError(faults)
    whole_corpus = config.evaluation.retrieval == "corpus" and config.task.kind == "retrieval"
    if whole_corpus and "corpus" not in files:
        path, where = "evaluation.retrieval", f": {shown_uri(config.data.folder or '')} holds none"
        message = f"is corpus, but there is no data.corpus to find passages in{where}."
        raise ConfigError([Fault(path, message, rests_on=(path, "data.corpus", "data.folder"))])
    mined = None
    if isinstance(task.negatives, BM25Negatives):
        mined = Mined(task.negatives.count, task.negatives.skip)
    try:
        splits = load_groups(
            RankingFiles(
                splits={name: files[name] for name in SPLIT_NAMES if name in files},
                columns=task.columns.model_dump(),
                **{name: files.get(name, ()) for name in _BESIDE},
                mined=mined,
                max_candidates=task.max_candidates,
                label=SCORE,
                whole_corpus=whole_corpus,
            )
        )
    except ConfigError as error:
        raise ConfigError([_with_basis(fault) for fault in error.faults]) from None
    if wrong := _label_faults(config, splits):
        raise ConfigError(wrong)
    return splits


def _in_folder(folder: str, named: Collection[str]) -> tuple[dict[str, list[str]], list[Fault]]:
    """Files by the names that they go by.

    Args:
        folder: Path or URI.
        named: Splits that have files elsewhere.
    """
    path = "data.folder"
    try:
        there = _stems(listed_files(local_path(folder), path))
        judged = _stems(listed_files(local_path(folder), path, _JUDGED_BY))
    except ConfigError as error:
        return {}, [*error.faults]
    found: dict[str, list[str]] = {}
    judging: list[str] = []
    faults = []
    for name, stems in _STEMS.items():
        files = [uri for uri, stem in there.items() if stem in stems]
        pairs = [uri for uri, stem in judged.items() if stem in stems]
        if files or name in named:  # what is to be judged stands elsewhere
            judging += pairs
        else:
            files = pairs
        if len(files) > 1:
            names = ", ".join(shown_uri(uri).rpartition("/")[2] for uri in files)
            message = f"must have one file for {name} in {shown_uri(folder)}, got {names}. Name data.{name}."
            faults.append(Fault(path, message))
        elif files:
            found[name] = files
    for name in _BESIDE:
        if files := [u for u, stem in there.items() if stem == name or stem.endswith(f"_{name}")]:
            found[name] = files
    if judging:
        found["qrels"] = [*found.get("qrels", ()), *judging]
    return found, faults


def _stems(files: Sequence[DataFile]) -> dict[str, str]:
    """Names without suffix, by URI, of those that can be read."""
    return {f.uri: Path(f.name).stem.lower() for f in files if f.suffix in SUFFIXES}


def _label_faults(config: DistillConfig, splits: Mapping[str, Split]) -> list[Fault]:
    """Losses that do not take grades of that size."""
    import pyarrow.compute as pc

    most = pc.max(splits["train"].table["label"].combine_chunks().flatten()).as_py() or 0.0
    return [
        Fault(
            f"losses.{index}.kind",
            f"is binary_cross_entropy, whose labels lie between 0 and 1, but data.train has {most:g}. Use "
            "relevance_cross_entropy, or lambda_loss with against: labels.",
            rests_on=(f"losses.{index}", "data.train"),
        )
        for index, loss in enumerate(config.losses)
        if loss.kind == "binary_cross_entropy" and most > 1
    ]


def _with_basis(fault: Fault) -> Fault:
    """A complaint about a column rests on its name, too."""
    named: Sequence[str] = [f"task.columns.{name}" for name in _COLUMN.findall(fault.message)]
    return replace(fault, rests_on=(fault.path, *named)) if named else fault
