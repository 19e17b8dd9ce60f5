"""The Auto classes of transformers, which know our own model too once this is imported.

Whoever loads models imports them from here. It stands apart since transformers takes seconds to import.
"""

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from raydistill.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification

__all__ = ["AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer"]

AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    RecurrentConfig, RecurrentForSequenceClassification, exist_ok=True
)
