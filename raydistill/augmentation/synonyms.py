"""Words of like meaning, from a list or from WordNet's own files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raydistill.augmentation.units import Unit, is_unspaced

__all__ = ["Span", "Synonyms", "read_wordnet", "read_words"]

_PARTS = ("noun", "verb", "adj", "adv")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # of WordNet's adjectives, where they may stand
_HEADER = "  "  # of the licence at the beginning of its files
_FIELDS = 4  # before the words of a synset


class Span(NamedTuple):
    """Units that are one word of the list.

    Attributes:
        begin: The first of them.
        end: Behind the last.
        others: Words of like meaning.
    """

    begin: int
    end: int
    others: Sequence[str]


class Synonyms:
    """Words and their synonyms, whatever their case.

    Args:
        groups: Words of like meaning in each; of a word in several groups the synonyms are those of all.
    """

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        found: dict[str, dict[str, None]] = {}
        for group in groups:
            for word in group:
                others = found.setdefault(word.lower(), {})
                others |= dict.fromkeys(one for one in group if one.lower() != word.lower())
        self._others: Mapping[str, tuple[str, ...]] = {
            word: tuple(others) for word, others in found.items() if others
        }
        unspaced = [len(word) for word in self._others if is_unspaced(word)]
        self._longest = max(unspaced, default=1)

    def __len__(self) -> int:
        return len(self._others)

    def of(self, word: str) -> Sequence[str]:
        """Synonyms in the order of the list; none of a word it does not have."""
        return self._others.get(word.lower(), ())

    def spans(self, units: Sequence[Unit]) -> list[Span]:
        """Units that have synonyms; of characters without spaces the longest words, from the left."""
        found: list[Span] = []
        place = 0
        while place < len(units):
            end = self._end(units, place)
            others = self.of("".join(unit.text for unit in units[place:end]))
            if others:
                found.append(Span(place, end, others))
            place = end if others else place + 1
        return found

    def _end(self, units: Sequence[Unit], begin: int) -> int:
        """Behind the longest word of the list that begins here."""
        if not is_unspaced(units[begin].text):
            return begin + 1
        ends = [begin + 1]
        while ends[-1] < len(units) and len(ends) < self._longest:
            unit = units[ends[-1]]
            if unit.space or not is_unspaced(unit.text):
                break
            ends.append(ends[-1] + 1)
        texts = [unit.text for unit in units[begin : ends[-1]]]
        return next(
            (end for end in reversed(ends) if self.of("".join(texts[: end - begin]))), begin + 1
        )


def read_words(path: Path) -> Synonyms:
    """A list with words of like meaning in each line, tabs or commas between them.

    Raises:
        ValueError: It is not there, or no such list; the message continues a sentence that begins with
            the setting.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ValueError(f"must be a file, but {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"must be UTF-8, but {path} has the byte {error.object[error.start]:#04x} at offset {error.start}."
        ) from None
    except OSError as error:
        raise ValueError(
            f"must be a file that can be read, got {path}: {error.strerror}."
        ) from None
    groups = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        group = [word.strip() for word in re.split("[\t,\uff0c]", line) if word.strip()]
        if len({word.lower() for word in group}) < 2:  # noqa: PLR2004 - a word and a synonym
            raise ValueError(
                "must have two words of like meaning or more in every line, with tabs or commas between "
                f"them, got {line.strip()[:40]!r} in line {number} of {path}."
            )
        groups.append(group)
    if not groups:
        raise ValueError(f"must hold words, but {path} is empty.")
    return Synonyms(groups)


def read_wordnet(folder: Path) -> Synonyms:
    """WordNet's synsets, from the files that Princeton and nltk distribute.

    Raises:
        ValueError: They are not there, or no such files.
    """
    files = [folder / f"data.{part}" for part in _PARTS]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(
            f"must be a folder with data.noun, data.verb, data.adj and data.adv, but {folder} has no {missing[0]}."
        )
    groups = []
    for file in files:
        try:
            lines = file.read_text("utf-8").split("\n")
            groups += [_synset(line) for line in lines if line and not line.startswith(_HEADER)]
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(f"must hold WordNet's files, but {file} is none ({error}).") from None
    return Synonyms(groups)


def _synset(line: str) -> list[str]:
    """Words of a line: offset, file, kind, number of words (hexadecimal), then word and sense in turn."""
    fields = line.split(" ")
    number = int(fields[_FIELDS - 1], 16)
    words = fields[_FIELDS : _FIELDS + 2 * number : 2]
    if len(words) != number:
        raise ValueError(f"a line ends too early: {line[:40]!r}")
    return [_MARKER.sub("", word).replace("_", " ") for word in words]
