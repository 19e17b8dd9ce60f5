"""Several teachers, one soft target.

Reading order: ``combine.py`` (logits and weights -> one distribution), ``weighting.py`` (weights of each
row from the answers), ``choice.py`` (weights known before anybody answers), ``gate.py`` (weights that
are learned).
"""

from raydistill.ensemble.choice import (
    chosen_weights,
    routed,
    stochastic_choice,
    validation_weights,
)
from raydistill.ensemble.combine import Space, answered, combine_log_p, normalise_weights
from raydistill.ensemble.gate import Gate, gate_features, gate_loss
from raydistill.ensemble.weighting import (
    agreement_weights,
    confidence_weights,
    fixed_weights,
    label_cross_entropy_weights,
)

__all__ = [
    "Gate",
    "Space",
    "agreement_weights",
    "answered",
    "chosen_weights",
    "combine_log_p",
    "confidence_weights",
    "fixed_weights",
    "gate_features",
    "gate_loss",
    "label_cross_entropy_weights",
    "normalise_weights",
    "routed",
    "stochastic_choice",
    "validation_weights",
]
