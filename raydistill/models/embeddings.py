"""A student's first embeddings: another model's matrix or word vectors, narrowed if need be."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.models.build import load_classifier, outline
from raydistill.models.describe import ModelSource
from raydistill.models.vectors import WordVectors
from raydistill.models.words import SPECIAL_WORDS

__all__ = ["EmbeddingPlan", "embedding_matrix", "matrix_shape", "narrowed", "word_matrix"]

_SCALE = 1.0
"""Root mean square of first embeddings that are taken from elsewhere: cells learn slowly from small ones."""
_ROWS = 1 << 16


@dataclass(frozen=True)
class EmbeddingPlan:
    """Where the matrix comes from.

    Attributes:
        source: The model whose matrix it is; None: ``vectors``.
        width: To which it is narrowed; None: as it is.
        vectors: ``[tokens, width]``.
    """

    source: ModelSource | None = None
    width: int | None = None
    vectors: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def fingerprint(self) -> str:
        """SHA-256 of the vectors."""
        assert self.vectors is not None, "a model has its own"
        return hashlib.sha256(np.ascontiguousarray(self.vectors).data).hexdigest()


def matrix_shape(source: ModelSource) -> tuple[int, int]:
    """Tokens and width of a model's input embeddings, without its weights.

    Raises:
        ValueError: It has none.
    """
    weight, _ = _named_weight(outline(source), source)
    rows, width = weight.shape
    return int(rows), int(width)


def _named_weight(model: Any, source: ModelSource) -> tuple[Tensor, str]:
    try:
        weight: Tensor = model.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        raise ValueError(f"{source.name} has no matrix of input embeddings") from None
    named = dict(model.named_parameters())
    return weight, next(name for name, parameter in named.items() if parameter is weight)


def embedding_matrix(plan: EmbeddingPlan) -> Tensor:
    """The matrix, ``[tokens, width]`` float32, scaled as a whole, so that its numbers are of the size 1."""
    if plan.source is not None:
        matrix = _read(plan.source)
    else:
        assert plan.vectors is not None, "one of the two"
        matrix = torch.from_numpy(plan.vectors.copy())
    if plan.width is not None:
        matrix = narrowed(matrix, plan.width)
    size = float(matrix.pow(2).mean().sqrt())
    return matrix * (_SCALE / size) if size > 0 else matrix


def _read(source: ModelSource) -> Tensor:
    """A model's matrix; of a folder nothing else is read."""
    from safetensors import safe_open

    folder = Path(source.location)
    if folder.is_dir():
        model: Any = outline(source)
        name = _named_weight(model, source)[1]
        # A model without a head is saved without the name of what it is part of.
        bare = name.removeprefix(f"{model.base_model_prefix}.")
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt") as stored:
                keys = set(stored.keys())
                for key in (name, bare):
                    if key in keys:
                        found: Tensor = stored.get_tensor(key)
                        return found.float()
    loaded: Any = load_classifier(source)
    weight: Tensor = loaded.get_input_embeddings().weight.detach()
    return weight.clone()


def narrowed(matrix: Tensor, width: int) -> Tensor:
    """The best picture of all rows in fewer dimensions: their first principal components.

    Args:
        matrix: ``[rows, wider]``.
        width: Of the result, at most that of the matrix.

    Returns:
        ``[rows, width]`` float32, of mean 0.
    """
    middle = matrix.mean(0, dtype=torch.float64)
    spread = torch.zeros(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
    for rows in torch.split(matrix, _ROWS):  # a large matrix need not stand in float64 as a whole
        wide = rows.double() - middle
        spread += wide.T @ wide
    axes = torch.linalg.eigh(spread).eigenvectors[:, -width:].flip(1)  # the largest come last there
    # An axis may point either way; its largest part is positive here.
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return torch.cat(
        [((rows.double() - middle) @ axes).float() for rows in torch.split(matrix, _ROWS)]
    )


def word_matrix(vocabulary: Sequence[str], found: WordVectors) -> NDArray[np.float32]:
    """Vectors in the order of a word tokenizer's tokens.

    An unknown word has the mean of all; padding and the end of a text have 0.

    Args:
        vocabulary: Words that were found, without special ones.
        found: Their vectors.
    """
    places = {word: i for i, word in enumerate(found.words)}
    matrix = np.zeros((len(SPECIAL_WORDS) + len(vocabulary), found.vectors.shape[1]), np.float32)
    matrix[len(SPECIAL_WORDS) :] = found.vectors[[places[word] for word in vocabulary]]
    matrix[1] = matrix[len(SPECIAL_WORDS) :].mean(0)
    return matrix
