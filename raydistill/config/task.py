"""What is learnt from the rows, and what follows from it: losses that fit, metrics, defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from raydistill.config.base import Section, Whole
from raydistill.config.question_answering import QuestionAnsweringTask
from raydistill.config.ranking import RerankingTask, RetrievalTask

__all__ = [
    "EXCLUSIVE",
    "HEADS",
    "LABEL_LOSSES",
    "LOGIT_LOSSES",
    "METRICS",
    "MORE_LABEL_LOSSES",
    "PROBLEM_TYPES",
    "RANKED",
    "ConllColumns",
    "Head",
    "MultiLabelClassificationTask",
    "QuestionAnsweringTask",
    "RegressionTask",
    "RerankingTask",
    "RetrievalTask",
    "TaggingTask",
    "TaskKind",
    "TaskSection",
    "TextClassificationTask",
    "selected_by",
]

TaskKind = Literal[
    "text_classification", "multi_label_classification", "regression", "tagging", "reranking", "retrieval",
    "question_answering",
]  # fmt: skip
"""What the outputs of a head mean: exclusive classes, a yes or no each, numbers, classes of words, a score of a pair (read
as one, or from the embeddings of both), or where an answer starts and ends."""
Head = Literal["texts", "words", "spans", "embeddings"]
"""What a model gives its outputs for: a whole text, each of its words, the places of a text, as its start and end; or a
text's embedding itself."""

EXCLUSIVE: frozenset[TaskKind] = frozenset({
    "text_classification", "tagging", "question_answering",
})  # fmt: skip
"""Tasks whose labels exclude each other: one softmax over all of them."""
RANKED: frozenset[TaskKind] = frozenset({"reranking", "retrieval"})
"""Tasks whose rows are candidates of queries."""
HEADS: Mapping[TaskKind, Head] = {
    "text_classification": "texts",
    "multi_label_classification": "texts",
    "regression": "texts",
    "tagging": "words",
    "reranking": "texts",
    "retrieval": "embeddings",
    "question_answering": "spans",
}
"""Which head models have."""
_OF_CLASSES = (
    "forward_kl", "soft_cross_entropy", "reverse_kl", "jensen_shannon", "total_variation",
    "decoupled_kd", "dist", "soft_label", "logit_mse",
)  # fmt: skip

LABEL_LOSSES: Mapping[TaskKind, str] = {
    "text_classification": "cross_entropy",
    "multi_label_classification": "binary_cross_entropy",
    "regression": "mse",
    "tagging": "cross_entropy",
    "reranking": "relevance_cross_entropy",
    "retrieval": "in_batch_cross_entropy",
    "question_answering": "cross_entropy",
}
"""The loss against labels."""
MORE_LABEL_LOSSES: Mapping[TaskKind, tuple[str, ...]] = {
    "reranking": ("ranknet", "listnet", "lambda_loss", "binary_cross_entropy", "mse"),
    "retrieval": ("relevance_cross_entropy", "ranknet", "listnet", "lambda_loss"),
}
"""Others of that kind."""
LOGIT_LOSSES: Mapping[TaskKind, tuple[str, ...]] = {
    "text_classification": _OF_CLASSES,
    "multi_label_classification": ("binary_forward_kl", "binary_soft_cross_entropy", "logit_mse"),
    "regression": ("logit_mse",),
    "tagging": _OF_CLASSES,
    "reranking": (
        "score_kl", "ranknet", "listnet", "lambda_loss", "margin_mse", "logit_mse", "binary_forward_kl",
        "binary_soft_cross_entropy",
    ),
    "retrieval": ("score_kl", "ranknet", "listnet", "lambda_loss", "margin_mse", "logit_mse"),
    "question_answering": (
        "forward_kl", "soft_cross_entropy", "reverse_kl", "jensen_shannon", "total_variation", "logit_mse",
    ),
}  # fmt: skip
"""Losses against the teachers' logits, the usual one first. Those on what is inside fit all tasks."""
METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    "text_classification": ("accuracy", "macro_f1", "nll", "ece"),
    "multi_label_classification": (
        "micro_f1", "macro_f1", "exact_match", "mean_average_precision", "nll",
    ),
    "regression": ("rmse", "mae", "pearson", "spearman", "r2", "mse"),
    "tagging": ("f1", "precision", "recall", "accuracy"),
    "reranking": ("ndcg_at_10", "mrr_at_10", "recall_at_10", "map"),
    "retrieval": ("ndcg_at_10", "mrr_at_10", "recall_at_10", "map"),
    "question_answering": ("f1", "exact_match"),
}  # fmt: skip
"""What is measured, what chooses the best student first."""
PROBLEM_TYPES: Mapping[TaskKind, str | None] = {
    "text_classification": "single_label_classification",
    "multi_label_classification": "multi_label_classification",
    "regression": "regression",
    "tagging": None,  # which only heads for texts have
    "reranking": "regression",
    "retrieval": None,  # an encoder without a head
    "question_answering": None,
}
"""What transformers calls them, as ``problem_type`` of a model."""


