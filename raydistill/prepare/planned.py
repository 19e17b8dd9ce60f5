"""What the ways to make a student have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.students import only_teacher
from raydistill.errors import ConfigError
from raydistill.models import ModelSource, ModelTraits
from raydistill.models.describe import quiet_transformers, traits_of_config
from raydistill.models.inside import describe_inside
from raydistill.prepare.sources import resolve_source
from raydistill.training.student import StudentPlan

__all__ = ["FoundTokenizer", "PlannedStudent", "reason_of", "shape_of", "tokenizer_of"]


@dataclass(frozen=True)
class PlannedStudent:
    """A student that can be made.

    Attributes:
        plan: How.
        traits: Its shape.
        notes: What should be known.
    """

    plan: StudentPlan
    traits: ModelTraits
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundTokenizer:
    """The tokenizer of a student with new weights.

    Attributes:
        source: Where it is loaded from.
        tokenizer: Loaded.
        notes: Whose it is, if it is not named.
    """

    source: ModelSource
    tokenizer: Any
    notes: tuple[str, ...] = ()


def tokenizer_of(config: DistillConfig, traits: Mapping[str, ModelTraits]) -> FoundTokenizer | None:
    """``student.tokenizer``, else the only teacher's; None if there is neither, which is a fault elsewhere.

    Args:
        config: Whose student.
        traits: Shapes of those teachers that could be read.

    Raises:
        ConfigError: It cannot be loaded.
    """
    from raydistill.models.auto import AutoTokenizer

    section, teacher = config.student, only_teacher(config)
    path, notes = "student.tokenizer", tuple[str, ...]()
    named, revision, trusted = section.tokenizer, section.revision, section.trust_remote_code
    if named is None and teacher is not None and teacher in traits:
        of = config.teachers[teacher]
        path = f"teachers.{teacher}.{'model' if of.tokenizer is None else 'tokenizer'}"
        named, revision, trusted = of.tokenizer or of.model, of.revision, of.trust_remote_code
        notes = (
            f"student.tokenizer is not given: it is that of teachers.{teacher}, the only teacher.",
        )
    if named is None:
        return None
    source = resolve_source(
        path,
        named,
        tracking_uri=config.tracking.uri,
        revision=revision,
        trust_remote_code=trusted,
    )
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source.location, **source.options)
    except Exception as error:  # whatever a tokenizer's files make transformers raise
        raise ConfigError.of(
            path, f"'{source.name}' cannot be loaded: {reason_of(error)}"
        ) from error
    return FoundTokenizer(source, tokenizer, notes)


def shape_of(built: Any, tokenizer: Any, *, inside: bool) -> ModelTraits:
    """Traits of a Hugging Face configuration.

    Args:
        built: The configuration.
        tokenizer: Of the student.
        inside: Whether to look for queries, keys and values.
    """
    traits = traits_of_config(built, tokenizer)
    return replace(traits, inside=describe_inside(built)) if inside else traits


def reason_of(error: Exception) -> str:
    """The first lines of what a library raised, as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines[:2]) or type(error).__name__).rstrip(".") + "."
