"""What each kind of record means in calls of an ``MlflowClient``."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.tracking.connection import artifact_location
from raydistill.tracking.journal import Journal, Record
from raydistill.tracking.registration import apply_registration
from raydistill.tracking.verdict import Say, Verdict, judge, one_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["RUN_TAG", "PartlyRefusedError", "apply_record", "describe_record"]

RUN_TAG = "raydistill.run"
_CONTEXT_TAG = "mlflow.data.context"
_MAX_DIGEST = 36  # MLflow refuses longer ones


class PartlyRefusedError(Exception):
    """Some items of a record were refused, each tried on its own; the others were taken."""


def apply_record(
    client: "MlflowClient", record: Record, journal: Journal, say: Say
) -> dict[str, Any]:
    """Does what the record says; gives the changes of the position that go with it."""
    operation = record["op"]
    if operation == "open":
        return _open_run(client, record, artifact_location(str(journal.position.uri)))
    if operation == "register":
        return apply_registration(client, record, journal, say)
    if operation not in _OPERATIONS:
        raise ValueError(f"the journal says {operation!r}, which is not known")
    _OPERATIONS[operation](client, str(journal.position.run_id), record, journal.folder)
    return {}


def _open_run(client: "MlflowClient", record: Record, location: str | None) -> dict[str, Any]:
    """Makes the run, or finds the one that an interrupted delivery has made before."""
    experiment_id = _experiment(client, record["experiment"], location)
    found = client.search_runs(
        [experiment_id], filter_string=f"tags.`{RUN_TAG}` = '{record['uuid']}'", max_results=1
    )
    run = (
        found[0]
        if found
        else client.create_run(
            experiment_id,
            start_time=record["time_ms"],
            tags={**record["tags"], RUN_TAG: record["uuid"]},
            run_name=record["run_name"],
        )
    )
    return {"run_id": run.info.run_id, "experiment_id": experiment_id}


def _experiment(client: "MlflowClient", name: str, location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another run was faster
    if getattr(found, "lifecycle_stage", "active") == "deleted":
        raise ValueError(f"the experiment {name!r} was deleted; restore it, or choose another name")
    return str(found.experiment_id)


def _resume(client: "MlflowClient", run_id: str, _record: Record, _folder: Path) -> None:
    client.update_run(run_id, status="RUNNING")


def _params(client: "MlflowClient", run_id: str, record: Record, _folder: Path) -> None:
    from mlflow.entities import Param

    items = [Param(key, value) for key, value in record["items"].items()]
    _together_or_each(lambda part: client.log_batch(run_id, params=part), items)


def _metrics(client: "MlflowClient", run_id: str, record: Record, _folder: Path) -> None:
    from mlflow.entities import Metric

    items = [Metric(name, value, time_ms, step) for name, value, step, time_ms in record["points"]]
    _together_or_each(lambda part: client.log_batch(run_id, metrics=part), items)


def _tags(client: "MlflowClient", run_id: str, record: Record, _folder: Path) -> None:
    from mlflow.entities import RunTag

    items = [RunTag(key, value) for key, value in record["items"].items()]
    _together_or_each(lambda part: client.log_batch(run_id, tags=part), items)


def _together_or_each(send: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> None:
    """One call for all; where that is refused, one each, so that one bad name costs only itself."""
    try:
        send(items)
    except Exception as error:
        if judge(error) is not Verdict.REFUSED or len(items) == 1:
            raise
    else:
        return
    refused: dict[str, str] = {}
    for item in items:
        try:
            send([item])
        except Exception as error:
            if judge(error) is not Verdict.REFUSED:
                raise
            refused[item.key] = one_line(error)
    if refused:
        raise PartlyRefusedError("; ".join(f"{key}: {why}" for key, why in refused.items()))


def _datasets(client: "MlflowClient", run_id: str, record: Record, _folder: Path) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=use["name"],
                digest=use["digest"][:_MAX_DIGEST],
                source_type="http" if use["source"].startswith("http") else "local",
                source=json.dumps(
                    {"url" if use["source"].startswith("http") else "uri": use["source"]}
                ),
                profile=json.dumps(use["profile"]) if use["profile"] else None,
            ),
            [InputTag(_CONTEXT_TAG, use["context"])],
        )
        for use in record["datasets"]
    ]
    client.log_inputs(run_id, inputs)


def _artifact(client: "MlflowClient", run_id: str, record: Record, folder: Path) -> None:
    client.log_artifact(run_id, str(folder / record["path"]), record["to"])


def _artifacts(client: "MlflowClient", run_id: str, record: Record, folder: Path) -> None:
    client.log_artifacts(run_id, str(folder / record["path"]), record["to"])


def _finish(client: "MlflowClient", run_id: str, record: Record, _folder: Path) -> None:
    client.set_terminated(run_id, record["status"], record["time_ms"])


_OPERATIONS: Mapping[str, Callable[[Any, str, Record, Path], None]] = {
    "resume": _resume,
    "params": _params,
    "metrics": _metrics,
    "tags": _tags,
    "datasets": _datasets,
    "artifact": _artifact,
    "artifacts": _artifacts,
    "finish": _finish,
}


def describe_record(record: Record) -> str:
    """The record in a few words, for whoever has to find it."""
    operation = str(record["op"])
    names: Sequence[str] | Mapping[str, Any] = ()
    if operation in {"params", "tags"}:
        names = record["items"]
    elif operation == "metrics":
        names = dict.fromkeys(point[0] for point in record["points"])
    elif operation in {"artifact", "artifacts"}:
        names = [record["path"]]
    elif operation == "register":
        names = [record["name"]]
    listed = list(names)
    return f"{operation} {', '.join(listed[:3])}{', …' if len(listed) > 3 else ''}".rstrip()  # noqa: PLR2004
