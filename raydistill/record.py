"""A run's record: history in the folder, the MLflow run, and the version in the registry."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from raydistill.config.task import QuestionAnsweringTask, TaggingTask, TaskSection
from raydistill.data import UNIT
from raydistill.errors import RaydistillError
from raydistill.evaluation.metrics import greater_is_better
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, PreparedTasks, flatten
from raydistill.tasks import Answering
from raydistill.teachers.protocol import TeacherDescription
from raydistill.tracking import (
    DATA_TAG,
    METRIC_TAG,
    PARENT_TAG,
    SPLIT_TAG,
    TEACHER_TAG,
    TEACHERS_TAG,
    VERSION_TAG,
    DatasetUse,
    Tracker,
    open_tracker,
    pending_journals,
    save_model_folder,
    sync,
)
from raydistill.ui import Ui
from raydistill.version import __version__

__all__ = ["RunRecord", "served_example"]


class RunRecord:
    """Everything that should be known of a run afterwards; a context manager around it.

    Args:
        prepared: The run.
        folder: Its output folder.
        resume: Whether it goes on.
        ui: Where sentences go.
        params: What MLflow shows as its parameters, of a run that is part of a search; None: all settings.
    """

    def __init__(
        self,
        prepared: Prepared | PreparedTasks,
        folder: OutputFolder,
        *,
        resume: bool,
        ui: Ui,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._params = params
        self._prepared, self._folder, self._resume, self._ui = prepared, folder, resume, ui
        self._tracker: Tracker | None = None
        self._fingerprints: dict[str, str] = {}
        self._status = "FAILED"

    @property
    def run_id(self) -> str | None:
        """Of the MLflow run."""
        return self._tracker.run_id if self._tracker else None

    def __enter__(self) -> Self:
        config = self._prepared.config
        views = views_of(self._prepared)
        self._history = self._folder.history.open("a", encoding="utf-8")
        if not config.tracking.enabled:
            return self
        if self._params is None:
            self._send_left_behind()
        self._tracker = open_tracker(
            uri=config.tracking.uri,
            experiment=config.tracking.experiment,
            run_name=config.run.name,
            folder=self._folder.path,
            resume=self._resume,
            tags={"raydistill.version": __version__, **config.tracking.tags},
            say=self._ui.say,
        )
        params = self._params
        if params is None:
            params = flatten(config.model_dump(mode="json", exclude={"tuning"}))
        self._tracker.log_params(params)
        self._tracker.log_datasets(
            DatasetUse(
                name=before + name,
                digest=split.fingerprint[:36],
                source=split.origins[0],
                context="training" if name in ("train", "unlabelled") else name,
                num_rows=split.num_rows,
            )
            for before, one in views.items()
            for name, split in one.splits.items()
        )
        self._tracker.log_artifact(self._folder.config)
        return self

    def _send_left_behind(self) -> None:
        """Records of earlier runs beside this one that a server did not take."""
        for folder in pending_journals(self._folder.path.parent):
            if folder != self._folder.path:
                try:
                    result = sync(folder, self._ui.say)
                except (
                    RaydistillError
                ) as error:  # another run is writing there, or its server is away
                    self._ui.say(f"records of {folder} wait for another time: {error}")
                    continue
                if result.delivered:
                    self._ui.say(
                        f"sent {result.delivered} records of the earlier run in {folder} to MLflow"
                    )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._history.close()
        if self._tracker is not None:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._tracker.finish("KILLED")
            else:
                self._tracker.finish("FAILED" if kind else "FINISHED")

    def teachers(self, descriptions: Mapping[str, TeacherDescription]) -> None:
        """Who answers."""
        self._fingerprints = {name: d.fingerprint for name, d in descriptions.items()}
        if self._tracker is not None and descriptions:
            self._tracker.set_tags(
                {f"raydistill.teachers.{name}": value for name, value in self._fingerprints.items()}
            )

    def events(self, events: list[dict[str, Any]]) -> None:
        """What workers dropped at the recorder."""
        points = []
        for event in events:
            if event["kind"] == "metrics":
                self._history.write(json.dumps({"step": event["step"], **event["values"]}) + "\n")
                points += [
                    (name, value, event["step"], event["timestamp_ms"])
                    for name, value in event["values"].items()
                ]
        if points:
            self._history.flush()
            if self._tracker is not None:
                self._tracker.log_metric_points(points)

    def finished(self, metrics: Mapping[str, float]) -> str | None:
        """Final figures, artifacts, and the version in the registry; its URI."""
        if self._tracker is None:
            return None
        tracker = self._tracker
        tracker.log_metrics(metrics, step=int(metrics["train/steps"]))
        for path in (self._folder.report, self._folder.summary, self._folder.metrics):
            tracker.log_artifact(path)
        return self.registered(metrics)

    def registered(self, metrics: Mapping[str, float]) -> str | None:
        """The version in the registry, where there is to be one; its URI."""
        config, tracker = self._prepared.config, self._tracker
        if tracker is None or config.tracking.registered_model is None:
            return None
        uris = [
            self._register(tracker, one, before, metrics)
            for before, one in views_of(self._prepared).items()
        ]
        return ", ".join(uri for uri in uris if uri) or None

    def _register(
        self, tracker: Tracker, prepared: Prepared, before: str, metrics: Mapping[str, float]
    ) -> str | None:
        """A version of a student.

        Args:
            tracker: Of the run.
            prepared: Of the student.
            before: What stands before its names in metrics, and of its teachers.
            metrics: Of the run.
        """
        config, task = prepared.config, before.rstrip("/")
        metric = config.tracking.promoted_by
        assert config.tracking.registered_model is not None
        example = served_example(config.task, prepared.splits["train"].table)
        own = {n.removeprefix(before): v for n, v in metrics.items() if n.startswith(before)}
        fingerprints = {
            name.removeprefix(before): value
            for name, value in self._fingerprints.items()
            if name.startswith(before)
        }
        with self._ui.doing(f"registering the student{task and f' of {task}'}"):
            save_model_folder(
                self._folder.student / task,
                self._folder.model / task,
                task_kind=config.task.kind,
                labels=prepared.labels,
                text_columns=list(example),
                example=example,
                answering=_answering(prepared),
            )
            uri = tracker.register(
                self._folder.model / task,
                config.tracking.registered_model,
                tags={
                    VERSION_TAG: __version__,
                    DATA_TAG: prepared.splits[metric.partition("/")[0]].fingerprint,
                    **_lineage(prepared, fingerprints),
                    **{
                        METRIC_TAG + name: value
                        for name, value in own.items()
                        if name.count("/") == 1 and name.startswith(("validation/", "test/"))
                    },
                },
                alias=config.tracking.alias,
                metric_name=metric,
                metric_value=own[metric],
                greater_is_better=greater_is_better(metric),
                better_by=config.tracking.promotion.better_by,
                folder=f"model/{task}" if task else "model",
            )
        if uri:
            self._ui.say(f"registered {uri}")
        return uri


def views_of(prepared: Prepared | PreparedTasks) -> dict[str, Prepared]:
    """The tasks of a run, by what stands before their names; nothing if there is but one."""
    if isinstance(prepared, Prepared):
        return {"": prepared}
    return {f"{name}/": one for name, one in prepared.tasks.items()}


def served_example(task: TaskSection, table: pa.Table) -> dict[str, Any]:
    """The first row as a request: by the columns that a served student reads, called as the task calls them.

    Args:
        task: Of the student.
        table: Of its training rows, whose columns have names of our own.
    """
    first = table.slice(0, 1).to_pylist()[0]
    if isinstance(task, TaggingTask):
        return {"words": first["words"]}
    names = {"text": task.text, "text_pair": task.text_pair}
    return {name: first[ours] for ours, name in names.items() if name is not None}


def _answering(prepared: Prepared) -> dict[str, Any] | None:
    """How a student finds answers where it serves; None of other tasks."""
    task = prepared.config.task
    if not isinstance(task, QuestionAnsweringTask):
        return None
    said = asdict(Answering.of(prepared.splits["train"].table))
    return {**said, "overlap": task.overlap, "unit": UNIT}


def _lineage(prepared: Prepared, fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Tags that say what a student was made from: rows, teachers, and its first weights.

    Args:
        prepared: Of the student.
        fingerprints: Of its teachers, as they said them.
    """
    tags = {TEACHERS_TAG: json.dumps(dict(fingerprints))}
    for name, split in prepared.splits.items():
        tags[SPLIT_TAG + name] = _json(
            source=split.origins[0], rows=split.num_rows, fingerprint=split.fingerprint
        )
    for name, source in prepared.sources.items():
        tags[TEACHER_TAG + name] = _json(
            model=source.name, version=source.registered, fingerprint=fingerprints.get(name)
        )
    if "student" in prepared.weights:  # else it begins with random ones
        parent = prepared.student.source
        tags[PARENT_TAG] = _json(
            model=parent.name, version=parent.registered, fingerprint=prepared.weights["student"]
        )
    return tags


def _json(**values: Any) -> str:
    """An object of what is known."""
    return json.dumps({k: v for k, v in values.items() if v is not None}, ensure_ascii=False)
