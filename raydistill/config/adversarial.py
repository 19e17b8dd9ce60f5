"""A term on examples made against the student: its embeddings moved to where it answers worst."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import Positive, PositiveInt
from raydistill.config.losses.base import LossBase

__all__ = ["AdversarialSection", "FGMSection", "PGDSection", "VATSection"]


class _Adversarial(LossBase):
    epsilon: Positive = 0.1
    """Length of the move of a row's token embeddings, as a share of their own length (both Euclidean, over
    all tokens of the row)."""


class _AgainstAnswers(_Adversarial):
    against: Literal["teachers", "labels"] = "teachers"
    """What the student should say where it is moved to: what the teachers say about the text as it is, or
    the label."""
    temperature: Positive = 1.0
    """Divides the logits of both sides, against teachers."""


class FGMSection(_AgainstAnswers):
    """One step along the gradient (fast gradient method)."""

    kind: Literal["fgm"]
    """How the move is found."""


class PGDSection(_AgainstAnswers):
    """Several steps along the gradient, each brought back within epsilon (projected gradient descent)."""

    kind: Literal["pgd"]
    """How the move is found."""
    steps: PositiveInt = 3
    """Each costs a forward and a backward pass."""
    step_size: Positive = 0.5
    """Of a step, as a share of epsilon."""


class VATSection(_Adversarial):
    """The direction in which the student's own answer changes most, which it should not.

    Virtual adversarial training; needs neither teachers nor labels.
    """

    kind: Literal["vat"]
    """How the move is found."""
    steps: PositiveInt = 1
    """Power iterations, each a forward and a backward pass."""
    probe: Positive = 0.5
    """Length of the move that a direction is tried with, as a share of epsilon."""
    temperature: Positive = 1.0
    """Divides the logits of both sides."""


AdversarialSection = Annotated[FGMSection | PGDSection | VATSection, Field(discriminator="kind")]
"""How the student is attacked."""
