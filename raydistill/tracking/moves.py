"""Where an alias was before: every move is a tag of the registered model, and a rollback reads them.

One tag a move, named by alias, version and time, so that two runs that end together cannot overwrite each other's.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.tracking.tags import MOVE_TAG, as_settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.tracking import MlflowClient

__all__ = ["How", "Move", "held_versions", "make_move", "read_moves", "record_missing_move"]

How = Literal["registered", "promoted", "forced", "rolled back"]
_MAX_REASON = 1000  # a database column of MLflow's takes 5,000 characters


@dataclass(frozen=True)
class Move:
    """An alias went from one version to another.

    Attributes:
        alias: Which.
        at_ms: Since 1970.
        before: The version that had it; ``None``: none had.
        after: The version that got it.
        how: By a run that registered it, by the rule, against the rule, or back.
        why: A clause that continues "because".
    """

    alias: str
    at_ms: int
    before: int | None
    after: int
    how: str
    why: str


def read_moves(tags: Mapping[str, str], alias: str | None = None) -> list[Move]:
    """All recorded moves, oldest first.

    Args:
        tags: Of a registered model.
        alias: Of this one only; ``None``: of all.
    """
    found = []
    for key, text in tags.items():
        name, _, at_ms = key.removeprefix(MOVE_TAG).rpartition(".")
        name = name.partition(".")[0]  # the version behind it; tags of older versions have none
        value = as_settings(text) if key.startswith(MOVE_TAG) and at_ms.isdigit() else None
        if value is None or alias not in (None, name) or not isinstance(value.get("to"), int):
            continue
        before = value.get("from") if isinstance(value.get("from"), int) else None
        how, why = str(value.get("how", "")), str(value.get("why", ""))
        found.append(Move(name, int(at_ms), before, value["to"], how, why))
    return sorted(found, key=lambda move: (move.at_ms, move.alias, move.after))


def held_versions(moves: Sequence[Move]) -> list[int]:
    """Versions that an alias has had one after the other, without those that were rolled back.

    Args:
        moves: Of one alias, oldest first.

    Example:
        >>> first = Move("champion", 1, None, 1, "registered", "there was none")
        >>> second = Move("champion", 2, 1, 2, "promoted", "it is better")
        >>> back = Move("champion", 3, 2, 1, "rolled back", "")
        >>> held_versions([first, second]), held_versions([first, second, back])
        ([1, 2], [1])
    """
    held: list[int] = []
    for move in moves:
        if move.before is not None and held[-1:] != [move.before]:
            held.append(move.before)  # somebody else had moved it there
        if move.how == "rolled back":
            while held and held[-1] != move.after:
                held.pop()
        if held[-1:] != [move.after]:
            held.append(move.after)
    return held


def make_move(
    client: "MlflowClient",
    name: str,
    alias: str,
    *,
    before: int | None,
    after: int,
    how: How,
    why: str,
) -> None:
    """Moves an alias, and keeps a record of it."""
    client.set_registered_model_alias(name, alias, str(after))
    _record(client, name, alias, before=before, after=after, how=how, why=why)


def record_missing_move(
    client: "MlflowClient", model: "RegisteredModel", alias: str, *, how: How, why: str
) -> None:
    """Keeps a record of how an alias came to where it is, if none was kept.

    A move that is cut in half has set the alias only. Where it was before is then known by the records there are.

    Args:
        client: Of the registry.
        model: As it was read; the alias is one of its.
        alias: Which.
        how: It is thought to have moved.
        why: A clause that continues "because".
    """
    after = int(model.aliases[alias])
    held = held_versions(read_moves(model.tags, alias))
    if held[-1:] != [after]:
        before = held[-1] if held else None
        _record(client, model.name, alias, before=before, after=after, how=how, why=why)


def _record(
    client: "MlflowClient",
    name: str,
    alias: str,
    *,
    before: int | None,
    after: int,
    how: How,
    why: str,
) -> None:
    tags = client.get_registered_model(name).tags
    # Behind all that are there, whatever the clocks of other machines say: rollbacks go by the order.
    now_ms = time.time_ns() // 1_000_000
    at_ms = max([now_ms, *(move.at_ms + 1 for move in read_moves(tags, alias))])
    value = {"from": before, "to": after, "how": how, "why": why[:_MAX_REASON]}
    client.set_registered_model_tag(name, f"{MOVE_TAG}{alias}.{after}.{at_ms}", json.dumps(value))
