"""A YAML file and `a.b=c` overrides to plain settings, not yet validated."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from raydistill.errors import ConfigError, Fault

__all__ = ["parse_yaml", "plain", "read_settings", "set_value"]

_KEY = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
_MAX_DEPTH = 50


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1 with two traps removed: a doubled key is refused, and 1e-4 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a single word", key_node.start_mark
            )
        key = loader.construct_object(key_node)
        if not isinstance(key, str) and (not isinstance(key, int) or isinstance(key, bool)):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"the key {key_node.value} is no text; put it in quotes",
                key_node.start_mark,
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, subject: str) -> Any:
    """A value from YAML.

    Args:
        text: YAML.
        subject: What it is, for the error.

    Raises:
        ConfigError: It is not YAML, with line and column.
    """
    try:
        return plain(yaml.load(text, Loader=_Loader), subject)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        hint = " Indent with spaces." if "'\\t'" in problem else ""
        raise ConfigError.of(subject, f"is not valid YAML{where}: {problem}.{hint}") from None
    except (yaml.YAMLError, ValueError) as error:  # control characters; a date such as 2024-13-45
        if isinstance(error, ConfigError):
            raise
        first = str(error).splitlines()[0]
        raise ConfigError.of(subject, f"is not valid YAML: {first}.") from None
    except RecursionError:
        raise ConfigError.of(subject, "is nested too deeply.") from None


def plain(value: Any, subject: str, depth: int = 0) -> Any:
    """A copy in which nothing is shared by YAML's anchors, and numbers as keys are text."""
    if depth > _MAX_DEPTH:
        raise ConfigError.of(subject, "is nested too deeply, or refers to itself.")
    if isinstance(value, dict):
        if odd := [key for key in value if isinstance(key, bool) or not isinstance(key, str | int)]:
            raise ConfigError.of(subject, f"holds the key {odd[0]}, which is no text.")
        keys = [str(key) for key in value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise ConfigError.of(subject, f"holds the key '{twice}' twice.")
        items = zip(keys, value.values(), strict=True)
        return {key: plain(item, subject, depth + 1) for key, item in items}
    if isinstance(value, list):
        return [plain(item, subject, depth + 1) for item in value]
    return value


def read_settings(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The file's settings with the overrides applied, not yet validated.

    Args:
        path: A YAML file.
        overrides: `a.b=value`, value in YAML; list items by number: `losses.1.weight=2`.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is not YAML, or an override does not fit.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError.of(str(path), "does not exist.") from None
    except IsADirectoryError:
        raise ConfigError.of(str(path), "is a folder; a YAML file is needed.") from None
    except UnicodeDecodeError as error:
        raise ConfigError.of(
            str(path),
            f"is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}.",
        ) from None
    except OSError as error:
        raise ConfigError.of(str(path), f"cannot be read: {error.strerror}.") from None
    settings = parse_yaml(text, str(path))
    if not isinstance(settings, dict):
        raise ConfigError.of(
            str(path), "must hold sections (run, data, student, …) at its top level."
        )
    faults = [fault for override in overrides for fault in _apply(settings, override)]
    if faults:
        raise ConfigError(faults)
    return settings


def _apply(settings: dict[str, Any], override: str) -> list[Fault]:
    """Set what one override names; sections that are not there yet are made."""
    subject = f"--set {override}"
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not _KEY.match(key):
        return [Fault(subject, "must look like section.name=value.")]
    try:
        value = parse_yaml(text, subject)
    except ConfigError as error:
        return list(error.faults)
    trouble = set_value(settings, key, value)
    return [Fault(subject, trouble)] if trouble else []


def set_value(settings: dict[str, Any], path: str, value: Any) -> str | None:
    """Set what a path names; sections that are not there yet are made.

    Returns:
        Why there is no such place, or None.
    """
    parts = path.split(".")
    at: Any = settings
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(at, list):
            if not part.isdigit() or int(part) >= len(at):
                where = ".".join(parts[:depth])
                items = f"items 0 to {len(at) - 1}" if at else "no items"
                return f"leads nowhere: {where} is a list with {items}."
            place: Any = int(part)
        elif isinstance(at, dict):
            place = part
        else:
            where = ".".join(parts[:depth])
            return f"leads nowhere: {where} is a single value."
        if last:
            at[place] = value
        elif isinstance(at, dict) and at.get(place) is None:
            at[place] = {}
        at = at[place]
    return None
