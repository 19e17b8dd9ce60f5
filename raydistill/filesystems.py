"""Where files lie: local folders, and whatever the filesystems of Arrow and fsspec reach.

Arrow's own come first (s3://, gs://, abfs://, hdfs://, file://): they need no further package. What
Arrow does not know (https://, hf://, az://, memory://) is fsspec's, through the package that serves it.
"""

from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

__all__ = ["PLACE_ERRORS", "first_line", "is_uri", "located", "shown_uri"]

PLACE_ERRORS = (OSError, pa.ArrowException)
"""What a filesystem raises that cannot be reached, read or written."""

_IN_URIS = "/:@%+=,;!$&'()*~"  # what may stand in one as it is, beside letters, digits and _.-
_GOOGLE = ("gs", "gcs")
_GOOGLE_PATIENCE = (
    "retry_limit_seconds=60"  # by default it tries for 15 minutes, credentials or not
)
_LONGEST = 240


def is_uri(text: str) -> bool:
    """Whether this names a filesystem, and is not just a path."""
    return "://" in text


def located(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path in it.

    Args:
        uri: What stands behind a question mark is for the filesystem:
            ``s3://bucket/rows.csv?region=eu-west-1&endpoint_override=host:9000``.

    Raises:
        OSError: No filesystem is known for it, or it cannot be reached.
        pyarrow.ArrowException: Likewise.
    """
    if not is_uri(uri):
        return fs.LocalFileSystem(), str(Path(uri).expanduser().resolve())
    address, _, query = uri.partition("?")
    scheme, _, rest = address.partition("://")
    if scheme in _GOOGLE and "retry_limit_seconds" not in query:
        query = f"{query}&{_GOOGLE_PATIENCE}" if query else _GOOGLE_PATIENCE
    sound = f"{scheme}://{quote(rest, safe=_IN_URIS)}"
    try:
        return fs.FileSystem.from_uri(f"{sound}?{query}" if query else sound)  # type: ignore[no-any-return]
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    return _by_fsspec(uri, scheme)


def _by_fsspec(uri: str, scheme: str) -> tuple[fs.FileSystem, str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise OSError(f"{scheme}:// needs a package: {first_line(error)}") from None
    except ValueError as error:
        raise OSError(f"no filesystem is known for {scheme}:// ({first_line(error)})") from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def shown_uri(uri: str) -> str:
    """A URI for messages and records: without user, password and what is behind the question mark."""
    if not is_uri(uri):
        return uri
    scheme, _, rest = uri.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def first_line(error: BaseException) -> str:
    """What an error says, as a part of a sentence."""
    lines = str(error).splitlines()
    line = lines[0].partition(" error_info=")[0].strip().rstrip(".") if lines else ""
    return line[:_LONGEST] or type(error).__name__
