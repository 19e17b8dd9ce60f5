"""Where rows come from."""

from typing import Annotated

from pydantic import Field

from raydistill.config.base import Section, one_sentence

__all__ = ["DataSection"]

Paths = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    one_sentence("must be a path or a list of paths"),
]


class DataSection(Section):
    """Files of rows: JSON lines, JSON, CSV, TSV, Parquet or, of tags, CoNLL; paths from the working directory."""

    folder: str | None = None
    """A folder whose files named train, validation, test and unlabelled (with a known suffix) are
    the splits; a split named below takes precedence."""
    train: Paths | None = None
    """Labelled rows to train on."""
    unlabelled: Paths | None = None
    """Rows without a label: they train on the teachers' terms only."""
    validation: Paths | None = None
    """Rows that choose the best checkpoint and stop early."""
    test: Paths | None = None
    """Rows for the final figures only."""
