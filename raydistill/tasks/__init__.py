"""What a task reads, how rows become student inputs, what teachers are asked about.

``rows`` are texts, a ``task`` is texts with labels; one file for each kind of labels.
"""

from raydistill.tasks.batch import Batch
from raydistill.tasks.kinds import task_of
from raydistill.tasks.multi_label import MultiLabelClassification
from raydistill.tasks.pairs import PairTexts, TextPairs, distinct_texts
from raydistill.tasks.queries import QueryGroups
from raydistill.tasks.question_answering import QuestionAnswering
from raydistill.tasks.questions import Answering, Questions
from raydistill.tasks.regression import Regression
from raydistill.tasks.reranking import Reranking
from raydistill.tasks.retrieval import Retrieval
from raydistill.tasks.rows import TextRows
from raydistill.tasks.tagging import UNMAPPED, Tagging
from raydistill.tasks.task import TextTask
from raydistill.tasks.text_classification import TextClassification

__all__ = [
    "UNMAPPED",
    "Answering",
    "Batch",
    "MultiLabelClassification",
    "PairTexts",
    "QueryGroups",
    "QuestionAnswering",
    "Questions",
    "Regression",
    "Reranking",
    "Retrieval",
    "Tagging",
    "TextClassification",
    "TextPairs",
    "TextRows",
    "TextTask",
    "distinct_texts",
    "task_of",
]
