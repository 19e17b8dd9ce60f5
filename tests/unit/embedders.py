"""Tiny models that embed texts, and rows to train them on."""

from pathlib import Path
from typing import Any

from raydistill.models import EmbedderSpec, ModelSource, TextEmbedder, load_classifier
from raydistill.models.embedding_files import write_embedder
from tests.conftest import make_model

PROMPTS = {"query_prompt": "the film ", "passage_prompt": "it was "}
ROWS: list[dict[str, Any]] = [
    {"query": "good film", "positives": ["great plot", "fine cast"], "negatives": ["the end", "a film", "it is"]},
    {"query": "bad film", "positives": ["awful plot"], "negatives": ["and its cast", "was a film", "the plot"]},
    {"query": "dull end", "positives": ["poor end"], "negatives": ["very fine", "great plot"]},
    {"query": "lovely cast", "positives": ["fine cast", "superb cast"], "negatives": ["the end", "poor end"]},
    {"query": "broken plot", "positives": ["its plot is bad"], "negatives": ["a film", "lovely end"]},
]  # fmt: skip
"""Queries share passages, and what is relevant for one stands with others."""


def make_embedder(folder: Path, *, layers: int = 1, width: int = 16, seed: int = 0, reverse_vocabulary: bool = False, **spec: Any) -> Path:  # fmt: skip
    """A BERT without a head, as a folder of sentence-transformers."""
    from transformers import AutoModel

    make_model(folder, layers=layers, width=width, seed=seed, reverse_vocabulary=reverse_vocabulary)
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    encoder.save_pretrained(folder)
    write_embedder(folder, EmbedderSpec(**spec), width=width, max_tokens=32)
    return folder


def source(folder: Path) -> ModelSource:
    return ModelSource(folder.name, str(folder), str(folder))


def load(folder: Path, spec: EmbedderSpec) -> TextEmbedder:
    """As a teacher is loaded."""
    model = load_classifier(source(folder), head="embeddings", embedder=spec).eval()
    assert isinstance(model, TextEmbedder)
    return model
