"""Whether a row's answer has the same bits in every company: found out by trying."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raydistill.errors import NotFiniteError
from raydistill.signals import Ask, Request, TeacherSignal
from raydistill.signals.signal import select_rows
from raydistill.teachers.shapes import STEP, row_width

__all__ = ["Probe", "is_steady", "long_text", "plan_probes"]

_FULL_PASSES = 3.25  # what all probes may cost
_OPERATIONS = 5e11  # the same for large models: some seconds of one core
_STEP_ROWS = 8  # together, where a width is probed and not a full pass
_LETTERS = "abcdefghijklmnop"
_MIXED_ROWS = 40
_MIXED = (range(39, 29, -1), range(5), (7, 30, 11))


@dataclass(frozen=True)
class Probe:
    """Rows of one length, computed in one pass and, some of them, in a pass of four.

    Attributes:
        length: Tokens that each row is cut to.
        rows: In the large pass.
    """

    length: int
    rows: int


def plan_probes(*, batch_rows: int, max_tokens: int, num_parameters: int) -> list[Probe]:
    """The shapes to try, within a bound on what they cost.

    The most telling first: rows cut at ``max_tokens``, as many as a pass takes; narrow rows, as many
    as a pass takes; rows just longer than where the step of widths changes. What exceeds three full
    passes, or some seconds of a core for a large model, gets fewer rows or is left out.

    Args:
        batch_rows: Rows of ``max_tokens`` in a pass.
        max_tokens: Where rows are cut.
        num_parameters: Of the model, which tell what a token costs.
    """
    full = batch_rows * max_tokens
    left = min(_FULL_PASSES * full, _OPERATIONS / 2 / max(1, num_parameters))
    wanted = [(max_tokens, full), (min(9, max_tokens), full)]
    step = 64
    while step < max_tokens - 1:
        wanted.append((step + 1, _STEP_ROWS * row_width(step + 1, max_tokens)))
        step *= 2
    probes = []
    for length, tokens in wanted:
        width = row_width(length, max_tokens)
        alone = STEP * width
        rows = int(min(tokens, full, left - alone) // width // STEP * STEP)
        if rows > STEP:
            probes.append(Probe(length, rows))
            left -= rows * width + alone
    return probes


def is_steady(
    answer: Callable[[Request, int], TeacherSignal], ask: Ask, probes: Sequence[Probe]
) -> bool:
    """Try rows of several short lengths at once and in other companies, then the probes.

    Args:
        answer: The teacher's answer to rows that are cut at a number of tokens.
        ask: What is compared.
        probes: Shapes that are used beside short rows in small passes.
    """
    mixed = tuple(" ".join(_LETTERS[: i % 16 + 1]) for i in range(_MIXED_ROWS))
    try:
        if not _is_same(answer, ask, mixed, 1 << 20, _MIXED):
            return False
        return all(
            _is_same(
                answer,
                ask,
                tuple(long_text(row, probe.length) for row in range(probe.rows)),
                probe.length,
                [(probe.rows - 1, probe.rows // 2, 0)],
            )
            for probe in probes
        )
    except NotFiniteError:  # to be said of real rows
        return False


def _is_same(
    answer: Callable[[Request, int], TeacherSignal],
    ask: Ask,
    texts: tuple[str, ...],
    cut: int,
    companies: Sequence[Sequence[int]],
) -> bool:
    whole = Request(tuple(range(len(texts))), (texts,), ask)
    together = answer(whole, cut)
    for rows in companies:
        few = answer(whole.select(rows), cut)
        for i, row in enumerate(rows):
            alone, beside = select_rows(few, i, i + 1), select_rows(together, row, row + 1)
            if not np.array_equal(alone.buffer, beside.buffer):
                return False
    return True


def long_text(row: int, tokens: int) -> str:
    """Words of one letter, more than the tokens wanted, in another order for each row."""
    return " ".join(_LETTERS[(row + (row // 16 + 1) * i) % 16] for i in range(2 * tokens))
