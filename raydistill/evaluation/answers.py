"""How right an answer is: exactly, and by what it has in common with a right one. Pure.

As the official scripts of SQuAD (1.1 and 2.0), CMRC 2018 and KorQuAD (1.0) count, but for the range: 0 to 1 here, 0 to 100 there.
A question without an answer counts 1 if none is given, else 0.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

__all__ = ["Normalisation", "exact_match", "overlap_f1"]

Normalisation = Literal["squad", "cmrc2018", "characters"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_BRACKETS = str.maketrans(dict.fromkeys("'\"‘’<>〈〉《》()", " "))
_CHINESE = re.compile(r"[\u4e00-\u9fa5]")
_WORD = re.compile(r"\w+(?:[.,]\w+)*|\S")


def exact_match(answer: str, right: Sequence[str], how: Normalisation) -> float:
    """1 if an answer is one of the right ones, else 0.

    Args:
        answer: As given; empty: none.
        right: None of them: there is no answer.
        how: What does not count. squad: case, punctuation, articles, white space. cmrc2018: case, Chinese
            punctuation and some other signs. characters: case, punctuation, brackets, how much white space.

    Example:
        >>> exact_match("The Nobel Prize!", ["Nobel prize"], "squad")
        1.0
        >>> exact_match("《战国无双》", ["战国无双"], "cmrc2018")
        1.0
    """
    plain = _PLAIN[how]
    return max(float(plain(answer) == plain(one)) for one in _answers(right, how))


def overlap_f1(answer: str, right: Sequence[str], how: Normalisation) -> float:
    """Harmonic mean of the shares of an answer, and of a right one, that both have; of the best of these.

    Args:
        answer: As given; empty: none.
        right: None of them: there is no answer.
        how: What both have. squad: words, in any order. cmrc2018: the longest run of characters of Chinese, and of words
            of other scripts. (The script leaves these words to nltk, which cuts some signs otherwise.) characters:
            characters, in any order.

    Example:
        >>> overlap_f1("in New York City", ["New York"], "squad")
        0.6666666666666666
        >>> overlap_f1("北京大学", ["在北京"], "cmrc2018")
        0.5714285714285714
        >>> overlap_f1("서울은", ["서울"], "characters")
        0.8
    """
    segments, common = _SEGMENTS[how], _COMMON[how]
    own = segments(answer)
    return max(_f1(own, segments(one), common) for one in _answers(right, how))


def _answers(right: Sequence[str], how: Normalisation) -> Sequence[str]:
    """Those that anything is left of; an empty one where there is none."""
    return [one for one in right if _PLAIN[how](one)] or [""]


def _f1(
    own: Sequence[str], right: Sequence[str], common: Callable[[Sequence[str], Sequence[str]], int]
) -> float:
    if not own or not right:
        return float(own == right)
    same = common(own, right)
    return 2 * same / (len(own) + len(right))


def _squad_plain(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _squad_segments(text: str) -> list[str]:
    return _squad_plain(text).split()


def _characters_plain(text: str) -> str:
    return " ".join(text.translate(_BRACKETS).lower().translate(_PUNCTUATION).split())


def _characters_segments(text: str) -> list[str]:
    return list("".join(_characters_plain(text).split()))


def _in_common(own: Sequence[str], right: Sequence[str]) -> int:
    return (Counter(own) & Counter(right)).total()


def _cmrc_plain(text: str) -> str:
    return "".join(mark for mark in text.lower().strip() if mark not in _SIGNS)


def _cmrc_segments(text: str) -> list[str]:
    found, other = list[str](), ""
    for mark in _cmrc_plain(text):
        if _CHINESE.match(mark):
            found += [*_WORD.findall(other), mark]
            other = ""
        else:
            other += mark
    return found + _WORD.findall(other)


def _longest_run(own: Sequence[str], right: Sequence[str]) -> int:
    longest, above = 0, [0] * (len(right) + 1)
    for one in own:
        row = [0]
        for place, other in enumerate(right):
            row.append(above[place] + 1 if one == other else 0)
        longest, above = max(longest, *row), row
    return longest


_PLAIN: Mapping[Normalisation, Callable[[str], str]] = {
    "squad": _squad_plain,
    "cmrc2018": _cmrc_plain,
    "characters": _characters_plain,
}
_SEGMENTS: Mapping[Normalisation, Callable[[str], list[str]]] = {
    "squad": _squad_segments,
    "cmrc2018": _cmrc_segments,
    "characters": _characters_segments,
}
_COMMON: Mapping[Normalisation, Callable[[Sequence[str], Sequence[str]], int]] = {
    "squad": _in_common,
    "cmrc2018": _longest_run,
    "characters": _in_common,
}
