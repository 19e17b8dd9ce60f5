"""What can be minimised: functions of what the student and a teacher say, not reduced.

Reading order: ``divergence.py`` (two distributions), ``hard_label.py`` (a distribution and the right
class), ``hidden.py`` (two hidden states), ``reduction.py`` (from values to one number),
``catalog/`` (names in a configuration -> functions), ``build.py`` (any of them as one scalar).
"""

from raydistill.losses.attention import (
    attention_ce,
    attention_ce_mean,
    attention_mse,
    attention_mse_sum,
)
from raydistill.losses.binary import (
    binary_cross_entropy,
    binary_forward_kl,
    binary_soft_cross_entropy,
)
from raydistill.losses.build import ScalarLoss, build_loss
from raydistill.losses.catalog import ALIASES, CATALOG, TARGET_OPTIONS
from raydistill.losses.confidence import soft_label
from raydistill.losses.contrastive import contrastive
from raydistill.losses.correlation import dist
from raydistill.losses.decoupled import decoupled_kd
from raydistill.losses.divergence import (
    forward_kl,
    jensen_shannon,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from raydistill.losses.embedding import embedding_cos, embedding_l2, embedding_mse
from raydistill.losses.entry import LossEntry, Peer
from raydistill.losses.gram import fsp, nst
from raydistill.losses.hard_label import cross_entropy, has_label
from raydistill.losses.hidden import cos, hidden_mse, hidden_mse_sum, pkd
from raydistill.losses.in_batch import in_batch_cross_entropy
from raydistill.losses.lambda_loss import lambda_loss
from raydistill.losses.layers import layer_attention
from raydistill.losses.ranking import listnet, ranknet, relevance_cross_entropy
from raydistill.losses.reduction import masked_mean, masked_sum, select_counted
from raydistill.losses.regression import logit_mse, mse
from raydistill.losses.relation import relation_kl
from raydistill.losses.relational import rkd_angle, rkd_distance
from raydistill.losses.scores import margin_mse, score_kl
from raydistill.losses.similarity import PairScorer, similarity
from raydistill.losses.softening import IGNORED_LABEL, shift_probability, standardize_logits
from raydistill.losses.variational import initial_raw_variance, vid

__all__ = [
    "ALIASES",
    "CATALOG",
    "IGNORED_LABEL",
    "TARGET_OPTIONS",
    "LossEntry",
    "PairScorer",
    "Peer",
    "ScalarLoss",
    "attention_ce",
    "attention_ce_mean",
    "attention_mse",
    "attention_mse_sum",
    "binary_cross_entropy",
    "binary_forward_kl",
    "binary_soft_cross_entropy",
    "build_loss",
    "contrastive",
    "cos",
    "cross_entropy",
    "decoupled_kd",
    "dist",
    "embedding_cos",
    "embedding_l2",
    "embedding_mse",
    "forward_kl",
    "fsp",
    "has_label",
    "hidden_mse",
    "hidden_mse_sum",
    "in_batch_cross_entropy",
    "initial_raw_variance",
    "jensen_shannon",
    "lambda_loss",
    "layer_attention",
    "listnet",
    "logit_mse",
    "margin_mse",
    "masked_mean",
    "masked_sum",
    "mse",
    "nst",
    "pkd",
    "ranknet",
    "relation_kl",
    "relevance_cross_entropy",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "score_kl",
    "select_counted",
    "shift_probability",
    "similarity",
    "soft_cross_entropy",
    "soft_label",
    "standardize_logits",
    "total_variation",
    "vid",
]
