"""Splits of data sets that Hugging Face `datasets` loads: from the hub, or from a folder.

Their columns are named in the configuration as those of files are. What a data set knows of its
classes (a ClassLabel column) gives the names of the labels where nobody else wrote them down.
"""

import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.data.files import SPLIT_NAMES, SPLIT_STEMS
from raydistill.data.readers.cells import TEXT, Columns, as_text, type_faults
from raydistill.data.readers.reading import Wanted, column_faults
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import first_line

__all__ = ["DatasetSplit", "find_dataset_splits"]

_STEMS = {**SPLIT_STEMS, "unlabelled": (*SPLIT_STEMS["unlabelled"], "unsupervised")}
_COMMIT = re.compile(r"hf://datasets/[^@]+@([0-9a-f]{40})/")


@dataclass(frozen=True)
class DatasetSplit:
    """One split of a data set.

    Attributes:
        dataset: Id or folder.
        split: Its name, or a slice such as ``train[:90%]``.
        config: Of the data set; None: its only one.
        revision: Of the hub; None: the newest.
    """

    dataset: str
    split: str
    config: str | None = None
    revision: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What was loaded does not travel."""
        return {name: value for name, value in vars(self).items() if name != "loaded"}

    @functools.cached_property
    def loaded(self) -> Any:
        """A `datasets.Dataset`, mapped from the disk."""
        import datasets

        if _saved(self.dataset):
            found = datasets.load_from_disk(self.dataset)
            there = found if isinstance(found, dict) else {"train": found}
            if self.split not in there:
                raise _NoSplitError(f"{self.split!r} is not among {', '.join(there)}")
            return there[self.split]
        try:
            return datasets.load_dataset(
                self.dataset, self.config, split=self.split, revision=self.revision
            )
        except ValueError as error:
            if "nknown split" in str(error) or "instruction format" in str(error):
                raise _NoSplitError(first_line(error)) from error
            raise

    @property
    def name(self) -> str:
        """For messages."""
        within = f"/{self.config}" if self.config else ""
        return f"{Path(self.dataset).name}{within} {self.split}"

    @property
    def shown(self) -> str:
        """For records, with the commit of what was loaded, if it has one."""
        within = f"/{self.config}" if self.config else ""
        revision = _commit(self.loaded.info) or self.revision
        return f"{self.dataset}{within}{f'@{revision}' if revision else ''} {self.split}"

    def label_names(self, column: str) -> tuple[str, ...] | None:
        """The names of the classes, if the data set says which they are."""
        feature = (self.loaded.features or {}).get(column)
        names = getattr(feature, "names", None)
        return tuple(names) if names else None

    def read(self, wanted: Wanted, *, labels: Sequence[str] | None, path_in_config: str) -> Columns:
        """The wanted columns as text, as :func:`raydistill.data.readers.read_columns` gives those of files.

        Args:
            wanted: Role to the column's name.
            labels: Names of the classes. Cells of a ClassLabel column are names if these know them
                all, else numbers, which count into these: so labels can be renamed.
            path_in_config: The subject of faults.

        Raises:
            ConfigError: A column is missing or of another kind.
        """
        dataset = self.loaded
        require_dataset_columns(self, dataset, wanted, path_in_config)
        table = dataset.select_columns(sorted(set(wanted.values()))).with_format("arrow")[:]
        return self.as_columns(table, wanted, labels)

    def as_columns(self, table: pa.Table, wanted: Wanted, labels: Sequence[str] | None) -> Columns:
        """Some of its rows as text."""
        columns = {role: as_text(table[column]) for role, column in wanted.items()}
        names = self.label_names(wanted["label"]) if "label" in wanted else None
        if names is not None:
            numbers = table[wanted["label"]].cast(pa.int64())
            numbers = pc.if_else(pc.less(numbers, 0), None, numbers)  # -1 is none
            if self.renames(wanted["label"], labels):
                columns["label"] = numbers.cast(TEXT)
            else:
                columns["label"] = pa.chunked_array(
                    [pa.array(names, TEXT).take(chunk) for chunk in numbers.chunks], type=TEXT
                )
        return columns

    def rename_notes(self, column: str, labels: Sequence[str]) -> list[str]:
        """Which names the classes get, if they are others."""
        if not self.renames(column, labels):
            return []
        pairs = zip(self.label_names(column) or (), labels, strict=False)
        told = ", ".join(f"{old} is {new}" for old, new in pairs)
        return [f"{self.name}: task.labels give its classes other names: {told}."]

    def renames(self, column: str, labels: Sequence[str] | None) -> bool:
        """Whether other names are given to the classes than the data set's."""
        names = self.label_names(column)
        return bool(names and labels) and not set(names or ()) <= set(labels or ())


