"""Settings to a DistillConfig; all faults at once.

A fault in one place must not hide the faults elsewhere. So what pydantic refuses is cut out of the
settings and the rest is validated again: then the rules between sections, and later the checks of
files and models, see the sound part, and everything is reported together. What is needed and was
cut gets a stand-in; complaints that rest on a stand-in are echoes and left out.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from raydistill.config.base import Section
from raydistill.config.faults import fault_of, in_order, without_echoes
from raydistill.config.presets import with_preset
from raydistill.config.root import DistillConfig, cross_faults
from raydistill.config.settings import plain, read_settings
from raydistill.errors import ConfigError, Fault

__all__ = ["parse_config", "read_settings", "to_yaml"]

_NOT_GIVEN = "./not given"  # no folder, and no Hugging Face id that somebody would look up
_STAND_INS: Mapping[str, Any] = {
    "run": {"name": "x"},
    "data": {"train": _NOT_GIVEN},
    "student": {"model": _NOT_GIVEN},
    "losses": [{"kind": "cross_entropy"}],
    "name": "x",
    "model": _NOT_GIVEN,
    "teacher": _NOT_GIVEN,
}
_ITEM = {"kind": "cross_entropy"}
"""Stands for an item of a list, so that the numbers of the others still mean what they meant."""


def parse_config(settings: Mapping[str, Any]) -> tuple[DistillConfig | None, list[Fault]]:
    """The configuration, as far as it is sound, and every fault found in it.

    Returns:
        The configuration without the faulty settings (for further checks; never to be run if there
        are faults), or None if too little is left; and the faults in the order of the sections.
    """
    try:
        raw = plain(dict(settings), "the configuration")
    except ConfigError as error:
        return None, list(error.faults)
    if isinstance(raw.get("student"), dict):
        raw["student"] = with_preset(raw["student"])
    faults: list[Fault] = []
    for _ in range(20):  # each round cuts at least one fault out
        try:
            config = DistillConfig.model_validate(raw)
        except ValidationError as error:
            found = [fault_of(detail, raw) for detail in error.errors()]
            faults += without_echoes([fault for fault, _ in found], faults)
            cut = [_cut(raw, loc) for _, loc in found]
            if not any(cut):
                return None, in_order(faults)
        else:
            faults += without_echoes(cross_faults(config), faults)
            return config, in_order(faults)
    return None, in_order(faults)


def to_yaml(config: Section) -> str:
    """The resolved configuration, every default written out."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _cut(raw: Any, loc: tuple[Any, ...]) -> bool:
    """Take what stands at `loc` out of the settings; whether anything changed."""
    if loc[:1] == ("stages",) and raw.get("stages"):
        del raw["stages"]  # the others mean nothing without it
        return True
    at = raw
    for depth, part in enumerate(loc[:-1]):
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return depth > 0  # something around it is gone already
    last = loc[-1] if loc else None
    if isinstance(at, list) and isinstance(last, int) and last < len(at) and at[last] != _ITEM:
        at[last] = dict(_ITEM)
    elif (
        isinstance(at, dict)
        and isinstance(last, str)
        and last in _STAND_INS
        and at.get(last) != _STAND_INS[last]
    ):
        at[last] = plain(_STAND_INS[last], "")
    elif isinstance(at, dict) and last in at:
        del at[last]
    else:
        return _cut(raw, loc[:-1]) if loc else False
    return True
