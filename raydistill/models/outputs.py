"""From rows of text to token tensors, and from hidden states to what a loss compares.

Used by teachers and student alike, so that both sides mean the same by "first" and "mean".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from raydistill.signals import Ask, Cell
from raydistill.signals.ask import Heads, Pooling

__all__ = ["attention_squares", "gram_squares", "pool_hidden", "select_parts", "tokenize"]


def tokenize(tokenizer: Any, texts: Sequence[Sequence[Cell]], max_tokens: int) -> dict[str, Tensor]:
    """Token tensors of some rows, padded to the longest of them, not further.

    Args:
        tokenizer: A Hugging Face tokenizer.
        texts: One sequence of strings a column of text: one, or two for pairs.
        max_tokens: Longer rows are cut; of a pair the longer text first.
    """
    columns = [list(column) for column in texts]
    encoded = tokenizer(
        *columns, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
    )
    return dict(encoded)


def pool_hidden(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Reduce hidden states to what is compared.

    Args:
        hidden: ``[B, S, D]``.
        mask: Bool, True for tokens, ``[B, S]``; every row has at least one.
        pooling: ``all`` keeps the tokens of all rows one behind the other.

    Returns:
        ``[T, D]`` with T the number of tokens for ``all``, ``[sum(L * L)]`` for ``gram``, else ``[B, D]``;
        a mean and a Gram matrix are at least float32.
    """
    if pooling == "gram":
        return gram_squares(hidden, mask)
    if pooling == "all":
        # Without padding a view does; the gather and its backward pass cost as much as the loss.
        return hidden.flatten(0, 1) if mask.all() else hidden[mask]
    if pooling == "first":
        first = mask.int().argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first]
    # In float32: a float16 sum over a long text overflows, and bfloat16 cannot count beyond 256.
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return torch.where(mask.unsqueeze(-1), wide, 0.0).sum(1) / mask.sum(1, keepdim=True)


def gram_squares(hidden: Tensor, mask: Tensor) -> Tensor:
    r"""Gram matrices of tokens with tokens, flat: ``[L, L]`` of each row in turn.

    .. math:: G = X X^\top / D

    What neuron selectivity transfer (`nst`, TextBrewer's `mmd`) compares: it does not depend on the
    width, so sides of different widths need no projection.

    Args:
        hidden: ``[B, S, D]``.
        mask: Bool, True for tokens, ``[B, S]``.
    """
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    # Row by row: each product has the shape of its row alone, so its bits do not depend on others.
    rows = [states[keep] for states, keep in zip(wide, mask, strict=True)]
    return torch.cat([(row @ row.T / row.shape[1]).reshape(-1) for row in rows])


def attention_squares(attention: Tensor, mask: Tensor, heads: Heads = "all") -> Tensor:
    """Attention maps without padding, flat: ``[H, L, L]`` of each row in turn.

    Args:
        attention: ``[B, H, S, S]``.
        mask: Bool, True for tokens, ``[B, S]``.
        heads: ``mean`` gives one map a row (H is 1), at least float32.
    """
    if heads == "mean":
        wide = attention.to(torch.promote_types(attention.dtype, torch.float32))
        attention = wide.mean(1, keepdim=True)
    pieces = [
        maps[:, row][:, :, row].reshape(-1) for maps, row in zip(attention, mask, strict=True)
    ]
    return torch.cat(pieces)


def select_parts(found: Mapping[str, Tensor], mask: Tensor, ask: Ask) -> dict[str, Tensor]:
    """The asked parts of what a model gave out, unpadded, by their keys in a signal.

    Args:
        found: Of a `Backend`.
        mask: Bool, True for tokens, ``[B, S]``; rows of the output behind the B-th are left out.
        ask: What is wanted.
    """
    rows = len(mask)
    parts = {"logits": found["logits"][:rows]}
    for hidden in ask.hidden:
        states = found[f"{hidden.states}.{hidden.layer}"][:rows]
        parts[hidden.key] = pool_hidden(states, mask, hidden.pooling)
    for attention in ask.attention:
        maps = found[f"attention.{attention.layer}"][:rows]
        parts[attention.key] = attention_squares(maps, mask, attention.heads)
    return parts
