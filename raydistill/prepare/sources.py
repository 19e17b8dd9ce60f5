"""Models as users name them, to models that can be loaded."""

import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from raydistill.config import DistillConfig
from raydistill.config.task import PROBLEM_TYPES, RANKED, Head, TaskKind
from raydistill.errors import Fault
from raydistill.models import ModelSource, ModelTraits
from raydistill.tracking import resolve_model

__all__ = [
    "head_faults",
    "is_registry_uri",
    "meaning_faults",
    "package_faults",
    "resolve_source",
    "teacher_source",
    "weights_fingerprint",
]

_PREFIX = "models:/"
# What is chosen, to the extra that brings it and the packages it needs.
_ONNX = ("onnx", ("onnx", "onnxruntime"))
_EXTRAS = {"onnx": _ONNX, "int8": _ONNX, "nixl": ("direct", ("nixl",))}
_CLASSES = {
    "texts": "ForSequenceClassification",
    "words": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
}
_LEARNT = {"texts": "labels", "words": "tags of words", "spans": "answers"}
_CHUNK = 1 << 22
_DECISIVE = (".safetensors", ".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken")
_CHECKPOINT = "checkpoint-"  # folders that a trainer leaves in a model's and removes again


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
        tokenizer: Folder, id or registry URI; None: the model's own.
        revision: Of an id.
        trust_remote_code: Whether code beside the weights may run.

    Raises:
        ConfigError: The registry has no such model, or cannot be reached.
    """
    location, registered = model, None
    if is_registry_uri(model):
        found = resolve_model(model, tracking_uri, path=path)
        location, registered = str(found.folder), found.uri
    elif Path(model).expanduser().is_dir():
        location = str(Path(model).expanduser().resolve())
    if tokenizer is not None and is_registry_uri(tokenizer):
        beside = f"{path.removesuffix('model')}tokenizer"
        tokenizer = str(resolve_model(tokenizer, tracking_uri, path=beside).folder)
    elif tokenizer is not None and Path(tokenizer).expanduser().is_dir():
        tokenizer = str(Path(tokenizer).expanduser().resolve())
    return ModelSource(
        model, location, tokenizer or location, revision, trust_remote_code, registered
    )


def teacher_source(config: DistillConfig, name: str) -> ModelSource:
    """Where a teacher of a configuration is loaded from.

    Raises:
        ConfigError: The registry has no such model, or cannot be reached.
    """
    section = config.teachers[name]
    return resolve_source(
        f"teachers.{name}.model",
        section.model,
        tracking_uri=config.tracking.uri,
        tokenizer=section.tokenizer,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )


def head_faults(path: str, source: ModelSource, head: Head = "texts") -> list[Fault]:
    """A teacher without a trained head would get a random one, and teach noise.

    Args:
        path: Where it stands in the configuration.
        source: A model whose configuration can be loaded.
        head: What it must have been trained for.
    """
    from raydistill.models.auto import AutoConfig

    if head == "embeddings":
        return []
    config = AutoConfig.from_pretrained(source.location, **source.options)
    names = list(getattr(config, "architectures", None) or [])
    if source.trust_remote_code or not names:
        return []  # its classes are called as they like; nothing is said
    if any(name.endswith(_CLASSES[head]) for name in names):
        return []
    what = _LEARNT[head]
    return [
        Fault(
            path,
            f"is a {names[0]}, which has no head for {what}, so its answers would be random. "
            "Fine-tune it first: raydistill teach.",
            rests_on=(path, "task.kind"),
        )
    ]


def meaning_faults(path: str, traits: ModelTraits, kind: TaskKind) -> list[Fault]:
    """A teacher whose outputs mean something else than the task's would be read as noise.

    Args:
        path: Where it stands in the configuration.
        traits: Its shape.
        kind: Of the task.
    """
    if kind in RANKED:  # any head of one output, or of two, gives a score
        return []
    if traits.problem_type in (None, PROBLEM_TYPES[kind]) or PROBLEM_TYPES[kind] is None:
        return []
    return [
        Fault(
            path,
            f"was trained for {traits.problem_type} (problem_type in its config.json), but task.kind is {kind}. "
            "Take a teacher that was trained for this kind.",
            rests_on=(path, "task.kind"),
        )
    ]


def package_faults(path: str, choice: str) -> list[Fault]:
    """What is chosen and needs packages that are not part of every installation.

    Args:
        path: Where it stands in the configuration.
        choice: ``onnx``, ``int8``, ``nixl``; others need nothing.
    """
    extra, packages = _EXTRAS.get(choice, ("", ()))
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return []
    return [
        Fault(
            path,
            f"is {choice}, which needs {' and '.join(missing)}: pip install 'raydistill[{extra}]', on every node.",
        )
    ]


def weights_fingerprint(source: ModelSource) -> str:
    """What weights and tokenizer a source stands for, without loading them.

    SHA-256 over the deciding files of a folder and its subfolders, code among them if it may run; the
    commit of a Hugging Face id, and its tokenizer.
    """
    folder = Path(source.location)
    if folder.is_dir():
        digest = hashlib.sha256()
        if not Path(source.tokenizer).is_dir():
            digest.update(source.tokenizer.encode())
        for place in dict.fromkeys((folder, Path(source.tokenizer))):
            for file in sorted(_deciding_files(place, source.trust_remote_code)):
                digest.update(file.relative_to(place).as_posix().encode())
                with file.open("rb") as stream:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
        return digest.hexdigest()
    from raydistill.models.auto import AutoConfig

    config = AutoConfig.from_pretrained(source.location, **source.options)
    commit = getattr(config, "_commit_hash", None) or source.revision
    other = "" if source.tokenizer == source.location else f" with {source.tokenizer}"
    return f"{source.location}@{commit}{other}"


def _deciding_files(folder: Path, code: bool) -> Iterator[Path]:
    """Links to files are followed, as a hub's cache has them; links to folders, which may go in circles, are not."""
    suffixes = (*_DECISIVE, ".py") if code else _DECISIVE
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", _CHECKPOINT))]
        files = (Path(root, name) for name in names if name.endswith(suffixes))
        yield from (file for file in files if file.is_file())
