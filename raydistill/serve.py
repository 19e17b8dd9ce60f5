"""The teachers of a run: which must be started, and how every worker reaches them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.errors import Fault
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, Resources, needed_resources
from raydistill.signals import Ask, Request
from raydistill.store import Codecs, Place, Shelf, row_keys
from raydistill.tasks import TextClassification
from raydistill.teachers.actor import (
    describe_replicas,
    start_replicas,
    try_teacher,
)
from raydistill.teachers.keeper import ReplicaKeeper
from raydistill.teachers.line import StoreLine, TeacherLine
from raydistill.teachers.placement import choose_placement
from raydistill.teachers.scaling import Scaler
from raydistill.teachers.stored import description_from
from raydistill.teachers.teacher import TeacherDescription, TeacherSettings

__all__ = [
    "Served",
    "cached_faults",
    "missing_rows",
    "needed_answers",
    "serve_teachers",
    "store_line",
    "store_uri",
    "tend_replicas",
]

_LOOK = 4096  # rows looked up at once


@dataclass(frozen=True)
class Served:
    """One teacher of a run.

    Attributes:
        line: How it is reached.
        description: What it says about itself, or said when the store was filled.
        keeper: Of its replicas; None: it has none.
    """

    line: TeacherLine
    description: TeacherDescription
    keeper: ReplicaKeeper | None = None

    @property
    def started(self) -> bool:
        """False: all its answers were in the store."""
        return self.keeper is not None or self.line.inline is not None

    def stats(self) -> Mapping[str, float]:
        """What its replicas computed; nothing of an inline one, which the workers count."""
        if self.line.inline is not None:
            return {}
        return {"rows_computed": 0.0} | dict(self.keeper.stats() if self.keeper else {})

    def line_now(self) -> TeacherLine:
        """With the replicas that there are now."""
        return replace(self.line, actors=tuple(self.keeper.actors)) if self.keeper else self.line


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


def teacher_settings(prepared: Prepared, name: str, *, inline: bool = False) -> TeacherSettings:
    """What a replica loads, or a worker."""
    section, training = prepared.config.teachers[name], prepared.config.training
    cpus = training.cpus_per_worker if inline else section.num_cpus
    gpus = training.gpus_per_worker if inline else section.num_gpus
    return TeacherSettings(
        name=name,
        source=prepared.sources[name],
        dtype=section.dtype,
        max_tokens=prepared.teacher_max_tokens(name),
        batch_rows=section.batch_rows,
        num_threads=max(1, int(cpus)),
        use_gpu=gpus > 0,
        attention_maps=bool(prepared.objective.asks[name].attention),
    )


@contextmanager
def serve_teachers(
    prepared: Prepared, *, object_store: int, have: Resources, say: Callable[[str], None]
) -> Iterator[dict[str, Served]]:
    """All teachers of a run, ready to answer.

    One whose answers are all in the store is not loaded anywhere; an inline one is loaded by every
    worker; the others are started here and stopped at the end.

    Args:
        prepared: The run.
        object_store: Bytes of shared memory on a node.
        have: What the cluster has.
        say: Where decisions are told.
    """
    config = prepared.config
    keepers: dict[str, ReplicaKeeper] = {}
    found: dict[str, Served] = {}
    lines = {name: _line(prepared, name, object_store) for name in config.teachers}
    try:
        for name, section in config.teachers.items():
            known = _known(prepared, name, lines[name].store)
            if known is not None:
                found[name] = Served(lines[name], known)
                say(f"{name} is not started: all its answers are in the store")
            elif section.placement in ("inline", "auto"):
                served = _tried(prepared, name, lines[name], have, say)
                if served is not None:
                    found[name] = served
            if name not in found:
                keepers[name] = _start(prepared, name, lines[name].store, say)
        for name, keeper in keepers.items():
            wait_s = config.teachers[name].start_timeout_s
            description = describe_replicas(name, keeper.actors, wait_s)
            line = replace(lines[name], actors=tuple(keeper.actors), elastic=keeper.elastic)
            found[name] = Served(line, description, keeper)
        yield {name: found[name] for name in config.teachers}
    finally:
        for keeper in keepers.values():
            keeper.stop()


def tend_replicas(
    teachers: Mapping[str, Served], events: Sequence[Mapping[str, Any]], recorder: Any
) -> None:
    """Grow or shrink by what workers said they waited, and tell them; called again and again."""
    for event in events:
        if event["kind"] == "waited":
            for name, seconds in event["values"].items():
                if (keeper := teachers[name].keeper) is not None:
                    keeper.waited(event["rank"], seconds)
    for name, served in teachers.items():
        if served.keeper is not None and served.keeper.look():
            recorder.set_replicas.remote(name, list(served.keeper.actors))


def _start(
    prepared: Prepared, name: str, store: StoreLine | None, say: Callable[[str], None]
) -> ReplicaKeeper:
    """As many replicas as there must be."""
    section = prepared.config.teachers[name]
    low, high = section.replica_bounds

    def start(count: int) -> list[Any]:
        return start_replicas(
            teacher_settings(prepared, name),
            replicas=count,
            num_cpus=section.num_cpus,
            num_gpus=section.num_gpus,
            window_rows=section.window_rows,
            merge=section.merge_requests,
            store=store,
        )

    scaler = Scaler(low, high) if low < high else None
    return ReplicaKeeper(name, start(low), lambda: start(1)[0], scaler=scaler, say=say)


def _tried(
    prepared: Prepared, name: str, line: TeacherLine, have: Resources, say: Callable[[str], None]
) -> Served | None:
    """A teacher loaded once where a worker will run, and timed there; None: it is better remote."""
    section, training = prepared.config.teachers[name], prepared.config.training
    settings = teacher_settings(prepared, name, inline=True)
    ids, texts = TextClassification(prepared.splits["train"].table, prepared.labels).texts(
        range(min(training.batch_rows, prepared.splits["train"].num_rows))
    )
    request = Request(ids, texts, prepared.objective.asks[name])
    description, trial = try_teacher(
        settings, request, num_cpus=training.cpus_per_worker, num_gpus=training.gpus_per_worker
    )
    if section.placement == "auto":
        workers = needed_resources(prepared.config)
        room = Resources(
            have.cpus - workers.cpus - section.replica_bounds[0] * section.num_cpus,
            have.gpus - workers.gpus - section.replica_bounds[0] * section.num_gpus,
        )
        chosen, why = choose_placement(trial, spare=min(room.cpus, room.gpus) >= 0)
        say(f"{name} is {chosen}: {why}")
        if chosen == "remote":
            return None
    inline = replace(line, inline=settings, window_rows=section.window_rows)
    return Served(inline, description)


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
        hedge_after=section.hedge_after,
    )


def _known(prepared: Prepared, name: str, line: StoreLine | None) -> TeacherDescription | None:
    """What the teacher said when the store was filled, if all that the run needs is there."""
    if line is None or not Place(line.uri).exists(line.shelf.name):
        return None
    description = description_from(line.open(name).about(), prepared.traits[name])
    if description is None or missing_rows(prepared, name, line):
        return None
    return description


def cached_faults(prepared: Prepared) -> list[Fault]:
    """Teachers that must not run, though answers of theirs are missing."""
    faults = []
    for name, section in prepared.config.teachers.items():
        if section.placement != "cached":
            continue
        path, line = f"teachers.{name}.placement", store_line(prepared, name)
        if line is None:
            faults.append(Fault(path, "is cached, but store.enabled is false."))
            continue
        missing = sum(task.num_rows for task, _ in needed_answers(prepared, name))
        if Place(line.uri).exists(line.shelf.name):
            missing = missing_rows(prepared, name, line)
        if missing:
            faults.append(
                Fault(
                    path,
                    f"is cached, but {missing:,} of its answers are not in the store at {line.uri}. "
                    f"Fill it: raydistill cache CONFIG --set teachers.{name}.placement=remote.",
                )
            )
    return faults
