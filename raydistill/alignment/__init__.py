"""What makes a teacher comparable with the student: classes, layers, widths.

Reading order: ``labels.py`` (which column is which class), ``layers.py`` (which hidden state),
``projection.py`` (student's width -> teacher's).
"""

from raydistill.alignment.labels import label_columns
from raydistill.alignment.layers import resolve_layer
from raydistill.alignment.projection import (
    Projections,
    ProjectionSpec,
    build_projection,
    projection_key,
)

__all__ = [
    "ProjectionSpec",
    "Projections",
    "build_projection",
    "label_columns",
    "projection_key",
    "resolve_layer",
]
