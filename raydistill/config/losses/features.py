"""Terms that compare what is inside: hidden states and attention maps."""

from typing import Any, Literal

from raydistill.config.base import Positive, PositiveInt
from raydistill.config.losses.base import Layers, LossBase, TwoLayers, pairs_of
from raydistill.config.projection import ProjectionSetting

__all__ = [
    "AttentionCELoss",
    "AttentionCEMeanLoss",
    "AttentionLoss",
    "AttentionMSELoss",
    "AttentionMSESumLoss",
    "ContrastiveLoss",
    "CosLoss",
    "EmbeddingCosLoss",
    "EmbeddingL2Loss",
    "EmbeddingLoss",
    "EmbeddingMSELoss",
    "FSPLoss",
    "FeatureLoss",
    "HiddenMSELoss",
    "LayerAttentionLoss",
    "NSTLoss",
    "PKDLoss",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "RelationKLLoss",
    "StatesLoss",
    "VIDLoss",
]


class _OfLayers(LossBase):
    layers: Layers
    """Pairs [student, teacher] of hidden states: 0 the embeddings, k after block k, -1 the last. Or a
    word: last; all (both have as many blocks); uniform (the student's blocks spread over the teacher's);
    every_2 (student's block k with the teacher's block 2 k). What is written is for every teacher; a map
    gives each teacher its own, teachers not named have none."""

    def written_for(self, teacher: str) -> Any:
        """Pairs or a word for one teacher; None: nothing."""
        return pairs_of(self.layers, teacher)


class _States(_OfLayers):
    positions: Literal["all", "first", "mean"] = "all"
    """all: every token (both sides must tokenize alike). first: the first token. mean: the mean
    over the text's tokens. The latter two work across tokenizers and send one vector a row. Of tagging all
    is every word, the mean over its pieces, whatever the tokenizers."""
    projection: ProjectionSetting = None
    """A learned map from the student's width to the teacher's; needed where widths differ."""


class _Vectors(_OfLayers):
    positions: Literal["first", "mean"] = "mean"
    """Which vector stands for a row: its first token, or the mean over its tokens."""


class _ProjectedVectors(_Vectors):
    projection: ProjectionSetting = None
    """A learned map from the student's width to the teacher's; needed where widths differ."""


class HiddenMSELoss(_States):
    """Mean squared error between hidden states of student and teachers."""

    kind: Literal["hidden_mse"]
    """Which loss this is."""


class CosLoss(_States):
    """One minus the cosine between hidden states."""

    kind: Literal["cos"]
    """Which loss this is."""


class VIDLoss(_States):
    """Gaussian likelihood of the teacher's states, with a learned variance for each coordinate.

    May be negative.
    """

    kind: Literal["vid"]
    """Which loss this is."""


class PKDLoss(_ProjectedVectors):
    """Squared distance between vectors of length 1."""

    kind: Literal["pkd"]
    """Which loss this is."""
    positions: Literal["first", "mean"] = "first"
    """Which vector stands for a row: its first token, or the mean over its tokens."""


class _Embeddings(_ProjectedVectors):
    layers: Layers = "last"
    """As of hidden_mse; the last of both, if nothing is said. With task.kind: retrieval embeddings are those that
    student and teachers are made for, and neither this nor positions is written."""
    texts: Literal["both", "queries", "passages"] = "both"
    """With task.kind: retrieval, whose embeddings are compared; of both the mean."""


class EmbeddingMSELoss(_Embeddings):
    """Mean squared error between the rows' embeddings."""

    kind: Literal["embedding_mse"]
    """Which loss this is."""


class EmbeddingL2Loss(_Embeddings):
    """Euclidean distance between the rows' embeddings."""

    kind: Literal["embedding_l2"]
    """Which loss this is."""


class EmbeddingCosLoss(_Embeddings):
    """One minus the cosine between the rows' embeddings."""

    kind: Literal["embedding_cos"]
    """Which loss this is."""


class RelationKLLoss(_OfLayers):
    """Relations of tokens with tokens: scaled products through a softmax (MiniLM, MiniLMv2).

    Both sides must tokenize alike, widths may differ.
    """

    kind: Literal["relation_kl"]
    """Which loss this is."""
    states: Literal["hidden", "query", "key", "value"] = "hidden"
    """Whose relations: of hidden states, or of the queries, keys or values inside block k, from 1, as
    MiniLMv2 has it with one term each. Not from models that compute the three by one layer, nor from
    teachers with backend: onnx."""
    relation_heads: PositiveInt = 1
    """Into how many parts the vectors are cut, as many on both sides; must divide both widths."""


