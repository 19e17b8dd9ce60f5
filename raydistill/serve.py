"""The teachers of a run: which must be started, and how every worker reaches them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.models import TeacherSection
from raydistill.config.root import direct_faults
from raydistill.errors import TeacherError
from raydistill.prepare import Prepared, Resources, needed_resources, replicas_need
from raydistill.signals import Request
from raydistill.storing import known_shelf, store_line
from raydistill.tasks import TextRows
from raydistill.teachers.actor import (
    describe_replicas,
    start_replicas,
    try_teacher,
)
from raydistill.teachers.keeper import ReplicaKeeper
from raydistill.teachers.line import StoreLine, TeacherLine
from raydistill.teachers.pairs import text_ask
from raydistill.teachers.placement import Trial, choose_placement
from raydistill.teachers.protocol import TeacherDescription, TeacherSettings
from raydistill.teachers.scaling import Scaler

__all__ = ["Served", "serve_teachers", "tend_replicas", "try_inline"]


@dataclass(frozen=True)
class Served:
    """One teacher of a run.

    Attributes:
        line: How it is reached.
        description: What it says about itself, or said when the store was filled; None: it will be
            said by a worker that loads it.
        keeper: Of its replicas; None: it has none.
    """

    line: TeacherLine
    description: TeacherDescription | None
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
        backend=section.backend,
        keep_on_device=not inline and is_direct(prepared.config, name),
        head=prepared.head_of(name),
        embedder=prepared.embedders.get(name),
    )


def is_direct(config: DistillConfig, name: str) -> bool:
    """Whether a teacher's answers go from device to device: if it says so, or by itself between GPUs."""
    teacher = config.teachers[name]
    if teacher.transport != "auto":
        return teacher.transport == "nixl"
    possible = teacher.num_gpus > 0 and not direct_faults(config, name)
    return possible and find_spec("nixl") is not None


@contextmanager
def serve_teachers(
    prepared: Prepared,
    *,
    object_store: int,
    have: Resources,
    say: Callable[[str], None],
    all_rows_known: bool = True,
) -> Iterator[dict[str, Served]]:
    """All teachers of a run, ready to answer.

    One whose answers are all in the store is not loaded anywhere; an inline one is loaded by every
    worker; the others are started here and stopped at the end.

    Args:
        prepared: The run.
        object_store: Bytes of shared memory on a node.
        have: What the cluster has.
        say: Where decisions are told.
        all_rows_known: Whether no other rows will be asked than those of the run.
    """
    teachers = prepared.config.teachers
    lines = {name: _line(prepared, name, object_store) for name in teachers}
    found: dict[str, Served] = {}
    for name, section in teachers.items():
        known = known_shelf(prepared, name) if all_rows_known else None
        if known is not None:
            found[name] = Served(replace(lines[name], store=known[0]), known[1])
            say(f"{name} is not started: all its answers are in the store")
        elif section.placement == "cached":
            raise TeacherError(
                name,
                "is cached, but answers of its are no longer in the store",
                f"Fill it: raydistill cache CONFIG --set teachers.{name}.placement=remote.",
            )
    waiting = {name: section for name, section in teachers.items() if name not in found}
    found |= _inline(prepared, waiting, lines, have, say)
    with ExitStack() as stack:
        keepers = {}
        for name in waiting:
            if name not in found:
                keepers[name] = _start(prepared, name, lines[name].store, say)
                stack.callback(keepers[name].stop)
        for name, keeper in keepers.items():
            description = describe_replicas(name, keeper.actors, teachers[name].start_timeout_s)
            line = replace(lines[name], actors=tuple(keeper.actors), elastic=keeper.elastic)
            found[name] = Served(line, description, keeper)
        yield {name: found[name] for name in teachers}


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
            resources=section.resources,
            window_rows=section.window_rows,
            merge=section.merge_requests,
            store=store,
        )

    scaler = Scaler(low, high) if low < high else None
    return ReplicaKeeper(
        name, start(low), lambda: start(1)[0], scaler=scaler, say=say, start_timeout_s=section.start_timeout_s
    )  # fmt: skip


def _inline(
    prepared: Prepared,
    teachers: Mapping[str, TeacherSection],
    lines: Mapping[str, TeacherLine],
    have: Resources,
    say: Callable[[str], None],
) -> dict[str, Served]:
    """Those of some teachers that every worker loads: who must, and who had better.

    They are tried one after another and before any replica starts, so that nothing disturbs the
    measurement; who is placed beside the workers leaves less room for the next.
    """
    workers = needed_resources(prepared.config.model_copy(update={"teachers": {}}))
    fixed = [replicas_need(t) for t in teachers.values() if t.placement == "remote"]
    cpus = have.cpus - workers.cpus - sum(need.cpus for need in fixed)
    gpus = have.gpus - workers.gpus - sum(need.gpus for need in fixed)
    found = {}
    for name, section in teachers.items():
        if section.placement not in ("inline", "auto"):
            continue
        if section.placement == "auto":
            need = replicas_need(section)
            _, trial = try_inline(prepared, name)
            chosen, why = choose_placement(trial, spare=need.cpus <= cpus and need.gpus <= gpus)
            say(f"{name} is {chosen}: {why}")
            if chosen == "remote":
                cpus, gpus = cpus - need.cpus, gpus - need.gpus
                continue
        settings = teacher_settings(prepared, name, inline=True)
        line = replace(
            lines[name],
            inline=settings,
            window_rows=section.window_rows,
            store=store_line(prepared, name, inline=True),
        )
        found[name] = Served(line, None)
    return found


def try_inline(prepared: Prepared, name: str) -> tuple[TeacherDescription, Trial]:
    """A teacher loaded once where a worker would run, and timed there."""
    settings = teacher_settings(prepared, name, inline=True)
    training, split = prepared.config.training, prepared.splits["train"]
    ids, texts = TextRows(split.table).texts(range(min(training.batch_rows, split.table.num_rows)))
    request = Request(ids, texts, prepared.objective.asks[name])
    if settings.embedder is not None:
        request = Request(ids, texts[1:], text_ask("passage"))
    return try_teacher(
        settings,
        request,
        num_cpus=training.cpus_per_worker,
        num_gpus=training.gpus_per_worker,
        resources=training.worker_resources,
        timeout_s=prepared.config.teachers[name].start_timeout_s,
    )


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
        store=store_line(prepared, name, inline=False),
        memory_bytes=memory,
        hedge_after=section.hedge_after,
        direct=is_direct(config, name),
        scorer=prepared.objective.scorers.get(name),
    )
