"""Losses on hidden states and attention maps."""

import torch
from torch import Tensor

from raydistill.losses.attention import (
    attention_ce,
    attention_ce_mean,
    attention_mse,
    attention_mse_sum,
)
from raydistill.losses.contrastive import contrastive
from raydistill.losses.entry import LossEntry, Need, Peer, flag, positive, whole
from raydistill.losses.gram import fsp, nst
from raydistill.losses.hidden import cos, hidden_mse, pkd
from raydistill.losses.layers import layer_attention
from raydistill.losses.relation import relation_kl
from raydistill.losses.relational import rkd_angle, rkd_distance
from raydistill.losses.textbrewer import (
    peer_attention_ce,
    peer_attention_ce_mean,
    peer_attention_mse,
    peer_attention_mse_sum,
    peer_nst,
    peer_pkd,
)
from raydistill.losses.tokens import num_pairs, num_rows, num_tokens
from raydistill.losses.variational import vid

__all__ = ["FEATURES"]

_HIDDEN: frozenset[Need] = frozenset({"hidden"})
_ATTENTION: frozenset[Need] = frozenset({"attention"})
_ALL_TOKENS = "4·L·D"
_TWO_LAYERS = "8·L·D"
_VECTOR = "4·D"
_MAPS = "4·H·L²"


def _parameter(value: object) -> str | None:
    """A vector of a module's own, or none."""
    if value is None or (
        isinstance(value, Tensor) and value.dim() == 1 and torch.is_floating_point(value)
    ):
        return None
    return "must be a tensor of one number per coordinate, or None"


FEATURES = (
    LossEntry(
        name="hidden_mse",
        function=hidden_mse,
        needs=_HIDDEN,
        cost=_ALL_TOKENS,
        parity={"textbrewer": Peer()},
        aliases=("hint",),
    ),
    LossEntry(
        name="cos",
        function=cos,
        needs=_HIDDEN,
        cost=_ALL_TOKENS,
        parity={"textbrewer": Peer()},
    ),
    LossEntry(
        name="vid",
        function=vid,
        needs=_HIDDEN,
        cost=_ALL_TOKENS,
        options={"raw_variance": _parameter},
    ),
    LossEntry(
        name="pkd",
        function=pkd,
        needs=_HIDDEN,
        over="sequences",
        units=num_rows,
        cost=_VECTOR,
        parity={"textbrewer": Peer(function=peer_pkd)},
    ),
    LossEntry(
        name="fsp",
        function=fsp,
        needs=_HIDDEN,
        over="sequences",
        units=num_rows,
        cost=_TWO_LAYERS,
        parity={"textbrewer": Peer()},
        aliases=("gram",),
    ),
    LossEntry(
        name="nst",
        function=nst,
        needs=_HIDDEN,
        over="sequences",
        units=num_pairs,
        cost="4·L²",
        parity={"textbrewer": Peer(function=peer_nst)},
        aliases=("mmd",),
    ),
    LossEntry(
        name="relation_kl",
        function=relation_kl,
        needs=_HIDDEN,
        over="sequences",
        units=num_tokens,
        cost=_ALL_TOKENS,
        options={"relation_heads": whole},
    ),
    LossEntry(
        name="layer_attention",
        function=layer_attention,
        needs=frozenset({"layers"}),
        cost="4·N·D",
    ),
    LossEntry(
        name="rkd_distance",
        function=rkd_distance,
        needs=_HIDDEN,
        over="rows",
        cost=_VECTOR,
    ),
    LossEntry(
        name="rkd_angle",
        function=rkd_angle,
        needs=_HIDDEN,
        over="rows",
        cost=_VECTOR,
    ),
    LossEntry(
        name="contrastive",
        function=contrastive,
        needs=_HIDDEN,
        over="rows",
        cost=_VECTOR,
        options={"temperature": positive},
    ),
    LossEntry(
        name="attention_mse",
        function=attention_mse,
        needs=_ATTENTION,
        over="sequences",
        units=num_pairs,
        cost=_MAPS,
        parity={"textbrewer": Peer(function=peer_attention_mse)},
    ),
    LossEntry(
        name="attention_mse_sum",
        function=attention_mse_sum,
        needs=_ATTENTION,
        over="sequences",
        units=num_pairs,
        cost=_MAPS,
        parity={"textbrewer": Peer(function=peer_attention_mse_sum)},
    ),
    LossEntry(
        name="attention_ce",
        function=attention_ce,
        needs=_ATTENTION,
        over="sequences",
        units=num_tokens,
        cost=_MAPS,
        options={"scores": flag},
        parity={"textbrewer": Peer({"scores": True}, peer_attention_ce)},
    ),
    LossEntry(
        name="attention_ce_mean",
        function=attention_ce_mean,
        needs=_ATTENTION,
        over="sequences",
        units=num_tokens,
        cost="4·L²",
        options={"scores": flag},
        parity={"textbrewer": Peer({"scores": True}, peer_attention_ce_mean)},
    ),
)
"""Of every loss on features its entry, in reading order."""
