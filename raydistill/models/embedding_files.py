"""What a folder of sentence-transformers says beside its encoder, read and written; their library is not needed.

``modules.json`` names what follows the encoder: one ``Pooling``, perhaps ``Normalize``. What stands before texts
and how embeddings are compared is in ``config_sentence_transformers.json``, lower case in
``sentence_bert_config.json``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from raydistill.config.models import PoolingMode
from raydistill.config.ranking import Similarity
from raydistill.models.describe import ModelSource
from raydistill.models.embedder import EmbedderSpec

__all__ = ["is_embedder_folder", "read_embedder", "write_embedder"]

_MODULES = "modules.json"
_SETTINGS = "config_sentence_transformers.json"
_TRANSFORMER = "sentence_bert_config.json"
_OLD_NAMES: Mapping[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_PASSAGES = ("document", "passage", "corpus")
"""What prompts of passages are called, the first that is there."""
_CLASSES = "sentence_transformers.models"


def is_embedder_folder(source: ModelSource) -> bool:
    """Whether sentence-transformers made it."""
    return _read(source, _MODULES) is not None


def read_embedder(source: ModelSource) -> tuple[EmbedderSpec, list[str]]:
    """What the folder says, and what it does not say and is taken for granted.

    Args:
        source: Folder or Hugging Face id; of a bare encoder everything is as usual.

    Returns:
        The specification, and clauses about it.

    Raises:
        ValueError: It does something else than pool and normalize. The message continues a sentence that begins
            with the model.
    """
    modules = _read(source, _MODULES)
    settings = _read(source, _SETTINGS) or {}
    spec, notes = EmbedderSpec(), list[str]()
    if modules is None:
        notes.append("does not say how its tokens become an embedding: it is their mean")
    else:
        spec = _of_modules(source, modules, notes)
    similarity: Any = settings.get("similarity_fn_name") or "cosine"
    if similarity not in get_args(Similarity):
        raise ValueError(f"compares its embeddings by {similarity}, where cosine and dot are known")
    prompts: Mapping[str, str] = settings.get("prompts") or {}
    usual = prompts.get(settings.get("default_prompt_name") or "", "")
    passage = next((prompts[name] for name in _PASSAGES if prompts.get(name)), usual)
    return EmbedderSpec(
        pooling=spec.pooling,
        normalize=spec.normalize,
        query_prompt=prompts.get("query") or usual,
        passage_prompt=passage,
        similarity=similarity,
        lower_case=bool((_read(source, _TRANSFORMER) or {}).get("do_lower_case", False)),
    ), notes


def _of_modules(source: ModelSource, modules: Any, notes: list[str]) -> EmbedderSpec:
    """What follows the encoder."""
    pooling: PoolingMode | None = None
    normalize = False
    for place, module in enumerate(modules):
        name = str(module["type"]).rpartition(".")[2]
        if place == 0 and name == "Transformer":
            if module.get("path"):
                raise ValueError(
                    f"keeps its encoder in a folder of its own, {module['path']}; load it with sentence-transformers and "
                    "save it again"
                )
        elif name == "Pooling" and pooling is None:
            pooling = _pooling_of(_read(source, f"{module['path']}/config.json"), notes)
        elif name == "Normalize":
            normalize = True
        elif name != "Dropout":
            raise ValueError(
                f"has a module {name}, which is not known: embeddings are pooled and normalized states"
            )
    if pooling is None:
        raise ValueError("has no module Pooling, so its tokens have no embedding in common")
    return EmbedderSpec(pooling=pooling, normalize=normalize)


def _pooling_of(settings: Any, notes: list[str]) -> PoolingMode:
    if settings is None:
        notes.append("does not say how its tokens become an embedding: it is their mean")
        return "mean"
    chosen: Any = settings.get("pooling_mode")
    if chosen is None:
        found = [mode for name, mode in _OLD_NAMES.items() if settings.get(name)]
        chosen = found if len(found) > 1 else (found or ["mean"])[0]
    if isinstance(chosen, list) and len(chosen) == 1:
        chosen = chosen[0]
    if chosen not in get_args(PoolingMode):
        raise ValueError(f"pools its tokens by {chosen}, where one of {', '.join(get_args(PoolingMode))} is known")  # fmt: skip
    if settings.get("include_prompt") is False:
        raise ValueError("leaves its prompts out of the pooling, which is not known")
    mode: PoolingMode = chosen
    return mode


def write_embedder(folder: Path, spec: EmbedderSpec, *, width: int, max_tokens: int) -> None:
    """Make a folder with an encoder one that sentence-transformers loads.

    Args:
        folder: With the encoder and its tokenizer.
        spec: The rest.
        width: Of an embedding.
        max_tokens: Longer texts are cut.
    """
    names = ["Transformer", "Pooling", *(["Normalize"] if spec.normalize else [])]
    paths = ["", *(f"{place}_{name}" for place, name in enumerate(names) if place)]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"{_CLASSES}.{name}"}
        for place, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    pooling = {name: mode == spec.pooling for name, mode in _OLD_NAMES.items()}
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    _write(folder / _MODULES, modules)
    _write(
        folder / paths[1] / "config.json",
        {"word_embedding_dimension": width, **pooling, "include_prompt": True},
    )
    _write(folder / _TRANSFORMER, {"max_seq_length": max_tokens, "do_lower_case": spec.lower_case})
    _write(
        folder / _SETTINGS,
        {
            "prompts": {"query": spec.query_prompt, "document": spec.passage_prompt},
            "default_prompt_name": None,
            "similarity_fn_name": spec.similarity,
        },
    )


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(source: ModelSource, name: str) -> Any:
    """A file of the model; None if there is none, or it cannot be read."""
    folder = Path(source.location)
    if folder.is_dir():
        found: str | None = str(folder / name) if (folder / name).is_file() else None
    else:
        from transformers.utils import cached_file

        found = cached_file(
            source.location,
            name,
            revision=source.revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    if found is None:
        return None
    try:
        return json.loads(Path(found).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"holds a torn {name} ({error})") from None
