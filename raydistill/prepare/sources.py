"""Models as users name them, to models that can be loaded."""

import hashlib
from pathlib import Path

from raydistill.models import ModelSource
from raydistill.tracking import resolve_model

__all__ = ["is_registry_uri", "resolve_source", "weights_fingerprint"]

_PREFIX = "models:/"
_CHUNK = 1 << 22


def is_registry_uri(model: str) -> bool:
    """Whether a name means a version in the registry."""
    return model.startswith(_PREFIX)


def resolve_source(
    path: str,
    model: str,
    *,
    tracking_uri: str | None,
    tokenizer: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> ModelSource:
    """A folder, a Hugging Face id, or a registry URI, which is fetched.

    Args:
        path: Where it stands in the configuration, for messages.
        model: As written.
        tracking_uri: Of the registry; None: the default one.
        tokenizer: Folder or id; None: the model's own.
        revision: Of an id.
        trust_remote_code: Whether code beside the weights may run.

    Raises:
        ConfigError: The registry has no such model, or cannot be reached.
    """
    location = model
    if is_registry_uri(model):
        location = str(resolve_model(model, tracking_uri, path=path).folder)
    elif Path(model).expanduser().is_dir():
        location = str(Path(model).expanduser().resolve())
    if tokenizer is not None and Path(tokenizer).expanduser().is_dir():
        tokenizer = str(Path(tokenizer).expanduser().resolve())
    return ModelSource(model, location, tokenizer or location, revision, trust_remote_code)


def weights_fingerprint(source: ModelSource) -> str:
    """What weights and tokenizer a source stands for, without loading them.

    SHA-256 over the files of a folder; the commit of a Hugging Face id.
    """
    folder = Path(source.location)
    if folder.is_dir():
        digest = hashlib.sha256()
        for place in dict.fromkeys((folder, Path(source.tokenizer))):
            files = [
                f for p in ("*.safetensors", "*.json", "*.txt", "*.model") for f in place.glob(p)
            ]
            for file in sorted(files):
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
        return digest.hexdigest()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.location, **source.options)
    return f"{source.location}@{getattr(config, '_commit_hash', None) or source.revision}"
