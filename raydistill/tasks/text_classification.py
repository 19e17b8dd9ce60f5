"""One label for a text, or for a pair of texts."""

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.tasks.task import TextTask

__all__ = ["TextClassification"]


class TextClassification(TextTask):
    """Rows with a class each: labels ``[B]`` int64, -100 where there is none."""

    kind = "text_classification"

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        return torch.tensor(column.to_pylist(), dtype=torch.int64)
