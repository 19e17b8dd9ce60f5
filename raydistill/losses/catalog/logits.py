"""Losses on logits, and with hard labels."""

from raydistill.losses.binary import (
    binary_cross_entropy,
    binary_forward_kl,
    binary_soft_cross_entropy,
)
from raydistill.losses.confidence import soft_label
from raydistill.losses.correlation import dist
from raydistill.losses.decoupled import decoupled_kd
from raydistill.losses.divergence import (
    forward_kl,
    jensen_shannon,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from raydistill.losses.entry import (
    LossEntry,
    Peer,
    between,
    flag,
    non_negative,
    positive,
    share,
    temperature,
)
from raydistill.losses.hard_label import cross_entropy
from raydistill.losses.regression import logit_mse, mse

__all__ = ["LOGITS"]

_SOFTENED = {"temperature": temperature, "scale_by_temperature_squared": flag}
_UNSCALED = Peer({"scale_by_temperature_squared": False})
_COST = "4·V"

LOGITS = (
    LossEntry(
        name="cross_entropy",
        function=cross_entropy,
        needs=frozenset({"labels"}),
        cost="0",
        parity={"textbrewer": Peer()},
    ),
    LossEntry(
        name="soft_cross_entropy",
        function=soft_cross_entropy,
        needs=frozenset({"logits"}),
        cost=_COST,
        options=_SOFTENED,
        parity={"textbrewer": _UNSCALED},
        aliases=("ce",),
    ),
    LossEntry(
        name="forward_kl",
        function=forward_kl,
        needs=frozenset({"logits"}),
        cost=_COST,
        options=_SOFTENED,
    ),
    LossEntry(
        name="reverse_kl",
        function=reverse_kl,
        needs=frozenset({"logits"}),
        cost=_COST,
        options=_SOFTENED,
    ),
    LossEntry(
        name="jensen_shannon",
        function=jensen_shannon,
        needs=frozenset({"logits"}),
        cost=_COST,
        options={"beta": between(0, 1), **_SOFTENED},
    ),
    LossEntry(
        name="total_variation",
        function=total_variation,
        needs=frozenset({"logits"}),
        cost=_COST,
        options={"temperature": temperature, "scale_by_temperature": flag},
    ),
    LossEntry(
        name="logit_mse",
        function=logit_mse,
        needs=frozenset({"logits"}),
        shift_invariant=False,
        cost=_COST,
        options=_SOFTENED,
        parity={"textbrewer": _UNSCALED},
        aliases=("kd_mse",),
    ),
    LossEntry(
        name="decoupled_kd",
        function=decoupled_kd,
        needs=frozenset({"logits", "labels"}),
        cost=_COST,
        options={"alpha": non_negative, "beta": non_negative, **_SOFTENED},
        aliases=("dkd",),
    ),
    LossEntry(
        name="dist",
        function=dist,
        needs=frozenset({"logits"}),
        cost=_COST,
        over="rows",
        options={"inter_weight": non_negative, "intra_weight": non_negative, **_SOFTENED},
    ),
    LossEntry(
        name="soft_label",
        function=soft_label,
        needs=frozenset({"logits"}),
        cost=_COST,
        options={"threshold": share, "sharpening": positive},
        aliases=("sld",),
    ),
    LossEntry(
        name="binary_cross_entropy",
        function=binary_cross_entropy,
        needs=frozenset({"labels"}),
        cost="0",
        label="classes",
    ),
    LossEntry(
        name="binary_soft_cross_entropy",
        function=binary_soft_cross_entropy,
        needs=frozenset({"logits"}),
        shift_invariant=False,
        cost=_COST,
        options=_SOFTENED,
    ),
    LossEntry(
        name="binary_forward_kl",
        function=binary_forward_kl,
        needs=frozenset({"logits"}),
        shift_invariant=False,
        cost=_COST,
        options=_SOFTENED,
    ),
    LossEntry(
        name="mse",
        function=mse,
        needs=frozenset({"labels"}),
        cost="0",
        tail=0,
        label="number",
    ),
)
"""Of every loss on logits its entry, in reading order."""
