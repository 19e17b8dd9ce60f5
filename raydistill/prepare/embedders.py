"""Which teachers embed texts, and how they and the student make one vector of a text's tokens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.ranking import RetrievalTask
from raydistill.errors import ConfigError, Fault
from raydistill.losses import PairScorer
from raydistill.models import EmbedderSpec, ModelSource
from raydistill.models.embedding_files import is_embedder_folder, read_embedder

__all__ = ["embeds", "scorer_of", "scorers_of", "student_embedder", "teacher_embedder"]

_OWN = ("pooling", "normalize", "prompts", "similarity")


def embeds(source: ModelSource) -> bool:
    """Whether a model embeds texts, as far as its files say: it has no head that classifies them."""
    from raydistill.models.auto import AutoConfig

    if is_embedder_folder(source):
        return True
    config = AutoConfig.from_pretrained(source.location, **source.options)
    names = list(getattr(config, "architectures", None) or [])
    return not any(name.endswith("ForSequenceClassification") for name in names)


def teacher_embedder(
    config: DistillConfig, name: str, source: ModelSource
) -> tuple[EmbedderSpec | None, list[str]]:
    """What follows the encoder of a teacher, None if it reads pairs; and what should be known.

    Args:
        config: Of retrieval.
        name: Of the teacher.
        source: A model whose configuration can be loaded.

    Raises:
        ConfigError: It embeds in a way that is not known, or settings have no effect.
    """
    section, path = config.teachers[name], f"teachers.{name}"
    if section.encodes == "pairs" or (section.encodes == "auto" and not embeds(source)):
        written = [own for own in _OWN if getattr(section, own) is not None]
        if section.encodes == "auto" and written:
            message = (
                f"has no effect: {source.name} has a head that classifies, so it reads pairs. Remove it, or set "
                f"{path}.encodes: texts."
            )
            basis = (f"{path}.encodes", f"{path}.model")
            raise ConfigError(
                [Fault(f"{path}.{one}", message, rests_on=(f"{path}.{one}", *basis)) for one in written]
            )  # fmt: skip
        return None, []
    return _embedder(f"{path}.model", source, section)


def student_embedder(
    config: DistillConfig, source: ModelSource | None, base: EmbedderSpec | None = None
) -> tuple[EmbedderSpec, list[str]]:
    """What follows the encoder of a student, and what should be known.

    Args:
        config: Of retrieval.
        source: Of its weights; None: they are random, or ``base`` is known.
        base: Of the teacher that its layers are taken from.

    Raises:
        ConfigError: The source embeds in a way that is not known.
    """
    task = config.task
    assert isinstance(task, RetrievalTask), "other students do not embed"
    if source is not None and is_embedder_folder(source):
        found, notes = _embedder("student.model", source, config.student)
    else:  # nobody said how an encoder is pooled that is to learn it
        found, notes = _overridden(base or EmbedderSpec(), config.student), []
    return replace(found, similarity=task.similarity), notes


def _embedder(path: str, source: ModelSource, section: Any) -> tuple[EmbedderSpec, list[str]]:
    try:
        found, notes = read_embedder(source)
    except ValueError as error:
        raise ConfigError.of(path, f"{error}.") from None
    said = [] if section.pooling is not None else [f"{path} {note}." for note in notes]
    return _overridden(found, section), said


def _overridden(spec: EmbedderSpec, section: Any) -> EmbedderSpec:
    """With what is written in the configuration."""
    changes: dict[str, Any] = {
        name: getattr(section, name)
        for name in ("pooling", "normalize", "similarity")
        if getattr(section, name, None) is not None
    }
    if section.prompts is not None:
        changes |= {"query_prompt": section.prompts.query, "passage_prompt": section.prompts.passage}  # fmt: skip
    return replace(spec, **changes)


def scorer_of(task: RetrievalTask, spec: EmbedderSpec) -> PairScorer:
    """What makes scores of a model's embeddings."""
    return PairScorer(spec.similarity, task.scale_of(spec.similarity))


def scorers_of(task: Any, embedders: Mapping[str, EmbedderSpec]) -> dict[str, PairScorer]:
    """Of each teacher that embeds texts."""
    return {name: scorer_of(task, spec) for name, spec in embedders.items()}
