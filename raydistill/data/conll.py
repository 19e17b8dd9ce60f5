"""Files with a word a line and an empty line between rows, as most tagged data is given.

::

    Ada        B-person
    Lovelace   I-person
    wrote      O

The word stands first and the tag last, whatever columns stand between them, separated by tabs if there is
one in the line, else by spaces. Lines of ``-DOCSTART-`` and comments of CoNLL-U (``# text = …``) are left out.
"""

import re
from collections.abc import Iterator

from raydistill.data.checks import RowFaults
from raydistill.data.readers.reading import Reading

__all__ = ["CONLL_SUFFIXES", "conll_rows"]

CONLL_SUFFIXES = (".bio", ".conll", ".iob", ".iob2", ".txt")
_COMMENT = re.compile(r"# ?(id|text|sent_id|newdoc|newpar|global\.columns)\b")
_DOCUMENT = "-DOCSTART-"


def conll_rows(
    reading: Reading, problems: RowFaults, *, tagged: bool
) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """Rows with the place to name, their words and their tags.

    Args:
        reading: The file, which is UTF-8.
        problems: What is wrong is added.
        tagged: Whether tags are read.
    """
    words: list[str] = []
    tags: list[str] = []
    begin = row = 0
    with reading.open_text() as lines:
        for number, text in enumerate(lines, start=1):
            line = text.rstrip("\r\n")
            if not line.strip() or line.startswith(_DOCUMENT):
                if words:
                    row += 1
                    yield f"row {row} (line {begin})", words, tags if tagged else None
                words, tags = [], []
                continue
            if _COMMENT.match(line) and not words:
                continue
            cells = line.split("\t") if "\t" in line else line.split()
            begin = number if not words else begin
            if tagged and len(cells) < 2:  # noqa: PLR2004
                problems.add(
                    "hold a word and its tag in every line, with a tab or spaces between them",
                    "one column",
                    f"line {number}",
                    "Rows without tags belong under data.unlabelled.",
                )
            words.append(cells[0])
            tags.append(cells[-1].strip())
    if words:
        yield f"row {row + 1} (line {begin})", words, tags if tagged else None
