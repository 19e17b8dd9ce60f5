"""Learned maps between widths."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from raydistill.config.base import NonNegative, Positive, PositiveInt, Section

__all__ = ["ProjectionSection", "ProjectionSetting"]


class ProjectionSection(Section):
    """A learned map between the widths of student and teacher; left out of the exported student."""

    kind: Literal["linear", "relu", "tanh", "mlp", "orthogonal"] = "linear"
    """linear; relu or tanh after it; mlp: two linear maps with GELU between; orthogonal: linear
    without offset, kept orthogonal, so that distances and angles stay as they are."""
    side: Literal["student", "teacher"] = "student"
    """Whose states are mapped to the other's width. student: the teacher's space stays as it is."""
    hidden_width: PositiveInt | None = None
    """Of mlp, in the middle; null: the larger of the two widths."""
    learning_rate: Positive | None = None
    """Null: training.projection_learning_rate, or else the student's."""
    weight_decay: NonNegative | None = None
    """Null: the student's."""


def _from_word(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


ProjectionSetting = Annotated[
    ProjectionSection | None,
    BeforeValidator(_from_word, json_schema_input_type=str | dict[str, Any] | None),
]
"""A kind alone, or a section, or null."""
