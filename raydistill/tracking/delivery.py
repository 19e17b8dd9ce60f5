"""Sends what a journal holds, in order, and stops at the first failure that may pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.tracking.connection import hide_password
from raydistill.tracking.journal import Entry, Journal, merge_metrics
from raydistill.tracking.operations import apply_record, describe_record
from raydistill.tracking.verdict import CREDENTIALS, Say, Verdict, judge, lets_nobody_in, one_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["Outcome", "deliver"]

# An MLflow server whose own database is away answers 500, as it does to a record that breaks it.
# With a try every half minute this outlasts a restart of the database, and a broken record passes
# in ten minutes.
_MAX_ATTEMPTS = 20
_MAX_POINTS = 1000  # of one call, MLflow's limit


@dataclass(frozen=True)
class Outcome:
    """What one delivery did.

    Attributes:
        delivered: Records taken, this time.
        skipped: Records left out for good, this time.
        trouble: Why it stopped before the end, as a clause; ``None`` when all is delivered.
    """

    delivered: int
    skipped: int
    trouble: str | None


class _StoppedError(Exception):
    """The record could not be delivered now."""


def deliver(
    journal: Journal, client_for: "Callable[[], MlflowClient]", uri: str, say: Say
) -> Outcome:
    """Sends what is pending. Never raises on behalf of MLflow.

    Args:
        journal: Its position moves with every record, so an interruption repeats one at most.
        client_for: Gives an ``MlflowClient``; asked only when there is something to send.
        uri: Of that client. Where it is not the one of earlier deliveries and does not know the run
            either, the whole journal is sent from its beginning.
        say: Told, one line each, what is left out.
    """
    delivered = skipped = 0
    try:
        if next(journal.entries(), None) is None:
            return Outcome(0, 0, None)
        client = client_for()
        _settle_place(journal, client, uri)
        for entry in merge_metrics(journal.entries(), _MAX_POINTS):
            taken = _deliver_one(journal, client, entry, say)
            delivered += entry.count if taken else 0
            skipped += 0 if taken else entry.count
    except Exception as error:
        asked = f"; set {CREDENTIALS}" if lets_nobody_in(error) else ""
        return Outcome(delivered, skipped, one_line(error) + asked)
    return Outcome(delivered, skipped, None)


def _deliver_one(journal: Journal, client: "MlflowClient", entry: Entry, say: Say) -> bool:
    """Whether it was taken; a refused one is named and passed over."""
    record, position = entry.record, journal.position
    if position.run_id is None and record["op"] != "open":
        raise _StoppedError(f"{journal.path} does not begin with the run it belongs to")
    try:
        changes = apply_record(client, record, journal, say)
    except Exception as error:
        verdict, attempts = judge(error), position.attempts + 1
        if verdict is Verdict.UNCLEAR:
            journal.move(attempts=attempts)
        may_wait = verdict is Verdict.AWAY or (
            verdict is Verdict.UNCLEAR and attempts < _MAX_ATTEMPTS
        )
        # Without its run nothing else can be told, so the opening record is never given up.
        if may_wait or record["op"] == "open":
            raise _StoppedError(one_line(error)) from error
        say(f"MLflow refused {describe_record(record)}, left out: {one_line(error)}.")
        journal.move(
            offset_bytes=entry.end_bytes, skipped=position.skipped + entry.count, attempts=0
        )
        return False
    delivered = position.delivered + entry.count
    journal.move(offset_bytes=entry.end_bytes, delivered=delivered, attempts=0, **changes)
    return True


def _settle_place(journal: Journal, client: "MlflowClient", uri: str) -> None:
    """Makes sure that the run id belongs to this server; starts again where it does not."""
    place, position = hide_password(uri), journal.position
    if position.uri == place:
        return
    if position.run_id is not None and not _knows_run(client, position.run_id):
        journal.move(
            offset_bytes=0,
            delivered=0,
            skipped=0,
            attempts=0,
            run_id=None,
            experiment_id=None,
            registrations={},
            model_uri=None,
        )
    journal.move(uri=place)


def _knows_run(client: "MlflowClient", run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except Exception as error:
        if judge(error) is Verdict.REFUSED:
            return False
        raise
    return True
