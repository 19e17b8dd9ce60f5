"""The tokenizers of a run, which are all tried on the rows before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydistill.config import DistillConfig
from raydistill.data import Split
from raydistill.errors import Fault
from raydistill.models import ModelSource, ModelTraits, load_tokenizer
from raydistill.prepare.planned import PlannedStudent
from raydistill.training.student import make_tokenizer

__all__ = ["Mapped", "Side", "is_fast", "sides_of"]


@dataclass
class Mapped:
    """What was found.

    Attributes:
        splits: The rows, with a column ``unmapped.NAME`` for teachers whose tokenizer leaves words, or units, out.
        counted: For metrics.json.
        notes: What should be known.
        faults: Rows that cannot be used.
    """

    splits: dict[str, Split]
    counted: dict[str, float]
    notes: list[str]
    faults: list[Fault]


@dataclass(frozen=True)
class Side:
    """A tokenizer and how many tokens of it a row has at most.

    Attributes:
        who: In sentences.
        path: Of the model in the configuration.
        cut: Most tokens.
        cut_path: Where that is written.
        tokenizer: Itself.
        name: Of the teacher; None: the student's.
    """

    who: str
    path: str
    cut: int
    cut_path: str
    tokenizer: Any
    name: str | None = None


def sides_of(
    config: DistillConfig,
    *,
    student: PlannedStudent,
    sources: Mapping[str, ModelSource],
    traits: Mapping[str, ModelTraits],
) -> tuple[Side, dict[str, Side | None]]:
    """The student's side, and that of each teacher; None of those that cut rows as the student does.

    Args:
        config: The run.
        student: How the student is made, and its shape.
        sources: Of the teachers.
        traits: Their shapes.
    """
    cut = config.student.max_tokens
    own = Side("the student", "student", cut, "student.max_tokens", make_tokenizer(student.plan))
    others: dict[str, Side | None] = {}
    for name, source in sources.items():
        written = config.teachers[name].max_tokens
        most = written or cut
        if (traits[name].tokenizer, most) == (student.traits.tokenizer, cut):
            others[name] = None
            continue
        path = f"teachers.{name}.max_tokens" if written is not None else "student.max_tokens"
        who, model = f"teachers.{name}", f"teachers.{name}.model"
        others[name] = Side(who, model, most, path, load_tokenizer(source), name)
    return own, others


def is_fast(side: Side, kind: str, found: Mapped) -> bool:
    """Whether a tokenizer says which piece is of what; else a fault is added."""
    if getattr(side.tokenizer, "is_fast", False):
        return True
    found.faults.append(
        Fault(
            side.path,
            f"must have a tokenizer of the tokenizers library (tokenizer.json) with task.kind: {kind}, got "
            f"{type(side.tokenizer).__name__}, which does not say which piece is of which part of a text.",
            rests_on=(side.path, "task.kind"),
        )
    )
    return False
