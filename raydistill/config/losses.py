"""What is minimised: a list of terms, each of a `kind` with its own options only."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raydistill.config.base import NonNegative, Positive, Section

__all__ = [
    "CrossEntropyLoss",
    "ForwardKLLoss",
    "HiddenMSELoss",
    "LossSection",
    "SoftCrossEntropyLoss",
    "SoftLoss",
]


class _Loss(Section):
    weight: NonNegative = 1.0
    """Factor of this term in the sum. The sum is not normalised; terms are logged unweighted."""


class CrossEntropyLoss(_Loss):
    """Cross-entropy with the hard label; rows without a label do not count."""

    kind: Literal["cross_entropy"]


class _Softened(_Loss):
    temperature: Positive = 1.0
    """Divides the logits of both sides; larger is softer."""
    scale_by_temperature_squared: bool = True
    """Multiply by temperature squared, so that gradients keep their size."""


class SoftCrossEntropyLoss(_Softened):
    """Cross-entropy with the teachers' distribution; holds their entropy, so not 0 at equality."""

    kind: Literal["soft_cross_entropy"]


class ForwardKLLoss(_Softened):
    """Kullback-Leibler divergence of the student from the teachers; 0 where both agree."""

    kind: Literal["forward_kl"]


LayerPairs = list[Annotated[list[int], Field(min_length=2, max_length=2)]]


class HiddenMSELoss(_Loss):
    """Mean squared error between hidden states of student and teachers."""

    kind: Literal["hidden_mse"]
    layers: LayerPairs | dict[str, LayerPairs]
    """Pairs [student, teacher] of hidden states: 0 the embeddings, k after block k, -1 the last.
    A list is for every teacher; a map gives each teacher its own, teachers not named have none."""
    positions: Literal["all", "first", "mean"] = "all"
    """all: every token (both sides must tokenize alike). first: the first token. mean: the mean
    over the text's tokens. The latter two work across tokenizers and send one vector a row."""
    projection: Literal["linear", "relu", "tanh"] | None = None
    """A learned map from the student's width to the teacher's; needed where widths differ."""

    @model_validator(mode="after")
    def _some_pairs(self) -> "HiddenMSELoss":
        groups = self.layers.values() if isinstance(self.layers, dict) else [self.layers]
        if not groups or any(not pairs for pairs in groups):
            raise ValueError("needs at least one pair [student, teacher] in layers")
        return self

    def pairs_of(self, teacher: str) -> tuple[tuple[int, int], ...]:
        """Pairs (student, teacher) of one teacher, as written."""
        pairs = self.layers.get(teacher, []) if isinstance(self.layers, dict) else self.layers
        return tuple((pair[0], pair[1]) for pair in pairs)


SoftLoss = SoftCrossEntropyLoss | ForwardKLLoss
"""Those that compare the student's distribution with the teachers'."""
LossSection = Annotated[
    CrossEntropyLoss | SoftCrossEntropyLoss | ForwardKLLoss | HiddenMSELoss,
    Field(discriminator="kind"),
]
