"""What the registry tells of a model, as plain dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.tracking.moves import Move
from raydistill.tracking.promotion import PromotionRule, rule_of
from raydistill.tracking.tags import (
    METRIC_TAG,
    PROMOTION_TAG,
    REGISTRATION_TAG,
    as_settings,
    metrics_of_tags,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["ModelDetails", "Promotion", "VersionDetails", "read_version"]


@dataclass(frozen=True)
class VersionDetails:
    """One version of a registered model.

    Attributes:
        name: Of the model.
        version: Its number.
        aliases: That point to it.
        metrics: Measured when it was registered, by name.
        lineage: Its other tags: teachers, data, parent, version of raydistill.
        run_id: The MLflow run it came from.
        created_ms: Since 1970.
        source: Where MLflow keeps it.
        tags: All of them.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    lineage: Mapping[str, str]
    run_id: str | None
    created_ms: int
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """As a configuration names it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def rule(self) -> PromotionRule | None:
        """What it had to be better in to get its alias; ``None``: nothing was asked."""
        alias = (as_settings(self.tags.get(PROMOTION_TAG)) or {}).get("alias")
        return rule_of(self.tags, alias) if isinstance(alias, str) else None


@dataclass(frozen=True)
class ModelDetails:
    """A registered model.

    Attributes:
        name: As registered.
        aliases: Version by alias.
        versions: Newest first.
        moves: Of its aliases, oldest first.
    """

    name: str
    aliases: Mapping[str, int]
    versions: tuple[VersionDetails, ...]
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Promotion:
    """An alias that was moved.

    Attributes:
        name: Of the model.
        alias: That was moved.
        version: That has it now.
        previous: That had it; ``None`` when nobody had, or the same.
        why: A clause that continues "because"; nothing where it did not move.
    """

    name: str
    alias: str
    version: int
    previous: int | None
    why: str = ""


def read_version(found: "ModelVersion", aliases: Mapping[str, str]) -> VersionDetails:
    """A version of MLflow as one of ours.

    Args:
        found: As MLflow gives it.
        aliases: Version by alias, of its model.
    """
    tags = {str(key): str(value) for key, value in found.tags.items()}
    metrics = metrics_of_tags(tags)
    lineage = {
        key: value
        for key, value in tags.items()
        if not key.startswith(METRIC_TAG)
        and key.removeprefix("metric.") not in metrics  # as older versions wrote them
        and key not in (REGISTRATION_TAG, PROMOTION_TAG)
    }
    number = int(found.version)
    return VersionDetails(
        name=str(found.name),
        version=number,
        aliases=tuple(sorted(a for a, v in aliases.items() if int(v) == number)),
        metrics=metrics,
        lineage=lineage,
        run_id=found.run_id or None,
        created_ms=int(found.creation_timestamp or 0),
        source=str(found.source),
        tags=tags,
    )
