"""What can be done to a text that needs nothing but the text: pure functions of units and draws.

Marks are left alone, except by :func:`ngram`. As in Wei and Zou, *EDA*, EMNLP 2019, arXiv:1901.11196
(delete, swap, insert, synonym), and Tang et al., *Distilling Task-Specific Knowledge from BERT into Simple
Neural Networks*, 2019, arXiv:1903.12136, section 3.2 (mask, ngram).
"""

from collections.abc import Sequence

from raydistill.augmentation.draws import Draws
from raydistill.augmentation.synonyms import Synonyms
from raydistill.augmentation.units import Unit, is_unspaced

__all__ = ["delete", "drawn_words", "insert", "mask", "ngram", "swap", "synonym", "typo"]

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: "".join(
        other
        for y in range(max(0, row - 1), min(3, row + 2))
        for other in _KEYBOARD[y][max(0, place - 1) : place + 2]
        if other != letter
    )
    for row, letters in enumerate(_KEYBOARD)
    for place, letter in enumerate(letters)
}


def drawn_words(units: Sequence[Unit], rate: float, draws: Draws) -> list[int]:
    """Places of some words: the share ``rate`` of all in the mean, one at least."""
    words = [place for place, unit in enumerate(units) if unit.is_word]
    number = max(1, draws.about(rate * len(words)))
    return [words[place] for place in draws.some(number, len(words))]


def delete(units: Sequence[Unit], draws: Draws, *, rate: float) -> list[Unit]:
    """Without some words; one stays at least."""
    gone = set(drawn_words(units, rate, draws))
    if sum(unit.is_word for unit in units) == len(gone):
        gone -= {sorted(gone)[draws.below(len(gone))]} if gone else set()
    return [unit for place, unit in enumerate(units) if place not in gone]


def swap(units: Sequence[Unit], draws: Draws, *, rate: float) -> list[Unit]:
    """Some words exchanged with the next one."""
    changed = list(units)
    words = [place for place, unit in enumerate(units) if unit.is_word]
    number = max(1, draws.about(rate * len(words)))
    # Never the last, and from the left: no exchange undoes another.
    for first in draws.some(number, max(0, len(words) - 1)):
        place, other = words[first], words[first + 1]
        changed[place], changed[other] = (
            changed[place]._replace(text=changed[other].text),
            changed[other]._replace(text=changed[place].text),
        )
    return changed


def insert(
    units: Sequence[Unit], draws: Draws, *, rate: float, synonyms: Synonyms | None = None
) -> list[Unit]:
    """With words added behind some words: synonyms of any of the text's words, or those words again."""
    sources = [unit.text for unit in units if unit.is_word]
    if synonyms is not None:
        sources = [text for text in sources if synonyms.of(text)]
    changed = list(units)
    for place in reversed(drawn_words(units, rate, draws)):
        if not sources:
            break
        text = sources[draws.below(len(sources))]
        if synonyms is not None:
            others = synonyms.of(text)
            text = others[draws.below(len(others))]
        changed.insert(place + 1, Unit(text, not is_unspaced(text)))
    return changed


def mask(units: Sequence[Unit], draws: Draws, *, rate: float, token: str) -> list[Unit]:
    """Some words replaced by a mask token."""
    gone = set(drawn_words(units, rate, draws))
    return [u._replace(text=token) if place in gone else u for place, u in enumerate(units)]


def ngram(units: Sequence[Unit], draws: Draws, *, shortest: int, longest: int) -> list[Unit]:
    """Some units in a row; a text of fewer stays whole. What holds no word is not taken."""
    length = min(len(units), shortest + draws.below(longest - shortest + 1))
    starts = [
        start
        for start in range(len(units) - length + 1)
        if any(unit.is_word for unit in units[start : start + length])
    ]
    if not starts:
        return list(units)
    start = starts[draws.below(len(starts))]
    return list(units[start : start + length])


def synonym(units: Sequence[Unit], draws: Draws, *, rate: float, synonyms: Synonyms) -> list[Unit]:
    """Some words, or characters that together are one, replaced by synonyms."""
    spans = synonyms.spans(units)
    number = max(1, draws.about(rate * sum(unit.is_word for unit in units)))
    changed = list(units)
    for chosen in reversed(draws.some(number, len(spans))):
        span = spans[chosen]
        other = span.others[draws.below(len(span.others))]
        first = units[span.begin]
        if first.text[:1].isupper() and not first.text.isupper():
            other = other[:1].upper() + other[1:]
        changed[span.begin : span.end] = [first._replace(text=other)]
    return changed


def typo(units: Sequence[Unit], draws: Draws, *, rate: float) -> list[Unit]:
    """A slip of the fingers in some words.

    Of a language without spaces a character is doubled, left out, or exchanged with the next one.
    """
    changed = list(units)
    for place in reversed(drawn_words(units, rate, draws)):
        text = units[place].text
        if not is_unspaced(text):
            changed[place] = units[place]._replace(text=_slip(text, draws))
            continue
        way = draws.below(3)
        after = changed[place + 1 : place + 2]
        if way == 0 and after and after[0].is_word:
            changed[place : place + 2] = [
                changed[place]._replace(text=after[0].text),
                after[0]._replace(text=text),
            ]
        elif way == 1 and len(changed) > 1:
            del changed[place]
        else:
            changed.insert(place, changed[place])
    return changed


def _slip(word: str, draws: Draws) -> str:
    """A letter missing, doubled, hit beside, or exchanged with the next; of one letter never missing."""
    way, place = draws.below(4), draws.below(len(word))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    beside = _NEIGHBOURS.get(letter.lower(), "")
    if way == 0 and len(word) > 1:
        return before + after
    if way == 1 and beside:
        hit = beside[draws.below(len(beside))]
        return before + (hit.upper() if letter.isupper() else hit) + after
    if way == 2 and after:  # noqa: PLR2004 - the third of four ways
        return before + after[0] + letter + after[1:]
    return before + letter + letter + after
