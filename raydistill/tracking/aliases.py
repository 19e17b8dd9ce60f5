"""Moves aliases in the registry: forward by the rule, and back to where they were."""

from typing import TYPE_CHECKING

from raydistill.errors import ConfigError
from raydistill.tracking.moves import (
    How,
    held_versions,
    make_move,
    read_moves,
    record_missing_move,
)
from raydistill.tracking.promotion import Decision, rule_of
from raydistill.tracking.registry import find_model, find_version, open_registry
from raydistill.tracking.verdict import Verdict, judge, one_line
from raydistill.tracking.versions import Promotion

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["promote", "rollback"]


def promote(
    name: str,
    version: int,
    alias: str = "champion",
    tracking_uri: str | None = None,
    *,
    force: bool = False,
    path: str = "model",
) -> Promotion:
    """Moves an alias to a version, if the rule allows it that the version was registered with.

    Args:
        name: Of the registered model.
        version: That gets the alias.
        alias: Of another one than the rule is about, nothing is asked.
        tracking_uri: See :func:`raydistill.tracking.resolve_uri`.
        force: Whatever the rule says.
        path: What the user would change, for the error.

    Raises:
        ConfigError: The rule forbids it, there is no such version, the alias is not allowed, or the
            server cannot be reached.
    """
    name = name.removeprefix("models:/")
    with open_registry(tracking_uri, path, name) as (client, place):
        model = find_model(client, name, place, path)
        new = find_version(client, model, version, path)
        holder = model.aliases.get(alias)
        if holder is not None and int(holder) == version:
            # An earlier try may have come this far, and no rollback gets past a move without its record.
            how: How = "forced" if force else "promoted"
            why = "it had the alias already, by a move without a record"
            record_missing_move(client, model, alias, how=how, why=why)
            return Promotion(name, alias, version, None)
        old = None if holder is None else find_version(client, model, int(holder), path)
        old_tags = None if old is None else old.tags
        rule = rule_of(new.tags, alias) or rule_of(old_tags or {}, alias)
        decision = (
            rule.decide(new.tags, old_tags)
            if rule is not None
            else Decision(True, "it was asked for, and no rule is known")
        )
        if not decision.move and not force:
            stays = f" in place of version {holder}" if holder is not None else ""
            raise ConfigError.of(
                f"models:/{name}/{version}",
                f"must be better to become {alias}{stays}: {decision.reason}. "
                "That is the rule it was registered with (tracking.promotion); --force moves it all the same.",
            )
        before = None if holder is None else int(holder)
        how = "promoted" if decision.move else "forced"
        why = decision.reason if decision.move else f"--force was given; {decision.reason}"
        _move(client, name, alias, before=before, after=version, how=how, why=why, path=path)
    return Promotion(name, alias, version, before, why)


def rollback(
    name: str, alias: str = "champion", tracking_uri: str | None = None, *, path: str = "model"
) -> Promotion:
    """Moves an alias back to the version that had it before; again, to the one before that.

    Args:
        name: Of the registered model.
        alias: Which.
        tracking_uri: See :func:`raydistill.tracking.resolve_uri`.
        path: What the user would change, for the error.

    Raises:
        ConfigError: None had it before, or somebody else moved it since, that version is gone, or the
            server cannot be reached.
    """
    name = name.removeprefix("models:/")
    with open_registry(tracking_uri, path, name) as (client, place):
        model = find_model(client, name, place, path)
        holder = model.aliases.get(alias)
        held = held_versions(read_moves(model.tags, alias))
        if holder is None:
            last = f" It was version {held[-1]}." if held else ""
            raise ConfigError.of(f"{name}@{alias}", f"is no version, so it cannot go back.{last}")
        if held[-1:] != [int(holder)]:
            known = f"last to version {held[-1]}" if held else "never"
            raise ConfigError.of(
                f"{name}@{alias}",
                f"is version {holder}, but raydistill moved it {known}, so where it was before is not known. "
                f"Choose the version: raydistill models promote {name} VERSION.",
            )
        if len(held) == 1:
            raise ConfigError.of(
                f"{name}@{alias}", f"has been version {holder} only, so it cannot go back."
            )
        target = held[-2]
        find_version(client, model, target, path)
        why = f"version {holder} was taken back"
        _move(
            client, name, alias,
            before=int(holder), after=target, how="rolled back", why=why, path=path,
        )  # fmt: skip
    return Promotion(name, alias, target, int(holder), why)


def _move(
    client: "MlflowClient",
    name: str,
    alias: str,
    *,
    before: int | None,
    after: int,
    how: How,
    why: str,
    path: str,
) -> None:
    try:
        make_move(client, name, alias, before=before, after=after, how=how, why=why)
    except Exception as error:
        if judge(error) is not Verdict.REFUSED:
            raise
        raise ConfigError.of(path, f"cannot have the alias {alias!r}: {one_line(error)}.") from None