def require_dataset_columns(
    part: DatasetSplit, dataset: Any, wanted: Wanted, path_in_config: str
) -> None:
    """Raises for each wanted column that is missing or of another kind."""
    faults = column_faults(
        wanted, list(dataset.column_names), name=part.name, path_in_config=path_in_config
    ) or type_faults(
        wanted, dataset.features.arrow_schema, name=part.name, path_in_config=path_in_config
    )
    if faults:
        raise ConfigError(faults)


def find_dataset_splits(
    dataset: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    needs_train: bool = True,
    path_in_config: str = "data",
) -> dict[str, DatasetSplit]:
    """The splits of a data set that are to be used.

    Args:
        dataset: Id of the hub, or a folder.
        config: Which of its configurations.
        revision: Branch, tag or commit.
        splits: Our name to the data set's; empty: by the data set's names.
        needs_train: Whether there must be one to train on.
        path_in_config: The subject of faults.

    Returns:
        In the order train, unlabelled, validation, test; those there are.

    Raises:
        ConfigError: No such data set, configuration or split, or it cannot be reached.
    """
    if dataset.startswith(("/", "./", "../", "~")):  # else it may be an id
        dataset = str(Path(dataset).expanduser())
        if not Path(dataset).is_dir():
            message = f"must be an id of the hub or an existing folder, got {dataset}."
            raise ConfigError.of(f"{path_in_config}.dataset", message)
    faults: list[Fault] = []
    if not splits:
        with _as_faults(path_in_config, dataset):
            there = _split_names(dataset, config, revision)
        named = {
            name: [split for split in there if split.lower() in _STEMS[name]]
            for name in SPLIT_NAMES
        }
        faults += [
            Fault(
                f"{path_in_config}.splits",
                f"must say which split is {name}: {dataset} has {', '.join(found)}.",
            )
            for name, found in named.items()
            if len(found) > 1
        ]
        splits = {name: found[0] for name, found in named.items() if found}
        if needs_train and not named["train"]:
            message = f"must say which split is train: {dataset} has {', '.join(there)}."
            faults.append(Fault(f"{path_in_config}.splits", message))
    found = {
        name: DatasetSplit(dataset, splits[name], config, revision)
        for name in SPLIT_NAMES
        if name in splits
    }
    for name, part in found.items():
        try:
            with _as_faults(path_in_config, dataset, name):
                _ = part.loaded
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise ConfigError(faults)
    return found


class _NoSplitError(Exception):
    """The data set is there, the split is not."""


def _split_names(dataset: str, config: str | None, revision: str | None) -> list[str]:
    import datasets

    if _saved(dataset):
        found = datasets.load_from_disk(dataset)
        return list(found) if isinstance(found, dict) else ["train"]
    return list(datasets.get_dataset_split_names(dataset, config, revision=revision))


def _saved(dataset: str) -> bool:
    """Whether `save_to_disk` wrote it."""
    return any((Path(dataset) / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _commit(info: Any) -> str | None:
    """The commit of the hub that a data set was downloaded from."""
    found = (_COMMIT.match(url) for url in (info.download_checksums or ()))
    return next((match[1] for match in found if match), None)


@contextmanager
def _as_faults(path: str, dataset: str, split: str = "") -> Iterator[None]:
    """Whatever a loader raises, in one line; without its progress bars and retries in between."""
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    chatty = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except ConfigError:
        raise
    except _NoSplitError as error:
        message = f"must be a split of {dataset}, got: {first_line(error)}."
        raise ConfigError.of(f"{path}.splits.{split}", message) from error
    except Exception as error:  # its loaders raise whatever their libraries do
        raise ConfigError([_why(path, dataset, error)]) from error
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _why(path: str, dataset: str, error: Exception) -> Fault:
    """Why a data set cannot be loaded, and what to do."""
    from datasets.exceptions import DatasetNotFoundError

    said = first_line(error)
    if isinstance(error, DatasetNotFoundError):
        return Fault(
            f"{path}.dataset",
            f"must be an id of the hub or a folder, got {dataset} ({said}). "
            "For one that is not public log in (hf auth login), or set HF_TOKEN.",
        )
    if isinstance(error, ConnectionError):
        return Fault(
            f"{path}.dataset",
            f"must be a data set that can be reached, got {dataset} ({said}). Without a network name a "
            "folder, or set HF_HUB_OFFLINE=1 for what was downloaded before.",
        )
    if isinstance(error, FileNotFoundError):
        message = f"must be an id of the hub or a folder, got {dataset} ({said})."
        return Fault(f"{path}.dataset", message)
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        known = re.findall(r"'([^']*)'", str(error).partition("vailable")[2].partition("]")[0])
        return Fault(
            f"{path}.config", f"must be one of {', '.join(known)}, which {dataset} has ({said})."
        )
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return Fault(
        f"{path}.dataset",
        f"must be a data set that `datasets` can load, got {dataset} ({first_line(root)}).",
    )
