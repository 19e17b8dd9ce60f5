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
    CrossEntropyLoss,
    ForwardKLLoss,
    SoftCrossEntropyLoss,
    SoftLoss,
)

__all__ = [
    "AttentionLoss",
    "CrossEntropyLoss",
    "CustomLoss",
    "FSPLoss",
    "FeatureLoss",
    "ForwardKLLoss",
    "HiddenMSELoss",
    "LayerAttentionLoss",
    "LossBase",
    "LossSection",
    "SoftCrossEntropyLoss",
    "SoftLoss",
    "StatesLoss",
]

LossSection = Annotated[
    CrossEntropyLoss | SoftLoss | FeatureLoss | CustomLoss,
    Field(discriminator="kind"),
]
"""One term."""
