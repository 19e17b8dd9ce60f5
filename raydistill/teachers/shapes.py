"""Which rows share a forward pass, and in what shape: a pure function of their lengths.

Two aims at once. Little padding: only rows of the same width share a pass. And answers that do not
depend on their company: a matrix product may choose another order of summation for another shape,
so a row computed beside others, or padded further, can differ in its last bits. A row's width is
therefore a function of its own length alone, and the number of rows of a pass is a multiple of 4,
filled up with copies. In float32 on the CPU, products of such shapes were found to give each row
the same bits in every company; `LocalTeacher.describe` says whether that holds where it runs.

Where it cannot hold (a GPU, half precision, fewer than 4 rows in memory) the second aim is dropped:
`plan_full_passes` makes few passes, whose rows may differ in width, and copies nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["STEP", "Pass", "plan_full_passes", "plan_passes", "row_width", "rows_on_cpu"]

STEP = 4
"""Of widths and of rows. 1 and 2 were not enough for equal bits; 8 pads more."""
_CPU_TOKENS = 4096


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


def rows_on_cpu(batch_rows: int, max_tokens: int) -> int:
    """Most rows of a forward pass on a CPU: the tokens of more do not stay in its caches.

    Args:
        batch_rows: As configured.
        max_tokens: Longer rows are cut.

    Example:
        >>> rows_on_cpu(64, 128), rows_on_cpu(16, 128), rows_on_cpu(64, 4096)
        (32, 16, 4)
    """
    return min(batch_rows, max(STEP, -(-_CPU_TOKENS // max_tokens)))


def row_width(length: int, max_tokens: int) -> int:
    """Tokens a row is padded to: the next multiple of a step, but not beyond ``max_tokens``.

    The step is 4 up to 64 tokens, 8 up to 128, 16 up to 256 and so on: long rows differ so much in
    length that with a fine step few would share a width.
    """
    step = max(STEP, 1 << max(0, (length - 1).bit_length() - 4))
    return min(-(-length // step) * step, max(length, max_tokens))


def plan_passes(
    lengths: Sequence[int], *, batch_rows: int, max_tokens: int, fixed: bool = False
) -> list[Pass]:
    """Cut rows into passes of one width each, the widest first, so that memory is short at once or never.

    Args:
        lengths: Tokens of each row.
        batch_rows: At most that many rows of ``max_tokens`` in a pass; of narrower ones more, up to
            the same number of tokens. At least 4; rounded down to a multiple of 4.
        max_tokens: Where rows are cut.
        fixed: Every pass has 4 rows: slower, for processors on which more do not give the same bits.
    """
    by_width: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_width.setdefault(row_width(length, max_tokens), []).append(row)
    passes = []
    for width in sorted(by_width, reverse=True):
        rows = by_width[width]
        most = max(STEP, batch_rows * max_tokens // max(1, width) // STEP * STEP)
        most = STEP if fixed else most
        for begin in range(0, len(rows), most):
            some = rows[begin : begin + most]
            passes.append(Pass(tuple(some), width, -len(some) % STEP))
    return passes


def plan_full_passes(
    lengths: Sequence[int], *, batch_rows: int, max_tokens: int, padding: int
) -> list[Pass]:
    """Cut rows, the longest first, into passes that are padded to their longest row.

    A pass ends when it is full, or when the next row would bring more padding than a pass is worth.

    Args:
        lengths: Tokens of each row.
        batch_rows: At most that many rows of ``max_tokens`` in a pass; of shorter ones more, up to
            the same number of tokens.
        max_tokens: Where rows are cut.
        padding: Tokens of padding that cost as much as one pass more.
    """
    passes: list[Pass] = []
    rows: list[int] = []
    width = padded = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        more = width - lengths[row]
        full = (len(rows) + 1) * width > batch_rows * max_tokens
        if rows and (full or padded + more > padding):
            passes.append(Pass(tuple(rows), width, 0))
            rows = []
        if not rows:
            width = min(-(-lengths[row] // STEP) * STEP, max(lengths[row], max_tokens))
            padded, more = 0, width - lengths[row]
        rows.append(row)
        padded += more
    return [*passes, Pass(tuple(rows), width, 0)] if rows else passes
