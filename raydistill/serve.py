"""The teachers of a run: which must be started, and how every worker reaches them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared
from raydistill.signals import Ask
from raydistill.store import Codecs, Place, Shelf, row_keys
from raydistill.tasks import TextClassification
from raydistill.teachers.actor import (
    describe_replicas,
    publish_replicas,
    start_replicas,
    stop_replicas,
)
from raydistill.teachers.line import StoreLine, TeacherLine
from raydistill.teachers.stored import description_from
from raydistill.teachers.teacher import TeacherDescription, TeacherSettings

__all__ = ["Served", "missing_rows", "serve_teachers", "store_line", "store_uri"]

_LOOK = 4096  # rows looked up at once


@dataclass(frozen=True)
class Served:
    """One teacher of a run.

    Attributes:
        line: How it is reached.
        description: What it says about itself, or said when the store was filled.
    """

    line: TeacherLine
    description: TeacherDescription

    @property
    def started(self) -> bool:
        """False: all its answers were in the store."""
        return bool(self.line.actors)


def store_uri(config: DistillConfig) -> str:
    """Where the store lies: as written, else beside the output folder."""
    path = config.store.path
    if path is None:
        return str(OutputFolder.of(config).path.parent / "store")
    return path if "://" in path else str(Path(path).expanduser().resolve())


def store_line(prepared: Prepared, name: str) -> StoreLine | None:
    """A teacher's shelf; None without a store."""
    config = prepared.config
    if not config.store.enabled:
        return None
    section, codecs = config.teachers[name], Codecs(**config.store.codecs.model_dump())
    shelf = Shelf(
        weights=prepared.weights[name],
        dtype=section.dtype,
        max_tokens=prepared.teacher_max_tokens(name),
        attention_maps=bool(prepared.objective.asks[name].attention),
        signal_dtype=section.signal_dtype,
        codec=codecs.label,
    )
    about = {"model": section.model}
    return StoreLine(store_uri(config), shelf, codecs, about, config.store.max_bytes)


def needed_answers(prepared: Prepared, name: str) -> Iterator[tuple[TextClassification, Ask]]:
    """What a run asks of a teacher: everything in training, logits of the split it is measured on."""
    ask = prepared.objective.asks[name]
    for split in ("train", "unlabelled"):
        if split in prepared.splits:
            yield TextClassification(prepared.splits[split].table, prepared.labels), ask
    evaluation = prepared.config.evaluation
    measured = [split for split in evaluation.splits if split in prepared.splits]
    if evaluation.teachers and measured:
        table = prepared.splits[measured[-1]].table
        yield TextClassification(table, prepared.labels), Ask(dtype=ask.dtype)


def missing_rows(prepared: Prepared, name: str, line: StoreLine) -> int:
    """How many answers a run needs that are not in the store."""
    store, missing = line.open(name), 0
    for task, ask in needed_answers(prepared, name):
        for begin in range(0, task.num_rows, _LOOK):
            _, texts = task.texts(range(begin, min(begin + _LOOK, task.num_rows)))
            missing += store.find(row_keys(texts), ask).count(None)
    return missing


def teacher_settings(prepared: Prepared, name: str) -> TeacherSettings:
    """What a replica loads."""
    section = prepared.config.teachers[name]
    return TeacherSettings(
        name=name,
        source=prepared.sources[name],
        dtype=section.dtype,
        max_tokens=prepared.teacher_max_tokens(name),
        batch_rows=section.batch_rows,
        num_threads=max(1, int(section.num_cpus)),
        use_gpu=section.num_gpus > 0,
        attention_maps=bool(prepared.objective.asks[name].attention),
    )


@contextmanager
def serve_teachers(
    prepared: Prepared, *, object_store: int, everything: bool = False
) -> Iterator[dict[str, Served]]:
    """All teachers, loaded; those whose answers are all in the store are not started.

    Args:
        prepared: The run.
        object_store: Bytes of shared memory on a node.
        everything: Start them all.
    """
    config = prepared.config
    actors: dict[str, list[Any]] = {}
    lines = {name: _line(prepared, name, object_store) for name in config.teachers}
    found: dict[str, Served] = {}
    try:
        for name, section in config.teachers.items():
            line = lines[name]
            known = None if everything else _known(prepared, name, line.store)
            if known is not None:
                found[name] = Served(line, known)
                continue
            actors[name] = start_replicas(
                teacher_settings(prepared, name),
                replicas=section.replicas,
                num_cpus=section.num_cpus,
                num_gpus=section.num_gpus,
                window_rows=section.window_rows,
                merge=section.merge_requests,
                store=line.store,
            )
        for name, replicas in actors.items():
            wait_s = config.teachers[name].start_timeout_s
            description = describe_replicas(name, replicas, wait_s)
            found[name] = Served(replace(lines[name], actors=tuple(replicas)), description)
        yield {name: found[name] for name in config.teachers}
    finally:
        for replicas in actors.values():
            publish_replicas(replicas)
        for replicas in actors.values():
            stop_replicas(replicas)


def _line(prepared: Prepared, name: str, object_store: int) -> TeacherLine:
    config, section = prepared.config, prepared.config.teachers[name]
    memory = config.store.memory_bytes if config.store.enabled else 0
    if memory == "auto":
        memory = object_store // 4 // config.training.num_workers // len(config.teachers)
    return TeacherLine(
        actors=(),
        timeout_s=section.timeout_s,
        max_retries=section.max_retries,
        start_timeout_s=section.start_timeout_s,
        store=store_line(prepared, name),
        memory_bytes=memory,
    )


def _known(prepared: Prepared, name: str, line: StoreLine | None) -> TeacherDescription | None:
    """What the teacher said when the store was filled, if all that the run needs is there."""
    if line is None or not Place(line.uri).exists(line.shelf.name):
        return None
    description = description_from(line.open(name).about(), prepared.traits[name])
    if description is None or missing_rows(prepared, name, line):
        return None
    return description
