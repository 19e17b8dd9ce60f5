"""pydantic's complaints in our words: path, rule, what was got, the nearest known name."""

import difflib
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from raydistill.config.root import DistillConfig
from raydistill.errors import Fault

__all__ = ["fault_of", "nearest"]

_MAX_SHOWN = 60


def nearest(name: str, known: Sequence[str]) -> str:
    """`Known: a, b. Did you mean 'a'?`, without the question if nothing is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    question = f" Did you mean '{close[0]}'?" if close else ""
    return f"Known: {', '.join(sorted(known))}.{question}"


def fault_of(detail: Any, raw: Any) -> tuple[Fault, tuple[Any, ...]]:
    """One of pydantic's error details as a fault, and where it stands in the settings."""
    loc = _settings_loc(detail["loc"], raw)
    path = ".".join(str(part) for part in loc)
    kind, context, got = detail["type"], detail.get("ctx") or {}, _show(detail.get("input"))
    match kind:
        case "extra_forbidden":
            message = f"is not known. {nearest(str(loc[-1]), _names_at(loc[:-1], raw))}"
        case "missing":
            # The path must hold the missing name, which _settings_loc keeps.
            message = "is missing."
        case "union_tag_not_found":
            message = (
                f"needs a kind. Known: {context['expected_tags']}."
                if "expected_tags" in context
                else "needs a kind."
            )
            message = message.replace("'", "")
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            path += ".kind"
            message = f"'{context['tag']}' is not known. {nearest(str(context['tag']), tags)}"
        case "literal_error":
            known = [
                tag.strip(" '") for tag in context["expected"].replace(" or ", ", ").split(",")
            ]
            message = f"must be one of {', '.join(known)}, got {got}."
            close = difflib.get_close_matches(str(detail.get("input")), known, n=1)
            message += f" Did you mean '{close[0]}'?" if close else ""
        case "value_error":
            sentence = str(context["error"])
            message = (
                sentence
                if "got" in sentence or sentence.startswith("needs")
                else f"{sentence}, got {got}"
            )
            message = message.rstrip(".") + "."
        case "string_pattern_mismatch":
            message = f"must match {context['pattern']}, got {got}."
        case "too_short":
            message = f"needs at least {context['min_length']} item{'s' * (context['min_length'] > 1)}, got {context['actual_length']}."
        case "too_long":
            message = (
                f"may hold at most {context['max_length']} items, got {context['actual_length']}."
            )
        case "greater_than_equal":
            message = f"must be at least {context['ge']}, got {got}."
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"must be a mapping of settings, got {got}."
        case _:
            rule = detail["msg"].removeprefix("Input should be ")
            rule = rule.split(",")[0] if kind.endswith("_parsing") else rule
            message = f"must be {rule}, got {got}."
    if loc and loc[-1] == "[key]":
        path = ".".join(str(part) for part in loc[:-1])
        loc = loc[:-1]
    return Fault(path, message), loc


def _show(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
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


def _names_at(loc: Sequence[Any], raw: Any) -> list[str]:
    """The settings that may stand at a location."""
    model: Any = DistillConfig
    at = raw
    for part in loc:
        at = at[part]
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = None if field is None else field.annotation
        else:
            model = next(iter(get_args(model)[::-1]), None)  # value type of a dict or list
        model = _model_in(model, at)
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return sorted(model.model_fields) if is_model else []


def _model_in(annotation: Any, value: Any) -> Any:
    """The branch of a union (optional, annotated) that a value belongs to."""
    if get_origin(annotation) is Annotated:
        return _model_in(get_args(annotation)[0], value)
    if get_origin(annotation) in (Union, types.UnionType):
        branches = [_model_in(branch, value) for branch in get_args(annotation)]
        models = [b for b in branches if isinstance(b, type) and issubclass(b, BaseModel)]
        kind = value.get("kind") if isinstance(value, dict) else None
        tagged = [
            m
            for m in models
            if "kind" in m.model_fields and kind in get_args(m.model_fields["kind"].annotation)
        ]
        return (tagged or models or branches)[0]
    return annotation
