"""Several teachers, one soft target."""

from raydistill.ensemble.combine import combine_log_p, normalise_weights

__all__ = ["combine_log_p", "normalise_weights"]