class RKDDistanceLoss(_Vectors):
    """Distances between rows, in groups of training.group_rows; widths may differ."""

    kind: Literal["rkd_distance"]
    """Which loss this is."""


class RKDAngleLoss(_Vectors):
    """Angles between rows, in groups of training.group_rows; widths may differ."""

    kind: Literal["rkd_angle"]
    """Which loss this is."""


class ContrastiveLoss(_ProjectedVectors):
    """Find the own teacher's vector among those of the group's rows (training.group_rows)."""

    kind: Literal["contrastive"]
    """Which loss this is."""
    temperature: Positive = 0.07
    """Divides the cosines; small looks at the nearest only."""


class LayerAttentionLoss(LossBase):
    """Each of the student's layers against a mixture of all of the teacher's, weighed by likeness."""

    kind: Literal["layer_attention"]
    """Which loss this is."""
    student_layers: Literal["all"] | list[int] = "all"
    """Which of the student's blocks; -1 the last."""
    teacher_layers: Literal["all"] | list[int] = "all"
    """Which of the teacher's blocks are mixed."""
    positions: Literal["first", "mean"] = "first"
    """Which vector stands for a row: its first token, or the mean over its tokens."""
    projection: ProjectionSetting = None
    """A learned map from the student's width to the teacher's; needed where widths differ."""


class FSPLoss(LossBase):
    """Flow between two layers: products of their coordinates over the tokens."""

    kind: Literal["fsp"]
    """Which loss this is."""
    layers: TwoLayers
    """[[student, student], [teacher, teacher]]: two hidden states of each side."""
    projection: ProjectionSetting = None
    """One learned map from the student's width to the teacher's, for both layers."""

    def written_for(self, teacher: str) -> Any:
        """Pairs for one teacher; None: nothing."""
        return pairs_of(self.layers, teacher)


class NSTLoss(_OfLayers):
    """Products of tokens with tokens (neuron selectivity transfer, TextBrewer's mmd).

    Both sides must tokenize alike, widths may differ.
    """

    kind: Literal["nst"]
    """Which loss this is."""


class _Maps(LossBase):
    layers: Layers
    """Pairs [student, teacher] of blocks, from 1; or a word, as of hidden_mse."""

    def written_for(self, teacher: str) -> Any:
        """Pairs or a word for one teacher; None: nothing."""
        return pairs_of(self.layers, teacher)


class AttentionMSELoss(_Maps):
    """Mean squared error between attention maps, head by head."""

    kind: Literal["attention_mse"]
    """Which loss this is."""


class AttentionMSESumLoss(_Maps):
    """Mean squared error between the sums of attention maps over heads."""

    kind: Literal["attention_mse_sum"]
    """Which loss this is."""


class AttentionCELoss(_Maps):
    """Cross-entropy between attention maps, head by head; holds the teacher's entropy."""

    kind: Literal["attention_ce"]
    """Which loss this is."""


class AttentionCEMeanLoss(_Maps):
    """Cross-entropy between the means of attention maps over heads; holds the teacher's entropy."""

    kind: Literal["attention_ce_mean"]
    """Which loss this is."""


EmbeddingLoss = EmbeddingMSELoss | EmbeddingL2Loss | EmbeddingCosLoss
"""Those on embeddings of whole texts."""
StatesLoss = (
    HiddenMSELoss
    | CosLoss
    | VIDLoss
    | PKDLoss
    | EmbeddingMSELoss
    | EmbeddingL2Loss
    | EmbeddingCosLoss
    | RelationKLLoss
    | RKDDistanceLoss
    | RKDAngleLoss
    | ContrastiveLoss
    | LayerAttentionLoss
    | FSPLoss
    | NSTLoss
)
"""Those on hidden states."""
AttentionLoss = AttentionMSELoss | AttentionMSESumLoss | AttentionCELoss | AttentionCEMeanLoss
"""Those on attention maps."""
FeatureLoss = StatesLoss | AttentionLoss
"""Those on what is inside."""
