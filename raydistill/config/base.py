"""What all sections of the configuration share."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)

__all__ = [
    "Fraction",
    "Gpus",
    "NodeResources",
    "NonNegative",
    "Positive",
    "PositiveInt",
    "Section",
    "Whole",
    "WholeNonNegative",
    "one_sentence",
    "with_default",
]


_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


class Section(BaseModel):
    """A part of the configuration: immutable, without unknown keys, documented field by field.

    The string under a field is its documentation, in the JSON Schema too.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


def one_sentence(rule: str) -> WrapValidator:
    """A union's rule in one sentence, where pydantic would complain once for each branch."""

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(rule) from None

    return WrapValidator(validate)


def with_default(settings: dict[str, Any], name: str, field: str, value: Any) -> dict[str, Any]:
    """Settings in which a field of a section has a value, if none is written; nothing given is changed.

    Args:
        settings: Of a whole; sections may be plain, made in Python, or missing.
        name: Of the section.
        field: Of its setting.
        value: Where nothing is written.
    """
    section = settings.get(name, {})
    if isinstance(section, dict):
        return {**settings, name: {field: value, **section}}
    if isinstance(section, Section) and field not in section.model_fields_set:
        return {**settings, name: section.model_copy(update={field: value})}
    return settings


def _not_a_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reads ValueError only
    return value


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError("must be a positive finite number")
    return value


def _non_negative(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("must be a finite number, zero or more")
    return value


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("must lie between 0 and 1")
    return value


def _whole_above_one(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("must be a share of one GPU, or a whole number of GPUs")
    return value


def _share_or_whole(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("must be a share of one, or a whole number")
    return value


def _own_resource(name: str) -> str:
    if not name or name.startswith("node:") or name in _RAYS_OWN:
        raise ValueError(
            "must name resources of your own nodes; CPUs and GPUs have settings of their own"
        )
    return name


_Number = Annotated[float, BeforeValidator(_not_a_truth_value)]
Positive = Annotated[
    _Number, AfterValidator(_positive), Field(json_schema_extra={"exclusiveMinimum": 0})
]
"""A positive finite number."""
NonNegative = Annotated[
    _Number, AfterValidator(_non_negative), Field(json_schema_extra={"minimum": 0})
]
"""A finite number, zero or more."""
Gpus = Annotated[NonNegative, AfterValidator(_whole_above_one)]
"""GPUs of one actor, as Ray can give them."""
NodeResources = dict[
    Annotated[str, AfterValidator(_own_resource)],
    Annotated[Positive, AfterValidator(_share_or_whole)],
]
"""Amounts of custom resources of Ray's nodes, by name."""
Fraction = Annotated[
    _Number, AfterValidator(_fraction), Field(json_schema_extra={"minimum": 0, "maximum": 1})
]
"""A number between 0 and 1."""
Whole = Annotated[int, BeforeValidator(_not_a_truth_value)]
"""A whole number."""
# The bound stands first: behind the validator it would be missing in the JSON Schema.
WholeNonNegative = Annotated[int, Field(ge=0), BeforeValidator(_not_a_truth_value)]
"""A whole number, zero or more."""
PositiveInt = Annotated[int, Field(ge=1), BeforeValidator(_not_a_truth_value)]
"""A whole number, one or more."""
