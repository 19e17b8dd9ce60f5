"""What is to be said of every loss, from the docstrings: for a terminal and for docs/LOSSES.md.

Reading order: ``docstring.py`` (a docstring in parts), ``markdown.py`` (their notation in Markdown),
``describe.py`` (one loss), ``choice.py`` (which one to take), ``topics.py`` (what holds for many), ``page.py``
(all of it), ``terminal.py`` (one loss in plain words).
"""

from raydistill.catalogue.choice import CHOICES, Choice, choice_table
from raydistill.catalogue.describe import (
    GROUPS,
    LossDescription,
    Option,
    describe,
    kinds,
    settings_of,
)
from raydistill.catalogue.docstring import Docstring, read_docstring
from raydistill.catalogue.page import entry_markdown, page_text
from raydistill.catalogue.terminal import entry_plain, loss_rows
from raydistill.catalogue.topics import TOPICS, WEIGHTINGS

__all__ = [
    "CHOICES",
    "GROUPS",
    "TOPICS",
    "WEIGHTINGS",
    "Choice",
    "Docstring",
    "LossDescription",
    "Option",
    "choice_table",
    "describe",
    "entry_markdown",
    "entry_plain",
    "kinds",
    "loss_rows",
    "page_text",
    "read_docstring",
    "settings_of",
]
