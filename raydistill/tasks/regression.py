"""A number, or several, for a text or for a pair of texts."""

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.data import label_matrix
from raydistill.tasks.task import TextTask

__all__ = ["Regression"]


class Regression(TextTask):
    """Rows with numbers: ``[B, C]`` float32, NaN where there is none."""

    kind = "regression"

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        return torch.tensor(label_matrix(column), dtype=torch.float32)
