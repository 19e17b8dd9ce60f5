"""Queries with candidates: which columns hold them, and how groups to train on are made of them."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import (
    Positive,
    PositiveInt,
    Section,
    WholeNonNegative,
    one_sentence,
)

__all__ = [
    "SCORE",
    "BM25Negatives",
    "ListedNegatives",
    "NegativesSection",
    "RankedTask",
    "RankingColumns",
    "RerankingTask",
    "RetrievalTask",
    "Similarity",
]

SCORE = "score"
"""What the one output of a student is called, and the label of a teacher that means relevant."""


Columns = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    one_sentence("must be the name of a column, or a list of them"),
]


class RankingColumns(Section):
    """Columns of all files; which of them a file has says what its rows are.

    `passage`: a pair of query and passage with its `label`. `positives` and `negatives`: a query with the
    texts of its passages. `positive_ids` and `negative_ids`: the same with ids of `data.corpus`.
    `candidates`: a query with ids of passages in the order of a first stage, judged by `data.qrels`.
    `query_id` and `doc_id`: a pair of ids with its `relevance`. Names of BEIR's files (`_id`, `query-id`,
    `corpus-id`, `score`, `text` of a query) are known, too, where ids are.
    """

    query: str = "query"
    """Text of a query. Without it the text comes from `data.queries`, by `query_id`."""
    query_id: str = "query_id"
    """Id of a query."""
    passage: str = "passage"
    """Text of one passage."""
    label: str = "label"
    """How relevant it is: 0 not at all, larger more. Empty: not known."""
    positives: str = "positives"
    """List of the texts of relevant passages, or of objects with `title` and `text`."""
    negatives: Columns = "negatives"
    """Likewise of passages that are not relevant. Or a list of columns, [negative_1, negative_2]: a file has all of them, or
    none; empty cells name no passage."""
    positive_ids: str = "positive_ids"
    """List of the ids of relevant passages."""
    negative_ids: str = "negative_ids"
    """List of the ids of passages that are not relevant."""
    candidates: str = "doc_ids"
    """List of ids of passages, the best of the first stage first."""
    doc_id: str = "doc_id"
    """Id of a passage, in `data.corpus` and `data.qrels`."""
    title: str = "title"
    """In `data.corpus`, and in objects: stands before the text, where there is one."""
    text: str = "text"
    """In `data.corpus`, and in objects: text of a passage."""
    relevance: str = "relevance"
    """In `data.qrels`: how relevant a passage is for a query; what is not there, or below 0, is not relevant."""

    @property
    def by_role(self) -> dict[str, str]:
        """Name of each column, by what it holds; of several with negatives `negatives.0`, `negatives.1` and so on."""
        columns = self.model_dump(exclude={"negatives"})
        if isinstance(self.negatives, str):
            return {**columns, "negatives": self.negatives}
        return columns | {f"negatives.{i}": name for i, name in enumerate(self.negatives)}


class ListedNegatives(Section):
    """Those that the files name."""

    kind: Literal["listed"] = "listed"
    """No others."""


class BM25Negatives(Section):
    """Beside those that files name, passages that BM25 finds for a query and that are not its own.

    Its own are those of the row, and what any row of the query or `data.qrels` calls relevant. They are looked for among `data.corpus`, or among all passages of the training rows, whenever the data is
    read.
    """

    kind: Literal["bm25"]
    """By words in common."""
    count: PositiveInt = 7
    """How many for each query."""
    skip: WholeNonNegative = 0
    """So many of the best are passed over: the first may be relevant and only not known to be."""


NegativesSection = Annotated[ListedNegatives | BM25Negatives, Field(discriminator="kind")]
"""Where training rows get passages that are not relevant."""


Similarity = Literal["cosine", "dot"]
"""How alike two embeddings are."""
_OF_COSINES = 20.0


class _OfQueries(Section):
    columns: RankingColumns = RankingColumns()
    """Where things stand in the files."""
    negatives: NegativesSection = ListedNegatives()
    """Where training rows get passages that are not relevant."""
    max_positives: PositiveInt = 1
    """Relevant passages in a group, at most; the others of the group are not relevant."""
    max_candidates: PositiveInt | None = None
    """Of each query of validation and test only so many, the first, are put in order. Relevant ones behind them
    count as not found. Null: all."""

    @property
    def text(self) -> str:
        """What the first text of a pair is."""
        return "query"

    @property
    def text_pair(self) -> str:
        """What the second text of a pair is."""
        return "passage"

    @property
    def label(self) -> str:
        """The name of the output."""
        return SCORE

    @property
    def labels(self) -> None:
        """Nothing to be named."""
        return None


class RerankingTask(_OfQueries):
    """A score for a query and a passage, which says where the passage stands among others.

    Models read the pair and have one output. A step has groups of a query's candidates, `training.group_rows`
    each, drawn anew in every epoch.
    """

    kind: Literal["reranking"]
    """Candidates of a query are put in order."""


class RetrievalTask(_OfQueries):
    """An embedding for each text, by which passages are found for a query.

    The student embeds queries and passages each by itself; the score of a pair is how alike the two embeddings
    are. Teachers read the pair, or embed too. Rows and groups are those of reranking.
    """

    kind: Literal["retrieval"]
    """Passages are found by their embeddings."""
    similarity: Similarity = "cosine"
    """How the student's embeddings are compared, and searched later."""
    scale: Positive | None = None
    """Multiplies it, in losses: a score is scale times similarity, and so are those of teachers that embed, by
    their own similarity. Null: 20 of a cosine, which lies within 1; 1 of dot."""

    def scale_of(self, similarity: Similarity) -> float:
        """Of scores that are compared in this way."""
        usual = _OF_COSINES if similarity == "cosine" else 1.0
        return self.scale if self.scale is not None and similarity == self.similarity else usual


RankedTask = RerankingTask | RetrievalTask
"""Those whose rows are candidates of queries."""
