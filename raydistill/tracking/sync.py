"""Sends later what could not be sent while the run ran."""

from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import RaydistillError, TrackingError
from raydistill.tracking.connection import connect, resolve_uri
from raydistill.tracking.delivery import deliver
from raydistill.tracking.journal import Journal
from raydistill.tracking.opening import lock_journal
from raydistill.tracking.tracker import now_ms
from raydistill.tracking.verdict import Say

__all__ = ["Registration", "SyncResult", "close_record", "registration_of", "sync"]


@dataclass(frozen=True)
class SyncResult:
    """What one :func:`sync` did.

    Attributes:
        delivered: Records that MLflow took now.
        remaining: Records that still wait.
        model_uri: The version registered last, now or before.
        skipped: Records that MLflow refused for good, now.
        run_id: The MLflow run.
    """

    delivered: int
    remaining: int
    model_uri: str | None
    skipped: int = 0
    run_id: str | None = None


@dataclass(frozen=True)
class Registration:
    """What became of the version that a run asked for.

    Attributes:
        model_uri: The version; ``None``: MLflow is away, and the registration waits on.
    """

    model_uri: str | None


def sync(folder: Path, say: Say, *, uri: str | None = None) -> SyncResult:
    """Delivers the waiting records of one run folder, with their original times.

    Args:
        folder: The run's output folder.
        say: Told, one line each, what was left out and why it stopped.
        uri: Another tracking URI than the run's own. A server that does not know the run gets all
            of it.

    Raises:
        TrackingError: There is no journal, it is in use, or its URI had a password, which is not
            stored.
        ConfigError: ``uri`` is of no known kind.
    """
    journal = Journal(folder)
    opening = journal.opening()
    if opening is None:
        raise TrackingError(f"{folder} holds no record of a run to send to MLflow.")
    target = resolve_uri(uri or opening["uri"])
    if ":***@" in target:
        raise TrackingError(f"{folder} was recorded for {target}; give the URI with its password.")
    lock = lock_journal(folder)
    try:
        journal = Journal(folder)  # its position again, now that nobody else moves it
        outcome = deliver(journal, lambda: connect(target), target, say)
    finally:
        lock.release()
    if outcome.trouble is not None:
        say(f"{folder}: MLflow took no more records: {outcome.trouble}.")
    return SyncResult(
        outcome.delivered,
        journal.count_pending(),
        journal.position.model_uri,
        outcome.skipped,
        journal.position.run_id,
    )


def close_record(folder: Path, status: str, say: Say, *, wait_s: float = 0.0) -> None:
    """End the record of a run whose process died; nothing if it was ended, or never begun.

    Args:
        folder: The run's output folder.
        status: As MLflow has it, ``FAILED``.
        say: Told why it could not be sent.
        wait_s: For a process that is about to die.
    """
    journal = Journal(folder)
    last = None
    for entry in journal.entries(0):
        last = entry.record.get("op")
    if last in (None, "finish"):
        return
    try:
        lock_journal(folder, wait_s=wait_s).release()  # nobody writes there any more
        journal.append({"op": "finish", "status": status, "time_ms": now_ms()})
        sync(folder, say)
    except RaydistillError as error:
        say(f"the record of {folder} stays open: {error}")


def registration_of(folder: Path, say: Say, *, uri: str | None = None) -> Registration | None:
    """The version that a run asked for in an earlier sitting, asked for again if MLflow was away.

    Args:
        folder: The run's output folder.
        say: Told why it could not be sent.
        uri: See :func:`raydistill.tracking.resolve_uri`.

    Returns:
        ``None``: It asked for none, or MLflow refused it for good.
    """
    journal = Journal(folder)
    waits = any(entry.record.get("op") == "register" for entry in journal.entries())
    if waits:
        try:
            sync(folder, say, uri=resolve_uri(uri))
        except RaydistillError as error:
            say(f"the registration in {folder} waits for another time: {error}")
        journal = Journal(folder)
        waits = any(entry.record.get("op") == "register" for entry in journal.entries())
    found = journal.position.model_uri
    return Registration(found) if waits or found is not None else None
