"""The Ray Train trainer, its restarts, and what the driver does meanwhile."""

import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.exceptions import RayTaskError
from ray.train.torch import TorchConfig, TorchTrainer

from raydistill.errors import NotFiniteError, RaydistillError, TrainingError
from raydistill.training.checkpoint import Progress, read_progress
from raydistill.training.job import TasksJob, WorkerJob
from raydistill.training.several_worker import TasksWorker
from raydistill.training.worker import Worker

__all__ = ["Trained", "decide", "find_cause", "one_line", "train"]

_DRAIN_S = 0.5
_PLACEMENT_TRIES = 3  # a minute each, for workers that find no room
_STOP_S = 120.0  # how long workers may take to save and stop


@dataclass(frozen=True)
class Trained:
    """What training left.

    Attributes:
        progress: Of the last checkpoint.
        checkpoint: Its folder.
        metrics: Of the last report.
    """

    progress: Progress
    checkpoint: Path
    metrics: Mapping[str, float]


class _Next(Enum):
    AGAIN = "start the workers again from the last checkpoint"
    STOP = "stop"


def decide(error: BaseException, *, restarts: int, max_restarts: int) -> _Next:
    """Whether training goes on after a failure.

    What raydistill raised on purpose would be raised again; only lost processes and nodes, and
    failures of the platform, are worth another start.
    """
    if find_cause(error) is not None or any(isinstance(e, _BUGS) for e in _chain(error)):
        return _Next.STOP
    return _Next.AGAIN if restarts < max_restarts else _Next.STOP


_BUGS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError)
"""Would come again: nobody's machine failed."""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What every worker raised, and what that came from."""
    for failure in (getattr(error, "worker_failures", None) or {0: error}).values():
        at: BaseException | None = failure
        while at is not None:
            yield at
            at = at.cause if isinstance(at, RayTaskError) else (at.__cause__ or at.__context__)


def find_cause(error: BaseException) -> RaydistillError | None:
    """The error that raydistill raised inside a worker, the most telling one if there are several."""
    causes = [e for e in _chain(error) if isinstance(e, RaydistillError)]
    # Workers that only saw another's gradient say less than the one whose loss it was.
    causes.sort(key=lambda c: isinstance(c, NotFiniteError) and c.subject == "the gradient")
    return causes[0] if causes else None


def train(
    job: WorkerJob,
    *,
    storage: Path,
    on_events: Callable[[list[dict[str, Any]]], None],
    say: Callable[[str], None],
    wait_for_room: bool = False,
) -> Trained:
    """Train to the end, from the latest checkpoint in ``storage`` if there is one.

    Args:
        job: What the workers do.
        storage: Where checkpoints go; visible to all nodes.
        on_events: Gets what workers dropped at the recorder.
        say: Where decisions are told.
        wait_for_room: The cluster grows on demand: workers may wait for nodes.

    Raises:
        KeyboardInterrupt: The user interrupted; a checkpoint was saved if there was time.
        RaydistillError: What a worker raised.
        TrainingError: Workers were lost more often than ``training.max_restarts``.
    """
    limit = job.training.max_restarts
    for restarts in itertools.count():
        outcome = _attempt(job, storage, on_events, wait_for_room=wait_for_room)
        if not isinstance(outcome, BaseException):
            return _trained(outcome, storage)
        cause = find_cause(outcome)
        if cause is not None:
            raise cause from None
        if decide(outcome, restarts=restarts, max_restarts=limit) is _Next.STOP:
            raise TrainingError(
                f"training workers were lost {restarts + 1} times (training.max_restarts = {limit}); "
                f"the last time: {one_line(outcome)}. What was saved can be resumed with --resume."
            ) from outcome
        say(
            f"training workers were lost ({one_line(outcome)}); decided to {_Next.AGAIN.value} "
            f"(restart {restarts + 1} of {limit})"
        )
    raise AssertionError("unreachable")


def _attempt(
    job: WorkerJob,
    storage: Path,
    on_events: Callable[[list[dict[str, Any]]], None],
    *,
    wait_for_room: bool,
) -> Any:
    """One `fit` and its result or error, in a thread: this one stays free for events and Ctrl-C."""
    training = job.training
    resources = {"CPU": training.cpus_per_worker, **training.worker_resources}
    if training.gpus_per_worker > 0:
        resources["GPU"] = training.gpus_per_worker
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=training.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if training.gpus_per_worker >= 1 else "gloo"),
        run_config=ray.train.RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            failure_config=ray.train.FailureConfig(
                controller_failure_limit=-1 if wait_for_room else _PLACEMENT_TRIES
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=training.checkpoints_kept),
        ),
    )
    outcome: list[Any] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit())
        except BaseException as error:  # handed to the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=fit, name="raydistill-fit", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_DRAIN_S)
            on_events(ray.get(job.recorder.drain.remote()))
    except KeyboardInterrupt:
        ray.get(job.recorder.ask_to_stop.remote())
        thread.join(_STOP_S)
        on_events(ray.get(job.recorder.drain.remote()))
        raise
    on_events(ray.get(job.recorder.drain.remote()))
    return outcome[0]


def _run_worker(config: dict[str, Any]) -> None:
    """What Ray Train starts: from the latest checkpoint, or the beginning, to the end."""
    job: WorkerJob = config["job"]
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(job, TasksJob):
            TasksWorker(job, Path(scratch)).run()
        else:
            Worker(job, Path(scratch)).run()


def _trained(result: Any, storage: Path) -> Trained:
    if result.checkpoint is None:
        raise TrainingError(f"training ended without a checkpoint in {storage}.")
    folder = Path(result.checkpoint.path)
    progress = read_progress(folder)
    if not progress.end:
        raise KeyboardInterrupt  # the workers stopped because they were asked to
    numbers = {k: v for k, v in (result.metrics or {}).items() if isinstance(v, int | float)}
    return Trained(progress, folder, numbers)


def one_line(error: BaseException) -> str:
    """What happened to the first worker that failed, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    first = next(iter(failures.values()))
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return f"{type(first).__name__}: {lines[0]}" if lines else type(first).__name__


def quiet_ray_train() -> None:
    """Settings of Ray Train that are environment variables; the user's own are kept."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
