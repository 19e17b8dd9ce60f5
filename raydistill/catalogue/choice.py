"""From what one has to the loss that fits: the table at the top of the page."""

import re
from typing import NamedTuple

from raydistill.catalogue.markdown import table
from raydistill.losses import CATALOG

__all__ = ["CHOICES", "Choice", "choice_table"]


class Choice(NamedTuple):
    """One line: what one has, which loss to start with, and what else there is."""

    have: str
    start: str
    other: str = ""


CHOICES: tuple[Choice | str, ...] = (
    "Labels",
    Choice("a class a row, or a tag for each word", "`cross_entropy`"),
    Choice("several classes at once, each there or not", "`binary_cross_entropy`"),
    Choice("a number a row", "`mse`"),
    "Teachers' logits",
    Choice(
        "the same classes",
        "`forward_kl`",
        "`soft_cross_entropy`: same gradient. `reverse_kl`: only what the teacher is sure of. "
        "`jensen_shannon`, `total_variation`: bounded, for teachers that are wrong now and then",
    ),
    Choice(
        "three classes or more, and labels",
        "`decoupled_kd`",
        "`forward_kl` with `probability_shift: true`",
    ),
    Choice(
        "a teacher far larger than the student", "`dist`", "`forward_kl` with `standardize: true`"
    ),
    Choice("rows that may be noise, such as augmented ones", "`soft_label`"),
    Choice("several classes at once", "`binary_forward_kl`", "`binary_soft_cross_entropy`"),
    Choice("a number a row", "`logit_mse`"),
    "Hidden states, the same tokenizer on both sides",
    Choice(
        "layers that correspond",
        "`hidden_mse` with `projection: linear`",
        "`cos`: lengths are free. `vid`: learns which coordinates can be had",
    ),
    Choice("other widths, and no projection wanted", "`relation_kl`", "`nst`"),
    Choice("what happens between two layers", "`fsp`"),
    "Hidden states, any tokenizer",
    Choice(
        "layers that correspond",
        "`hidden_mse` with `positions: mean`",
        "`pkd`: the first token's direction. `cos` and `vid` with `positions: mean`",
    ),
    Choice(
        "other widths, and no projection wanted",
        "`rkd_distance`",
        "`rkd_angle` beside it, with twice the weight",
    ),
    Choice("rows that are to be told apart", "`contrastive`"),
    Choice("a deeper teacher, and no idea which layers", "`layer_attention`"),
    "Attention maps, the same tokenizer on both sides",
    Choice("as many heads", "`attention_ce`", "`attention_mse`"),
    Choice("another number of heads", "`attention_ce_mean`", "`attention_mse_sum`"),
    "Scores of a row's candidates",
    Choice(
        "relevance, no teacher",
        "`relevance_cross_entropy`",
        "`lambda_loss` with `gains: exponential` and `against: labels`: for grades. `binary_cross_entropy`: pairs "
        "alone",
    ),
    Choice("relevance, and passages of other queries", "`in_batch_cross_entropy`"),
    Choice(
        "scores that mean something",
        "`score_kl`",
        "`listnet`: the same gradient at temperature 1. `margin_mse`: the differences themselves",
    ),
    Choice("only their order", "`ranknet`", "`lambda_loss`: for the top of the list"),
    "Embeddings",
    Choice("compared by cosine later", "`embedding_cos`"),
    Choice(
        "an index that exists already",
        "`embedding_mse`",
        "`embedding_l2`: outliers do not rule a step",
    ),
    "Something else",
    Choice("a function of your own", "[`custom`](#a-loss-of-your-own)"),
)
"""Lines of the table; a string is the heading of those that follow."""


def choice_table() -> str:
    """The table as Markdown, every loss a link to its entry."""
    rows = []
    for line in CHOICES:
        if isinstance(line, str):
            rows.append([f"**{line}**", "", ""])
        else:
            rows.append([line.have, *map(_with_links, line[1:])])
    return table(["You have", "Start with", "Or"], rows)


def _with_links(text: str) -> str:
    return re.sub(r"`(\w+)`", lambda m: f"[`{m[1]}`](#{m[1]})" if m[1] in CATALOG else m[0], text)
