r"""From what a model says about the pieces of windows to classes of units, and what several models have in common.

A model for answers has two logits for each piece: does the answer start here, does it end here; each is one
softmax over all pieces. Student and teachers cut a text into other pieces, so they are compared by units of the
text (:mod:`raydistill.data.units`). The start of a unit is the first piece that begins in it, its end the last that
ends in it, the first piece of a row stands for no answer, and all other pieces together are one class more:

.. math:: z_\text{other} = \log \sum_{s \in \text{others}} e^{z_s}

So the classes of a row are an exact summary of the model's own softmax, whatever its pieces; a cross-entropy with
a unit is that with its piece. A piece that is coarser than units begins in one and ends in another; those between
are *unmapped* on that side: :func:`merge_targets` says into which others they are merged.

Dimensions: B rows, S pieces with padding, U units of all rows, C classes: no answer, others, units of the row
that has most. The two sides of row b, start and end, are the rows 2 b and 2 b + 1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raydistill.models.pieces import mean_pieces
from raydistill.models.span_pieces import SpanPieces
from raydistill.signals import Ask
from raydistill.signals.ask import MAPPED_UNITS, REST, UNIT_LOGITS

__all__ = [
    "FIRST_UNIT",
    "NEVER",
    "lay_out",
    "logits_of",
    "merge",
    "merge_targets",
    "select_span_parts",
    "span_logits",
    "span_table",
]

NEVER = -1e4
"""Logit of a class that a row has not: its probability is 0, and it is finite on both sides."""
FIRST_UNIT = 2
"""Class of the first unit; before it stand no answer and all other pieces."""
_NOTHING, _OTHERS = 0, 1


def logits_of(outputs: Any) -> Tensor:
    """What a model gave out: ``[B, C]``, of words ``[B, S, C]``, of places ``[B, S, 2]``."""
    if hasattr(outputs, "start_logits"):
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)
    logits: Tensor = outputs.logits
    return logits


def span_logits(
    values: Tensor, mask: Tensor, pieces: SpanPieces, *, one_by_one: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits of units, and of what else a row has.

    Args:
        values: Of pieces, ``[B, S, 2]``, any floating dtype.
        mask: ``[B, S]``, not 0 for tokens.
        pieces: Of the units.
        one_by_one: Sum up each row by itself, so that its bits do not depend on others.

    Returns:
        Starts and ends, ``[U, 2]`` float32, 0 where unmapped; and of each row ``[B, 4]``: no answer (start, end),
        all other pieces (start, end).
    """
    flat = values.float().flatten(0, 1)
    places = torch.stack([pieces.starts, pieces.ends], 1)
    there = places >= 0
    units = flat.gather(0, places.clamp(min=0)).masked_fill(~there, 0.0)
    taken = ~mask.bool().flatten().unsqueeze(1).repeat(1, 2)
    taken[pieces.first] = True
    for side in (0, 1):
        taken[places[there[:, side], side], side] = True
    others = flat.masked_fill(taken, NEVER).view(*mask.shape, 2)
    if one_by_one:
        rows = [row[keep].logsumexp(0) for row, keep in zip(others, mask.bool(), strict=True)]
        rest = torch.stack(rows)
    else:
        rest = others.logsumexp(1)
    return units, torch.cat([flat[pieces.first], rest], 1)


