"""Rows that are made from the rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.augmentation.draws import Draws
from raydistill.augmentation.recipe import Recipe, augment
from raydistill.data.matrix import without_labels

__all__ = ["NewRows", "augmented_table", "perturbed_table", "rows_drawn"]

_ROWS = 65536  # worked on at once


@dataclass(frozen=True)
class NewRows:
    """Which new rows there are.

    Attributes:
        columns: Whose texts are changed.
        share: Of the rows, those that new ones are made from.
        copies: New rows for each of them.
        keeps_labels: Whether they have the labels of the rows they are made from.
    """

    columns: tuple[str, ...]
    share: float = 1.0
    copies: int = 1
    keeps_labels: bool = True


def rows_drawn(table: pa.Table, share: float, seed: int) -> NDArray[np.int64]:
    """Places of the rows that new ones are made from, drawn by their texts."""
    if share >= 1:
        return np.arange(table.num_rows)
    drawn = [Draws(seed, "share", *texts).fraction() < share for texts in zip(*_texts(table).values(), strict=True)]  # fmt: skip
    return np.flatnonzero(drawn)


def augmented_table(
    table: pa.Table, new: NewRows, recipe: Recipe, *, epoch: int, first_row_id: int
) -> pa.Table:
    """New rows with the columns of a table: those of each row beside each other, in its order.

    Args:
        table: Of a split.
        new: How many, and with which labels.
        recipe: How texts are changed.
        epoch: 0, unless every epoch has rows of its own.
        first_row_id: Their ids count from here.
    """
    places = rows_drawn(table, new.share, recipe.seed)
    parts = []
    for begin in range(0, len(places), _ROWS):
        origin = table.take(pa.array(places[begin : begin + _ROWS]))
        copies = [_changed(origin, new, recipe, epoch, copy) for copy in range(new.copies)]
        # Of each row all copies, then the next row.
        order = np.arange(new.copies * origin.num_rows).reshape(new.copies, -1).T.reshape(-1)
        parts.append(pa.concat_tables(copies).take(pa.array(order)))
    made = pa.concat_tables(parts) if parts else table.slice(0, 0)
    if not new.keeps_labels:
        made = _with(made, "label", without_labels(made["label"]))
    ids = np.arange(first_row_id, first_row_id + made.num_rows, dtype=np.int64)
    return _with(made, "row_id", pa.array(ids)).combine_chunks()


def perturbed_table(table: pa.Table, columns: Sequence[str], recipe: Recipe) -> pa.Table:
    """The same rows with other texts."""
    return _changed(table, NewRows(tuple(columns)), recipe, 0, 0)


def _changed(table: pa.Table, new: NewRows, recipe: Recipe, epoch: int, copy: int) -> pa.Table:
    texts = augment(_texts(table), recipe, columns=new.columns, epoch=epoch, copy=copy)
    for name in new.columns:
        table = _with(table, name, pa.array(texts[name], table[name].type))
    return table


def _texts(table: pa.Table) -> dict[str, list[str]]:
    names = [name for name in ("text", "text_pair") if name in table.column_names]
    return {name: table[name].to_pylist() for name in names}


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)
