"""What all terms of the sum have in common, and which layers are compared."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from raydistill.config.base import NonNegative, Section, Whole, one_sentence
from raydistill.config.schedules import WeightSchedule

__all__ = ["LayerPair", "Layers", "LossBase", "TwoLayers", "pairs_of"]


class LossBase(Section):
    """One term of the sum that is minimised."""

    weight: NonNegative = 1.0
    """Factor of this term in the sum. The sum is not normalised; terms are logged unweighted."""
    schedule: WeightSchedule | None = None
    """How the weight changes during the run: weight times the schedule. Null: not at all."""


LayerPair = Annotated[list[Whole], Field(min_length=2, max_length=2)]
LayerPairs = list[LayerPair]
_WORD = re.compile(r"^(all|last|uniform|every_[1-9][0-9]*)$")
_RULE = (
    "must be a list of pairs [student, teacher], one of all, last, uniform, every_2, every_3, …, "
    "or a map from teachers to such"
)


def _a_word(value: str) -> str:
    if not _WORD.match(value):
        raise ValueError(_RULE)
    return value


_Word = Annotated[str, AfterValidator(_a_word)]


def _some_choice(layers: object) -> object:
    groups = list(layers.values()) if isinstance(layers, dict) else [layers]
    if not groups or any(not pairs for pairs in groups):
        raise ValueError("needs at least one pair [student, teacher]")
    return layers


Layers = Annotated[
    _Word | LayerPairs | dict[str, _Word | LayerPairs],
    one_sentence(_RULE),
    AfterValidator(_some_choice),
]
"""Pairs [student, teacher], a word that stands for some, or either for each teacher by name."""

_TwoPairs = list[Annotated[list[LayerPair], Field(min_length=2, max_length=2)]]
TwoLayers = Annotated[
    _TwoPairs | dict[str, _TwoPairs],
    one_sentence(
        "must be a list of [[student, student], [teacher, teacher]], or a map from teachers to such lists"
    ),
    AfterValidator(_some_choice),
]
"""Two layers of the student and two of the teacher, whose flow from the one to the other is compared."""


def pairs_of(layers: Any, teacher: str) -> Any:
    """What is said for one teacher: a word or pairs; None if a map does not name it."""
    return layers.get(teacher) if isinstance(layers, dict) else layers
