"""All families in one table."""

from collections.abc import Mapping

from raydistill.losses.catalog.features import FEATURES
from raydistill.losses.catalog.logits import LOGITS
from raydistill.losses.catalog.ranking import RANKING
from raydistill.losses.entry import Check, LossEntry, flag

__all__ = ["ALIASES", "CATALOG", "TARGET_OPTIONS"]

CATALOG: Mapping[str, LossEntry] = {
    entry.name: entry
    for entry in sorted((*LOGITS, *FEATURES, *RANKING), key=lambda entry: entry.name)
}
"""Every loss by its name."""
ALIASES: Mapping[str, str] = {
    alias: entry.name for entry in CATALOG.values() for alias in entry.aliases
}
"""What else the field calls them."""
TARGET_OPTIONS: Mapping[str, Check] = {"standardize": flag, "probability_shift": flag}
"""Of every loss on logits: what is done to them before they are compared."""
