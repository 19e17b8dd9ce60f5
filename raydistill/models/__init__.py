"""Hugging Face sequence-classification models: what they are, how they are built, what they give out."""

from raydistill.models.build import build_student, load_classifier, load_tokenizer, outline
from raydistill.models.describe import ModelSource, ModelTraits, read_traits
from raydistill.models.outputs import pool_hidden, tokenize

__all__ = [
    "ModelSource",
    "ModelTraits",
    "build_student",
    "load_classifier",
    "load_tokenizer",
    "outline",
    "pool_hidden",
    "read_traits",
    "tokenize",
]
