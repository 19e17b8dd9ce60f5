r"""From the notation of docstrings to that of Markdown as GitHub renders it, and to plain words.

GitHub's own traps: a formula between plain dollars is read as Markdown first, so that ``\,`` and ``_`` lose
their meaning, hence dollars with backticks; an underscore inside ``\text`` is an error in one renderer and
its backslash is printed by another; lines are aligned only inside an environment.
"""

import re
from collections.abc import Iterable, Sequence

from raydistill.catalogue.docstring import Block
from raydistill.losses import CATALOG

__all__ = ["blocks", "inline", "math_block", "plain", "table", "tex"]

_ROLE = r":(?:func|class|mod|data|meth):`~?([\w.]+)`"
_NOTATION = re.compile(rf"(?P<math>:math:`[^`]+`)|(?P<code>``[^`]+``)|{_ROLE}|(?P<own>`[^`]+`)")
_TEXT = re.compile(r"\\(text|texttt)\{([^{}]*)\}")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(10\.\d+/[\w.]*\w)")


def tex(formula: str) -> str:
    r"""A formula as GitHub takes it.

    Example:
        >>> tex(r"w = \texttt{max\_factor}")
        'w = \\texttt{max}\\_\\texttt{factor}'
        >>> print(tex(r"a &= 1 \\ b &= 2"))
        \begin{aligned}
        a &= 1 \\ b &= 2
        \end{aligned}
    """

    def apart(match: re.Match[str]) -> str:
        pieces = re.split(r"\\?_", match[2])
        return r"\_".join(f"\\{match[1]}{{{piece}}}" for piece in pieces)

    found = _TEXT.sub(apart, formula)
    in_lines = r"\\" in found or re.search(r"(?<!\\)&", found)
    if in_lines and r"\begin{" not in found:
        found = f"\\begin{{aligned}}\n{found}\n\\end{{aligned}}"
    return found


def math_block(formula: str) -> str:
    """A formula in lines of its own."""
    return f"```math\n{tex(formula)}\n```"


def inline(text: str) -> str:
    r"""Words with formulas, code and links; names of losses become links to their entries.

    Example:
        >>> inline(r"As :func:`forward_kl`, times :math:`\tau^2`, in ``ce`` of arXiv:1503.02531.")
        'As [`forward_kl`](#forward_kl), times $`\\tau^2`$, in `ce` of [arXiv:1503.02531](https://arxiv.org/abs/1503.02531).'
    """

    def converted(match: re.Match[str]) -> str:
        if match["math"]:
            return f"$`{tex(match['math'][7:-1])}`$"
        if match["code"]:
            return match["code"][1:-1]
        if match["own"]:
            return match["own"]
        return _reference(match[3])

    text = " ".join(text.split())
    parts, end = [], 0
    for match in _NOTATION.finditer(text):
        parts += [_linked(text[end : match.start()]), converted(match)]
        end = match.end()
    return "".join([*parts, _linked(text[end:])])


def plain(text: str) -> str:
    r"""Words for a terminal: formulas as they are written, names without their modules.

    Example:
        >>> plain(r"As :func:`~raydistill.losses.divergence.forward_kl`, times :math:`\tau^2`.")
        'As forward_kl, times \\tau^2.'
    """

    def converted(match: re.Match[str]) -> str:
        if match["math"]:
            return match["math"][7:-1]
        if match["code"]:
            return match["code"][2:-2]
        return match["own"] or match[3].rpartition(".")[2]

    return _NOTATION.sub(converted, text)


def blocks(body: Iterable[Block]) -> str:
    """Paragraphs, formulas and points of a docstring."""
    pieces: list[str] = []
    before = ""
    for block in body:
        if block.kind == "math":
            pieces.append(f"\n\n{math_block(block.text)}")
        elif block.kind == "point":
            gap = "\n" if before == "point" else "\n\n"
            pieces.append(f"{gap}- {inline(block.text)}")
        else:
            pieces.append(f"\n\n{inline(block.text)}")
        before = block.kind
    return "".join(pieces).strip("\n")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table; what stands in a cell must be Markdown already.

    Example:
        >>> print(table(["a", "b"], [["1", "x | y"]]))
        | a | b |
        |---|---|
        | 1 | x \| y |
    """
    lines = [headers, ["---"] * len(headers), *rows]
    made = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    made[1] = made[1].replace(" ", "")
    return "\n".join(made)


def _reference(target: str) -> str:
    name = target.rpartition(".")[2]
    foreign = "." in target and not target.startswith("raydistill")
    if name in CATALOG and not foreign:
        return f"[`{name}`](#{name})"
    return f"`{target if foreign else name}`"


def _linked(words: str) -> str:
    words = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", words)
    return _DOI.sub(r"[doi:\1](https://doi.org/\1)", words)
