"""What the catalog says of one loss: its function, what it compares, its options and their rules."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = [
    "Check",
    "LossEntry",
    "Peer",
    "between",
    "finite",
    "flag",
    "non_negative",
    "one_of",
    "positive",
    "share",
    "temperature",
    "whole",
]

Check = Callable[[object], str | None]
"""The rule that a value breaks ("must be …"), or None."""
Need = Literal["logits", "labels", "hidden", "layers", "attention", "scores", "embeddings"]


def _number(value: object) -> float | None:
    """The value, if it is a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def positive(value: object) -> str | None:
    """A number above 0."""
    number = _number(value)
    return None if number is not None and number > 0 else "must be a positive finite number"


def non_negative(value: object) -> str | None:
    """A number, 0 or more."""
    number = _number(value)
    return None if number is not None and number >= 0 else "must be a finite number, zero or more"


def share(value: object) -> str | None:
    """A number from 0 to 1."""
    number = _number(value)
    return None if number is not None and 0 <= number <= 1 else "must lie between 0 and 1"


def finite(value: object) -> str | None:
    """Any number."""
    return None if _number(value) is not None else "must be a finite number"


def whole(value: object) -> str | None:
    """A whole number, 1 or more."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if good else "must be a whole number, 1 or more"


def flag(value: object) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "must be true or false"


def temperature(value: object) -> str | None:
    """A positive number, or a tensor of them, one per position."""
    if isinstance(value, Tensor):
        good = bool((torch.isfinite(value) & (value > 0)).all())
        return None if good else "must be positive and finite at every position"
    return positive(value)


def between(low: float, high: float) -> Check:
    """A number strictly between two."""
    return partial(_inside, low, high)


def _inside(low: float, high: float, value: object) -> str | None:
    number = _number(value)
    good = number is not None and low < number < high
    return None if good else f"must lie between {low:g} and {high:g}, both excluded"


def one_of(*words: str) -> Check:
    """One of some words."""
    return partial(_among, words)


def _among(words: tuple[str, ...], value: object) -> str | None:
    return None if value in words else f"must be one of {', '.join(words)}"


@dataclass(frozen=True)
class Peer:
    """How a loss becomes another library's, to the last factor.

    Attributes:
        options: Fixed options of the loss's own function.
        function: In its place, if options do not do: ``(student, target, mask, **options)`` to the
            other library's scalar.
    """

    options: Mapping[str, object] = field(default_factory=dict)
    function: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class LossEntry:
    """One loss as the objective, the checks and the documentation see it.

    Attributes:
        name: As in a configuration: ``kind: hidden_mse``.
        function: ``(student, target, **options)`` to values that are not reduced. With ``labels`` beside
            another need, ``labels=`` is one more argument; of ``sequences``, ``mask=`` is.
        needs: What is compared with the student: ``logits``, ``hidden`` states, all ``layers`` together,
            ``attention`` maps, ``scores`` of candidates or ``embeddings`` of teachers, or ``labels``.
        over: What the values are one of. ``positions``: each by itself. ``rows``: each by itself too, but
            a row is seen beside the others of its group, so cutting the group changes the value.
            ``sequences``: whatever ``units`` counts; the function sees padding and must not read it.
        units: Of ``sequences``: how many values a mask ``[B, L]`` leaves, a scalar.
        shift_invariant: Of losses on logits: whether a constant added to all of a position's changes nothing.
            If so the target may be log-probabilities.
        tail: Dimensions of the student's tensor behind the positions: 1, or 0 where a position has one number.
        label: What a label of a loss that needs them is; see :func:`raydistill.losses.hard_label.has_label`.
        options: Names of the function's options, each with the check of its value.
        cost: Bytes that a row's answer takes, in float32, as a formula.
        parity: Name of another library to what makes this loss equal to that library's.
        aliases: Other names it goes by, for :func:`build_loss`.
    """

    name: str
    function: Callable[..., Tensor]
    needs: frozenset[Need]
    cost: str
    over: Literal["positions", "rows", "sequences"] = "positions"
    units: Callable[[Tensor], Tensor] | None = None
    shift_invariant: bool = True
    tail: int = 1
    label: Literal["class", "classes", "number"] = "class"
    options: Mapping[str, Check] = field(default_factory=dict)
    parity: Mapping[str, Peer] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """The options as they are when nothing is said."""
        given = self.function.__kwdefaults__ or {}
        return {name: given[name] for name in self.options if name in given}
