"""The way to an MLflow server or database: which one, quietly, and without waiting for minutes."""

import contextlib
import importlib.metadata
import logging
import os
import re
import socket
import sys
import urllib.parse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from raydistill.errors import ConfigError
from raydistill.tracking.lock import waiting_for

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = [
    "Unreachable",
    "artifact_location",
    "connect",
    "hide_password",
    "prepare_mlflow",
    "quiet",
    "resolve_uri",
    "sqlite_path",
]

_PROBE_S = 3.0
_SCHEMES = frozenset(
    "file http https databricks databricks-uc uc sqlite mysql postgresql mssql".split()  # noqa: SIM905
)
# MLflow's own defaults wait and repeat for minutes; here a journal waits, so a request need not.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Unreachable(Exception):  # noqa: N818 - a finding that is caught, not an error of the user
    """Nobody answers at the address."""


def prepare_mlflow() -> None:
    """Bounds MLflow's waiting and silences it, unless the environment says otherwise."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Filters by origin, set for good: catch_warnings would swap the filters of other threads, too.
    for origin in ("mlflow", "alembic", "pydantic", "sqlalchemy"):
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{origin}(\.|$)")
    with contextlib.nullcontext() if "mlflow.tracking" in sys.modules else quiet():
        import mlflow.tracking  # noqa: F401 - sets its own loggers up, so the levels below come after
    level = os.environ["MLFLOW_LOGGING_LEVEL"].upper()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the warnings that MLflow causes elsewhere. For the main thread: filters are global."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def resolve_uri(uri: str | None, *, path: str = "tracking.uri") -> str:
    """The tracking URI that is meant, absolute.

    Args:
        uri: As the user set it. ``None``: ``MLFLOW_TRACKING_URI`` where that is set, as everywhere
            with MLflow, else the embedded ``sqlite:///mlflow.db`` in the working directory.
        path: What the user would change, for the error.

    Raises:
        ConfigError: MLflow knows no such kind of address.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    found = re.match(r"([A-Za-z][\w.-]*)(\+\w+)?:", uri)
    if found is None:
        return Path(uri).expanduser().resolve().as_uri()
    scheme = found[1].lower()
    if scheme == "sqlite":
        database = sqlite_path(uri)
        return f"sqlite:///{database.resolve()}" if database else uri
    plugins = importlib.metadata.entry_points(group="mlflow.tracking_store")
    if scheme not in _SCHEMES and scheme not in {plugin.name for plugin in plugins}:
        known = ", ".join(sorted(_SCHEMES))
        message = (
            f"must be an MLflow tracking URI, got {hide_password(uri)!r}. Known schemes: {known}."
        )
        raise ConfigError.of(path, message)
    if scheme == "file":
        # MLflow refuses its old folder format unless asked for; whoever writes file: asks for it.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite URI; ``None`` for any other, and for one in memory."""
    if not uri.startswith("sqlite:"):
        return None
    file = uri.partition("///")[2].partition("?")[0]
    return Path(file) if file and file != ":memory:" else None


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps files: beside an embedded database; a server decides itself."""
    database = sqlite_path(uri)
    return (database.parent / "mlartifacts").as_uri() if database else None


def hide_password(uri: str) -> str:
    """The URI as it may be shown and stored."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


def connect(uri: str) -> "MlflowClient":
    """A client for tracking and registry.

    Raises:
        Unreachable: No connection within three seconds; said before MLflow starts its own, longer
            tries.
    """
    _probe(uri)
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or uri
    database = sqlite_path(uri)
    if database is None:
        return MlflowClient(uri, registry_uri)
    # MLflow makes the tables on first use and says "already exists" to whoever comes second
    # meanwhile.
    with waiting_for(database.with_name(database.name + "-lock")):
        client = MlflowClient(uri, registry_uri)
        client.search_experiments(max_results=1)
        return client


def _probe(uri: str) -> None:
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in {"http", "https"} or _proxy(uri):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_PROBE_S).close()
    except OSError as error:
        raise Unreachable(f"{hide_password(uri)} does not answer ({error})") from None


def _proxy(uri: str) -> str | None:
    """What stands between us and a server, by the environment, as requests reads it for MLflow."""
    from requests.utils import get_environ_proxies, select_proxy

    return select_proxy(uri, get_environ_proxies(uri))
