"""What a task reads, how rows become student inputs, what teachers are asked, what is measured."""

from raydistill.tasks.batch import Batch
from raydistill.tasks.text_classification import TextClassification

__all__ = ["Batch", "TextClassification"]
