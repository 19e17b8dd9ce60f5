"""The Auto classes of transformers, which know our own model too once this is imported.

Whoever loads models imports them from here. It stands apart since transformers takes seconds to import.
"""

from collections.abc import Mapping
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from raydistill.config.task import Head
from raydistill.models.recurrent import RecurrentConfig, RecurrentForSequenceClassification

__all__ = ["MODELS", "AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer"]

MODELS: Mapping[Head, Any] = {
    "texts": AutoModelForSequenceClassification,
    "words": AutoModelForTokenClassification,
    "spans": AutoModelForQuestionAnswering,
    "embeddings": AutoModel,
}
"""The class that loads a model with its head."""

AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    RecurrentConfig, RecurrentForSequenceClassification, exist_ok=True
)
