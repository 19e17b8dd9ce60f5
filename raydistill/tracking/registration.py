"""Putting a model into the registry: one version, once, and the champion only when it is better."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydistill.tracking.journal import Journal, Record
from raydistill.tracking.verdict import Say

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

__all__ = [
    "DATA_TAG",
    "METRIC_TAG",
    "REGISTRATION_TAG",
    "TEACHERS_TAG",
    "VERSION_TAG",
    "Decision",
    "apply_registration",
    "decide_champion",
]

DATA_TAG = "raydistill.data_fingerprint"
TEACHERS_TAG = "raydistill.teachers"
VERSION_TAG = "raydistill.version"
METRIC_TAG = "raydistill.metric."  # + the metric's name
REGISTRATION_TAG = "raydistill.registration"
_MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Decision:
    """Whether an alias moves.

    Attributes:
        move: To the new version.
        reason: A clause that continues "because".
    """

    move: bool
    reason: str


def decide_champion(
    new: Mapping[str, str],
    champion: Mapping[str, str] | None,
    metric_name: str,
    *,
    greater_is_better: bool,
) -> Decision:
    """Compares two versions by their tags. Only figures of the same data are compared.

    Args:
        new: Tags of the new version; hold the metric.
        champion: Tags of the version that has the alias; ``None`` when none has.
        metric_name: As in the metrics file, ``test/accuracy``.
        greater_is_better: Of that metric.
    """
    value = _number(new.get(METRIC_TAG + metric_name))
    if value is None:
        return Decision(False, f"its {metric_name} is not a finite number")
    if champion is None:
        return Decision(True, "there was none")
    other = _number(champion.get(METRIC_TAG + metric_name))
    if other is None:
        return Decision(False, f"the present one has no {metric_name} to compare with")
    data = new.get(DATA_TAG)
    if data is None or champion.get(DATA_TAG) != data:
        return Decision(False, f"the present one's {metric_name} was measured on other data")
    better = value > other if greater_is_better else value < other
    comparison = f"{metric_name} {value:.6g} is {'' if better else 'not '}better than {other:.6g}"
    return Decision(better, comparison)


def apply_registration(
    client: "MlflowClient", record: Record, journal: Journal, say: Say
) -> dict[str, Any]:
    """Uploads the model into the run and makes a version of it, unless an earlier try has.

    Args:
        client: An ``MlflowClient``.
        record: ``uuid name path tags alias metric_name metric_value greater_is_better``.
        journal: Of the run; holds its id.
        say: Told what was decided.

    Returns:
        Changes of the journal's position: the version's URI.
    """
    name, run_id = record["name"], str(journal.position.run_id)
    folder = record.get("folder", _MODEL_FOLDER)  # records of older versions have none
    version = _find(client, name, record["uuid"])
    if version is None:
        client.log_artifacts(run_id, str(journal.folder / record["path"]), folder)
        _ensure_model(client, name)
        version = client.create_model_version(
            name,
            source=f"{client.get_run(run_id).info.artifact_uri}/{folder}",
            run_id=run_id,
            tags={**record["tags"], REGISTRATION_TAG: record["uuid"]},
        )
    if record["alias"]:
        _move_alias(client, record, str(version.version), say)
    uri = f"models:/{name}/{version.version}"
    return {
        "registrations": {**journal.position.registrations, record["uuid"]: uri},
        "model_uri": uri,
    }


def _move_alias(client: "MlflowClient", record: Record, version: str, say: Say) -> None:
    name, alias = record["name"], record["alias"]
    holder = client.get_registered_model(name).aliases.get(alias)
    if holder is not None and str(holder) == version:
        return  # an earlier try came this far
    champion = None if holder is None else client.get_model_version(name, str(holder)).tags
    decision = decide_champion(
        record["tags"],
        champion,
        record["metric_name"],
        greater_is_better=record["greater_is_better"],
    )
    if decision.move:
        client.set_registered_model_alias(name, alias, version)
        say(f"registered {name} version {version}; it is now {alias}, because {decision.reason}.")
    else:
        stays = f"{alias} stays version {holder}" if holder else f"it does not become {alias}"
        say(f"registered {name} version {version}; {stays}, because {decision.reason}.")


def _ensure_model(client: "MlflowClient", name: str) -> None:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(client: "MlflowClient", name: str, registration: str) -> "ModelVersion | None":
    """The version that an interrupted delivery has made; a tag of ours tells."""
    quoted = name.replace("'", "''")
    found = client.search_model_versions(
        f"name = '{quoted}' and tag.`{REGISTRATION_TAG}` = '{registration}'"
    )
    return found[0] if found else None


def _number(text: str | None) -> float | None:
    try:
        value = float(json.loads(text)) if text is not None else math.nan
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
