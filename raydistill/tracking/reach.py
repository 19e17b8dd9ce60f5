"""Whether records will be taken, for those who had better know it beforehand."""

from raydistill.tracking.connection import connect, resolve_uri
from raydistill.tracking.verdict import one_line

__all__ = ["why_unreachable"]


def why_unreachable(uri: str | None) -> str | None:
    """Why a server takes no records, as a clause; None: it does, or there is no server.

    Args:
        uri: See :func:`raydistill.tracking.resolve_uri`.

    Raises:
        ConfigError: It is of no known kind.
    """
    found = resolve_uri(uri)
    if not found.startswith(("http:", "https:")):
        return None  # a database is made when it is needed
    try:
        connect(found).search_experiments(max_results=1)
    except Exception as error:
        return one_line(error)
    return None
