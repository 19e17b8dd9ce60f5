"""What is minimised: a list of terms, each of a `kind` with its own options only."""

from typing import Annotated

from pydantic import Field

from raydistill.config.losses.base import LossBase
from raydistill.config.losses.custom import CustomLoss
from raydistill.config.losses.features import (
    AttentionLoss,
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

__all__ = [
    "AttentionLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "CustomLoss",
    "FSPLoss",
    "FeatureLoss",
    "ForwardKLLoss",
    "HardLoss",
    "HiddenMSELoss",
    "LayerAttentionLoss",
    "LossBase",
    "LossSection",
    "MSELoss",
    "SoftCrossEntropyLoss",
    "SoftLoss",
    "StatesLoss",
]

LossSection = Annotated[
    HardLoss | SoftLoss | FeatureLoss | CustomLoss,
    Field(discriminator="kind"),
]
"""One term."""
