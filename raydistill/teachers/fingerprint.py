"""What decides a teacher's answers, as one hash."""

import hashlib
import json
from typing import Any

import torch
from torch import nn

__all__ = ["deciding_settings", "fingerprint"]

# What a configuration says about how it was saved or is called, not about what is computed.
_NOT_THE_MODEL = {
    "dtype", "output_attentions", "output_hidden_states", "return_dict", "transformers_version", "use_cache",
}  # fmt: skip


def deciding_settings(config: Any) -> str:
    """What a model's configuration says about how it computes."""
    settings = {
        key: value
        for key, value in config.to_dict().items()
        if not key.startswith("_") and key not in _NOT_THE_MODEL
    }
    return json.dumps(settings, sort_keys=True, default=str)


def fingerprint(model: Any, *rest: object) -> str:
    """SHA-256 over weights (names, types, shapes, bytes), configuration and whatever else decides.

    Args:
        model: A Hugging Face model.
        rest: Of anything that has a faithful ``str``.
    """
    weights: nn.Module = model
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    # Weights alone do not say which activation or which epsilon.
    digest.update(deciding_settings(model.config).encode())
    digest.update(" ".join(str(part) for part in rest).encode())
    return digest.hexdigest()
