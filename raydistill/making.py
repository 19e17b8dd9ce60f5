"""New rows that need a model: made in an actor of its own, before training, and kept.

Without such a model new rows are made where they are needed, see
:mod:`raydistill.prepare.augmentation`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from raydistill.augmentation import Candidate, Candidates
from raydistill.errors import TrainingError
from raydistill.models.naming import MaskedLanguageModel, NamingSettings, UnsureClassifier
from raydistill.output import OutputFolder
from raydistill.prepare import Augmented, Contextual, Prepared
from raydistill.store import Place
from raydistill.storing import store_uri
from raydistill.training.trainer import find_cause, one_line
from raydistill.ui import Ui

__all__ = ["made_rows", "make_rows"]

_VERSION = 1  # of what is kept
_TEXTS = 2048  # of a call of the actor
_FOLDER = "augmented"
_NAMING: Mapping[str, type[MaskedLanguageModel | UnsureClassifier]] = {
    "masked_lm": MaskedLanguageModel,
    "gumbel": UnsureClassifier,
}


@contextmanager
def made_rows(prepared: Prepared, ui: Ui) -> Iterator[None]:
    """As `make_rows`, first of all."""
    make_rows(prepared, ui)
    yield


def make_rows(prepared: Prepared, ui: Ui) -> None:
    """Make the new rows of a run, or read what an earlier run has made; nothing without a model.

    They are kept in the store, else in the output folder.

    Raises:
        TrainingError: A model failed.
    """
    augmented = prepared.augmented
    if augmented is None or augmented.ready:
        return
    config = prepared.config
    uri = store_uri(config) if config.store.enabled else str(OutputFolder.of(config).path)
    place, name = Place(uri), f"{_FOLDER}/{_key(prepared, augmented)}.arrow"
    if place.exists(name):
        augmented.take(_unpacked(place.map(name), augmented))
        ui.say(f"{augmented.epochs * augmented.num_rows:,} new rows were made before; read")
        return
    texts = augmented.epochs * augmented.num_rows * len(augmented.section.columns)
    with ui.rows(texts, "new rows") as advance:
        tables = _made(augmented, advance)
    place.publish(name, _packed(tables))
    augmented.take(tables)


def _made(augmented: Augmented, advance: Callable[[int], None]) -> tuple[pa.Table, ...]:
    actors: dict[str, Any] = {}
    try:
        for path, model in augmented.models.items():
            section = model.section
            remote = ray.remote(_NAMING[section.kind]).options(
                num_cpus=section.num_cpus, num_gpus=section.num_gpus, max_restarts=-1, max_task_retries=2, scheduling_strategy="DEFAULT"
            )  # fmt: skip
            actors[path] = remote.remote(_settings(model))
        candidates: Mapping[str, Candidates] = {
            path: partial(_ask, path, actor, advance) for path, actor in actors.items()
        }
        return augmented.made(candidates)
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _ask(
    path: str, actor: Any, advance: Callable[[int], None], texts: Sequence[str]
) -> list[Sequence[Sequence[Candidate]]]:
    """Answers in the order of the texts; one call is computed while the next waits."""
    parts = [texts[begin : begin + _TEXTS] for begin in range(0, len(texts), _TEXTS)]
    pending = [actor.candidates.remote(part) for part in parts]
    found: list[Sequence[Sequence[Candidate]]] = []
    for part, reference in zip(parts, pending, strict=True):
        try:
            found += ray.get(reference)
        except RayError as error:
            why = find_cause(error) or TrainingError(f"{path}: its model failed: {one_line(error)}")
            raise why from error
        advance(len(part))
    return found


def _settings(model: Contextual) -> NamingSettings:
    section = model.section
    return NamingSettings(
        source=model.source,
        top_k=section.top_k,
        temperature=section.temperature,
        max_tokens=section.max_tokens,
        batch_rows=section.batch_rows,
        num_threads=max(1, int(section.num_cpus)),
        use_gpu=section.num_gpus > 0,
    )


def _key(prepared: Prepared, augmented: Augmented) -> str:
    """Of all that decides the rows."""
    digest = hashlib.sha256()
    facts = [_VERSION, augmented.made_of(), augmented.epochs, _software()]
    facts += [model.section.num_gpus > 0 for model in augmented.models.values()]
    facts += [prepared.splits[n].fingerprint for n in ("train", "unlabelled") if n in prepared.splits]  # fmt: skip
    for fact in facts:
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()[:32]


def _software() -> str:
    """What computes: another version may round otherwise, and then another word is drawn."""
    return " ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))


def _packed(tables: Sequence[pa.Table]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    whole = pa.concat_tables(tables).combine_chunks()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return sink.getvalue()


def _unpacked(content: pa.Buffer, augmented: Augmented) -> list[pa.Table]:
    whole = pa.ipc.open_stream(content).read_all()
    size = augmented.num_rows
    return [whole.slice(epoch * size, size) for epoch in range(augmented.epochs)]
