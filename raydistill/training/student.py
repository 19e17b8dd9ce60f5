"""How the student is made, plain enough to travel to the workers."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from raydistill.models import ModelSource, build_student, outline

__all__ = ["StudentPlan", "make_student", "parameter_names"]


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
    """

    source: ModelSource
    labels: tuple[str, ...]
    max_tokens: int
    dropout: float
    layers: tuple[int, ...] | None = None
    head_columns: tuple[int, ...] | None = None
    random_config: dict[str, Any] | None = None
    problem_type: str | None = None


def make_student(plan: StudentPlan, tokenizer: Any) -> nn.Module:
    """The student with its first weights; new ones come from torch's global generator."""
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
    )


def parameter_names(plan: StudentPlan) -> list[str]:
    """Of the student, in order; no weights are read."""
    model = outline(plan.source, layers=plan.layers, random_config=plan.random_config)
    return [name for name, _ in model.named_parameters()]
