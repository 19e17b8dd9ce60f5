"""YAML and `a.b=c` settings to a DistillConfig; all faults at once.

A fault in one place must not hide the faults elsewhere. So what pydantic refuses is cut out of the
settings and the rest is validated again: then the rules between sections, and later the checks of
files and models, see the sound part, and everything is reported together.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from raydistill.config.faults import fault_of
from raydistill.config.root import DistillConfig, cross_faults
from raydistill.errors import ConfigError, Fault

__all__ = ["load_config", "parse_config", "read_settings", "to_yaml"]

_KEY = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")


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
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse_yaml(text: str, subject: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError.of(subject, f"is not valid YAML{where}: {problem}.") from None


def read_settings(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The file's settings with the overrides applied, not yet validated.

    Args:
        path: A YAML file.
        overrides: `a.b=value`, value in YAML; list items by number, `+` appends: `losses.1.weight=2`.

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
    settings = _parse_yaml(text, str(path))
    if not isinstance(settings, dict):
        raise ConfigError.of(
            str(path), "must hold sections (run, data, student, …) at its top level."
        )
    settings = copy.deepcopy(settings)
    faults: list[Fault] = []
    for override in overrides:
        faults.extend(_apply(settings, override))
    if faults:
        raise ConfigError(faults)
    return settings


def _apply(settings: dict[str, Any], override: str) -> list[Fault]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not _KEY.match(key):
        return [Fault(f"--set {override}", "must look like section.name=value.")]
    try:
        value = _parse_yaml(text, f"--set {override}")
    except ConfigError as error:
        return list(error.faults)
    at: Any = settings
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        try:
            if isinstance(at, list):
                at = at[int(part)]
            else:
                if at.get(part) is None:
                    at[part] = {}
                at = at[part]
        except (ValueError, IndexError, AttributeError):
            return [
                Fault(
                    f"--set {override}",
                    f"leads nowhere: {'.'.join(parents[: depth + 1])} does not exist.",
                )
            ]
    if isinstance(at, list):
        if not last.isdigit() or int(last) >= len(at):
            return [
                Fault(f"--set {override}", f"leads nowhere: the list has items 0 to {len(at) - 1}.")
            ]
        at[int(last)] = value
    elif isinstance(at, dict):
        at[last] = value
    else:
        return [
            Fault(f"--set {override}", f"leads nowhere: {'.'.join(parents)} is a single value.")
        ]
    return []


def parse_config(settings: Mapping[str, Any]) -> tuple[DistillConfig | None, list[Fault]]:
    """The configuration, as far as it is sound, and every fault found in it.

    Returns:
        The configuration without the faulty settings (for further checks; never to be run if there
        are faults), or None if too little is left; and the faults in the order of the sections.
    """
    raw = copy.deepcopy(dict(settings))
    faults: list[Fault] = []
    for _ in range(20):  # each round cuts at least one fault out
        try:
            config = DistillConfig.model_validate(raw)
        except ValidationError as error:
            found = [fault_of(detail, raw) for detail in error.errors()]
            paths = {fault.path for fault, _ in found}
            old = {fault.path for fault in faults}
            new = [fault for fault, _ in found if not _touches(fault.path, old)]
            faults.extend(_most_specific(new))
            cut = [_cut(raw, loc) for _, loc in found]
            if not any(cut) or not paths:
                return None, _ordered(faults)
        else:
            known = {fault.path for fault in faults}
            rules = [f for f in cross_faults(config) if not _touches(f.path, known)]
            return config, _ordered(faults + rules)
    return None, _ordered(faults)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> DistillConfig:
    """Read, override and validate a configuration.

    Raises:
        ConfigError: With every fault that the configuration by itself shows.

    Example:
        load_config("config.yaml", overrides=["losses.1.temperature=2"])
    """
    config, faults = parse_config(read_settings(path, overrides))
    if faults or config is None:
        raise ConfigError(faults)
    return config


def to_yaml(config: DistillConfig) -> str:
    """The resolved configuration, every default written out."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _touches(path: str, faulty: set[str]) -> bool:
    """Whether a rule's complaint may only be the echo of a setting that was cut out."""
    return any(path == f or path.startswith(f + ".") or f.startswith(path + ".") for f in faulty)


def _most_specific(faults: Sequence[Fault]) -> list[Fault]:
    """One fault a path; a union's branches complain together, and the deepest complaint is the apt one."""
    paths = {fault.path for fault in faults}
    by_path = {fault.path: fault for fault in reversed(faults)}
    return [
        fault
        for path, fault in by_path.items()
        if not any(other.startswith(path + ".") for other in paths)
    ]


def _ordered(faults: Iterable[Fault]) -> list[Fault]:
    """In the order of the sections, list items by number, otherwise as found."""
    sections = list(DistillConfig.model_fields)

    def place(fault: Fault) -> tuple[int, int]:
        first, *rest = fault.path.split(".")
        section = sections.index(first) if first in sections else len(sections)
        return section, int(rest[0]) if rest and rest[0].isdigit() else 0

    return sorted(faults, key=place)


def _cut(raw: Any, loc: tuple[Any, ...]) -> bool:
    """Take what stands at `loc` out of the settings; whether anything changed.

    A list item and a missing required text get a stand-in, so that numbers and names elsewhere
    still mean what they meant; complaints about a stand-in are never shown (see `_touches`).
    """
    at = raw
    for depth, part in enumerate(loc[:-1]):
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return depth > 0  # something around it is gone already
    last = loc[-1] if loc else None
    if isinstance(at, list) and isinstance(last, int) and last < len(at) and at[last] != _STAND_IN:
        at[last] = dict(_STAND_IN)
    elif isinstance(at, dict) and last in at:
        del at[last]
    elif isinstance(at, dict) and last in _REQUIRED_TEXT:
        at[last] = "x"
    else:
        return _cut(raw, loc[:-1]) if loc else False
    return True


_REQUIRED_TEXT = ("model", "name", "teacher")
_STAND_IN = {"kind": "cross_entropy"}