def selected_by(kind: TaskKind) -> str:
    """The metric that chooses, unless another is written.

    Example:
        >>> selected_by("regression")
        'validation/rmse'
    """
    return f"validation/{METRICS[kind][0]}"


class _OfTexts(Section):
    text: str = "text"
    """Column of the text."""
    text_pair: str | None = None
    """Column of the second text; null for single texts."""


class TextClassificationTask(_OfTexts):
    """One label for a text, or for a pair of texts."""

    kind: Literal["text_classification"] = "text_classification"
    """Exactly one label is right."""
    label: str = "label"
    """Column of the label: names, or numbers that count into `labels`; empty, or -1 where no name spells it: none."""
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    """The label names in order. Null: those of labels.json beside the training file, or of
    the data set or its Parquet file, else what occurs there."""


class MultiLabelClassificationTask(_OfTexts):
    """Any number of labels for a text, or for a pair of texts: a yes or no for each."""

    kind: Literal["multi_label_classification"]
    """Labels do not exclude each other."""
    label: str | None = "labels"
    """Column with a list of a row's labels: names, or numbers that count into `labels`. An empty list
    means none of them, null a row without labels. Null: every one of `labels` is a column of its
    own, with 0 or 1; empty: not known."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between labels where the column holds text, as in CSV: `;`. An empty text is an empty
    list. Null: the text is a list as JSON has it."""
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    """The label names in order. Null: those of labels.json beside the training file, or of
    the data set or its Parquet file, else what occurs there."""


class RegressionTask(_OfTexts):
    """One number, or several, for a text or for a pair of texts."""

    kind: Literal["regression"]
    """Outputs are numbers as they are."""
    label: str = "label"
    """Column of the number; empty: a row without a label. A student learns best where labels are around
    0 and about 1 in size."""
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    """Several columns of numbers, `[valence, arousal]`, in place of `label`; an output for each."""


class ConllColumns(Section):
    """Which columns of a CoNLL file are read, counted from 0; a negative number counts from the end, -1 is the last.

    Example:
        {words: 1, tags: 2}
    """

    words: Whole = 0
    """Of the words. 1 where a number of the word stands before it, as in CoNLL-U and GermEval."""
    tags: Whole = -1
    """Of their tags."""


class TaggingTask(Section):
    """A tag for each word of a row: names of persons, places and the like, or other spans of words."""

    kind: Literal["tagging"]
    """Words have tags; spans of them are what is counted."""
    words: str = "tokens"
    """Column with the list of a row's words. Not used for CoNLL files (.conll, .bio, .iob, .iob2, .txt),
    which have a word a line, its tag in the same line, and an empty line between rows."""
    tags: str = "ner_tags"
    """Column with the list of their tags: names, or numbers that count into `labels`. Null: a row without
    tags."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between words, and between tags, where columns hold text, as in CSV. Null: the text is
    a list as JSON has it."""
    scheme: Literal["iob2", "iob1", "bioes"] = "iob2"
    """How the files write spans; a student learns and answers iob2. iob2: B- at each beginning, I- inside; a
    span that begins with I- is refused. iob1: it may, so files that are not quite iob2 can be read as
    this. bioes: with E- at the end and S- for a single word; BILOU and BMES too."""
    conll: ConllColumns = ConllColumns()
    """Where words and tags stand in CoNLL files: the first column and the last."""
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    """The tags in order: O, B-person, I-person and so on, as the files write them. Null: labels.json
    beside the training file, else those that a Parquet file of `datasets` says, else what occurs there."""


def _with_kind(task: Any) -> Any:
    """Text classification, if no kind is written."""
    if isinstance(task, dict) and "kind" not in task:
        return {"kind": "text_classification", **task}
    return task


TaskSection = Annotated[
    TextClassificationTask
    | MultiLabelClassificationTask
    | RegressionTask
    | TaggingTask
    | RerankingTask
    | RetrievalTask
    | QuestionAnsweringTask,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
"""What is learnt."""
