"""What a row of the contract table says of a loss, and the formulas' own tools in NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.losses import CATALOG, build_loss

V = 5  # classes, or hidden width
Inputs = tuple[list[Tensor], list[Tensor], Tensor | None]
"""The student's tensors, the teacher's, labels: float64, without gradient."""


def log_softmax(z):
    """In NumPy, without a look at torch's."""
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def normal(seed: int, *shape: int) -> Tensor:
    """Twice normal numbers, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def positions(seed: int, shape: tuple[int, ...] = (3, 2)) -> Inputs:
    """Logits or states, ``[..., V]``, and labels."""
    generator = torch.Generator().manual_seed(seed + 7)
    labels = torch.randint(0, V, shape, generator=generator)
    return [normal(2 * seed, *shape, V)], [normal(2 * seed + 1, *shape, V)], labels


def hard(seed: int, shape: tuple[int, ...] = (3, 2)) -> Inputs:
    """Logits, and labels as the target."""
    student, _, labels = positions(seed, shape)
    return student, [labels], labels


def rows_of(seed: int, shape: tuple[int, ...] = (6,)) -> Inputs:
    """Vectors, one a row, that are looked at together."""
    return positions(seed, shape)


def states(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Hidden states, ``[B, L, V]``."""
    return positions(seed, shape)


def two_layers(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Hidden states of two layers on each side."""
    (first,), (other,), labels = positions(seed, shape)
    (second,), (another,), _ = positions(seed + 100, shape)
    return [first, second], [other, another], labels


def probability_maps(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Attention probabilities, ``[B, H, L, L]`` with H = 2."""
    batch, length = shape
    one, other = (
        normal(2 * seed, batch, 2, length, length),
        normal(2 * seed + 1, batch, 2, length, length),
    )
    return [one.softmax(-1)], [other.softmax(-1)], None


def scores(seed: int, shape: tuple[int, ...] = (3, 4)) -> Inputs:
    """Scores of candidates, ``[B, N]``."""
    return [normal(2 * seed, *shape)], [normal(2 * seed + 1, *shape)], None


def keep_last_two(tensor: Tensor, keep: Tensor) -> Tensor:
    """Of maps, ``[..., L, L]``: rows and columns of tokens."""
    return tensor[..., keep, :][..., keep]


def keep_tokens(tensor: Tensor, keep: Tensor) -> Tensor:
    """Of states of one row, ``[L, D]``, or scores, ``[N]``."""
    return tensor[keep]


@dataclass(frozen=True)
class Row:
    """One loss, or one loss with options.

    Attributes:
        name: In the catalog.
        numpy: ``(student, target, labels)``, lists of arrays, to the values that the function must give.
        options: Of the function.
        inputs: ``(seed, shape)`` to a case.
        equal_is: What the values are where both sides agree: ``zero``, a function of the target that
            gives them, or None: no such case.
        shift_invariant: A constant added to all of a position's values changes nothing; None: no question.
        softened: The option that keeps the gradient's size as the temperature grows, if it has one.
        never_negative: Whether no value is ever below 0.
        slice: Of ``sequences``: the tokens of one row that count, of one tensor without its first dimension.
        extreme: Whether logits of ten thousand are within its domain.
        half: Factor on the inputs of the half precision test.
    """

    name: str
    numpy: Callable[[list[np.ndarray], list[np.ndarray], Any], np.ndarray]
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[..., Inputs] = positions
    equal_is: str | Callable[[list[np.ndarray]], np.ndarray] | None = "zero"
    shift_invariant: bool | None = None
    softened: str | None = None
    never_negative: bool = True
    slice: Callable[[Tensor, Tensor], Tensor] = keep_tokens
    extreme: bool = True
    half: float = 200.0

    @property
    def entry(self):
        return CATALOG[self.name]

    @property
    def with_labels(self) -> bool:
        """The target is labels."""
        return self.entry.needs == {"labels"}

    def values(
        self, student: list[Tensor], target: list[Tensor], labels=None, mask=None, **options
    ):
        """The function itself, not reduced."""
        extra = {**self.options, **options}
        if {"logits", "labels"} <= self.entry.needs:
            extra["labels"] = labels
        if self.entry.over == "sequences":
            extra["mask"] = mask
        return self.entry.function(one(student), one(target), **extra)

    def scalar(self, student: list[Tensor], target: list[Tensor], labels=None, mask=None, **extra):
        """As `build_loss` gives it."""
        if {"logits", "labels"} <= self.entry.needs:
            extra["labels"] = labels
        return build_loss(self.name, **self.options)(one(student), one(target), mask, **extra)


def one(tensors: list[Tensor]):
    """The single tensor, or the list."""
    return tensors[0] if len(tensors) == 1 else tensors


def learning(tensors: list[Tensor], dtype=torch.float64) -> list[Tensor]:
    """Copies that want a gradient."""
    return [tensor.detach().clone().to(dtype).requires_grad_() for tensor in tensors]


def arrays(tensors: list[Tensor]) -> list[np.ndarray]:
    return [
        tensor.detach().double().numpy() if tensor.is_floating_point() else tensor.numpy()
        for tensor in tensors
    ]
