"""What can be known about a model before its weights are loaded."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raydistill.errors import ConfigError

__all__ = [
    "RECURRENT",
    "ModelSource",
    "ModelTraits",
    "quiet_transformers",
    "read_traits",
    "tokenizer_fingerprint",
    "traits_of_config",
]

RECURRENT = "raydistill_recurrent"
"""The model type of :mod:`raydistill.models.recurrent`, which imports transformers."""
_WEIGHTS = "*.safetensors"
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
# Position 0 of these is padding_idx + 1.
_POSITIONS_AFTER_PADDING = {
    "camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is loaded from: a folder or a Hugging Face id, never `models:/` any more.

    Attributes:
        name: As the user wrote it, for messages and records.
        location: Folder or id that ``from_pretrained`` takes.
        tokenizer: Folder or id of the tokenizer.
        revision: Of an id.
        trust_remote_code: Whether code beside the weights may run.
        registered: ``models:/name/version`` that an alias stood for; None: it is not of a registry.
    """

    name: str
    location: str
    tokenizer: str
    revision: str | None = None
    trust_remote_code: bool = False
    registered: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What every ``from_pretrained`` of this source gets."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class ModelTraits:
    """The shape of an encoder with a classification head.

    Attributes:
        num_layers: Blocks; there are one more hidden states.
        width: Of a hidden state.
        num_heads: Attention heads of a block; 0 where there is no attention.
        labels: Names of the classes in the order of the logits.
        max_positions: Longest input; None if unbounded.
        tokenizer: Fingerprint: equal ones give equal tokens for equal text.
        inside: Widths of the queries, keys and values of a block; or a clause why they cannot be read;
            None if nobody looked.
        problem_type: What transformers says its outputs mean: ``single_label_classification``,
            ``multi_label_classification``, ``regression``; None if nobody said.
        embedding_width: Of hidden state 0, where it is another than that of the others. This and the
            two before are no part of what a teacher is known by: nothing follows from them that weights
            and configuration do not say.
    """

    num_layers: int
    width: int
    num_heads: int
    labels: tuple[str, ...]
    max_positions: int | None
    tokenizer: str
    inside: Mapping[str, int] | str | None = field(default=None, repr=False, compare=False)
    problem_type: str | None = field(default=None, repr=False, compare=False)
    embedding_width: int | None = field(default=None, repr=False, compare=False)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence what transformers reports while loading; problems are raised, not printed."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def require_safe_folder(path: str, source: ModelSource) -> None:
    """Refuse a folder that holds no model, or only pickled weights, which can run code when loaded."""
    folder = Path(source.location)
    if not folder.is_dir():
        if source.location.startswith((".", "/", "~")) or not _HUB_ID.match(source.location):
            raise ConfigError.of(
                path,
                f"must be an existing folder, a Hugging Face id or models:/name@alias, got '{source.name}', which does not exist.",
            )
        return
    if not (folder / "config.json").is_file():
        raise ConfigError.of(
            path, f"must be a model folder, but {source.name} holds no config.json."
        )
    if any(folder.glob(_WEIGHTS)):
        return
    pickled = sorted(file.name for pattern in _UNSAFE for file in folder.glob(pattern))
    if pickled:
        raise ConfigError.of(
            path,
            f"holds its weights only as {pickled[0]}, which can run code when it is loaded. Only safetensors are read: load it once where you trust it and save it with save_pretrained.",
        )
    raise ConfigError.of(
        path, f"must be a model folder with weights, but {source.name} holds no .safetensors file."
    )


def read_traits(
    path: str, source: ModelSource, *, weights: bool = True, inside: bool = False
) -> ModelTraits:
    """Read configuration and tokenizer; no weights.

    Args:
        path: Where the source stands in the configuration, for messages.
        source: The model.
        weights: Whether it must have loadable weights.
        inside: Whether to look for queries, keys and values: the model is built without weights.

    Raises:
        ConfigError: It does not exist, is not safe, or is no encoder that can classify.
    """
    from raydistill.models.auto import AutoConfig, AutoTokenizer

    if weights:
        require_safe_folder(path, source)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.location, **source.options)
    except Exception as error:
        raise ConfigError.of(
            path, f"'{source.name}' cannot be loaded: {_first_line(error)}"
        ) from error
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, **source.options)
    except Exception as error:
        raise ConfigError.of(
            path,
            f"'{source.name}': its tokenizer {source.tokenizer} cannot be loaded: {_first_line(error)}",
        ) from error
    needed = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    if lacking := [name for name in needed if not hasattr(config, name)]:
        raise ConfigError.of(
            path,
            f"must be an encoder or decoder of blocks, but '{source.name}' ({config.model_type}) has no "
            f"{', '.join(lacking)} in its configuration.",
        )
    traits = traits_of_config(config, tokenizer)
    if not inside:
        return traits
    from raydistill.models.inside import describe_inside  # imports torch

    found = describe_inside(config, trust_remote_code=source.trust_remote_code)
    return replace(traits, inside=found)


def traits_of_config(config: Any, tokenizer: Any) -> ModelTraits:
    """Traits from a loaded Hugging Face configuration and tokenizer."""
    labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    positions = getattr(config, "max_position_embeddings", None)
    offset = 2 if config.model_type in _POSITIONS_AFTER_PADDING else 0
    return ModelTraits(
        num_layers=int(config.num_hidden_layers),
        width=int(config.hidden_size),
        num_heads=int(config.num_attention_heads),
        labels=labels,
        max_positions=None if positions is None or positions <= 0 else int(positions) - offset,
        tokenizer=tokenizer_fingerprint(tokenizer),
        problem_type=getattr(config, "problem_type", None),
        embedding_width=_embedding_width(config),
    )


def _embedding_width(config: Any) -> int | None:
    """Of our own model; those of transformers bring embeddings to the width of the blocks."""
    if config.model_type != RECURRENT or config.embedding_size == config.hidden_size:
        return None
    return int(config.embedding_size)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of what decides how text becomes tokens; settings of the last call left out."""
    if getattr(tokenizer, "is_fast", False):
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["truncation"] = content["padding"] = None
        # The content of truncation is of the last call, but its side is a property.
        content["truncation_side"] = tokenizer.truncation_side
    else:
        content = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if text.endswith(".") else text + "."
