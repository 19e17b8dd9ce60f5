"""Putting a model into the registry: one version, once, and the champion only when it is better."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raydistill.tracking.journal import Journal, Record
from raydistill.tracking.moves import make_move, read_moves, record_missing_move
from raydistill.tracking.promotion import Decision, decide_champion
from raydistill.tracking.tags import REGISTRATION_TAG
from raydistill.tracking.verdict import Say

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
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
    decision = _decide(record, record["tags"], champion)
    if decision.move:
        before = None if holder is None else int(holder)
        make_move(
            client, name, alias,
            before=before, after=int(version), how="registered", why=decision.reason,
        )  # fmt: skip
        last = _settle(client, record, model, before, int(version))
        outcome = (
            f"it is now {alias}, because {decision.reason}"
            if last == int(version)
            else f"{alias} is version {last}, which came at the same time"
        )
        say(f"registered {name} version {version}; {outcome}.")
    else:
        stays = f"{alias} stays version {holder}" if holder else f"it does not become {alias}"
        say(f"registered {name} version {version}; {stays}, because {decision.reason}.")


def _settle(
    client: "MlflowClient",
    record: Record,
    model: "RegisteredModel",
    before: int | None,
    version: int,
) -> int:
    """Gives the alias to the best of the versions that took the same place at the same time.

    To read, to decide and to set are three requests: of two runs that end together both may be better than what they
    found, and the one that is slower takes the alias from the other without a comparison. Each looks again when its move
    is recorded, so that the last one sees all.

    Args:
        client: Of the registry.
        record: Of the registration.
        model: As it was when the registration was decided.
        before: The version that had the alias then.
        version: That was given it.

    Returns:
        The version that has it in the end.
    """
    name, alias = record["name"], record["alias"]
    found = client.get_registered_model(name)
    if alias not in found.aliases:  # somebody took it away
        return version
    known = read_moves(model.tags, alias)
    moves = [move for move in read_moves(found.tags, alias) if move not in known]
    rivals = {move.after: move.how for move in moves if move.before == before}
    rivals[version] = "registered"
    holder = int(found.aliases[alias])
    best, reason = holder, ""
    # Else it went on from one of them, or somebody's word put it there.
    if rivals.get(holder) in ("registered", "promoted"):
        tags = {rival: client.get_model_version(name, str(rival)).tags for rival in rivals}
        for rival in sorted(rivals):
            decision = _decide(record, tags[rival], tags[best])
            if decision.move:
                best, reason = rival, decision.reason
    if best != holder:
        # As if the other had never had it: a rollback leads to what was before both.
        why = f"{reason}, and they came at the same time"
        make_move(client, name, alias, before=holder, after=best, how="rolled back", why=why)
    elif holder in {
        move.after for move in moves
    }:  # then only the order of the records may be wrong
        why = "they came at the same time, and this one was last"
        record_missing_move(client, found, alias, how="rolled back", why=why)
    return best


def _decide(record: Record, new: Mapping[str, str], holder: Mapping[str, str] | None) -> Decision:
    return decide_champion(
        new,
        holder,
        record["metric_name"],
        greater_is_better=record["greater_is_better"],
        better_by=record.get("better_by", 0.0),  # records of older versions have none
    )


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
