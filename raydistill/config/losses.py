"""What is minimised: a list of terms, each of a `kind` with its own options only."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raydistill.config.base import NonNegative, Positive, Section, Whole, one_sentence

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
    """Which loss this is."""


class _Softened(_Loss):
    temperature: Positive = 1.0
    """Divides the logits of both sides; larger is softer."""
    scale_by_temperature_squared: bool = True
    """Multiply by temperature squared, so that gradients keep their size."""


class SoftCrossEntropyLoss(_Softened):
    """Cross-entropy with the teachers' distribution; holds their entropy, so not 0 at equality."""

    kind: Literal["soft_cross_entropy"]
    """Which loss this is."""


class ForwardKLLoss(_Softened):
    """Kullback-Leibler divergence of the student from the teachers; 0 where both agree."""

    kind: Literal["forward_kl"]
    """Which loss this is."""


LayerPairs = list[Annotated[list[Whole], Field(min_length=2, max_length=2)]]


def _some_pairs(layers: LayerPairs | dict[str, LayerPairs]) -> LayerPairs | dict[str, LayerPairs]:
    groups = list(layers.values()) if isinstance(layers, dict) else [layers]
    if not groups or any(not pairs for pairs in groups):
        raise ValueError("needs at least one pair [student, teacher]")
    return layers


Layers = Annotated[
    LayerPairs | dict[str, LayerPairs],
    one_sentence(
        "must be a list of pairs [student, teacher], or a map from teachers to such lists"
    ),
    AfterValidator(_some_pairs),
]


class HiddenMSELoss(_Loss):
    """Mean squared error between hidden states of student and teachers."""

    kind: Literal["hidden_mse"]
    """Which loss this is."""
    layers: Layers
    """Pairs [student, teacher] of hidden states: 0 the embeddings, k after block k, -1 the last.
    A list is for every teacher; a map gives each teacher its own, teachers not named have none."""
    positions: Literal["all", "first", "mean"] = "all"
    """all: every token (both sides must tokenize alike). first: the first token. mean: the mean
    over the text's tokens. The latter two work across tokenizers and send one vector a row."""
    projection: Literal["linear", "relu", "tanh"] | None = None
    """A learned map from the student's width to the teacher's; needed where widths differ."""

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
