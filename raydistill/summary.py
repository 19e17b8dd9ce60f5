"""What the report and the comparison tables are made from."""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.task import METRICS
from raydistill.final import FinalFigures
from raydistill.output import OutputFolder, write_atomically
from raydistill.prepare import Prepared
from raydistill.teachers.protocol import TeacherDescription
from raydistill.training.trainer import Trained

__all__ = ["write_summary"]

_PACKAGES = ("raydistill", "torch", "transformers", "ray", "mlflow", "datasets")


def write_summary(
    folder: OutputFolder,
    prepared: Prepared,
    *,
    trained: Trained,
    figures: FinalFigures,
    descriptions: Mapping[str, TeacherDescription],
    stats: Mapping[str, Mapping[str, float]],
    student_parameters: int,
    begin: float,
    metrics: Mapping[str, float],
) -> None:
    """Write ``metrics.json`` and ``summary.json``, and what was answered."""
    folder.write_predictions(figures.predictions)
    config, now = prepared.config, time.time()
    splits = [name for name in config.evaluation.splits if name in prepared.splits]
    split = splits[-1] if splits else None
    models = [
        _model(
            "student",
            config.run.name,
            parameters=student_parameters,
            disk_bytes=sum(f.stat().st_size for f in folder.student.glob("*.safetensors")),
            latency=figures.latency_ms.get("student", {}),
            scores=_scores(config, metrics, split or ""),
        )
    ]
    if first_stage := _scores(config, metrics, f"{split}/first_stage"):
        models.append({"role": "baseline", "name": "order of the first stage", **first_stage})
    for name, description in descriptions.items():
        models.append(
            _model(
                "teacher",
                name,
                parameters=description.num_parameters,
                disk_bytes=description.num_bytes,
                latency=figures.latency_ms.get(f"teachers/{name}", {}),
                scores=_scores(config, metrics, f"{split}/teachers/{name}"),
            )
        )
    if len(descriptions) > 1:
        teachers = [model for model in models if model["role"] == "teacher"]
        models.append(_ensemble(teachers, _scores(config, metrics, f"{split}/ensemble")))
    summary: dict[str, Any] = {
        "name": config.run.name,
        "seed": config.run.seed,
        "started": datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "duration_s": now - begin,
        "task": config.task.kind,
        "labels": list(prepared.labels),
        "rows": {name: s.num_rows for name, s in prepared.splits.items()}
        | ({"new": prepared.augmented.num_rows} if prepared.augmented is not None else {}),
        "models": models,
        "per_class": [asdict(row) for row in figures.per_class],
        "teachers": {
            name: {
                "fingerprint": description.fingerprint,
                "model": config.teachers[name].model,
                "replicas": config.teachers[name].replica_bounds[0],
                **stats.get(name, {}),
            }
            for name, description in descriptions.items()
        },
        "best_step": trained.progress.best_step,
        "end": trained.progress.end,
        "versions": {"python": platform.python_version(), **_versions()},
        "notes": list(prepared.notes),
    }
    write_atomically(folder.metrics, json.dumps(dict(metrics), indent=1, sort_keys=True))
    write_atomically(folder.summary, json.dumps(summary, indent=1, ensure_ascii=False))


def _scores(config: DistillConfig, metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    names = METRICS[config.task.kind]
    found = {n: metrics[f"{prefix}/{n}"] for n in names if f"{prefix}/{n}" in metrics}
    before = f"{prefix}/corpus/"  # what was found among all passages
    of_corpus = {f"corpus_{n.removeprefix(before)}": v for n, v in metrics.items() if n.startswith(before)}  # fmt: skip
    return found | of_corpus


def _model(
    role: str,
    name: str,
    *,
    parameters: int,
    disk_bytes: int,
    latency: Mapping[int, float],
    scores: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "role": role,
        "name": name,
        "parameters": parameters,
        "disk_bytes": disk_bytes,
        **{f"latency_ms_batch{rows}": ms for rows, ms in latency.items()},
        **scores,
    }


def _ensemble(teachers: list[dict[str, Any]], scores: Mapping[str, float]) -> dict[str, Any]:
    """The teachers one after another: sizes and times add up."""
    together: dict[str, Any] = {
        "role": "ensemble",
        "name": f"{len(teachers)} teachers together",
        **scores,
    }
    for key in ("parameters", "disk_bytes", "latency_ms_batch1", "latency_ms_batch32"):
        if all(key in teacher for teacher in teachers):
            together[key] = sum(teacher[key] for teacher in teachers)
    return together


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found
