"""Rows made from the rows there are: what is done to their texts, and who labels them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raydistill.config.base import Fraction as Share
from raydistill.config.base import (
    Gpus,
    NonNegative,
    Positive,
    PositiveInt,
    Section,
    WholeNonNegative,
)

__all__ = [
    "AugmentationSection",
    "DeleteOperation",
    "GumbelOperation",
    "InsertOperation",
    "MaskOperation",
    "MaskedLMOperation",
    "ModelOperation",
    "NGramOperation",
    "OperationSection",
    "PerturbationSection",
    "SwapOperation",
    "SynonymOperation",
    "TypoOperation",
]


def _rate(value: float) -> float:
    if value == 0:
        raise ValueError("must be above 0: nothing would be changed")
    return value


Rate = Annotated[Share, AfterValidator(_rate)]
"""A share of a text's words, one of them at least."""


class _Operation(Section):
    weight: Positive = 1.0
    """How often this operation is drawn, against the others, with augmentation.apply: one."""


class _Rated(_Operation):
    rate: Rate = 0.1
    """Share of the words that is changed, above 0 to 1; one at least."""


class DeleteOperation(_Rated):
    """Words are left out; one stays at least."""

    kind: Literal["delete"]
    """What is done."""


class SwapOperation(_Rated):
    """Words change places with the next one."""

    kind: Literal["swap"]
    """What is done."""


class InsertOperation(_Rated):
    """Words are added at random places.

    Synonyms of words of the text if there is a list of them, else words of the text again.
    """

    kind: Literal["insert"]
    """What is done."""
    words: str | None = None
    """File of synonyms, as of synonym. Null: none."""
    wordnet: str | None = None
    """Folder of WordNet, as of synonym. Null: none."""


class MaskOperation(_Rated):
    """Words are replaced by a mask token, which teachers and student read as any text."""

    kind: Literal["mask"]
    """What is done."""
    token: Annotated[str, Field(min_length=1)] | None = None
    """What stands for a word. Null: the mask token of the student's tokenizer. It should be one of the
    teachers' too."""


class NGramOperation(_Operation):
    """Some words in a row are kept, all others are left out."""

    kind: Literal["ngram"]
    """What is done."""
    shortest: PositiveInt = 3
    """Fewest words and marks that are kept."""
    longest: PositiveInt = 10
    """Most of them."""


class SynonymOperation(_Rated):
    """Words are replaced by others of like meaning; those that the list does not have stay."""

    kind: Literal["synonym"]
    """What is done."""
    words: str | None = None
    """UTF-8 file, words of like meaning in each line with tabs or commas between them; lines that begin
    with # are left out. A word of several lines has the synonyms of all."""
    wordnet: str | None = None
    """Folder with the files data.noun, data.verb, data.adj and data.adv of WordNet (nltk's
    corpora/wordnet). Nothing is downloaded."""


class TypoOperation(_Rated):
    """Slips of the fingers: in some words a letter is missing, doubled, hit beside, or exchanged with the next."""

    kind: Literal["typo"]
    """What is done."""


class ModelOperation(_Rated):
    """Words that a model names, in an actor of its own before training starts.

    The rows are kept in the store (else in the output folder) for later runs.
    """

    action: Literal["substitute", "insert"] = "substitute"
    """substitute: words are replaced by others. insert: words are added."""
    top_k: PositiveInt = 10
    """How many of its words are drawn from, by their weight."""
    temperature: Positive = 1.0
    """Divides what it says of words first; larger draws rarer ones."""
    max_tokens: PositiveInt = 128
    """Longer texts keep their words from there on."""
    batch_rows: PositiveInt = 64
    """Rows of a forward pass."""
    num_cpus: NonNegative = 1.0
    """CPUs of the actor; also its threads."""
    num_gpus: Gpus = 0.0
    """GPUs of the actor, or a share of one."""
    revision: str | None = None
    """Of a Hugging Face id."""
    trust_remote_code: bool = False
    """Whether code beside the weights may run."""


class MaskedLMOperation(ModelOperation):
    """Words that a masked language model thinks fit there."""

    kind: Literal["masked_lm"]
    """What is done."""
    model: str
    """Folder, Hugging Face id or models:/name@alias of a model with a head for its vocabulary
    (AutoModelForMaskedLM)."""


class GumbelOperation(ModelOperation):
    """Words that make a classifier's own prediction less sure, drawn as Gumbel-softmax draws.

    Texts near what it cannot decide; whether they make sense nobody looks. For teachers to label, with a
    loss such as soft_label that leaves out those they are not sure of.
    """

    kind: Literal["gumbel"]
    """What is done."""
    model: str
    """Folder, Hugging Face id or models:/name@alias of a classifier: the student of a run before, or a
    teacher."""


PerturbationSection = Annotated[
    DeleteOperation
    | SwapOperation
    | InsertOperation
    | MaskOperation
    | NGramOperation
    | SynonymOperation
    | TypoOperation,
    Field(discriminator="kind"),
]
"""What needs nothing but the text."""
OperationSection = Annotated[
    DeleteOperation
    | SwapOperation
    | InsertOperation
    | MaskOperation
    | NGramOperation
    | SynonymOperation
    | TypoOperation
    | MaskedLMOperation
    | GumbelOperation,
    Field(discriminator="kind"),
]
"""What is done to a text."""


class AugmentationSection(Section):
    """Rows that are added to the training rows, made from them.

    The same rows come out on every machine: all draws are hashes of the seed, the epoch (with when:
    every_epoch), the copy and the row's text. The store keeps teachers' answers to them as to any text.
    """

    operations: Annotated[list[OperationSection], Field(min_length=1)]
    """What is done to texts."""
    apply: Literal["one", "all"] = "one"
    """one: each new row is made by one operation, drawn by its weight. all: by all of them, one after the
    other."""
    supervision: Literal["unsupervised", "weak", "supervised"] = "unsupervised"
    """Where labels of new rows come from. unsupervised: from nowhere, only the terms with teachers count
    them. weak: those made from labelled rows keep the label, those made from others have none.
    supervised: only labelled rows are augmented, and new ones keep the label."""
    of: Annotated[list[Literal["train", "unlabelled"]], Field(min_length=1)] | None = None
    """The splits that new rows are made from. Null: both, with supervised only train."""
    share: Rate = 1.0
    """Share of their rows that new ones are made from, above 0 to 1, drawn once."""
    copies: PositiveInt = 1
    """New rows for each of them."""
    when: Literal["once", "every_epoch"] = "once"
    """once: the same new rows in every epoch, so that teachers answer them once. every_epoch: others in
    every epoch, so that teachers answer them all."""
    columns: list[Literal["text", "text_pair"]] = Field(default=["text"], min_length=1)
    """Which texts of a row are changed; of a pair the first alone, unless both are named."""
    words: Literal["auto", "spaces", "characters"] = "auto"
    """What a word is. auto: what stands between spaces and marks, and each single Chinese or Japanese
    character. spaces: the former everywhere. characters: every letter."""
    seed: WholeNonNegative | None = None
    """Of all draws. Null: run.seed. Runs that share one share teachers' answers too."""
