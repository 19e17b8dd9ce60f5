"""What can be minimised: each loss a function of two tensors that gives one value per position.

Reading order: ``divergence.py`` (two distributions), ``hard_label.py`` (a distribution and the
right class), ``hidden.py`` (two hidden states), ``reduction.py`` (from values to one number),
``catalog.py`` (names in a configuration -> functions).
"""

from raydistill.losses.catalog import CATALOG, LossEntry, ScalarLoss, build_loss
from raydistill.losses.divergence import (
    forward_kl,
    forward_kl_from_log_p,
    soft_cross_entropy,
    soft_cross_entropy_from_log_p,
)
from raydistill.losses.hard_label import IGNORED_LABEL, cross_entropy
from raydistill.losses.hidden import hidden_mse, hidden_mse_sum
from raydistill.losses.reduction import masked_mean, masked_sum, select_counted

__all__ = [
    "CATALOG",
    "IGNORED_LABEL",
    "LossEntry",
    "ScalarLoss",
    "build_loss",
    "cross_entropy",
    "forward_kl",
    "forward_kl_from_log_p",
    "hidden_mse",
    "hidden_mse_sum",
    "masked_mean",
    "masked_sum",
    "select_counted",
    "soft_cross_entropy",
    "soft_cross_entropy_from_log_p",
]
