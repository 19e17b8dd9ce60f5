"""Any number of labels for a text, or for a pair of texts."""

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.data import NOT_KNOWN, label_matrix
from raydistill.tasks.task import TextTask

__all__ = ["MultiLabelClassification"]


class MultiLabelClassification(TextTask):
    """Rows with a yes or no for each label: ``[B, C]`` float32, 1 or 0, NaN where it is not known."""

    kind = "multi_label_classification"

    def _labels_of(self, column: pa.ChunkedArray) -> Tensor:
        labels = torch.tensor(label_matrix(column), dtype=torch.float32)
        return labels.masked_fill(labels == NOT_KNOWN, torch.nan)
