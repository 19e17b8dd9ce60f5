"""pydantic's complaints in our words: path, rule, what was got, the nearest known name."""

import difflib
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from raydistill.config.root import DistillConfig
from raydistill.errors import Fault

__all__ = ["fault_of", "in_order", "nearest", "without_echoes"]

_MAX_SHOWN = 60
_RULES = {
    "bool": "true or false",
    "dict": "a mapping of settings",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a mapping of settings",
    "string": "text",
}
_MISSING = "is missing."


def without_echoes(faults: Iterable[Fault], known: Iterable[Fault]) -> list[Fault]:
    """Those that do not just follow from a setting which is at fault itself.

    Args:
        faults: New ones, among which the same may stand twice.
        known: Reported before.
    """
    new = list(dict.fromkeys(faults))
    before = list(known)
    doubted = [path for fault in before for path in fault.doubts]
    misspelt = {path for fault in new for path in fault.doubts if path != fault.path}
    return [
        fault
        for fault in new
        if fault not in before
        and not (fault.message == _MISSING and fault.path in misspelt)
        and not any(_touch(a, b) for a in fault.rests_on or (fault.path,) for b in doubted)
    ]


def _touch(one: str, other: str) -> bool:
    """Whether one setting is, holds, or is part of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """In the order of the sections, list items by number, otherwise as found."""
    sections = list(DistillConfig.model_fields)

    def place(fault: Fault) -> tuple[int, int]:
        first, *rest = fault.path.split(".")
        section = sections.index(first) if first in sections else len(sections)
        return section, int(rest[0]) if rest and rest[0].isdigit() else -1

    return sorted(faults, key=place)


def nearest(name: str, known: Sequence[str]) -> str:
    """`Known: a, b. Did you mean 'a'?`, without the question if nothing is near."""
    close = _near(name, known)
    question = f" Did you mean '{close}'?" if close else ""
    return f"Known: {', '.join(sorted(known))}.{question}"


def _near(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)


def fault_of(detail: Any, raw: Any) -> tuple[Fault, tuple[Any, ...]]:
    """One of pydantic's error details as a fault, and where it stands in the settings."""
    loc = _settings_loc(detail["loc"], raw)
    kind, got = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        known = _names_at(loc[:-1], raw)
        close = _near(str(loc[-1]), known)
        doubts = (_path((*loc[:-1], close)),) if close else ()
        message = f"is not known. {nearest(str(loc[-1]), known)}"
        return Fault(_path(loc), message, doubts=doubts), loc
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        tag = got.get("kind") if isinstance(got, dict) else None
        known = _kinds_at(loc, raw)
        message = (
            f"{_show(tag)} is not known. {nearest(str(tag), known)}"
            if tag is not None
            else f"is missing. {nearest('', known)}"
        )
        return Fault(f"{_path(loc)}.kind", message, doubts=(_path(loc),)), loc
    message = _message(kind, detail.get("ctx") or {}, got, detail["msg"])
    if loc and loc[-1] == "[key]":
        loc = loc[:-1]
    return Fault(_path(loc), message, doubts=(_path(loc),)), loc


def _message(kind: str, context: Mapping[str, Any], got: Any, pydantics: str) -> str:  # noqa: PLR0911 - a table
    """The rule that a value breaks, and the value."""
    end = f", got {_show(got)}."
    match kind:
        case "missing":
            return _MISSING
        case "literal_error":
            known = [word.strip(" '") for word in _words(context["expected"])]
            close = _near(str(got), known)
            question = f" Did you mean '{close}'?" if close else ""
            return f"must be one of {', '.join(known)}{end}{question}"
        case "value_error":
            return f"{context['error']}{end}"
        case "string_pattern_mismatch":
            marks = " ".join(context["pattern"].split("[A-Za-z0-9")[-1].rstrip("]*$"))
            return f"must begin with a letter or digit and hold nothing but those and {marks}{end}"
        case "too_short":
            least = context["min_length"]
            return f"must hold at least {least} item{'s' * (least > 1)}, got {context['actual_length']}."
        case "greater_than_equal":
            return f"must be at least {context['ge']}{end}"
    rule = _RULES.get(kind.partition("_")[0], pydantics.removeprefix("Input should be "))
    quotes = kind == "string_type" and got is not None and not isinstance(got, dict | list)
    return f"must be {rule}{end}" + (" Put it in quotes." if quotes else "")


def _words(listed: str) -> list[str]:
    """The words of pydantic's `'a', 'b' or 'c'`."""
    return listed.replace(" or ", ", ").split(",")


def _path(loc: Sequence[Any]) -> str:
    return ".".join(str(part) if part != "" else "''" for part in loc)


def _show(value: Any) -> str:
    """A value as YAML would have it, cut when it is long."""
    text = repr(value) if isinstance(value, str) else str(value)
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        text = "not a number (nan)"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _settings_loc(loc: Sequence[Any], raw: Any) -> tuple[Any, ...]:
    """Pydantic's location without the names of union branches, which no user wrote."""
    at, out = raw, []
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(at, dict):
            if part in at:
                at = at[part]
            elif not last or part == at.get("kind"):
                continue
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            continue
        out.append(part)
    return tuple(out)


def _annotation_at(loc: Sequence[Any], raw: Any) -> Any:
    """What may stand at a location: a section, a union of them, or a type."""
    model: Any = DistillConfig
    at, found = raw, model
    for part in loc:
        at = at[part]
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            found = None if field is None else field.annotation
        else:
            found = next(iter(get_args(model)[::-1]), None)  # value type of a dict or list
        model = _model_in(found, at)
    return found


def _names_at(loc: Sequence[Any], raw: Any) -> list[str]:
    """The settings that may stand at a location."""
    at = raw
    for part in loc:
        at = at[part]
    model = _model_in(_annotation_at(loc, raw), at)
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return sorted(model.model_fields) if is_model else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections in an annotation, through optional, annotated and union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list):
        return [model for branch in get_args(annotation) for model in _models_in(branch)]
    return []


def _kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _kinds_at(loc: Sequence[Any], raw: Any) -> list[str]:
    """The kinds that a section at a location may have."""
    models = _models_in(_annotation_at(loc, raw))
    return sorted(kind for model in models for kind in _kinds_of(model))


def _model_in(annotation: Any, value: Any) -> Any:
    """The branch of a union (optional, annotated) that a value belongs to."""
    if get_origin(annotation) not in (Annotated, Union, types.UnionType):
        return annotation
    models = _models_in(annotation)
    kind = value.get("kind") if isinstance(value, dict) else None
    tagged = [model for model in models if kind in _kinds_of(model)]
    return next(iter(tagged or models), None)
