"""What makes a teacher comparable with the student: classes, layers, widths.

Reading order: ``labels.py`` (which column is which class; ``tags.py`` of words; ``independent.py`` where
classes do not exclude each other, ``scores.py`` where there is one score), ``layers.py`` (which hidden state),
``projection.py`` (one width -> the other).
"""

from raydistill.alignment.independent import independent_columns, output_columns
from raydistill.alignment.labels import Merged, in_classes, known_labels, label_columns
from raydistill.alignment.layers import choose_layers, resolve_layer
from raydistill.alignment.projection import (
    ProjectionKind,
    Projections,
    ProjectionSpec,
    build_projection,
    projection_key,
)
from raydistill.alignment.scores import in_outputs, score_columns
from raydistill.alignment.tags import in_other_scheme, tag_columns

__all__ = [
    "Merged",
    "ProjectionKind",
    "ProjectionSpec",
    "Projections",
    "build_projection",
    "choose_layers",
    "in_classes",
    "in_other_scheme",
    "in_outputs",
    "independent_columns",
    "known_labels",
    "label_columns",
    "output_columns",
    "projection_key",
    "resolve_layer",
    "score_columns",
    "tag_columns",
]
