"""What the registry tells of a model, as plain dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.tracking.registration import METRIC_TAG, REGISTRATION_TAG

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
        lineage: Its other tags: teachers, data, version of raydistill.
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


@dataclass(frozen=True)
class ModelDetails:
    """A registered model.

    Attributes:
        name: As registered.
        aliases: Version by alias.
        versions: Newest first.
    """

    name: str
    aliases: Mapping[str, int]
    versions: tuple[VersionDetails, ...]


@dataclass(frozen=True)
class Promotion:
    """An alias that was moved.

    Attributes:
        name: Of the model.
        alias: That was moved.
        version: That has it now.
        previous: That had it; ``None`` when nobody had, or the same.
    """

    name: str
    alias: str
    version: int
    previous: int | None


def read_version(found: "ModelVersion", aliases: Mapping[str, str]) -> VersionDetails:
    """A version of MLflow as one of ours.

    Args:
        found: As MLflow gives it.
        aliases: Version by alias, of its model.
    """
    tags = {str(key): str(value) for key, value in found.tags.items()}
    metrics = {}
    for key, value in tags.items():
        if key.startswith(METRIC_TAG):
            try:
                metrics[key.removeprefix(METRIC_TAG)] = float(value)
            except ValueError:
                continue
    lineage = {
        key: value
        for key, value in tags.items()
        if not key.startswith(METRIC_TAG) and key != REGISTRATION_TAG
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
