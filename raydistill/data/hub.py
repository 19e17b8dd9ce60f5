"""Splits of data sets that Hugging Face `datasets` loads: from the hub, or from a folder.

Their columns are named in the configuration as those of files are. What a data set knows of its
classes (a ClassLabel column) gives the names of the labels where nobody else wrote them down.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.data.files import SPLIT_NAMES, SPLIT_STEMS
from raydistill.data.hub_faults import NoSplitError, as_faults
from raydistill.data.readers import CHUNK_ROWS, Cells, Chunk, Skip
from raydistill.data.readers.cells import Columns, as_texts, type_faults
from raydistill.data.readers.class_names import (
    ClassReading,
    feature_names,
    renames,
    with_class_names,
)
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
        streaming: It is read from where it lies, and not downloaded as a whole.
    """

    dataset: str
    split: str
    config: str | None = None
    revision: str | None = None
    streaming: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """What was loaded does not travel."""
        return {
            name: value for name, value in vars(self).items() if name not in ("loaded", "features")
        }

    @functools.cached_property
    def loaded(self) -> Any:
        """A `datasets.Dataset`, mapped from the disk, or an `IterableDataset` of the hub."""
        import datasets

        if _saved(self.dataset):
            found = datasets.load_from_disk(self.dataset)
            there = found if isinstance(found, dict) else {"train": found}
            if self.split not in there:
                raise NoSplitError(f"{self.split!r} is not among {', '.join(there)}")
            return there[self.split]
        try:
            return datasets.load_dataset(
                self.dataset,
                self.config,
                split=self.split,
                revision=self.revision,
                streaming=self.streaming,
            )
        except ValueError as error:
            if "nknown split" in str(error) or "instruction format" in str(error):
                raise NoSplitError(first_line(error)) from error
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
        return feature_names(self.features.get(column))

    @functools.cached_property
    def features(self) -> Any:
        """What `datasets` knows of the columns; of a stream of text files it looks at the first rows."""
        loaded = self.loaded
        return loaded.features or loaded._resolve_features().features

    def chunks(
        self,
        wanted: Wanted,
        *,
        labels: Sequence[str] | None,
        path_in_config: str,
        skip: Skip,
        cells: Cells = "class",
    ) -> Iterator[Chunk]:
        """The wanted columns as text, some rows at a time, as :func:`raydistill.data.readers.read_chunks` does."""
        self._require(wanted, cells, path_in_config)
        columns, at = sorted(set(wanted.values())), 0
        dataset = self.loaded
        if not self.streaming or _saved(self.dataset):
            at = skip.of(dataset.num_rows)
            if at == dataset.num_rows:
                return
            dataset = dataset.skip(at)
        for table in dataset.select_columns(columns).with_format("arrow").iter(CHUNK_ROWS):
            passed = skip.of(table.num_rows)
            first, rest = at + passed, table.slice(passed)
            at += table.num_rows
            if rest.num_rows:
                yield Chunk(
                    self.as_columns(rest, wanted, labels, cells, path_in_config),
                    lambda row, first=first: f"row {first + row + 1}",  # type: ignore[misc]
                )

    def _require(self, wanted: Wanted, cells: Cells, path_in_config: str) -> None:
        """Raises for each wanted column that is missing or of another kind."""
        faults = column_faults(
            wanted, list(self.features), name=self.name, path_in_config=path_in_config
        ) or type_faults(
            wanted,
            self.features.arrow_schema,
            name=self.name,
            path_in_config=path_in_config,
            cells=cells,
        )
        if faults:
            raise ConfigError(faults)

    def read(
        self,
        wanted: Wanted,
        *,
        labels: Sequence[str] | None,
        path_in_config: str,
        cells: Cells = "class",
    ) -> Columns:
        """The wanted columns as text, as :func:`raydistill.data.readers.read_columns` gives those of files.

        Args:
            wanted: Role to the column's name.
            labels: Names of the classes. Cells of a ClassLabel column are names if these know them
                all, else numbers, which count into these: so labels can be renamed.
            path_in_config: The subject of faults.
            cells: What columns of labels hold.

        Raises:
            ConfigError: A column is missing or of another kind.
        """
        dataset = self.loaded
        self._require(wanted, cells, path_in_config)
        table = dataset.select_columns(sorted(set(wanted.values()))).with_format("arrow")[:]
        return self.as_columns(table, wanted, labels, cells, path_in_config)

    def as_columns(
        self,
        table: pa.Table,
        wanted: Wanted,
        labels: Sequence[str] | None,
        cells: Cells,
        path_in_config: str,
    ) -> Columns:
        """Some of its rows as text."""
        columns = as_texts(table, wanted, cells)
        known = ClassReading(self.name, wanted, cells, labels, path_in_config)
        return with_class_names(columns, table, self.label_names, known)

    def rename_notes(self, column: str, labels: Sequence[str]) -> list[str]:
        """Which names the classes get, if they are others."""
        if not renames(self.label_names(column), labels):
            return []
        pairs = zip(self.label_names(column) or (), labels, strict=False)
        told = ", ".join(f"{old} is {new}" for old, new in pairs)
        return [f"{self.name}: task.labels give its classes other names: {told}."]


def find_dataset_splits(
    dataset: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    needs_train: bool = True,
    streaming: bool = False,
    path_in_config: str = "data",
    unused: list[str] | None = None,
) -> dict[str, DatasetSplit]:
    """The splits of a data set that are to be used.

    Args:
        dataset: Id of the hub, or a folder.
        config: Which of its configurations.
        revision: Branch, tag or commit.
        splits: Our name to the data set's; empty: by the data set's names.
        needs_train: Whether there must be one to train on.
        streaming: Whether what is trained on is read from where it lies.
        path_in_config: The subject of faults.
        unused: Gets the names of those that are not used, if nobody named the others.

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
        with as_faults(path_in_config, dataset):
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
        if unused is not None:
            unused += [split for split in there if split not in splits.values()]
        if needs_train and not named["train"]:
            message = f"must say which split is train: {dataset} has {', '.join(there)}."
            faults.append(Fault(f"{path_in_config}.splits", message))
    found = {
        name: DatasetSplit(
            dataset, splits[name], config, revision, streaming and name in ("train", "unlabelled")
        )
        for name in SPLIT_NAMES
        if name in splits
    }
    for name, part in found.items():
        try:
            with as_faults(path_in_config, dataset, name):
                _ = part.loaded
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise ConfigError(faults)
    return found


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
