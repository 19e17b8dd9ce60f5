"""From a point to the runs of a trial: the configuration as written, its values, and a place of its own."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.space import label_of, settings_of
from raydistill.runtime import object_store_bytes
from raydistill.storing import store_uri
from raydistill.tracking import resolve_uri
from raydistill.tuning.outcome import Objective, measured_in_trials
from raydistill.tuning.trial import RunSpec

__all__ = ["environment", "run_spec", "seeds_of", "written_values"]

_PASSED_ON = ("MLFLOW_", "HF_", "RAYDISTILL_", "TOKENIZERS_", "AWS_")


def environment() -> dict[str, str]:
    """Variables that say where models and records are; a process on a cluster has not this one's."""
    return {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}


def seeds_of(config: DistillConfig, number: int) -> list[int]:
    """The seeds of some runs of one recipe, the written one first."""
    return [config.run.seed + index for index in range(number)]


def written_values(config: DistillConfig, paths: Sequence[str]) -> dict[str, Any]:
    """What a configuration has at some paths, written there or not."""
    whole, found = config.model_dump(mode="json"), {}
    for path in paths:
        at: Any = whole
        for part in path.split("."):
            try:
                at = at[int(part)] if isinstance(at, list) else at[part]
            except (LookupError, TypeError, ValueError):
                at = None
                break
        found[path] = list(at) if path == "teachers" and isinstance(at, dict) else at
    return found


def run_spec(
    search: DistillConfig,
    recipe: DistillConfig,
    *,
    name: str,
    seed: int,
    output: Path,
    tags: Mapping[str, str],
    concurrent: int,
    objectives: Sequence[Objective] | None,
    varied: Mapping[str, Any] | None,
) -> RunSpec:
    """One run.

    Args:
        search: The configuration of the search.
        recipe: That of the trial.
        name: Of the run.
        seed: Of the run.
        output: Its folder.
        tags: In MLflow, beside the user's.
        concurrent: How many such runs share a node's memory.
        objectives: What is measured at the end, on validation rows only; None: all that
            ``evaluation`` says.
        varied: What MLflow shows as parameters; None: all settings.
    """
    settings = settings_of(recipe)
    settings["run"] = {**settings["run"], "name": name, "seed": seed, "output_dir": str(output)}
    settings["store"] = {**settings.get("store", {}), "path": store_uri(search)}
    tracking = {**settings.get("tracking", {}), "registered_model": None}
    tracking["tags"] = {**search.tracking.tags, **tags}
    if search.tracking.enabled and search.tracking.uri is not None:
        tracking["uri"] = resolve_uri(search.tracking.uri)
    elif search.tracking.enabled and "MLFLOW_TRACKING_URI" not in os.environ:
        tracking["uri"] = resolve_uri(None)
    settings["tracking"] = tracking
    if search.pipeline.max_bytes_ahead == "auto":
        share = object_store_bytes() // 3 // search.training.num_workers // concurrent
        settings["pipeline"] = {**settings.get("pipeline", {}), "max_bytes_ahead": max(1, share)}
    if objectives is not None:
        measured = measured_in_trials(objectives)
        settings["evaluation"] = {**settings.get("evaluation", {}), **measured}
    params = None
    if varied is not None:
        params = {**{path: label_of(value) for path, value in varied.items()}, "run.seed": seed}
    return RunSpec(seed, settings, params)
