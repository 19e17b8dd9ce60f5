"""Putting a model into the registry: one version, once, and the champion only when it is better."""

from typing import TYPE_CHECKING, Any

from raydistill.tracking.journal import Journal, Record
from raydistill.tracking.moves import make_move, record_missing_move
from raydistill.tracking.promotion import decide_champion
from raydistill.tracking.tags import REGISTRATION_TAG
from raydistill.tracking.verdict import Say

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

__all__ = ["apply_registration"]

_MODEL_FOLDER = "model"


def apply_registration(
    client: "MlflowClient", record: Record, journal: Journal, say: Say
) -> dict[str, Any]:
    """Uploads the model into the run and makes a version of it, unless an earlier try has.

    Args:
        client: An ``MlflowClient``.
        record: ``uuid name path tags alias metric_name better_by greater_is_better``.
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
    model = client.get_registered_model(name)
    holder = model.aliases.get(alias)
    if holder is not None and str(holder) == version:  # an earlier try came this far
        why = "of what an interrupted delivery had compared"
        record_missing_move(client, model, alias, how="registered", why=why)
        return
    champion = None if holder is None else client.get_model_version(name, str(holder)).tags
    decision = decide_champion(
        record["tags"],
        champion,
        record["metric_name"],
        greater_is_better=record["greater_is_better"],
        better_by=record.get("better_by", 0.0),  # records of older versions have none
    )
    if decision.move:
        before = None if holder is None else int(holder)
        make_move(
            client, name, alias,
            before=before, after=int(version), how="registered", why=decision.reason,
        )  # fmt: skip
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
