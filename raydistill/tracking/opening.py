"""Begins to record a run, or goes on with one."""

import contextlib
import time
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path

from raydistill.errors import TrackingError
from raydistill.tracking.connection import (
    hide_password,
    prepare_mlflow,
    quiet,
    resolve_uri,
)
from raydistill.tracking.journal import Journal
from raydistill.tracking.lock import FileLock
from raydistill.tracking.tracker import Tracker, now_ms
from raydistill.tracking.verdict import Say

__all__ = ["lock_journal", "open_tracker"]

_OPEN_WAIT_S = 15.0
_LOCK_PAUSE_S = 0.1


def open_tracker(
    *,
    uri: str | None,
    experiment: str,
    run_name: str,
    folder: Path,
    resume: bool,
    tags: Mapping[str, str],
    say: Say | None = None,
    pause_s: float = 30.0,
) -> Tracker:
    """Begins to record a run, or goes on with it; waits 15 s at most for MLflow to have it.

    Args:
        uri: See :func:`raydistill.tracking.resolve_uri`.
        experiment: By name; made when it does not exist.
        run_name: What MLflow shows.
        folder: The run's output folder; the journal goes into ``tracking/`` in it.
        resume: Go on with the run that the folder's journal describes, where there is one.
        tags: Of a new run.
        say: Told what the user should know; :func:`warnings.warn` when ``None``.
        pause_s: Rest after a failed delivery.

    Raises:
        ConfigError: ``uri`` is of no known kind.
        TrackingError: Another process is recording in this folder.
    """
    say = say or _warn
    uri = resolve_uri(uri)
    # Here and not in the background: two threads that import large packages may find them half
    # loaded.
    prepare_mlflow()
    lock = lock_journal(folder)
    journal = Journal(folder)
    if resume and journal.opening() is not None:
        journal.append({"op": "resume", "time_ms": now_ms()})
    else:
        num_pending = journal.count_pending()
        aside = journal.set_aside()
        if aside is not None and num_pending:
            say(
                f"{num_pending} records of an earlier run in {folder} were never sent to MLflow; "
                f"they are kept in {aside.parent}."
            )
        journal.append(
            {
                "op": "open",
                "uuid": uuid.uuid4().hex,
                "uri": hide_password(uri),
                "experiment": experiment,
                "run_name": run_name,
                "time_ms": now_ms(),
                "tags": {**_origin(), **{key: str(value) for key, value in tags.items()}},
            }
        )
    tracker = Tracker(journal, uri, lock, say, pause_s=pause_s)
    tracker._courier.flush(_OPEN_WAIT_S)
    return tracker


def lock_journal(folder: Path, *, wait_s: float = 0.0) -> FileLock:
    """The right to deliver a folder's journal.

    Args:
        folder: The run's output folder.
        wait_s: For a process that is about to die.

    Raises:
        TrackingError: Another process has it.
    """
    lock, until = FileLock(Journal(folder).home / "lock"), time.monotonic() + wait_s
    while not lock.acquire():
        if time.monotonic() >= until:
            raise TrackingError(f"{folder} is being recorded by another process; wait for its end.")
        time.sleep(_LOCK_PAUSE_S)
    return lock


def _origin() -> dict[str, str]:
    """Who, from which script and commit: the columns that MLflow's pages show."""
    with contextlib.suppress(Exception), quiet():
        from mlflow.tracking.context.registry import resolve_tags

        return dict(resolve_tags())
    return {}


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
