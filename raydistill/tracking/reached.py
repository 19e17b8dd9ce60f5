"""Whether a run's server can be told of it, asked before anything starts."""

from raydistill.errors import ConfigError, Fault
from raydistill.tracking.connection import connect, hide_password, resolve_uri
from raydistill.tracking.registry import trouble
from raydistill.tracking.verdict import Verdict, judge, lets_nobody_in, one_line

__all__ = ["server_faults"]


def server_faults(uri: str | None, *, required: bool, path: str = "tracking.uri") -> list[Fault]:
    """What a run should know of its server. A database is not asked: connecting would make it.

    One that is away is none of the user's mistakes, unless it must be there: records wait for it on
    disk. One that wants a token would refuse them tomorrow too.

    Args:
        uri: As the user set it.
        required: A server that does not answer is a fault.
        path: Where the user set it.
    """
    try:
        address = resolve_uri(uri, path=path)
    except ConfigError as error:
        return list(error.faults)
    if not address.startswith(("http:", "https:", "databricks")):
        return []
    place = hide_password(address)
    try:
        connect(address).search_experiments(max_results=1)
    except Exception as error:
        if judge(error) is Verdict.REFUSED:
            return [Fault(path, f"is no MLflow server, {place}: {one_line(error)}.")]
        if required or lets_nobody_in(error):
            message = f"cannot be used, {trouble(error, place)}"
            return [Fault(path, message, rests_on=(path, "tracking.required"), doubts=(path,))]
    return []
