"""A text as a sequence of words and marks, of languages with spaces between words and without.

Chinese and Japanese stand without spaces. What a word is there only a segmenter knows, and those disagree;
the character is what everybody agrees on, and what multilingual models mostly have as a token.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["Unit", "Words", "is_unspaced", "join_units", "split_units"]

Words = Literal["auto", "spaces", "characters"]
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = r"\w+(?:['\u2019-]\w+)*|[^\w\s]"
_PATTERNS: dict[Words, re.Pattern[str]] = {
    "auto": re.compile(
        rf"(\s*)([{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['\u2019-][^\W{_UNSPACED}]+)*|[^\w\s])"
    ),
    "spaces": re.compile(rf"(\s*)({_WORD})"),
    "characters": re.compile(r"(\s*)(\S)"),
}
_LAST_LATIN = 0x2FF
_ONE_UNSPACED = re.compile(f"[{_UNSPACED}]")


class Unit(NamedTuple):
    """A word, a character that is one, or a mark.

    Attributes:
        text: Without white space.
        space: Whether white space stands before it.
    """

    text: str
    space: bool

    @property
    def is_word(self) -> bool:
        """Whether it holds a letter or digit."""
        return any(character.isalnum() for character in self.text)


def is_unspaced(text: str) -> bool:
    """Whether a word begins with a character of a language without spaces."""
    return _ONE_UNSPACED.match(text) is not None


def split_units(text: str, words: Words = "auto") -> list[Unit]:
    """The words and marks of a text.

    Example:
        >>> [unit.text for unit in split_units("It's good, 很好.")]
        ["It's", 'good', ',', '很', '好', '.']
    """
    units: list[Unit] = []
    goes_on = False  # vowel signs, which Python takes for no part of a word, and what follows them
    for before, own in _PATTERNS[words].findall(text):
        is_sign = ord(own[0]) > _LAST_LATIN and unicodedata.category(own[0])[0] == "M"
        goes_on = bool(units) and not before and (is_sign or (goes_on and own[0].isalnum()))
        if goes_on:
            units[-1] = units[-1]._replace(text=units[-1].text + own)
        else:
            units.append(Unit(own, bool(before)))
    return units


def join_units(units: Sequence[Unit]) -> str:
    """The text again; white space of any kind is one space.

    Example:
        >>> join_units(split_units("It's  good,很好."))
        "It's good,很好."
    """
    parts = [f" {unit.text}" if unit.space else unit.text for unit in units]
    return "".join(parts).strip()
