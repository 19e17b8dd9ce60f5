"""Units of a text, cut by the text alone: where tokenizers of every kind meet.

A unit is a run of letters, a run of digits, a single character of a script that puts no spaces between words or, as
Korean, joins particles to them, or a single sign: punctuation, a symbol, an emoji with all that is joined to it. Marks belong to what they stand on.
White space and characters that nobody sees belong to no unit. A part of a text from the beginning of a unit to the
end of one has the same units as the whole has there.
"""

import numpy as np
import regex
from numpy.typing import NDArray

__all__ = ["UNIT", "UNSPACED", "units_of"]

UNSPACED = (
    "Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Javanese",
    "Balinese", "Tai_Tham", "New_Tai_Lue",
)  # fmt: skip
"""Scripts without spaces between words, as Unicode names them."""
# The last are Japanese alone, though Unicode counts them as of no script.
_UNSPACED = "".join(rf"\p{{{script}}}" for script in UNSPACED) + "ーｰﾞﾟ〆〱-〵"
_MARKS = r"[\p{M}ﾞﾟ]*"
_LETTER = rf"[\p{{L}}--[{_UNSPACED}\p{{Hangul}}]]\p{{M}}*"
UNIT = (
    rf"(?V1)[\p{{L}}&&[{_UNSPACED}]]{_MARKS}"
    rf"|(?:{_LETTER}){{1,32}}"
    r"|\p{Nd}{1,32}"
    # Any other cluster, if it begins with something that can be seen. Syllables of Hangul too, which may be written
    # as their two or three letters.
    r"|(?=[^\p{Z}\p{C}\s])\X"
)
"""The pattern of a unit, of the package `regex`. Runs are bounded, so that no unit is too long for a model."""
_FIND = regex.compile(UNIT)


def units_of(text: str) -> NDArray[np.int64]:
    """Where units begin and end, ``[N, 2]``, in characters.

    Args:
        text: Any.

    Example:
        >>> text = "In 1998s, 上海"
        >>> [text[begin:end] for begin, end in units_of(text)]
        ['In', '1998', 's', ',', '上', '海']
    """
    found = [one.span() for one in _FIND.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)
