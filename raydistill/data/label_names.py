"""The names of the classes, where somebody wrote them down: in the configuration, beside the rows or in them."""

import json
from collections.abc import Sequence
from pathlib import Path

from raydistill.data.files import DataFile, matching_files
from raydistill.data.labels import integer_in
from raydistill.data.readers.parquet import parquet_names
from raydistill.errors import ConfigError, Fault
from raydistill.filesystems import PLACE_ERRORS

__all__ = ["read_labels"]


def read_labels(
    configured: Sequence[str] | None,
    train_paths: Sequence[str | Path],
    *,
    column: str | None = None,
    path_in_config: str = "task.labels",
) -> tuple[str, ...] | None:
    """The names of the classes, where somebody wrote them down.

    Args:
        configured: The list in the configuration, which wins.
        train_paths: The files of the training split; a ``labels.json`` beside the first is read. It
            holds a list of names, ``{name: id}`` or ``{id: name}``. Without one, a Parquet file that
            `datasets` wrote may say them itself.
        column: Of the labels, in such a file.
        path_in_config: The subject of faults.

    Returns:
        Names in the order of their numbers, or None: then they come from the training split itself,
        see :func:`raydistill.data.sources.load_split`.

    Raises:
        ConfigError: A name is blank or occurs twice, or ``labels.json`` is of another form.
    """
    if configured is not None:
        return _require_names(list(configured), path_in_config, path_in_config)
    file = _beside(train_paths[0]) if train_paths else None
    if file is None:
        return _in_file(train_paths[0], column) if train_paths and column else None
    form = 'a list of names, {"name": 0, …} or {"0": "name", …}'
    try:
        with file.open() as opened:
            content = json.loads(opened.read().decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, *PLACE_ERRORS) as error:
        raise ConfigError.of(
            path_in_config,
            f"must be readable from {file.shown}: {form} as UTF-8 JSON, got: {error}.",
        ) from error
    names = content
    if isinstance(content, dict):
        by_id: list[tuple[object, object]] = [
            (key, value) if isinstance(value, str) else (value, key)
            for key, value in content.items()
        ]
        ids = [
            integer_in(str(number)) if not isinstance(number, bool) else None for number, _ in by_id
        ]
        if sorted(-1 if number is None else number for number in ids) != list(range(len(ids))):
            raise ConfigError.of(
                path_in_config,
                f"must number the names 0 to {len(ids) - 1}, each once, got {_shown(content)} in "
                f"{file.shown}.",
            )
        names = [
            name
            for _, (_, name) in sorted(zip(ids, by_id, strict=True), key=lambda pair: pair[0] or 0)
        ]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError.of(
            path_in_config, f"must be {form}, got {_shown(content)} in {file.shown}."
        )
    return _require_names(names, path_in_config, file.shown)


def _beside(path: str | Path) -> DataFile | None:
    """The labels.json in the folder of a file, or of the first that a pattern names; None: there is none."""
    try:
        first = next(iter(matching_files(path)), None)
        file = first.beside("labels.json") if first else None
        return file if file and file.exists() else None
    except PLACE_ERRORS:  # is said where the rows are read
        return None


def _in_file(path: str | Path, column: str) -> tuple[str, ...] | None:
    """What the first file itself says; None: nothing."""
    try:
        first = next(iter(matching_files(path)), None)
    except PLACE_ERRORS:
        return None
    return parquet_names(first, column) if first and first.suffix == ".parquet" else None


def _require_names(names: list[str], path_in_config: str, source: str) -> tuple[str, ...]:
    faults = []
    if not names:
        faults.append(Fault(path_in_config, f"must name at least one label, got none in {source}."))
    for number, name in enumerate(names):
        if not name.strip():
            faults.append(
                Fault(
                    path_in_config,
                    f"must not be blank, got {name!r} as label {number} in {source}.",
                )
            )
        elif name in names[:number]:
            faults.append(
                Fault(
                    path_in_config,
                    f"must name each label once, got {name!r} as {names.index(name)} and {number} "
                    f"in {source}.",
                )
            )
    if faults:
        raise ConfigError(faults)
    return tuple(names)


def _shown(content: object) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) < 100 else f"{text[:100]}…"  # noqa: PLR2004
