"""Operations joined: which text is changed by which of them, and how rows become new rows.

An operation takes many texts at once, since a masked language model had better see them together; each
text brings its own draws, so nothing depends on what else is there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raydistill.augmentation.draws import Draws
from raydistill.augmentation.units import Unit, Words, join_units, split_units

__all__ = ["Change", "Operation", "Recipe", "Texts", "augment", "by_text"]

Texts = Sequence[str]
Operation = Callable[[Texts, Sequence[Draws]], list[str]]
"""Texts and the draws of each to as many texts."""
Change = Callable[[Sequence[Unit], Draws], list[Unit]]
"""The same for one text in words and marks."""


def by_text(change: Change, words: Words = "auto") -> Operation:
    """An operation on each text by itself; one of which nothing would be left stays as it is."""

    def operation(texts: Texts, draws: Sequence[Draws]) -> list[str]:
        changed = (
            join_units(change(split_units(text, words), own))
            for text, own in zip(texts, draws, strict=True)
        )
        return [new or old for new, old in zip(changed, texts, strict=True)]

    return operation


@dataclass(frozen=True)
class Recipe:
    """What is done to texts.

    Attributes:
        seed: Of all draws.
        operations: What there is.
        weights: How often each is drawn, if one is.
        apply: One of them for each text, or all one after the other.
    """

    seed: int
    operations: Sequence[Operation]
    weights: Sequence[float]
    apply: Literal["one", "all"] = "one"


def augment(
    rows: Mapping[str, Texts],
    recipe: Recipe,
    *,
    columns: Sequence[str],
    epoch: int,
    copy: int,
) -> dict[str, list[str]]:
    """New texts for rows.

    The draws of a row depend on its texts, not on its place: what is added to a data set changes
    nothing about the rows that were there. Rows of the same texts give the same.

    Args:
        rows: Texts by column.
        recipe: What is done.
        columns: Which of them are changed, each with the draws of its own.
        epoch: 0, unless every epoch has rows of its own.
        copy: Of each row, from 0.

    Returns:
        Texts by column, all of them.
    """
    texts = {name: list(column) for name, column in rows.items()}
    identities = list(zip(*rows.values(), strict=True))
    for name in columns:
        draws = [Draws(recipe.seed, epoch, copy, name, *identity) for identity in identities]
        texts[name] = _changed(texts[name], draws, recipe)
    return texts


def _changed(texts: list[str], draws: Sequence[Draws], recipe: Recipe) -> list[str]:
    if recipe.apply == "all":
        for operation in recipe.operations:
            texts = operation(texts, draws)
        return texts
    chosen = [own.weighted(recipe.weights) for own in draws]
    for number, operation in enumerate(recipe.operations):
        places = [place for place, one in enumerate(chosen) if one == number]
        changed = operation([texts[i] for i in places], [draws[i] for i in places])
        for place, text in zip(places, changed, strict=True):
            texts[place] = text
    return texts
