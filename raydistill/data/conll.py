"""Files with a word a line and an empty line between rows, as most tagged data is given.

::

    Ada        B-person
    Lovelace   I-person
    wrote      O

The word stands first and the tag last, whatever columns stand between them, unless other columns are named; they are
separated by tabs if there is one in the line, else by spaces. Lines of ``-DOCSTART-`` and comments of CoNLL-U
(``# text = …``) are left out, and where words do not stand first, all comments.
"""

import re
from collections.abc import Iterator

from raydistill.data.checks import RowFaults
from raydistill.data.readers.reading import Reading

__all__ = ["CONLL_SUFFIXES", "conll_rows"]

CONLL_SUFFIXES = (".bio", ".conll", ".iob", ".iob2", ".txt")
_BETWEEN = re.compile(r"\d+[-.]\d+")
_COMMENT = re.compile(r"# ?(id|text|sent_id|newdoc|newpar|global\.columns)\b")
_DOCUMENT = "-DOCSTART-"
_FIRST_AND_LAST = (0, -1)


def conll_rows(
    reading: Reading,
    problems: RowFaults,
    *,
    tagged: bool,
    columns: tuple[int, int] = _FIRST_AND_LAST,
) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """Rows with the place to name, their words and their tags.

    Args:
        reading: The file, which is UTF-8.
        problems: What is wrong is added.
        tagged: Whether tags are read.
        columns: Of the word and of its tag, from 0; negative: from the end.
    """
    word, tag = columns
    numbers = _Numbers()
    words: list[str] = []
    tags: list[str] = []
    begin = row = 0
    with reading.open_text() as lines:
        for number, text in enumerate(lines, start=1):
            line = text.rstrip("\r\n")
            if not line.strip() or line.startswith(_DOCUMENT):
                if words:
                    row += 1
                    numbers.add(words)
                    yield f"row {row} (line {begin})", words, tags if tagged else None
                words, tags = [], []
                continue
            # Before an index nothing but a comment begins with #.
            if not words and (_COMMENT.match(line) or (word != 0 and line.startswith("#"))):
                continue
            cells = line.split("\t") if "\t" in line else line.split()
            begin = number if not words else begin
            if not _has(cells, columns, tagged=tagged):
                if columns == _FIRST_AND_LAST:
                    problems.add(
                        "hold a word and its tag in every line, with a tab or spaces between them",
                        "one column",
                        f"line {number}",
                        "Rows without tags belong under data.unlabelled.",
                    )
                else:
                    both = f"{word} and, of tags, {tag}" if tagged else str(word)
                    problems.add(
                        f"have columns {both} in every line, from 0 (task.conll)",
                        f"{len(cells)} columns",
                        f"line {number}",
                    )
                continue
            words.append(cells[word])
            tags.append(cells[tag].strip() if tagged else "")
    if words:
        numbers.add(words)
        yield f"row {row + 1} (line {begin})", words, tags if tagged else None
    if numbers.always:
        problems.add(
            f"have words in column {word} (task.conll)",
            "numbers that count them",
            "every row",
            f"Say where words stand: task.conll: {{words: {word + 1}}}, from 0.",
        )


def _has(cells: list[str], columns: tuple[int, int], *, tagged: bool) -> bool:
    """Whether a line has the columns, and they are two."""
    wanted = columns if tagged else columns[:1]
    places = {place % len(cells) for place in wanted if -len(cells) <= place < len(cells)}
    return len(places) == len(wanted)


class _Numbers:
    """Whether words are nothing but 1, 2, 3 and so on in all rows, or 0, 1, 2."""

    def __init__(self) -> None:
        self._rows_differ, self._several = False, False

    def add(self, words: list[str]) -> None:
        """The words of a row, perhaps below a comment."""
        if self._rows_differ:
            return
        counted = words[1:] if words[0].startswith("#") else words
        # CoNLL-U has 3-4 and 3.1 beside them.
        counted = [one for one in counted if not _BETWEEN.fullmatch(one)]
        starts = ([str(one) for one in range(begin, begin + len(counted))] for begin in (0, 1))
        self._rows_differ = not counted or counted not in starts
        self._several |= len(counted) > 1

    @property
    def always(self) -> bool:
        """Whether all rows did; a single number may be a word."""
        return self._several and not self._rows_differ
