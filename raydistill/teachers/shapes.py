"""Which rows share a forward pass, and in what shape: a pure function of their lengths.

Two aims at once. Little padding: only rows of the same width share a pass. And answers that do not
depend on their company: a matrix product may choose another order of summation for another shape,
so a row computed beside others, or padded further, can differ in its last bits. A row's width is
therefore a function of its own length alone, and the number of rows of a pass is a multiple of 4,
filled up with copies. In float32 on the CPU, products of such shapes were found to give each row
the same bits in every company; `LocalTeacher.describe` says whether that holds where it runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Pass", "plan_passes", "row_width"]

_STEP = 4
"""Of widths and of rows. 1 and 2 were not enough for equal bits; 8 pads more."""


@dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        rows: Positions of its rows in the request.
        width: Tokens that each is padded to.
        fill: Copies of the last row at its end.
    """

    rows: tuple[int, ...]
    width: int
    fill: int


def row_width(length: int, max_tokens: int) -> int:
    """Tokens a row is padded to: the next multiple of a step, but not beyond ``max_tokens``.

    The step is 4 up to 64 tokens, 8 up to 128, 16 up to 256 and so on: long rows differ so much in
    length that with a fine step few would share a width.
    """
    step = max(_STEP, 1 << max(0, (length - 1).bit_length() - 4))
    return min(-(-length // step) * step, max(length, max_tokens))


def plan_passes(
    lengths: Sequence[int], *, batch_rows: int, max_tokens: int, fixed: bool = False
) -> list[Pass]:
    """Cut rows into passes of one width each, the widest first, so that memory is short at once or never.

    Args:
        lengths: Tokens of each row.
        batch_rows: At most that many rows of ``max_tokens`` in a pass; of narrower ones more, up to
            the same number of tokens. Rounded up to a multiple of 4.
        max_tokens: Where rows are cut.
        fixed: Every pass has 4 rows: slower, for processors on which more do not give the same bits.
    """
    by_width: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_width.setdefault(row_width(length, max_tokens), []).append(row)
    passes = []
    for width in sorted(by_width, reverse=True):
        rows = by_width[width]
        most = -(-batch_rows * max_tokens // max(1, width) // _STEP) * _STEP
        most = _STEP if fixed else most
        for begin in range(0, len(rows), most):
            some = rows[begin : begin + most]
            passes.append(Pass(tuple(some), width, -len(some) % _STEP))
    return passes
