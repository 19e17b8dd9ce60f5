"""What is minimised: a list of terms, each of a `kind` with its own options only."""

from typing import Annotated

from pydantic import Field

from raydistill.config.losses.base import LossBase
from raydistill.config.losses.custom import CustomLoss
from raydistill.config.losses.features import (
    AttentionLoss,
    EmbeddingLoss,
    FeatureLoss,
    FSPLoss,
    HiddenMSELoss,
    LayerAttentionLoss,
    StatesLoss,
)
from raydistill.config.losses.logits import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    ForwardKLLoss,
    HardLoss,
    MSELoss,
    SoftCrossEntropyLoss,
    SoftLoss,
)
from raydistill.config.losses.ranking import GroupLoss

__all__ = [
    "AttentionLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "CustomLoss",
    "EmbeddingLoss",
    "FSPLoss",
    "FeatureLoss",
    "ForwardKLLoss",
    "GroupLoss",
    "HardLoss",
    "HiddenMSELoss",
    "LayerAttentionLoss",
    "LossBase",
    "LossSection",
    "MSELoss",
    "SoftCrossEntropyLoss",
    "SoftLoss",
    "StatesLoss",
    "on_labels",
]

LossSection = Annotated[
    HardLoss | SoftLoss | GroupLoss | FeatureLoss | CustomLoss,
    Field(discriminator="kind"),
]
"""One term."""


def on_labels(loss: LossBase) -> bool:
    """Whether a term compares the student with labels, and needs no teacher.

    Example:
        >>> on_labels(CrossEntropyLoss(kind="cross_entropy"))
        True
    """
    return isinstance(loss, HardLoss) or getattr(loss, "against", "teachers") == "labels"
