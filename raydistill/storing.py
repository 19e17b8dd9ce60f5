"""A run and the signal store: where it lies, which shelf a teacher has, what is in it and what is missing."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from raydistill.config import DistillConfig
from raydistill.config.task import HEADS
from raydistill.data import UNIT
from raydistill.errors import Fault
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared
from raydistill.signals import Ask, Side
from raydistill.signals.ask import SignalDtype
from raydistill.store import Codecs, Place, Shelf, place_faults, row_keys
from raydistill.tasks import TextRows, distinct_texts
from raydistill.teachers.line import StoreLine
from raydistill.teachers.pairs import text_ask
from raydistill.teachers.protocol import TeacherDescription
from raydistill.teachers.stored import description_from

__all__ = [
    "cached_faults",
    "known_shelf",
    "missing_rows",
    "missing_texts",
    "needed_answers",
    "store_faults",
    "store_line",
    "store_uri",
]

_LOOK = 4096  # rows looked up at once


def store_uri(config: DistillConfig) -> str:
    """Where the store lies: as written, else beside the output folder."""
    path = config.store.path
    if path is None:
        return str(OutputFolder.of(config).path.parent / "store")
    return path if "://" in path else str(Path(path).expanduser().resolve())


def store_faults(config: DistillConfig) -> list[Fault]:
    """Why the store cannot lie where it should."""
    if not config.store.enabled:
        return []
    uri = store_uri(config)
    if uri == str(OutputFolder.of(config).path):
        return [
            Fault(
                "run.name",
                f"makes {uri} the folder of the run and of the store. Name the run otherwise, or set store.path.",
                rests_on=("run.name", "run.output_dir", "store.path"),
            )
        ]
    return [Fault("store.path", message) for message in place_faults(uri)]


def store_line(prepared: Prepared, name: str, *, inline: bool) -> StoreLine | None:
    """A teacher's shelf; None without a store.

    Args:
        prepared: The run.
        name: Of the teacher.
        inline: Whether workers compute, on their devices, or replicas on theirs.
    """
    config = prepared.config
    if not config.store.enabled:
        return None
    section, codecs = config.teachers[name], Codecs(**config.store.codecs.model_dump())
    gpus = config.training.gpus_per_worker if inline else section.num_gpus
    shelf = Shelf(
        weights=prepared.weights[name],
        dtype=section.dtype,
        max_tokens=prepared.teacher_max_tokens(name),
        attention_maps=bool(prepared.objective.asks[name].attention),
        signal_dtype=section.signal_dtype,
        codec=codecs.label,
        device="cuda" if gpus > 0 else "cpu",
        software=_software(section.backend),
        tokenizer=prepared.traits[name].tokenizer,
        units=UNIT if HEADS[config.task.kind] == "spans" else "",
        embedding=spec.decides if (spec := prepared.embedders.get(name)) is not None else "",
    )
    return StoreLine(
        store_uri(config),
        shelf,
        codecs,
        about={"model": section.model},
        max_bytes=config.store.max_bytes,
        segment_bytes=config.store.segment_bytes,
    )


def _software(backend: str) -> str:
    """What computes, in which versions."""
    found = {name: version(name) for name in ("torch", "transformers")}
    if backend == "onnx":
        import onnxruntime  # whatever its distribution is called

        found["onnxruntime"] = onnxruntime.__version__
    return " ".join(f"{name} {'.'.join(v.split('.')[:2])}" for name, v in found.items())


def needed_answers(prepared: Prepared, name: str) -> Iterator[tuple[TextRows, Ask]]:
    """What a run asks of a teacher: everything in training, logits of the splits it is measured on.

    What it will ask of a stream nobody knows. Of a teacher that embeds texts, each distinct text.
    """
    ask = prepared.objective.asks[name]
    if name in prepared.embedders:
        yield from _needed_embeddings(prepared, ask.dtype)
        return
    for split in ("train", "unlabelled"):
        if split in prepared.splits and not prepared.splits[split].stream:
            yield TextRows(prepared.splits[split].table), ask
    if prepared.augmented is not None and prepared.augmented.ready:
        yield from ((TextRows(table), ask) for table in prepared.augmented.tables)
    for split in _measured(prepared):
        yield TextRows(prepared.splits[split].table), Ask(dtype=ask.dtype, logits=ask.logits)


def _measured(prepared: Prepared) -> list[str]:
    """Splits that teachers are measured on."""
    evaluation = prepared.config.evaluation
    there: list[str] = [split for split in evaluation.splits if split in prepared.splits]
    measured = there[-1:] if evaluation.teachers else []
    if prepared.config.measures_teachers and "validation" not in measured:
        measured.append("validation")
    return measured


def _needed_embeddings(prepared: Prepared, dtype: SignalDtype) -> Iterator[tuple[TextRows, Ask]]:
    splits, texts = prepared.splits, dict[Side, dict[str, None]]()
    for name in ("train", "unlabelled", *_measured(prepared)):
        if name in splits:
            for side, some in distinct_texts(splits[name].table).texts.items():
                texts.setdefault(side, {}).update(dict.fromkeys(some))
    for name in _measured(prepared):
        if (corpus := splits[name].corpus) is not None and prepared.config.evaluation.teachers:
            texts["passage"].update(dict.fromkeys(corpus.to_pylist()))
    for side, found in texts.items():
        column = pa.array(list(found), pa.large_string())
        ids = pa.array(range(len(found)), pa.int64())
        yield TextRows(pa.table({"text": column, "row_id": ids})), text_ask(side, dtype)


def missing_rows(prepared: Prepared, name: str, line: StoreLine) -> int:
    """How many answers a run needs that are not in the store."""
    return sum(1 for _ in _missing_keys(prepared, name, line))


def missing_texts(prepared: Prepared, name: str, line: StoreLine) -> int:
    """The same, rows of one text counted once; all, if nothing was stored yet."""
    return len(set(_missing_keys(prepared, name, line)))


def _missing_keys(prepared: Prepared, name: str, line: StoreLine) -> Iterator[bytes]:
    store = line.open(name) if Place(line.uri).exists(line.shelf.name) else None
    for task, ask in needed_answers(prepared, name):
        for begin in range(0, task.num_rows, _LOOK):
            _, texts = task.texts(range(begin, min(begin + _LOOK, task.num_rows)))
            keys = row_keys(texts)
            picks = store.find(keys, ask) if store is not None else [None] * len(keys)
            yield from (keys[i].tobytes() for i, pick in enumerate(picks) if pick is None)


def known_shelf(prepared: Prepared, name: str) -> tuple[StoreLine, TeacherDescription] | None:
    """The shelf that holds all that a run asks of a teacher, and what the teacher said when it was filled.

    Of a teacher whose placement leaves open where it computes, that of replicas comes first.
    """
    for line in _shelves(prepared, name) if prepared.stream is None else ():
        if not Place(line.uri).exists(line.shelf.name):
            continue
        description = description_from(line.open(name).about(), prepared.traits[name])
        if description is not None and not missing_rows(prepared, name, line):
            return line, description
    return None


def _shelves(prepared: Prepared, name: str) -> list[StoreLine]:
    """Where its answers may stand."""
    ways = {"remote": (False,), "inline": (True,)}
    placement = prepared.config.teachers[name].placement
    lines = [store_line(prepared, name, inline=way) for way in ways.get(placement, (False, True))]
    return [line for i, line in enumerate(lines) if line is not None and line not in lines[:i]]


def cached_faults(prepared: Prepared) -> list[Fault]:
    """Teachers that must not run, though answers of theirs are missing."""
    faults = []
    for name, section in prepared.config.teachers.items():
        if section.placement != "cached" or known_shelf(prepared, name) is not None:
            continue
        path, lines = f"teachers.{name}.placement", _shelves(prepared, name)
        if not lines:
            faults.append(Fault(path, "is cached, but store.enabled is false."))
            continue
        missing = min(
            missing_rows(prepared, name, line)
            if Place(line.uri).exists(line.shelf.name)
            else sum(task.num_rows for task, _ in needed_answers(prepared, name))
            for line in lines
        )
        what = (
            f"{missing:,} of its answers"
            if missing
            else f"the description of its shelf {lines[0].shelf.name}"
        )
        faults.append(
            Fault(
                path,
                f"is cached, but {what} are not in the store at {lines[0].uri}. "
                f"Fill it: raydistill cache CONFIG --set teachers.{name}.placement=remote.",
            )
        )
    return faults
