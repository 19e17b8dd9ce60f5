"""Words that fit their context: what is asked of a masked language model, and what is taken of its answer.

The model only says which words are likely; where they are wanted and which one is taken is drawn here, so
the model may run anywhere.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from raydistill.augmentation.draws import Draws
from raydistill.augmentation.operations import drawn_words
from raydistill.augmentation.recipe import Operation, Texts
from raydistill.augmentation.units import Unit, Words, is_unspaced, join_units, split_units

__all__ = ["Candidate", "Candidates", "contextual"]

Candidate = tuple[str, float]
"""A word and its probability."""
Candidates = Callable[[Sequence[str]], Sequence[Sequence[Sequence[Candidate]]]]
"""Texts with mask tokens to the likely words of each: for each mask token in turn, as far as the model
reads."""


def contextual(
    candidates: Candidates,
    *,
    token: str,
    rate: float,
    action: Literal["substitute", "insert"],
    words: Words = "auto",
) -> Operation:
    """An operation that replaces words, or adds some.

    Args:
        candidates: Of the model.
        token: Its mask token. A text that holds it already stays as it is.
        rate: Share of the words.
        action: What happens at the places drawn.
        words: What a word is.
    """

    def operation(texts: Texts, draws: Sequence[Draws]) -> list[str]:
        asked = []
        for text, own in zip(texts, draws, strict=True):
            units = split_units(text, words)
            asked.append((units, [] if token in text else drawn_words(units, rate, own)))
        some = [place for place, (_, places) in enumerate(asked) if places]
        prompts = [_prompt(*asked[place], token, action) for place in some]
        found = dict(zip(some, candidates(prompts), strict=True)) if some else {}
        changed = list(texts)
        for place in some:
            changed[place] = _filled(*asked[place], found[place], draws[place], action)
        return changed

    return operation


def _prompt(units: Sequence[Unit], places: Sequence[int], token: str, action: str) -> str:
    """The text with mask tokens."""
    masked = list(units)
    for place in reversed(places):
        if action == "substitute":
            masked[place] = units[place]._replace(text=token)
        else:
            masked.insert(place + 1, Unit(token, not is_unspaced(units[place].text)))
    return join_units(masked)


def _filled(
    units: Sequence[Unit],
    places: Sequence[int],
    found: Sequence[Sequence[Candidate]],
    draws: Draws,
    action: str,
) -> str:
    """The text with a likely word at each place; without one where the model has none."""
    changed = list(units)
    chosen = [
        _chosen(units[place], found[number] if number < len(found) else (), draws)
        for number, place in enumerate(places)
    ]
    for place, word in reversed(list(zip(places, chosen, strict=True))):
        if word is None:
            continue
        if action == "insert":
            changed.insert(place + 1, Unit(word, not is_unspaced(word)))
        else:
            capital = units[place].text[:1].isupper() and not units[place].text.isupper()
            text = word[:1].upper() + word[1:] if capital else word
            changed[place] = units[place]._replace(text=text)
    return join_units(changed)


def _chosen(unit: Unit, found: Sequence[Candidate], draws: Draws) -> str | None:
    """One of the likely words that is another than the one there, of a language written alike."""
    fit = [
        (word, weight)
        for word, weight in found
        if word.lower() != unit.text.lower()
        and is_unspaced(word) == is_unspaced(unit.text)
        and weight > 0
    ]
    return fit[draws.weighted([weight for _, weight in fit])][0] if fit else None
