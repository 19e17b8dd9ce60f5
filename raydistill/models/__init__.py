"""Hugging Face models that classify texts or words, find answers, or embed texts: what they are, how they are built, what they give out."""

from raydistill.models.build import build_student, load_classifier, load_tokenizer, outline
from raydistill.models.describe import ModelSource, ModelTraits, read_traits
from raydistill.models.embedder import EmbedderSpec, TextEmbedder
from raydistill.models.outputs import pool_hidden, tokenize
from raydistill.models.pieces import WordPieces, first_pieces, mean_pieces, tokenize_words
from raydistill.models.span_pieces import SpanPieces, tokenize_spans
from raydistill.models.spans import logits_of

__all__ = [
    "EmbedderSpec",
    "ModelSource",
    "ModelTraits",
    "SpanPieces",
    "TextEmbedder",
    "WordPieces",
    "build_student",
    "first_pieces",
    "load_classifier",
    "load_tokenizer",
    "logits_of",
    "mean_pieces",
    "outline",
    "pool_hidden",
    "read_traits",
    "tokenize",
    "tokenize_spans",
    "tokenize_words",
]
