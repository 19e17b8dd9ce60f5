"""Brings a registered model here, as the Hugging Face folder that is inside it."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import ConfigError
from raydistill.tracking.connection import connect, hide_password, quiet, resolve_uri
from raydistill.tracking.registry import describe_model
from raydistill.tracking.verdict import one_line
from raydistill.tracking.versions import VersionDetails

__all__ = ["ResolvedModel", "cache_folder", "is_held", "models_held", "resolve_model"]


@dataclass(frozen=True)
class ResolvedModel:
    """A version of a registered model on this machine.

    Attributes:
        name: Of the model.
        version: The number that an alias stood for.
        run_id: The MLflow run it came from.
        folder: With ``config.json``, weights and tokenizer; read only, others use it too.
        tags: Of the version.
    """

    name: str
    version: int
    run_id: str | None
    folder: Path
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """With the number, whatever alias led to it."""
        return f"models:/{self.name}/{self.version}"


_held: ContextVar[dict[str, ResolvedModel] | None] = ContextVar("_held", default=None)


@contextmanager
def models_held(
    known: Mapping[str, ResolvedModel] | None = None,
) -> Iterator[Mapping[str, ResolvedModel]]:
    """In this block a URI stays what it was when it was resolved first, and no server is asked again.

    So that runs that belong together start from the same models, though an alias moves meanwhile or
    the server is away.

    Args:
        known: What was found elsewhere, by URI.

    Yields:
        All that was found so far, by URI.
    """
    found = dict(known or {})
    token = _held.set(found)
    try:
        yield found
    finally:
        _held.reset(token)


def is_held(uri: str) -> bool:
    """Whether a URI can be resolved without the server: it was before, and the folder is here."""
    held = _held.get() or {}
    return uri in held and held[uri].folder.is_dir()


def cache_folder() -> Path:
    """Where downloaded models lie: ``$RAYDISTILL_CACHE``, else in the user's cache."""
    chosen = os.environ.get("RAYDISTILL_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "raydistill"


def resolve_model(
    uri: str, tracking_uri: str | None = None, *, path: str = "model", cache: Path | None = None
) -> ResolvedModel:
    """Finds a registered model and downloads it, unless it is here already; see :func:`models_held` too.

    Args:
        uri: ``models:/name@alias`` or ``models:/name/version``. Registered by raydistill or by
            MLflow's own flavours, as long as a folder with ``config.json`` and ``*.safetensors``
            is inside.
        tracking_uri: See :func:`raydistill.tracking.resolve_uri`.
        path: What the user would change, for the error: ``teachers.wide.model``.
        cache: Instead of :func:`cache_folder`.

    Raises:
        ConfigError: It does not exist, cannot be downloaded, or holds no such folder.
    """
    held = _held.get()
    if held is not None and is_held(uri):
        return held[uri]
    place = resolve_uri(tracking_uri)
    found = describe_model(uri, place, path=path)
    target = (cache or cache_folder()) / "models" / _key(found, place)
    if not target.exists():
        _download(found, place, target, path)
    folder = _model_folder(target)
    if folder is None:
        raise ConfigError.of(
            path,
            f"{uri!r} holds no folder with config.json and *.safetensors, so it cannot be loaded.",
        )
    model = ResolvedModel(found.name, found.version, found.run_id, folder, found.tags)
    if held is not None:
        held[uri] = model
    return model


def _key(found: VersionDetails, place: str) -> str:
    """The hash, because registries are deleted and begin again at version 1."""
    identity = "\n".join(
        [hide_password(place), found.source, str(found.run_id), str(found.created_ms)]
    )
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in found.name)
    return f"{readable}-{found.version}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _download(found: VersionDetails, place: str, target: Path, path: str) -> None:
    """Into a folder beside, renamed when complete: whoever sees ``target`` sees all of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
    try:
        with quiet():
            source = connect(place).get_model_version_download_uri(found.name, str(found.version))
            import mlflow.artifacts

            mlflow.artifacts.download_artifacts(source, dst_path=str(draft), tracking_uri=place)
        folder = _model_folder(draft)
        if folder is not None:
            _bring_tokenizer(folder)
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, with the same content
                raise
    except Exception as error:
        raise ConfigError.of(
            path, f"{found.uri!r} exists, but its files cannot be fetched: {one_line(error)}."
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _model_folder(root: Path) -> Path | None:
    """The outermost folder with a configuration and weights."""
    found = [
        config.parent
        for config in root.rglob("config.json")
        if any(config.parent.glob("*.safetensors"))
    ]
    return min(found, key=lambda folder: (len(folder.parts), folder), default=None)


def _bring_tokenizer(folder: Path) -> None:
    """Puts the tokenizer beside the weights; MLflow's transformers flavour keeps it apart."""
    apart = folder.parent / "components" / "tokenizer"
    if (folder / "tokenizer_config.json").exists() or not apart.is_dir():
        return
    for file in apart.iterdir():
        if file.is_file() and not (folder / file.name).exists():
            shutil.copy2(file, folder / file.name)
