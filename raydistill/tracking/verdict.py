"""What a failed call of MLflow means: wait, try again, or give the record up."""

import enum
import re
from collections.abc import Callable, Iterator

from raydistill.tracking.connection import Unreachable

__all__ = ["CREDENTIALS", "Say", "Verdict", "judge", "lets_nobody_in", "one_line"]

_MAX_CHARACTERS = 300
_SERVER_ERROR = 500
_NOT_LET_IN = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})

CREDENTIALS = "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
"""Where MLflow looks for who we are."""

Say = Callable[[str], None]


class Verdict(enum.Enum):
    """What a failed delivery means."""

    AWAY = "nobody answers, or lets us in: wait, however long"
    UNCLEAR = "the server stumbled: try again a few times"
    REFUSED = "this record will never be taken: leave it out"


def judge(error: BaseException) -> Verdict:
    """Whether waiting can help.

    The whole chain of causes is looked at: MLflow wraps a lost connection into the same exception
    as any other internal error.
    """
    chain = list(_causes(error))
    for link in chain:
        names = {f"{kind.__module__}.{kind.__name__}" for kind in type(link).__mro__}
        if isinstance(link, Unreachable | ConnectionError | TimeoutError) or names & {
            "requests.exceptions.ConnectionError",
            "requests.exceptions.Timeout",
            "sqlalchemy.exc.OperationalError",  # locked, full, gone: not the record's fault
            "sqlalchemy.exc.InterfaceError",
        }:
            return Verdict.AWAY
    if lets_nobody_in(error):
        return Verdict.AWAY
    code = getattr(error, "error_code", None)
    if code in {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}:
        return Verdict.AWAY
    if any(_http_status(link) in {429, 502, 503, 504} for link in chain):
        return Verdict.AWAY
    if code == "INTERNAL_ERROR" or any(
        (_http_status(link) or 0) >= _SERVER_ERROR for link in chain
    ):
        return Verdict.UNCLEAR
    return Verdict.REFUSED


def lets_nobody_in(error: BaseException) -> bool:
    """Whether the server asks who we are: no token, a wrong one, or one without the right.

    A gateway before the server may say so in an answer that MLflow takes for an internal error.
    """
    chain = list(_causes(error))
    if any(getattr(link, "error_code", None) in _NOT_LET_IN for link in chain):
        return True
    if any(_http_status(link) in {401, 403} for link in chain):
        return True
    return getattr(error, "error_code", None) == "INTERNAL_ERROR" and bool(
        re.search(
            r"\b(unauthori[sz]ed|unauthenticated|not authenticated|401|403)\b", str(error), re.I
        )
    )


def _http_status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def one_line(error: BaseException) -> str:
    """An exception as a clause for a sentence, without its full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…").rstrip(".")
