"""The one place a run talks to about MLflow; lives in the driver process."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from raydistill.tracking.connection import (
    connect,
    hide_password,
)
from raydistill.tracking.courier import Courier
from raydistill.tracking.delivery import deliver
from raydistill.tracking.journal import Journal
from raydistill.tracking.lock import FileLock
from raydistill.tracking.promotion import PromotionRule
from raydistill.tracking.tags import METRIC_TAG, PROMOTION_TAG
from raydistill.tracking.verdict import Say

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["DatasetUse", "Tracker", "now_ms"]

# MLflow's limits for one call, and for one value.
_MAX_ITEMS = 100
_MAX_POINTS = 1000
_MAX_PARAM_CHARACTERS = 6000
_MAX_TAG_CHARACTERS = 8000

T = TypeVar("T")


@dataclass(frozen=True)
class DatasetUse:
    """One data set that the run reads.

    Attributes:
        name: As in the configuration.
        digest: Fingerprint of its content; MLflow keeps 36 characters.
        source: Path or address.
        context: What for: ``training``, ``validation``, ``test``.
        num_rows: How many; ``None`` when it is not known yet.
    """

    name: str
    digest: str
    source: str
    context: str = "training"
    num_rows: int | None = None


class Tracker:
    """Records one run: on disk at once, in MLflow when it answers; raises for neither.

    Made by :func:`open_tracker`. Use as a context manager, or call :meth:`finish`.

    Args:
        journal: Of the run's folder.
        uri: Resolved tracking URI.
        lock: Held, so that nobody delivers the same journal meanwhile.
        say: Told what the user should know, one line each; from a background thread.
        pause_s: Rest after a failed delivery.
    """

    def __init__(
        self, journal: Journal, uri: str, lock: FileLock, say: Say, *, pause_s: float
    ) -> None:
        self._journal, self.uri, self._lock, self._say = journal, uri, lock, say
        self._client: MlflowClient = None
        self._courier = Courier(self._attempt, self._complain, pause_s=pause_s)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of this run; ``None`` while MLflow could not be told of it."""
        return self._journal.position.run_id

    @property
    def model_uri(self) -> str | None:
        """``models:/name/version`` that was registered last."""
        return self._journal.position.model_uri

    @property
    def num_undelivered(self) -> int:
        """Records that are on disk only."""
        return self._journal.count_pending()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Settings of the run, flat. Values longer than MLflow takes are cut."""
        items = [(name, _cut(value, _MAX_PARAM_CHARACTERS)) for name, value in params.items()]
        self._put(*({"op": "params", "items": dict(part)} for part in _parts(items, _MAX_ITEMS)))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Figures at one step, as of now."""
        at_ms = now_ms()
        self.log_metric_points([(name, value, step, at_ms) for name, value in metrics.items()])

    def log_metric_points(self, points: Iterable[tuple[str, float, int, int]]) -> None:
        """Figures of any time: ``(name, value, step, timestamp_ms)``."""
        plain = [[name, float(value), int(step), int(ms)] for name, value, step, ms in points]
        self._put(*({"op": "metrics", "points": part} for part in _parts(plain, _MAX_POINTS)))

    def log_datasets(self, datasets: Iterable[DatasetUse]) -> None:
        """What the run reads; MLflow shows them as the run's data sets."""
        uses = [
            {
                "name": use.name,
                "digest": use.digest,
                "source": use.source,
                "context": use.context,
                "profile": None if use.num_rows is None else {"num_rows": use.num_rows},
            }
            for use in datasets
        ]
        if uses:
            self._put({"op": "datasets", "datasets": uses})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags of the run; a later value replaces an earlier one."""
        items = [(name, _cut(value, _MAX_TAG_CHARACTERS)) for name, value in tags.items()]
        self._put(*({"op": "tags", "items": dict(part)} for part in _parts(items, _MAX_ITEMS)))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """One file, into ``folder`` of the run's artifacts."""
        self._put({"op": "artifact", "path": self._journal.refer(path), "to": folder})

    def log_artifacts(self, directory: Path, folder: str | None = None) -> None:
        """All files below a directory, into ``folder`` of the run's artifacts."""
        self._put({"op": "artifacts", "path": self._journal.refer(directory), "to": folder})

    def register(
        self,
        model_dir: Path,
        name: str,
        *,
        tags: Mapping[str, Any],
        alias: str | None,
        metric_name: str,
        metric_value: float,
        greater_is_better: bool,
        better_by: float = 0.0,
        folder: str = "model",
    ) -> str | None:
        """Makes a new version of a registered model; waits until it exists or MLflow proves away.

        Args:
            model_dir: An MLflow model directory, see :func:`raydistill.tracking.save_model_folder`.
            name: Of the registered model.
            tags: Lineage; see the constants ending in ``_TAG`` for the names that are read again.
            alias: Goes to the new version when nobody has it, or when the new one is better on the
                same data. ``None``: none.
            metric_name: What is compared; kept with the version.
            metric_value: Of this version.
            greater_is_better: Of that metric.
            better_by: By how much it must be better at least; 0: by whatever.
            folder: Among the run's artifacts; another one for each model of a run.

        Returns:
            ``models:/name/version``; ``None`` when MLflow is away, and the registration waits.
        """
        registration = uuid.uuid4().hex
        plain = {
            key: value if isinstance(value, str) else str(value) for key, value in tags.items()
        }
        if alias is not None:
            rule = PromotionRule(alias, metric_name, better_by, greater_is_better)
            plain[PROMOTION_TAG] = rule.as_tag()
        self._put(
            {
                "op": "register",
                "uuid": registration,
                "name": name,
                "path": self._journal.refer(model_dir),
                "tags": {**plain, METRIC_TAG + metric_name: repr(float(metric_value))},
                "alias": alias,
                "metric_name": metric_name,
                "greater_is_better": greater_is_better,
                "better_by": better_by,
                "folder": folder,
            }
        )
        self.flush()
        return self._journal.position.registrations.get(registration)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Tries to deliver now what waits.

        Args:
            timeout_s: Wait no longer for the end of that try.

        Returns:
            Whether MLflow has got everything.
        """
        return self._courier.flush(timeout_s)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> bool:
        """Ends the run, and tries once more to deliver what waits. A second call does nothing.

        Returns:
            Whether MLflow has got everything.
        """
        if self._courier.closed:
            return self.num_undelivered == 0
        try:
            self._put({"op": "finish", "status": status, "time_ms": now_ms()})
            return self._courier.close()
        finally:
            self._lock.release()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.finish("KILLED" if stopped else "FAILED" if kind else "FINISHED")

    def _put(self, *records: Mapping[str, Any]) -> None:
        for record in records:
            self._journal.append(record)
        self._courier.wake()

    def _attempt(self) -> str | None:
        outcome = deliver(self._journal, self._connected, self.uri, self._say)
        if outcome.trouble is not None:
            self._client = None
        return outcome.trouble

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    def _complain(self, trouble: str) -> None:
        self._say(
            f"MLflow at {hide_password(self.uri)} took no records: {trouble}. The run goes on; "
            f"records wait in {self._journal.home} and are sent when MLflow answers."
        )


def _cut(value: object, max_characters: int) -> str:
    text = str(value)
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def now_ms() -> int:
    """MLflow's clock: milliseconds since 1970."""
    return time.time_ns() // 1_000_000
