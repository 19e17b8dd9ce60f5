"""From a source to a module: teachers as they are, students with their head, layers and dropout."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.task import Head
from raydistill.models.describe import ModelSource, quiet_transformers
from raydistill.models.embedder import EmbedderSpec, TextEmbedder, without_pooler

__all__ = ["build_student", "load_classifier", "load_tokenizer", "outline", "take_layers"]


def load_tokenizer(source: ModelSource) -> Any:
    """The source's tokenizer, with a padding token if it had none."""
    from raydistill.models.auto import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, **source.options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_classifier(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.float32,
    attention_maps: bool = False,
    head: Head = "texts",
    embedder: EmbedderSpec | None = None,
) -> nn.Module:
    """A model that classifies texts, or words, or finds answers, with its own head, or embeds texts; from safetensors only.

    Args:
        source: Folder or id.
        dtype: Of the weights.
        attention_maps: Whether maps will be asked for; fused attention cannot give them.
        head: Which it has.
        embedder: Of one that embeds texts, what follows the encoder.
    """
    from raydistill.models.auto import MODELS

    options = dict(source.options)
    if head == "embeddings":
        options |= _headless(source)
    if attention_maps:
        options["attn_implementation"] = "eager"
    with quiet_transformers():
        model: nn.Module = MODELS[head].from_pretrained(
            source.location, dtype=dtype, use_safetensors=True, **options
        )
    return model if embedder is None else TextEmbedder(model, embedder)


def _headless(source: ModelSource) -> dict[str, Any]:
    """Options of an encoder alone."""
    from raydistill.models.auto import AutoConfig

    config = AutoConfig.from_pretrained(source.location, **source.options)
    return _without_pooler(config)


def _without_pooler(config: Any) -> dict[str, Any]:
    from transformers import MODEL_MAPPING

    known = MODEL_MAPPING.get(type(config), None)
    return {} if known is None else without_pooler(known)


def build_student(
    *,
    labels: Sequence[str],
    dropout: float,
    source: ModelSource,
    layers: Sequence[int] | None = None,
    head_columns: Sequence[int] | None = None,
    random_config: dict[str, Any] | None = None,
    pad_token_id: int | None = None,
    vocabulary: int | None = None,
    problem_type: str | None = None,
    embeddings: Tensor | None = None,
    head: Head = "texts",
    embedder: EmbedderSpec | None = None,
) -> nn.Module:
    """The model that will be trained, in float32.

    New weights come from torch's global generator: seed it first.

    Args:
        labels: Names of the classes, in order.
        dropout: Probability set at every dropout.
        source: Where weights come from (or only the tokenizer, with ``random_config``).
        layers: Blocks to keep, from 0; None keeps all.
        head_columns: For each class the row of the source's head; None for a new head.
        random_config: Hugging Face configuration for random weights instead of the source's.
        pad_token_id: Of the student's tokenizer.
        vocabulary: Size of the student's tokenizer, for random weights.
        problem_type: What its outputs mean, as transformers says it; kept in its configuration.
        embeddings: First embedding matrix instead of a random one, ``[tokens, width]``.
        head: What it gives outputs for.
        embedder: Of one that embeds texts, what follows the encoder.
    """
    from raydistill.models.auto import MODELS, AutoConfig

    names = dict(enumerate(labels))
    named = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    if random_config is not None:
        settings = dict(random_config)
        if vocabulary is not None:
            settings.setdefault("vocab_size", vocabulary)
        # A model type's own default names some other token, whose embedding would never be learned.
        settings.setdefault("pad_token_id", pad_token_id)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings, **named)
        config.problem_type = problem_type
    else:
        config = AutoConfig.from_pretrained(source.location, **source.options)
        if head_columns is None:
            config.id2label, config.label2id = named["id2label"], named["label2id"]
        config.problem_type = problem_type
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = pad_token_id
    _set_dropout(config, dropout)
    bare = _without_pooler(config) if head == "embeddings" else {}
    with quiet_transformers():
        if random_config is not None:
            model: nn.Module = MODELS[head].from_config(config, **bare)
        else:
            model = MODELS[head].from_pretrained(
                source.location,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=head_columns is None,
                **source.options,
                **bare,
            )
    if head_columns is not None:
        _reorder_head(model, head_columns)
        loaded: Any = model  # its configuration is a copy of the one above
        loaded.config.id2label, loaded.config.label2id = named["id2label"], named["label2id"]
        loaded.num_labels = len(names)
    if layers is not None:
        take_layers(model, layers)
    built: Any = model
    if embeddings is not None:
        with torch.no_grad():
            built.get_input_embeddings().weight.copy_(embeddings)
    if getattr(config, "freeze_embeddings", False):  # which loading forgets
        built.get_input_embeddings().requires_grad_(False)
    return model if embedder is None else TextEmbedder(model, embedder)


def outline(
    source: ModelSource,
    *,
    layers: Sequence[int] | None = None,
    random_config: dict[str, Any] | None = None,
    head: Head = "texts",
    embedder: EmbedderSpec | None = None,
) -> nn.Module:
    """A student's modules without weights, for the names of its parameters.

    Args:
        source: Folder or id of its configuration.
        layers: Blocks to keep, from 0; None keeps all.
        random_config: Hugging Face configuration instead of the source's.
        head: What it gives outputs for.
        embedder: Of one that embeds texts, what follows the encoder.
    """
    from raydistill.models.auto import MODELS, AutoConfig

    if random_config is not None:
        settings = dict(random_config)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    else:
        config = AutoConfig.from_pretrained(source.location, **source.options)
    with quiet_transformers(), torch.device("meta"):
        bare = _without_pooler(config) if head == "embeddings" else {}
        model: nn.Module = MODELS[head].from_config(config, **bare)
    if layers is not None:
        take_layers(model, layers)
    return model if embedder is None else TextEmbedder(model, embedder)


def _set_dropout(config: Any, probability: float) -> None:
    for name, value in vars(config).items():
        is_rate = isinstance(value, int | float) and not isinstance(value, bool)
        if ("dropout" in name or name.endswith("pdrop")) and (is_rate or value is None):
            setattr(config, name, probability)


def take_layers(model: nn.Module, layers: Sequence[int]) -> None:
    """Keep some blocks of an encoder, in the order given.

    The blocks are the one list of modules as long as the configuration says; a model built
    otherwise is refused.
    """
    config: Any = model.config
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    ]
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__} holds {len(found)} lists of {config.num_hidden_layers} blocks; "
            "layers can be taken from a model with exactly one"
        )
    parent, name = found[0]
    blocks = getattr(parent, name)
    kept = nn.ModuleList([copy.deepcopy(blocks[i]) for i in layers])
    for place, block in enumerate(kept):
        for module in block.modules():  # decoders find their cache by it
            if isinstance(getattr(module, "layer_idx", None), int):
                setattr(module, "layer_idx", place)  # noqa: B010 - no attribute that torch declares
    setattr(parent, name, kept)
    config.num_hidden_layers = len(layers)
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = [config.layer_types[i] for i in layers]


def _reorder_head(model: nn.Module, columns: Sequence[int]) -> None:
    """Put the rows of the last linear layer into the order of the student's labels."""
    num_labels = model.config.num_labels  # type: ignore[union-attr]
    heads = [
        m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == num_labels
    ]
    if not heads:
        raise ValueError(f"{type(model).__name__} ends in no linear layer of {num_labels} classes")
    head, index = heads[-1], torch.tensor(list(columns))
    with torch.no_grad():
        head.weight = nn.Parameter(head.weight[index].clone())
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias[index].clone())
    head.out_features = len(index)
