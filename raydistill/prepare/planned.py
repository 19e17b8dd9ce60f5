"""What the ways to make a student have in common."""

from dataclasses import dataclass, replace
from typing import Any

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError
from raydistill.models import ModelSource, ModelTraits
from raydistill.models.describe import quiet_transformers, traits_of_config
from raydistill.models.inside import describe_inside
from raydistill.prepare.sources import resolve_source
from raydistill.training.student import StudentPlan

__all__ = ["PlannedStudent", "reason_of", "shape_of", "tokenizer_of"]


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


def tokenizer_of(config: DistillConfig) -> tuple[ModelSource, Any] | None:
    """``student.tokenizer``, loaded; None if none is named, which is a fault elsewhere.

    Raises:
        ConfigError: It cannot be loaded.
    """
    from raydistill.models.auto import AutoTokenizer

    section = config.student
    if section.tokenizer is None:
        return None
    source = resolve_source(
        "student.tokenizer",
        section.tokenizer,
        tracking_uri=config.tracking.uri,
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    try:
        with quiet_transformers():
            return source, AutoTokenizer.from_pretrained(source.location, **source.options)
    except Exception as error:  # whatever a tokenizer's files make transformers raise
        raise ConfigError.of(
            "student.tokenizer", f"'{source.name}' cannot be loaded: {reason_of(error)}"
        ) from error


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
