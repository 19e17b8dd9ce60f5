"""The queries and passages that a configuration names."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raydistill.config import DistillConfig
from raydistill.config.losses import GroupLoss, LossBase, on_labels
from raydistill.config.ranking import SCORE, BM25Negatives, RankedTask
from raydistill.data import Origin, Split
from raydistill.data.files import SPLIT_NAMES, SUFFIXES, DataFile, local_path
from raydistill.data.folder import listed_files
from raydistill.data.matrix import label_matrix
from raydistill.data.negatives import Mined
from raydistill.data.ranking import RankingFiles, load_groups
from raydistill.data.ranking_reader import TRAINED
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import shown_uri
from raydistill.prepare.parts import dataset_parts

__all__ = ["choice_faults", "choice_notes", "load_ranking"]

_COLUMN = re.compile(r"\(task\.columns\.([a-z_]+(?:\.\d+)?)\)")
_BESIDE = ("corpus", "queries", "qrels")
_FEWEST = 2  # candidates without which nothing is compared
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
    files: dict[str, list[Origin]] = {}
    beside: dict[str, list[str]] = {}
    notes: list[str] = []
    if config.data.folder is not None:
        named = {name for name in SPLIT_NAMES if getattr(config.data, name) is not None}
        in_folder, faults = _in_folder(config.data.folder, named)
        files = {name: [*uris] for name, uris in in_folder.items() if name not in _BESIDE}
        beside = {name: uris for name, uris in in_folder.items() if name in _BESIDE}
    elif config.data.dataset is not None:
        files, faults, notes = dataset_parts(config.data)
    if all(on_labels(loss) for loss in config.losses):
        files.pop("unlabelled", None)  # nothing would be learnt from it
    for name in (*SPLIT_NAMES, *_BESIDE):
        written = getattr(config.data, name)
        if written is not None:
            paths = [written] if isinstance(written, str) else [*written]
            (beside if name in _BESIDE else files)[name] = [*paths]
    if "train" not in files and not faults:
        where = f": {shown_uri(config.data.folder)} holds none" if config.data.folder else ""
        message = f"is missing{where}. Name a file of training rows."
        faults.append(
            Fault("data.train", message, rests_on=("data.train", "data.folder", "data.dataset"))
        )
    if faults:
        raise ConfigError(faults)
    whole_corpus = config.evaluation.retrieval == "corpus" and config.task.kind == "retrieval"
    if whole_corpus and "corpus" not in beside:
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
                columns=task.columns.by_role,
                **beside,
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
    train = splits["train"]
    return {**splits, "train": replace(train, notes=(*notes, *train.notes))}


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


def choice_faults(config: DistillConfig, splits: Mapping[str, Split] | None) -> list[Fault]:
    """A fault, if all terms compare the candidates of a query and no query shows two of them.

    Args:
        config: Of any task.
        splits: Its rows; None: they are at fault.
    """
    idle = _idle_terms(config, splits)
    if len(idle) < len(config.losses):
        return []
    way_out = "Let BM25 find others (task.negatives: {kind: bm25}), or name negatives in the files."
    if isinstance(getattr(config.task, "negatives", None), BM25Negatives):
        way_out = "BM25 (task.negatives) found no others: name negatives in the files."
    most = config.task.max_positives if isinstance(config.task, RankedTask) else 1
    message = (
        "must have queries with a second candidate, got none: all losses compare the candidates of a query, of which "
        f"task.max_positives = {most} may be relevant, and one alone teaches nothing. {way_out}"
    )
    basis = ("data.train", "data.folder", "task.negatives", "task.max_positives", "losses")
    return [Fault("data.train", message, rests_on=basis)]


def choice_notes(config: DistillConfig, splits: Mapping[str, Split]) -> list[str]:
    """Queries that teach nothing to terms that compare candidates, and such terms that learn from no query."""
    notes = [
        f"data.{name}: {alone:,} of {queries:,} queries show a single candidate; losses that compare candidates learn "
        "nothing from them."
        for name, (alone, queries) in _alone(config, splits).items()
        if alone and any(_compares(loss, name) for loss in config.losses)
    ]
    return notes + [
        f"losses.{index} ({config.losses[index].kind}) compares the candidates of a query, but no query shows two: "
        "it learns nothing."
        for index in _idle_terms(config, splits)
    ]


def _compares(loss: LossBase, split: str) -> bool:
    """Whether a term looks at nothing but the candidates of a query, and at those of this split."""
    if not isinstance(loss, GroupLoss) or getattr(loss, "among", "candidates") == "block":
        return False
    return split == "train" or not on_labels(loss)


def _idle_terms(config: DistillConfig, splits: Mapping[str, Split] | None) -> list[int]:
    """Places of the terms that no query teaches anything."""
    trained = _alone(config, splits or {})
    return [
        index
        for index, loss in enumerate(config.losses)
        if (read := [name for name in trained if _compares(loss, name)])
        and all(trained[name][0] == trained[name][1] for name in read)
    ]


def _alone(config: DistillConfig, splits: Mapping[str, Split]) -> dict[str, tuple[int, int]]:
    """Of what is trained on, the queries whose groups have a single candidate however they are drawn, and all."""
    task, found = config.task, dict[str, tuple[int, int]]()
    if not isinstance(task, RankedTask):
        return {}
    for name in [name for name in TRAINED if name in splits]:
        table = splits[name].table
        of = table["group"].to_numpy() - table["group"][0].as_py()
        relevant = label_matrix(table["label"])[:, 0] > 0
        sizes = np.minimum(np.bincount(of, relevant), task.max_positives)
        sizes += np.bincount(of, ~relevant)
        found[name] = int((sizes < _FEWEST).sum()), len(sizes)
    return found


def _with_basis(fault: Fault) -> Fault:
    """A complaint about a column rests on its name, too."""
    named: Sequence[str] = [f"task.columns.{name}" for name in _COLUMN.findall(fault.message)]
    return replace(fault, rests_on=(fault.path, *named)) if named else fault
