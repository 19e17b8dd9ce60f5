"""What can be read of teachers before they are loaded: where they are, their shapes, what they embed with."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from raydistill.config import DistillConfig
from raydistill.config.ranking import SCORE
from raydistill.config.rules import needs_inside
from raydistill.errors import Fault
from raydistill.models import EmbedderSpec, ModelSource, ModelTraits, read_traits
from raydistill.prepare.embedders import teacher_embedder
from raydistill.prepare.prepared import head_of
from raydistill.prepare.rules import length_faults
from raydistill.prepare.sources import (
    head_faults,
    meaning_faults,
    package_faults,
    teacher_source,
)

__all__ = ["KnownTeachers", "Tried", "read_teachers"]

T = TypeVar("T")


class Tried(Protocol):
    """Where something may end in faults, which are kept."""

    def __call__(self, work: Callable[[], T], /) -> T | None:
        """What it gave; None if it ended so."""
        ...


@dataclass
class KnownTeachers:
    """What could be read of them, by name.

    Attributes:
        sources: Where they are loaded from.
        traits: Their shapes.
        embedders: Of those that embed texts, what follows their encoders.
        notes: What should be known.
    """

    sources: dict[str, ModelSource] = field(default_factory=dict)
    traits: dict[str, ModelTraits] = field(default_factory=dict)
    embedders: dict[str, EmbedderSpec] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_teachers(config: DistillConfig, tried: Tried, faults: list[Fault]) -> KnownTeachers:
    """Configurations and tokenizers of all teachers.

    Args:
        config: The run.
        tried: Does something that may end in faults, and keeps them.
        faults: Takes what is wrong.
    """
    found, inside = KnownTeachers(), needs_inside(config)
    for name, section in config.teachers.items():
        path = f"teachers.{name}.model"
        faults += package_faults(f"teachers.{name}.backend", section.backend)
        faults += package_faults(f"teachers.{name}.transport", section.transport)
        source = tried(partial(teacher_source, config, name))
        if source is None:
            continue
        found.sources[name] = source
        traits = tried(partial(read_traits, path, source, inside=inside))
        if traits is None:
            continue
        found.traits[name] = traits
        if config.task.kind == "retrieval":
            spec, notes = tried(partial(teacher_embedder, config, name, source)) or (None, [])
            found.notes += notes
            if spec is not None:
                found.embedders[name] = spec
                found.traits[name] = replace(traits, labels=(SCORE,))
        faults += head_faults(path, source, head_of(config, found.embedders.get(name)))
        faults += meaning_faults(path, traits, config.task.kind)
        most = section.max_tokens or config.student.max_tokens
        faults += length_faults(f"teachers.{name}.max_tokens", most, traits)
    return found
