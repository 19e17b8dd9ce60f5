"""What a run is made of: what must be the same for a resumed run to end in the same student."""

from collections.abc import Mapping
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.ranking import RankedTask, RetrievalTask
from raydistill.config.task import QuestionAnsweringTask, TaskSection
from raydistill.data import Split
from raydistill.errors import Fault
from raydistill.prepare.augmentation import Augmented

__all__ = ["changed_settings", "flatten", "manifest_of"]

_WAY_OUT = (
    "A resumed run must be the same run; put it back, or start anew in another run.output_dir."
)
# These change how fast or where a run goes, never its numbers.
_PARTITION = {"num_workers", "micro_batch_rows"}
"""How a batch is cut; decides which random numbers a row meets where there is dropout."""
_FREE = {
    "training": {
        "num_workers",
        "sharding",
        "cpus_per_worker",
        "gpus_per_worker",
        "worker_resources",
        "micro_batch_rows",
        "checkpoint_every_steps",
        "checkpoints_kept",
        "log_every_steps",
        "max_restarts",
    },
    "teacher": {
        "model",  # the fingerprint of its weights stands for it
        "tokenizer",
        "revision",
        "trust_remote_code",
        "placement",
        "replicas",
        "transport",
        "window_rows",
        "num_gpus",
        "num_cpus",
        "resources",
        "timeout_s",
        "hedge_after",
        "max_retries",
        "start_timeout_s",
    },
}


def manifest_of(
    config: DistillConfig,
    splits: Mapping[str, Split],
    weights: Mapping[str, str],
    augmented: Augmented | None = None,
) -> dict[str, Any]:
    """Flat: configuration path (or data.SPLIT) to a plain value.

    Args:
        config: The run.
        splits: Its rows.
        weights: Fingerprints, of each teacher by name and of ``student``.
        augmented: Training rows that are made from others.
    """
    tree: dict[str, Any] = {
        "run": {"seed": config.run.seed},
        "data": {name: split.fingerprint for name, split in splits.items() if name != "test"}
        | ({"shuffle_rows": config.data.shuffle_rows} if config.data.streaming else {}),
        "task": {"kind": config.task.kind, "labels": list(splits["train"].labels)}
        | _of_task(config.task),
        "student": config.student.model_dump(mode="json", exclude={"model"})
        | {"weights": weights.get("student")},
        "teachers": {
            name: teacher.model_dump(mode="json", exclude=_FREE["teacher"])
            | {"weights": weights.get(name)}
            for name, teacher in config.teachers.items()
        },
        "store": {"codecs": config.store.codecs_used.model_dump(mode="json")},
        "ensemble": config.ensemble.model_dump(mode="json"),
        "balancing": config.balancing.model_dump(mode="json"),
        "stages": [stage.model_dump(mode="json") for stage in config.stages],
        "losses": [loss.model_dump(mode="json") for loss in config.losses],
        "training": config.training.model_dump(
            mode="json",
            exclude=_FREE["training"] - (_PARTITION if config.student.dropout else set()),
        ),
    }
    if config.adversarial is not None:
        tree["adversarial"] = config.adversarial.model_dump(mode="json")
    if augmented is not None:
        tree["augmentation"] = augmented.made_of()
    return flatten(tree)


def _of_task(task: TaskSection) -> dict[str, Any]:
    """What decides the rows of a step, or which student is the best, beside the files."""
    if isinstance(task, RetrievalTask):
        scores = {"similarity": task.similarity, "scale": task.scale}
        return {"max_positives": task.max_positives, **scores}
    if isinstance(task, RankedTask):
        return {"max_positives": task.max_positives}
    if isinstance(task, QuestionAnsweringTask):
        return task.model_dump(mode="json", exclude={"kind", "columns"})
    return {}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings and lists of mappings to one level: ``losses.1.temperature``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        items = value
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            items = {str(i): item for i, item in enumerate(value)}
        if isinstance(items, Mapping) and items:
            flat |= {f"{key}.{path}": leaf for path, leaf in flatten(items).items()}
        else:
            flat[key] = value
    return flat


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Fault]:
    """Why a run cannot be resumed: everything that differs, by name."""
    faults = []
    for item in sorted(_items(now) ^ _items(before)):
        state = "is new" if item in _items(now) else "is missing"
        faults.append(
            Fault(
                item, f"{state}: the run to resume had other {item.partition('.')[0]}. {_WAY_OUT}"
            )
        )
    gone = tuple(f"{fault.path}." for fault in faults)
    for path in [*now, *(p for p in before if p not in now)]:
        if path.startswith(gone):
            continue
        old, new = before.get(path, "nothing"), now.get(path, "nothing")
        if old != new:
            faults.append(
                Fault(
                    path,
                    f"is {_show(new)}, but the run to resume had {_show(old)}. {_WAY_OUT}",
                )
            )
    return faults


def _items(manifest: Mapping[str, Any]) -> set[str]:
    """Teachers and terms by path, without their settings."""
    return {
        ".".join(path.split(".")[:2])
        for path in manifest
        if path.startswith(("teachers.", "losses."))
    }


def _show(value: Any) -> str:
    text = str(value)
    is_fingerprint = len(text) == 64 and all(c in "0123456789abcdef" for c in text)  # noqa: PLR2004
    return f"content {text[:12]}…" if is_fingerprint else text
