"""The splits of a folder, by the names of its files."""

import re
from collections.abc import Sequence
from pathlib import Path

from pyarrow import fs

from raydistill.data.files import (
    SPLIT_NAMES,
    SPLIT_STEMS,
    SUFFIXES,
    DataFile,
    find_folder,
    join_uri,
    local_path,
    nearest_name,
    unreachable,
)
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS, is_uri, shown_uri

__all__ = ["find_splits", "listed_files"]

_STEMS = "|".join(stem for stems in SPLIT_STEMS.values() for stem in stems)
_BEGIN = re.compile(rf"({_STEMS})[^a-z.]")


def find_splits(
    folder: str | Path,
    *,
    path_in_config: str = "data",
    suffixes: Sequence[str] = SUFFIXES,
    unused: list[DataFile] | None = None,
) -> dict[str, DataFile]:
    """The files of a folder that are splits by their names: ``train.jsonl``, ``dev.csv``, ….

    Args:
        folder: Path or URI; looked into, not below. ``dev``, ``valid`` and ``val`` are validation.
        path_in_config: The subject of faults.
        suffixes: Of files that can be read.
        unused: Gets files whose names begin like that of a split: ``dev_matched.tsv``, ``train-00000-of-00002.parquet``.

    Returns:
        Split name to file, in the order train, unlabelled, validation, test; those there are.

    Raises:
        ConfigError: No such folder, no split in it, or two files for one split.
    """
    uri = local_path(str(folder))
    shown = shown_uri(uri)
    there = listed_files(uri, path_in_config)
    files = [file for file in there if file.suffix in suffixes]
    found = {
        name: [file for file in files if Path(file.name).stem.lower() in SPLIT_STEMS[name]]
        for name in SPLIT_NAMES
    }
    faults = [
        Fault(
            path_in_config,
            f"must have one file for {name} in {shown}, got "
            f"{', '.join(file.name for file in matching)}. "
            f"Remove all but one, or name the files: {path_in_config}.{name}.",
        )
        for name, matching in found.items()
        if len(matching) > 1
    ]
    if not any(found.values()):
        named = ", ".join(file.name for file in there[:10]) or "nothing"
        stems = ", ".join(SPLIT_NAMES)
        faults.append(
            Fault(
                path_in_config,
                f"must hold files named {stems} with a suffix out of {', '.join(suffixes)}, "
                f"got {named} in {shown}.",
            )
        )
    if faults:
        raise ConfigError(faults)
    if unused is not None:
        unused += [
            file
            for file in files
            if _BEGIN.match(file.name.lower()) and not any(file in one for one in found.values())
        ]
    return {name: matching[0] for name, matching in found.items() if matching}


def listed_files(uri: str, path_in_config: str, below: str = "") -> Sequence[DataFile]:
    """What lies in a folder, by name; or in the folder ``below`` it, nothing if there is none.

    Raises:
        ConfigError: No such folder, or it cannot be reached.
    """
    address, _, query = uri.partition("?") if is_uri(uri) else (uri, "", "")
    try:
        filesystem, base = find_folder(uri)
        if below:
            base, address = f"{base.rstrip('/')}/{below}", join_uri(address, below, "")
        if filesystem.get_file_info(base).type == fs.FileType.Directory:
            infos = filesystem.get_file_info(fs.FileSelector(base))
            return [
                DataFile(join_uri(address, name, query))
                for name in sorted(info.base_name for info in infos if info.is_file)
            ]
    except PLACE_ERRORS as error:
        raise ConfigError([unreachable(path_in_config, uri, error)]) from error
    if below:
        return []
    near = "" if is_uri(uri) else nearest_name(Path(uri))
    raise ConfigError.of(path_in_config, f"must be an existing folder, got {shown_uri(uri)}.{near}")
