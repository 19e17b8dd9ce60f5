"""A docstring in parts: the one line, what follows it, and the sections."""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Block", "Docstring", "arguments", "notation", "read_docstring"]

_SECTION = re.compile(r"^([A-Z][A-Za-z]*(?: [A-Z][a-z]+)?):$")
_MATH = ".. math::"


@dataclass(frozen=True)
class Block:
    """A paragraph, a formula, or one point of a list.

    Attributes:
        kind: Which.
        text: Its words in one line; of a formula its lines as they are.
    """

    kind: Literal["paragraph", "math", "point"]
    text: str


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts.

    Attributes:
        summary: The one line.
        body: What stands between it and the first section, in order.
        sections: The text of each section by its name (``Args``, ``See Also``), in order.
    """

    summary: str
    body: tuple[Block, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)

    @property
    def formula(self) -> str:
        """The first formula; "" if there is none."""
        return next((block.text for block in self.body if block.kind == "math"), "")

    @property
    def prose(self) -> tuple[Block, ...]:
        """All but formulas."""
        return tuple(block for block in self.body if block.kind != "math")


def read_docstring(thing: object) -> Docstring:
    r"""The docstring of a function or class.

    Args:
        thing: Whose docstring; one of the kind that the losses have.

    Raises:
        ValueError: it has none.

    Example:
        >>> def half(x: float) -> float:
        ...     '''Half of it.
        ...
        ...     .. math:: x / 2
        ...
        ...     For what is
        ...     too large.
        ...
        ...     Args:
        ...         x: A number.
        ...     '''
        ...     return x / 2
        >>> found = read_docstring(half)
        >>> found.summary, found.formula, found.prose[0].text, found.sections
        ('Half of it.', 'x / 2', 'For what is too large.', {'Args': 'x: A number.'})
    """
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing!r} has no docstring.")
    lines = text.splitlines()
    begins = [i for i, line in enumerate(lines) if _SECTION.match(line)]
    ends = [*begins, len(lines)][1:]
    head = lines[: begins[0]] if begins else lines
    sections = {
        lines[begin][:-1]: textwrap.dedent("\n".join(lines[begin + 1 : end])).strip()
        for begin, end in zip(begins, ends, strict=True)
    }
    blocks = tuple(_blocks(head))
    return Docstring(blocks[0].text, blocks[1:], sections)


def arguments(docstring: Docstring, section: str = "Args") -> dict[str, str]:
    r"""Name to explanation, each in one line.

    Example:
        >>> arguments(Docstring("", sections={"Args": "x: A number,\n    small.\ny: Another."}))
        {'x': 'A number, small.', 'y': 'Another.'}
    """
    found: dict[str, str] = {}
    for line in docstring.sections.get(section, "").splitlines():
        if line and not line.startswith(" "):
            name, _, text = line.partition(": ")
            found[name] = text
        else:
            name = next(reversed(found))
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def notation(function: Callable[..., object]) -> str:
    """What letters stand for in a function's docstring: its module's lines on dimensions and symbols.

    Example:
        >>> from raydistill.losses import rkd_distance
        >>> notation(rkd_distance)[:68]
        '``N`` rows, ``D_S`` and ``D_T`` the widths of the sides. :math:`x_i`'
    """
    text = inspect.getdoc(sys.modules[function.__module__]) or ""
    found = [
        " ".join(part.split()).rstrip(".") + "."
        for paragraph in text.split("\n\n")
        for part in re.split(r"\b(?:Dimensions|Symbols): ", paragraph)[1:]
    ]
    return " ".join(found)


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    place = 0
    while place < len(lines):
        line, begin = lines[place], place
        place += 1
        if not line:
            continue
        if line.startswith(_MATH):
            while place < len(lines) and (not lines[place] or lines[place].startswith(" ")):
                place += 1
            inside = textwrap.dedent("\n".join(lines[begin + 1 : place]))
            yield Block("math", f"{line.removeprefix(_MATH).strip()}\n{inside}".strip())
            continue
        point = line.startswith("- ")
        while place < len(lines) and lines[place] and not lines[place].startswith("- "):
            place += 1
        text = " ".join(" ".join(lines[begin:place]).removeprefix("- " if point else "").split())
        yield Block("point" if point else "paragraph", text)
