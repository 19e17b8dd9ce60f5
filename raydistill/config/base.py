"""What all sections of the configuration share."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Fraction", "NonNegative", "Positive", "PositiveInt", "Section"]


class Section(BaseModel):
    """A part of the configuration: immutable, without unknown keys, documented field by field.

    The string under a field is its documentation, in the JSON Schema too.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


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


Positive = Annotated[
    float, AfterValidator(_positive), Field(json_schema_extra={"exclusiveMinimum": 0})
]
"""A positive finite number."""
NonNegative = Annotated[
    float, AfterValidator(_non_negative), Field(json_schema_extra={"minimum": 0})
]
"""A finite number, zero or more."""
Fraction = Annotated[
    float, AfterValidator(_fraction), Field(json_schema_extra={"minimum": 0, "maximum": 1})
]
"""A number between 0 and 1."""
PositiveInt = Annotated[int, Field(ge=1)]
"""A whole number, one or more."""
