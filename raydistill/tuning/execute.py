"""Trials on Ray Tune: which is next, what they tell, how they end.

Ray Tune holds a trial's process, at no CPU, and starts it again if it dies; the trial's workers are
placed by Ray Train, so that no more trials may run than have room for their workers. None of Ray Tune's
schedulers is used: what a trial tells waits for its source's answer, and whoever is to stop finds that
in a file (`trial.py`) and saves, instead of being killed: its placement group, its record and its student
are left in order.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.search import Searcher

from raydistill.tuning.records import SeedResult
from raydistill.tuning.trial import Shared, TrialSpec, run_trial

__all__ = ["End", "Source", "execute"]

_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials keep records of their own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # what a trial tells waits until it was heard
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints whatever `verbose` says
}
_HOLD = 0.0001  # of the node's own resource: what a trial's process takes


@dataclass(frozen=True)
class End:
    """How a trial ended.

    Attributes:
        state: ``finished``, ``stopped``, ``paused``, ``failed``.
        runs: Those that are finished.
        seconds: Since it told something last, or was started.
        note: Why it failed.
    """

    state: str
    runs: tuple[SeedResult, ...]
    seconds: float
    note: str


class Source(Protocol):
    """Where trials come from, and where their words go."""

    def next(self) -> TrialSpec | None:
        """The next trial; None: there is none any more."""
        ...

    def reported(self, name: str, step: int, steps: int, value: float, seconds: float) -> None:
        """What the validation rows say of one that trains, so long after what it told before."""
        ...

    def ended(self, name: str, end: End) -> None:
        """One has ended."""
        ...


class _Searcher(Searcher):  # type: ignore[misc]
    """Ray Tune's side of a source."""

    def __init__(self, source: Source) -> None:
        super().__init__(metric="value", mode="max")
        self._source = source
        self._names: dict[str, str] = {}

    def __reduce__(self) -> Any:
        # Ray Tune keeps a copy of it on disk, for a way of resuming that is not ours.
        return Searcher, ()

    def suggest(self, trial_id: str) -> Any:
        """The next trial."""
        spec = self._source.next()
        if spec is None:
            return Searcher.FINISHED
        self._names[trial_id] = spec.name
        return spec.plain

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """What one told."""
        if "end" in result:
            self._end(trial_id, result)
        elif "step" in result and (name := self._names.get(trial_id)) is not None:
            step, steps, value = result["step"], result["steps"], result["value"]
            self._source.reported(name, step, steps, value, result["seconds"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """One is gone; what it told before was taken."""
        del result
        name = self._names.pop(trial_id, None)
        if name is not None:
            note = (
                "its process, or the server at tracking.uri, was lost more often than tuning.max_failures allows"
                if error
                else "it ended without a word"
            )
            self._source.ended(name, End("failed", (), 0.0, note))

    def _end(self, trial_id: str, result: Mapping[str, Any]) -> None:
        name = self._names.pop(trial_id, None)
        if name is not None:
            runs = tuple(SeedResult(**run) for run in json.loads(result["runs"]))
            self._source.ended(name, End(result["end"], runs, result["seconds"], result["note"]))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search keeps its own records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def execute(
    source: Source,
    shared: Shared,
    *,
    concurrent: int,
    max_failures: int,
    storage: Path,
) -> None:
    """Run trials until there is none any more.

    Args:
        source: Of the trials.
        shared: What they have in common.
        concurrent: How many at the same time.
        max_failures: How often one whose process died is started again.
        storage: A folder that Ray Tune may fill.
    """
    node = ray.get_runtime_context().get_node_id()
    # Beside the search, which reads data and models too; a node that is lost takes workers, no trial.
    room = tune.PlacementGroupFactory(
        [{f"node:{ray.util.get_node_ip_address()}": _HOLD}],
        bundle_label_selector=[{"ray.io/node-id": node}],
    )
    with _quiet():
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, shared=shared), room),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(source),
                num_samples=-1,
                max_concurrent_trials=concurrent,
                trial_name_creator=lambda trial: str(trial.config["name"]),
                trial_dirname_creator=lambda trial: f"{trial.config['name']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent),
                failure_config=tune.FailureConfig(max_failures=max_failures),
                verbose=0,
            ),
        )
        tuner.fit()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Tune without its own words, files and signals."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
