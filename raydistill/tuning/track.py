"""The search in MLflow: a run of its own, under which those of its trials stand."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raydistill.config import DistillConfig
from raydistill.errors import TrackingError
from raydistill.prepare import flatten
from raydistill.tracking import Tracker, close_record, open_tracker
from raydistill.tuning.records import SearchFolder
from raydistill.ui import Ui
from raydistill.version import __version__

__all__ = ["PARENT_TAG", "SEARCH_TAG", "TRIAL_TAG", "SearchRecord"]

PARENT_TAG = "mlflow.parentRunId"
SEARCH_TAG = "raydistill.search"
TRIAL_TAG = "raydistill.trial"
_GONE_WAIT_S = 10.0  # after which a process is gone that lost its cluster


class SearchRecord:
    """What MLflow is told of a search as a whole; a context manager around it.

    Args:
        config: With a section ``tuning``.
        folder: Of the search.
        resume: Whether it goes on.
        ui: Where sentences go.
    """

    def __init__(
        self, config: DistillConfig, folder: SearchFolder, *, resume: bool, ui: Ui
    ) -> None:
        self._config, self._folder, self._resume, self._ui = config, folder, resume, ui
        self._tracker: Tracker | None = None

    @property
    def run_id(self) -> str | None:
        """Of the search's run."""
        return self._tracker.run_id if self._tracker else None

    def __enter__(self) -> Self:
        config = self._config
        if config.tracking.enabled:
            assert config.tuning is not None
            self._tracker = open_tracker(
                uri=config.tracking.uri,
                experiment=config.tracking.experiment,
                run_name=config.run.name,
                folder=self._folder.path,
                resume=self._resume,
                tags={"raydistill.version": __version__, **config.tracking.tags},
                say=self._ui.say,
            )
            # Trials name this run as the one they stand under: however slow the server is, it must be there first.
            if self.run_id is None:
                self._tracker.flush()
            if self.run_id is None:
                self._tracker.finish("FAILED")
                raise TrackingError(
                    "MLflow has not taken the search's run, under which its trials would stand. "
                    "Look after the server of tracking.uri, and start the search again."
                )
            self._tracker.log_params(flatten({"tuning": config.tuning.model_dump(mode="json")}))
            self._tracker.log_artifact(self._folder.config)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tracker is not None:
            stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
            self._tracker.finish("KILLED" if stopped else "FAILED" if kind else "FINISHED")

    def end_runs(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Behind a search that was cut short: end the records of runs whose processes went with it.

        They can only be ended when Ray is gone, so later than the search's own. A resumed search opens
        those that it goes on with again.
        """
        del error, traceback
        if kind is None or self._tracker is None:
            return
        status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        runs = [*self._folder.trials.glob("*/seed-*"), *self._folder.final.glob("*")]
        for run in sorted(runs):
            close_record(run, status, self._ui.say, wait_s=_GONE_WAIT_S)

    def tags(self, number: int) -> dict[str, str]:
        """Of a trial's run."""
        parent = {PARENT_TAG: self.run_id} if self.run_id else {}
        return {**parent, TRIAL_TAG: str(number)}

    def trial(self, number: int, values: Mapping[str, float]) -> None:
        """What a trial found, as points over the numbers of trials."""
        if self._tracker is not None and values:
            named = {f"trial/{name}": value for name, value in values.items()}
            self._tracker.log_metrics(named, step=number)

    def lost(self, folder: Path, status: str = "FAILED") -> None:
        """End the record of a run whose process is gone; nothing if it was ended."""
        if self._tracker is not None:
            close_record(folder, status, self._ui.say)

    def finished(self, metrics: Mapping[str, float], tags: Mapping[str, Any]) -> None:
        """Figures and files of the whole."""
        if self._tracker is None:
            return
        self._tracker.log_metrics(metrics, step=0)
        self._tracker.set_tags(tags)
        folder = self._folder
        for path in (folder.report, folder.tuning, folder.lines, folder.best):
            if path.exists():
                self._tracker.log_artifact(path)
        plots = folder.path / "plots"
        if plots.is_dir():
            self._tracker.log_artifacts(plots, "plots")
