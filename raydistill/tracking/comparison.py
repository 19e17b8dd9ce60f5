"""Two versions side by side: figures, where they came from, and how their runs were configured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.tracking.registry import as_model_uri, describe_model, open_registry
from raydistill.tracking.tags import data_of
from raydistill.tracking.verdict import Verdict, judge
from raydistill.tracking.versions import VersionDetails

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["Comparison", "compare_models", "differences"]


@dataclass(frozen=True)
class Comparison:
    """Two versions.

    Attributes:
        first: One.
        second: The other.
        metrics: Values of both by name; ``None``: not measured.
        settings: What differs in the parameters of their runs, by name; ``None``: not there.
        notes: What a reader of the figures must know, as sentences.
    """

    first: VersionDetails
    second: VersionDetails
    metrics: Mapping[str, tuple[float | None, float | None]]
    settings: Mapping[str, tuple[str | None, str | None]]
    notes: tuple[str, ...]


def compare_models(
    first: str, second: str, tracking_uri: str | None = None, *, path: str = "model"
) -> Comparison:
    """Finds two versions and what differs between them.

    Args:
        first: ``models:/name@alias`` or ``models:/name/version``, with or without ``models:/``.
        second: Of the same registered model or of another one.
        tracking_uri: See :func:`raydistill.tracking.resolve_uri`.
        path: What the user would change, for the error.

    Raises:
        ConfigError: There is no such version, or the server cannot be reached.
    """
    one, other = (
        describe_model(as_model_uri(uri), tracking_uri, path=path) for uri in (first, second)
    )
    notes = _of_other_data(one, other)
    with open_registry(tracking_uri, path, one.uri) as (client, _):
        params = [_params(client, version) for version in (one, other)]
    for version, found in zip((one, other), params, strict=True):
        if found is None:
            notes.append(f"{version.uri} has no run there any more, so its settings are not known.")
    known = [found for found in params if found is not None]
    both = len(known) == len(params)
    return Comparison(
        first=one,
        second=other,
        metrics={
            name: (one.metrics.get(name), other.metrics.get(name))
            for name in sorted({*one.metrics, *other.metrics})
        },
        settings=differences(known[0], known[1]) if both else {},
        notes=tuple(notes),
    )


def differences(
    first: Mapping[str, str], second: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """What differs, by name.

    Example:
        >>> differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
        {'b': ('2', '3'), 'c': (None, '4')}
    """
    return {
        name: (first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }


def _of_other_data(one: VersionDetails, other: VersionDetails) -> list[str]:
    notes = {}
    for name in sorted({*one.metrics} & {*other.metrics}):
        prints = [data_of(version.tags, name) for version in (one, other)]
        if None in prints or prints[0] != prints[1]:
            state = "is not known for both" if None in prints else "is not the same"
            split = name.partition("/")[0]
            notes[split] = f"What {split} was measured on {state}: figures of it do not compare."
    return list(notes.values())


def _params(client: "MlflowClient", version: VersionDetails) -> Mapping[str, str] | None:
    """Of its run; ``None`` when there is none."""
    if version.run_id is None:
        return None
    try:
        found: Mapping[str, str] = client.get_run(version.run_id).data.params
    except Exception as error:
        if judge(error) is not Verdict.REFUSED:
            raise
        return None
    return found
