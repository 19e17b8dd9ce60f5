"""A model that embeds texts: an encoder, what makes one vector of its tokens, and how vectors are compared.

Teachers and student are embedders of the same kind, and what sentence-transformers makes of their folders is the
same vectors; its names of poolings are used, see :mod:`raydistill.models.embedding_files`.

Dimensions: B texts, S tokens with padding, D width.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.models import PoolingMode
from raydistill.config.ranking import Similarity
from raydistill.signals import Side

__all__ = ["EmbedderSpec", "TextEmbedder", "embed_pooled", "without_pooler"]


@dataclass(frozen=True)
class EmbedderSpec:
    """What is to be known of an embedder beside its encoder.

    Attributes:
        pooling: How the states of a text's tokens become one vector.
        normalize: Whether that has length 1.
        query_prompt: Stands before every query.
        passage_prompt: Stands before every passage.
        similarity: How embeddings are compared.
        lower_case: Whether texts are read in lower case, whatever the tokenizer does.
    """

    pooling: PoolingMode = "mean"
    normalize: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""
    similarity: Similarity = "cosine"
    lower_case: bool = False

    def prompted(self, texts: Sequence[Any], side: Side) -> list[str]:
        """Texts as the encoder reads them."""
        prompt = self.query_prompt if side == "query" else self.passage_prompt
        found = [f"{prompt}{text}" for text in texts]
        return [text.lower() for text in found] if self.lower_case else found

    @property
    def decides(self) -> str:
        """All that an embedding depends on, for fingerprints."""
        parts = (self.pooling, self.normalize, self.query_prompt, self.passage_prompt)
        return repr((*parts, self.lower_case))


class TextEmbedder(nn.Module):
    """An encoder whose output is one vector a text; it is called like a Hugging Face model.

    Args:
        encoder: A Hugging Face model without a head.
        spec: The rest.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: nn.Module, spec: EmbedderSpec) -> None:
        super().__init__()
        self.encoder, self.spec = encoder, spec

    @property
    def config(self) -> Any:
        """The encoder's."""
        return self.encoder.config

    def forward(self, attention_mask: Tensor, **inputs: Any) -> SimpleNamespace:
        """As ``logits`` the embeddings, ``[B, D]``, which is where whoever calls a model looks for its answer."""
        outputs = self.encoder(attention_mask=attention_mask, **inputs)
        pooled = embed_pooled(outputs.last_hidden_state, attention_mask.bool(), self.spec.pooling)
        if self.spec.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1)
        return SimpleNamespace(
            logits=pooled,
            hidden_states=getattr(outputs, "hidden_states", None),
            attentions=getattr(outputs, "attentions", None),
        )

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's."""
        encoder: Any = self.encoder
        found: nn.Module = encoder.get_input_embeddings()
        return found

    def set_attn_implementation(self, name: str) -> None:
        """Of the encoder."""
        encoder: Any = self.encoder
        encoder.set_attn_implementation(name)

    def save_pretrained(self, folder: Path) -> None:
        """The encoder, as Hugging Face has it."""
        encoder: Any = self.encoder
        encoder.save_pretrained(folder)


def embed_pooled(states: Tensor, mask: Tensor, pooling: PoolingMode) -> Tensor:
    """One vector of the tokens of each text, as sentence-transformers' ``Pooling`` has it.

    Args:
        states: ``[B, S, D]``.
        mask: Bool, True for tokens, ``[B, S]``; every text has at least one.
        pooling: How.

    Returns:
        ``[B, D]``, at least float32.

    Example:
        >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> mask = torch.tensor([[True, True, False]])
        >>> [embed_pooled(states, mask, how).item() for how in ("mean", "cls", "max", "lasttoken")]
        [2.0, 1.0, 3.0, 3.0]
    """
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    kept = mask.unsqueeze(-1)
    if pooling in ("cls", "lasttoken"):
        # As sums over the one token: they are exported to ONNX and give the same bits in any company.
        before = mask.int().cumsum(1)
        place = before == (1 if pooling == "cls" else before[:, -1:])
        return torch.where((place & mask).unsqueeze(-1), wide, 0.0).sum(1)
    if pooling == "max":
        return wide.masked_fill(~kept, -torch.inf).amax(1)
    number = mask.sum(1, keepdim=True).to(wide)
    if pooling == "weightedmean":
        weights = torch.where(mask, mask.int().cumsum(1), 0).to(wide)
        return (wide * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)
    total = torch.where(kept, wide, 0.0).sum(1)
    return total / (number.sqrt() if pooling == "mean_sqrt_len_tokens" else number)


def without_pooler(model_class: Any) -> dict[str, Any]:
    """What keeps a model from making a layer behind its first token, which embeddings do not use."""
    known = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if known else {}