def lay_out(
    units: Tensor, rest: Tensor, mapped: Tensor, row: Tensor, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Classes of the two sides of each row, padded.

    Args:
        units: Of :func:`span_logits`, ``[U, 2]``.
        rest: Likewise, ``[B, 4]``.
        mapped: Which units have a start and an end, ``[U, 2]`` bool.
        row: Of each unit, ``[U]``, rising.
        scale: What divides logits.

    Returns:
        Logits ``[2 B, C]``, :data:`NEVER` for what a row has not, and which classes those are that it has, bool.
    """
    num_rows = len(rest)
    number = torch.bincount(row, minlength=num_rows)
    column = (
        FIRST_UNIT + torch.arange(len(row), device=row.device) - (number.cumsum(0) - number)[row]
    )
    width = FIRST_UNIT + int(number.max())
    logits = units.new_full((num_rows, width, 2), NEVER)
    logits[:, :FIRST_UNIT] = (rest / scale).view(-1, 2, 2)
    logits[row, column] = (units / scale).masked_fill(~mapped, NEVER)
    kept = torch.zeros(num_rows, width, 2, dtype=torch.bool, device=row.device)
    kept[:, :FIRST_UNIT] = True
    kept[row, column] = mapped
    return logits.transpose(1, 2).flatten(0, 1), kept.transpose(1, 2).flatten(0, 1)


def merge_targets(kept: Tensor) -> Tensor:
    """Where the mass of each class goes, ``[2 B, C]`` int64.

    What covers a unit that has no start of its own began in one before it, so its mass goes to the last one
    before that has; if there is none, to the first behind. Of ends the other way round. Where no unit of a row
    is kept, to all other pieces.

    Args:
        kept: Classes that stay, ``[2 B, C]`` bool, of :func:`lay_out`; of several models those that all have.
    """
    places = torch.arange(kept.shape[1], device=kept.device).expand(kept.shape)
    unit = kept & (places >= FIRST_UNIT)
    before = places.masked_fill(~unit, -1).cummax(1).values
    most = kept.shape[1]
    behind = places.masked_fill(~unit, most).flip(1).cummin(1).values.flip(1)
    starts = torch.where(before >= 0, before, behind)
    ends = torch.where(behind < most, behind, before)
    is_start = (torch.arange(len(kept), device=kept.device) % 2 == 0).unsqueeze(1)
    found = torch.where(is_start, starts, ends)
    found = found.masked_fill((found < 0) | (found >= most), _OTHERS)
    return torch.where(places < FIRST_UNIT, places, found)


def merge(logits: Tensor, target: Tensor) -> Tensor:
    r"""Logits with the mass of some classes in others, ``[..., C]``; the softmax of the others stays as it is.

    .. math:: z'_t = \log \sum_{c: \text{target}(c) = t} e^{z_c}

    Args:
        logits: ``[..., C]``.
        target: Of :func:`merge_targets`, the same shape.

    Returns:
        :data:`NEVER` for classes that nothing goes to.

    Example:
        >>> logits, target = torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[0, 1, 1]])
        >>> merge(logits, target).round(decimals=4)
        tensor([[ 0.0000e+00,  1.6931e+00, -1.0000e+04]])
    """
    top = torch.full_like(logits, NEVER).scatter_reduce(-1, target, logits.detach(), "amax")
    sums = torch.zeros_like(logits).scatter_add(-1, target, (logits - top.gather(-1, target)).exp())
    there = sums > 0
    return torch.where(there, sums.masked_fill(~there, 1.0).log() + top, NEVER)


def span_table(units: Tensor, rest: Tensor, mapped: Tensor, sizes: Sequence[int]) -> Tensor:
    """Places of all rows one behind the other, ``[P, 2]``: no answer, other pieces, units; -inf where unmapped.

    Args:
        units: Of :func:`span_logits`, ``[U, 2]``.
        rest: Likewise, ``[B, 4]``.
        mapped: Which units have a start and an end, ``[U, 2]`` bool.
        sizes: Units of each row.
    """
    seen = torch.split(units.masked_fill(~mapped, -torch.inf), list(sizes))
    heads = rest.view(-1, 2, 2)
    return torch.cat([torch.cat([head, row]) for head, row in zip(heads, seen, strict=True)])


def select_span_parts(
    found: dict[str, Tensor], mask: Tensor, pieces: SpanPieces, ask: Ask
) -> dict[str, Tensor]:
    """The asked parts of what a model gave out about questions and windows, by their keys in a signal.

    Args:
        found: Of a `Backend`; rows behind the B-th are left out.
        mask: Bool, True for tokens, ``[B, S]``.
        pieces: Of the units of the rows.
        ask: What is wanted; hidden states by units.
    """
    rows = len(mask)
    units, rest = span_logits(found["logits"][:rows], mask, pieces, one_by_one=True)
    parts = {UNIT_LOGITS: units, MAPPED_UNITS: pieces.mapped.float(), REST: rest}
    for hidden in ask.hidden:
        assert hidden.pooling == "units", "whoever asks about answers asks for states of units"
        states = found[f"{hidden.states}.{hidden.layer}"][:rows]
        parts[hidden.key] = mean_pieces(states, pieces.units)
    return parts
