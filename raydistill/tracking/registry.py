"""Looks into MLflow's model registry."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raydistill.errors import ConfigError, Fault
from raydistill.tracking.connection import (
    Unreachable,
    connect,
    hide_password,
    resolve_uri,
    sqlite_path,
)
from raydistill.tracking.moves import read_moves
from raydistill.tracking.verdict import CREDENTIALS, Verdict, judge, lets_nobody_in, one_line
from raydistill.tracking.versions import ModelDetails, VersionDetails, read_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient

__all__ = [
    "as_model_uri",
    "describe_model",
    "find_model",
    "find_version",
    "list_models",
    "open_registry",
    "parse_model_uri",
    "show_model",
    "trouble",
]

_FORM = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w-]+))")
_MAX_NAMED = 8


def parse_model_uri(uri: str, *, path: str = "model") -> tuple[str, int | None, str | None]:
    """Name, version and alias of ``models:/name/version`` or ``models:/name@alias``.

    Raises:
        ConfigError: It has another form.
    """
    found = _FORM.fullmatch(uri)
    if found is None:
        raise ConfigError.of(
            path, f"must be models:/name@alias or models:/name/version, got {uri!r}."
        )
    version = found["version"]
    return found["name"], int(version) if version else None, found["alias"]


def as_model_uri(name: str) -> str:
    """``models:/name@alias`` of ``name@alias``, as people type it."""
    return name if name.startswith("models:/") else f"models:/{name}"


def describe_model(
    uri: str, tracking_uri: str | None = None, *, path: str = "model"
) -> VersionDetails:
    """Finds a version without downloading it.

    Args:
        uri: ``models:/name@alias`` or ``models:/name/version``.
        tracking_uri: See :func:`raydistill.tracking.resolve_uri`.
        path: What the user would change, for the error.

    Raises:
        ConfigError: There is no such model, version or alias, or the server cannot be reached.
    """
    name, version, alias = parse_model_uri(uri, path=path)
    with open_registry(tracking_uri, path, uri) as (client, place):
        model = find_model(client, name, place, path)
        if alias is not None:
            number = model.aliases.get(alias)
            if number is None:
                raise ConfigError.of(path, _no_alias(model, alias))
            version = int(number)
        found = find_version(client, model, version, path)
        return read_version(found, model.aliases)


def list_models(
    tracking_uri: str | None = None, *, path: str = "tracking.uri"
) -> list[ModelDetails]:
    """All registered models with their versions, by name.

    Raises:
        ConfigError: The server cannot be reached, or there is no database yet.
    """
    with open_registry(tracking_uri, path, "the registry") as (client, _):
        return [
            _model(client, model) for model in sorted(_models(client), key=lambda m: str(m.name))
        ]


def show_model(
    name_or_uri: str, tracking_uri: str | None = None, *, path: str = "model"
) -> ModelDetails:
    """One registered model; of a URI, only the version that it names.

    Raises:
        ConfigError: There is none, or the server cannot be reached.
    """
    name = name_or_uri.removeprefix("models:/")
    if {"@", "/"} & set(name):
        version = describe_model(as_model_uri(name), tracking_uri, path=path)
        aliases = dict.fromkeys(version.aliases, version.version)
        return ModelDetails(version.name, aliases, (version,))
    with open_registry(tracking_uri, path, name) as (client, place):
        return _model(client, find_model(client, name, place, path))


@contextmanager
def open_registry(
    tracking_uri: str | None, path: str, wanted: str
) -> Iterator[tuple["MlflowClient", str]]:
    """A client and the registry's address; connection trouble becomes the user's fault list."""
    uri = resolve_uri(tracking_uri)
    place = hide_password(uri)
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        # Connecting would make it, and looking must not leave anything behind.
        raise ConfigError.of(
            path, f"{wanted!r} cannot be looked up: there is no database {database}."
        )
    try:
        client = connect(uri)
        yield client, place
    except ConfigError:
        raise
    except Exception as error:
        if judge(error) is Verdict.REFUSED:
            if not isinstance(error, ImportError) and not _is_of_mlflow(error):
                raise  # a mistake of ours
            message = f"{wanted!r} cannot be looked up at {place}: {one_line(error)}."
            raise ConfigError.of(path, message) from None
        message = f"{wanted!r} cannot be looked up, {trouble(error, place)}"
        raise ConfigError([Fault(path, message, rests_on=(path, "tracking.uri"))]) from None


def trouble(error: BaseException, place: str) -> str:
    """Why a server was of no use, and what helps; ends a sentence.

    Args:
        error: Whose verdict is not that the request itself was wrong.
        place: Without a password.
    """
    if lets_nobody_in(error):
        return f"the server at {place} does not let us in: {one_line(error)}. Set {CREDENTIALS}."
    said = (
        str(error)
        if isinstance(error, Unreachable)
        else f"{place} does not answer: {one_line(error)}"
    )
    return f"the server at {said}. Start the server, or set tracking.uri."


def _is_of_mlflow(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "mlflow"


def _models(client: "MlflowClient") -> list["RegisteredModel"]:
    found: list[RegisteredModel] = []
    token = None
    while True:
        page = client.search_registered_models(max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def find_model(client: "MlflowClient", name: str, place: str, path: str) -> "RegisteredModel":
    """A registered model; a fault with the names that there are, if it is not among them."""
    try:
        return client.get_registered_model(name)
    except Exception as error:
        if judge(error) is not Verdict.REFUSED:
            raise
    names = sorted(str(model.name) for model in _models(client))
    message = f"names the model {name!r}, which {place} does not have. {_known('Models', names)}"
    raise ConfigError.of(path, message + _nearest(name, names))


def find_version(
    client: "MlflowClient", model: "RegisteredModel", version: int | None, path: str
) -> "ModelVersion":
    """A version of it; a fault with the versions that there are, if it is not among them."""
    try:
        return client.get_model_version(model.name, str(version))
    except Exception as error:
        if judge(error) is not Verdict.REFUSED:
            raise
    versions = [str(v.version) for v in _versions(client, model.name)]
    aliases = sorted(model.aliases)
    message = f"names version {version} of {model.name!r}, which does not exist. "
    raise ConfigError.of(
        path, f"{message}{_known('Versions', versions)} {_known('Aliases', aliases)}"
    )


def _no_alias(model: "RegisteredModel", alias: str) -> str:
    held = sorted(f"{name} (version {version})" for name, version in model.aliases.items())
    message = f"names the alias {alias!r} of {model.name!r}, which does not exist. "
    return f"{message}{_known('Aliases', held)}{_nearest(alias, sorted(model.aliases))}"


def _known(what: str, names: list[str]) -> str:
    more = ", …" if len(names) > _MAX_NAMED else ""
    return f"{what} there: {', '.join(names[:_MAX_NAMED]) or 'none'}{more}."


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _versions(client: "MlflowClient", name: str) -> list["ModelVersion"]:
    quoted = name.replace("'", "''")
    found = client.search_model_versions(f"name = '{quoted}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def _model(client: "MlflowClient", model: "RegisteredModel") -> ModelDetails:
    aliases = {str(alias): int(version) for alias, version in model.aliases.items()}
    versions = tuple(read_version(found, model.aliases) for found in _versions(client, model.name))
    return ModelDetails(str(model.name), aliases, versions, tuple(read_moves(model.tags)))
