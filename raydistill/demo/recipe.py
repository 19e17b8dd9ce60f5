"""The demo's configurations, as functions: teachers, the student alone, the student distilled.

The distilled student and the student alone see the same labelled rows, the same number of steps and
the same learning rate; the distilled one also sees rows without labels, through its teachers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig

__all__ = ["alone_config", "distill_config", "teacher_config"]

MAX_TOKENS = 48
_BATCH_ROWS = 16
_LEARNING_RATE = 5e-4


def teacher_config(
    name: str,
    model: Path,
    data: Path,
    output: Path,
    *,
    seed: int,
    tracking_uri: str | None,
    epochs: int = 1,
) -> DistillConfig:
    """Fine-tune one encoder on the labelled rows; registered as ``demo-NAME``."""
    return _config(
        run={
            "name": f"teacher-{name}",
            "seed": seed,
            "output_dir": str(output / f"teacher-{name}"),
        },
        data={"folder": str(data)},
        student={"model": str(model), "max_tokens": MAX_TOKENS},
        losses=[{"kind": "cross_entropy"}],
        training={
            "epochs": epochs,
            "learning_rate": 1e-4,
            "batch_rows": 16,
            "micro_batch_rows": 8,  # rows of like length together: less padding
            "cpus_per_worker": 2,
        },
        tracking={"uri": tracking_uri, "registered_model": f"demo-teacher-{name}"},
        evaluation={"latency": False, "splits": ["validation"]},
    )


def distill_config(
    model: Path,
    teachers: Mapping[str, str],
    data: Path,
    output: Path,
    *,
    seed: int,
    tracking_uri: str | None,
    steps: int,
) -> DistillConfig:
    """The student from both teachers, over labelled and unlabelled rows."""
    return _config(
        run={"name": "distilled", "seed": seed, "output_dir": str(output / "distilled")},
        data={"folder": str(data)},
        student={"model": str(model), "max_tokens": MAX_TOKENS},
        teachers={name: {"model": uri} for name, uri in teachers.items()},
        ensemble={"combine": "probabilities"},
        losses=[
            {"kind": "cross_entropy", "weight": 0.5},
            {"kind": "forward_kl", "weight": 1.0, "temperature": 2.0},
        ],
        pipeline={"batches_ahead": 16},
        training=_student_training(steps),
        tracking={"uri": tracking_uri, "registered_model": "demo-student"},
    )


def alone_config(
    model: Path, data: Path, output: Path, *, seed: int, tracking_uri: str | None, steps: int
) -> DistillConfig:
    """The same student from the same labels alone, for the same number of steps."""
    return _config(
        run={"name": "alone", "seed": seed, "output_dir": str(output / "alone")},
        data={"folder": str(data)},
        student={"model": str(model), "max_tokens": MAX_TOKENS},
        losses=[{"kind": "cross_entropy"}],
        training=_student_training(steps),
        tracking={"uri": tracking_uri},
        evaluation={"latency": False},
    )


def _student_training(steps: int) -> dict[str, Any]:
    return {
        "epochs": 1000,
        "max_steps": steps,
        "batch_rows": _BATCH_ROWS,
        "learning_rate": _LEARNING_RATE,
        "evaluate_every_steps": 100,
    }


def _config(**sections: Any) -> DistillConfig:
    return DistillConfig.model_validate(sections)
