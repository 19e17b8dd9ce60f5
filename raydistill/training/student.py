"""How the student is made, plain enough to travel to the workers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from raydistill.config.task import Head
from raydistill.models import EmbedderSpec, ModelSource, build_student, load_tokenizer, outline
from raydistill.models.embeddings import EmbeddingPlan
from raydistill.models.words import WordRules, word_tokenizer

__all__ = [
    "StudentPlan",
    "WordTokens",
    "encoder_name",
    "make_student",
    "make_tokenizer",
    "parameter_names",
    "share_encoder",
]


@dataclass(frozen=True)
class WordTokens:
    """Words as tokens.

    Attributes:
        rules: What a word is.
        vocabulary: Without special tokens.
    """

    rules: WordRules
    vocabulary: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class StudentPlan:
    """The resolved student section.

    Attributes:
        source: Its weights (or those of the teacher that layers come from) and its tokenizer.
        labels: Of the task.
        max_tokens: Longer rows are cut.
        dropout: At every dropout.
        layers: Blocks to keep of the source, from 0; None keeps all.
        head_columns: Rows of the source's head for each label; None for a new head.
        random_config: Hugging Face configuration for random weights.
        problem_type: What its outputs mean, as transformers says it.
        words: Tokens, where the source has none.
        embeddings: What takes the place of random embeddings.
        head: What it gives outputs for.
        embedder: Of one that embeds texts, what follows its encoder.
    """

    source: ModelSource
    labels: tuple[str, ...]
    max_tokens: int
    dropout: float
    layers: tuple[int, ...] | None = None
    head_columns: tuple[int, ...] | None = None
    random_config: dict[str, Any] | None = None
    problem_type: str | None = None
    words: WordTokens | None = None
    embeddings: EmbeddingPlan | None = None
    head: Head = "texts"
    embedder: EmbedderSpec | None = None


def make_tokenizer(plan: StudentPlan) -> Any:
    """The student's tokenizer, with a padding token if it had none."""
    if plan.words is not None:
        return word_tokenizer(plan.words.rules, plan.words.vocabulary)
    return load_tokenizer(plan.source)


def make_student(plan: StudentPlan, tokenizer: Any, embeddings: Tensor | None = None) -> nn.Module:
    """The student with its first weights; new ones come from torch's global generator.

    Args:
        plan: Resolved.
        tokenizer: Of :func:`make_tokenizer`.
        embeddings: The matrix of ``plan.embeddings``, made once for all workers; None: random ones, which
            will do where weights are loaded afterwards.
    """
    return build_student(
        labels=plan.labels,
        dropout=plan.dropout,
        source=plan.source,
        layers=plan.layers,
        head_columns=plan.head_columns,
        random_config=plan.random_config,
        pad_token_id=tokenizer.pad_token_id,
        vocabulary=len(tokenizer),
        problem_type=plan.problem_type,
        embeddings=embeddings,
        head=plan.head,
        embedder=plan.embedder,
    )


def parameter_names(plan: StudentPlan) -> list[str]:
    """Of the student, in order; no weights are read."""
    model = outline(
        plan.source,
        layers=plan.layers,
        random_config=plan.random_config,
        head=plan.head,
        embedder=plan.embedder,
    )
    return [name for name, _ in model.named_parameters()]


def encoder_name(plan: StudentPlan) -> str | None:
    """Which part of the student is its encoder; None: it has none apart from its head. No weights are read."""
    model = outline(
        plan.source, layers=plan.layers, random_config=plan.random_config, head=plan.head
    )
    return _encoder_in(model)


def _encoder_in(model: nn.Module) -> str | None:
    name = str(getattr(model, "base_model_prefix", ""))
    return name if name and isinstance(getattr(model, name, None), nn.Module) else None


def share_encoder(students: Sequence[nn.Module]) -> None:
    """Give all the encoder of the first: from now on they differ in their heads only."""
    first, *others = students
    name = _encoder_in(first)
    assert name is not None, "whoever prepares a run looks for it"
    for student in others:
        setattr(student, name, getattr(first, name))
