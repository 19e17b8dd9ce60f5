"""Where rows come from."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import PositiveInt, Section, one_sentence

__all__ = ["DataSection"]

Paths = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    one_sentence("must be a path, URI or pattern, or a list of them"),
]

SplitName = Literal["train", "unlabelled", "validation", "test"]


class DataSection(Section):
    """Files of rows: JSON lines, JSON, CSV, TSV, Parquet or, of tagged words, CoNLL, UTF-8.

    Each is named by a path from the working directory, a URI (s3://, gs://, https://, …), or a pattern
    (`part-*.parquet`, in the order of the names).
    """

    dataset: str | None = None
    """A data set of Hugging Face `datasets`: an id of the hub, or a folder that `save_to_disk` wrote or
    that `load_dataset` understands. A split named below takes precedence."""
    config: str | None = None
    """Which of the data set's configurations, if it has several."""
    revision: str | None = None
    """Branch, tag or commit of a data set of the hub; null: the newest."""
    splits: dict[SplitName, Annotated[str, Field(min_length=1)]] = {}
    """Which of the data set's splits is what, slices allowed: {train: "train[:90%]", validation:
    "train[90%:]"}. Empty: those named train, validation, test and unlabelled or the like."""
    folder: str | None = None
    """A folder whose files named train, validation, test and unlabelled (with a known suffix) are
    the splits; a split named below takes precedence. Of queries and passages a folder `qrels` in it is read, too."""
    streaming: bool = False
    """Rows to train on are read while they are used, and never held as a whole: nobody counts them, and
    `training.max_steps` says where to end. After their end they begin again."""
    shuffle_rows: PositiveInt = 8192
    """With `streaming`: so many rows at a time, in the order of the files, are mixed."""
    incomplete_rows: Literal["refuse", "drop"] = "refuse"
    """What becomes of rows without a text, and of rows to train on without a label: nothing starts and they are
    named, or they are left out and counted in a note, as if the files did not hold them. With `drop` a mark that
    `task.labels` does not name, as SNLI's `-`, is no label. For texts with labels or numbers, without `streaming`."""
    train: Paths | None = None
    """Labelled rows to train on."""
    unlabelled: Paths | None = None
    """Rows without a label: they train on the teachers' terms only."""
    validation: Paths | None = None
    """Rows that choose the best checkpoint and stop early."""
    test: Paths | None = None
    """Rows for the final figures only."""
    corpus: Paths | None = None
    """With task.kind: reranking or retrieval, passages by id: `doc_id`, `title` (may be missing or empty), `text`."""
    queries: Paths | None = None
    """With task.kind: reranking or retrieval, texts of queries by id, where other files have only `query_id`."""
    qrels: Paths | None = None
    """With task.kind: reranking or retrieval, judgements of all splits: `query_id`, `doc_id`, `relevance`."""
