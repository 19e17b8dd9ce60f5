"""What keeps a term on features from comparing this student with this teacher."""

from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.losses import AttentionLoss
from raydistill.config.task import HEADS
from raydistill.errors import Fault
from raydistill.models import ModelTraits
from raydistill.prepare.layers import states_of

__all__ = ["fit_faults"]

_ANY_WIDTH = {"nst", "relation_kl", "rkd_distance", "rkd_angle"}
_HEAD_BY_HEAD = {"attention_mse", "attention_ce"}
_PLURAL = {"query": "queries", "key": "keys", "value": "values"}


def fit_faults(
    config: DistillConfig, index: int, name: str, *, student: ModelTraits, teacher: ModelTraits
) -> list[Fault]:
    """Widths, heads and tokens that do not go together.

    Args:
        config: Valid by itself.
        index: Of the term.
        name: Of the teacher.
        student: Its shape.
        teacher: Its shape.
    """
    loss: Any = config.losses[index]
    faults, base = [], f"losses.{index}"
    on_maps = isinstance(loss, AttentionLoss)
    if on_maps and 0 in (student.num_heads, teacher.num_heads):
        who, model = (
            ("the student", "student")
            if student.num_heads == 0
            else (f"teachers.{name}", f"teachers.{name}.model")
        )
        return [
            Fault(
                f"{base}.kind",
                f"compares attention maps, but {who} is a network without attention. Use a loss on hidden states, e.g. "
                "hidden_mse, or on logits.",
                rests_on=(f"{base}.kind", model),
            )
        ]
    needs_width = not on_maps and loss.kind not in _ANY_WIDTH
    if needs_width and student.width != teacher.width and loss.projection is None:
        faults.append(
            Fault(
                f"{base}.projection",
                f"is needed: hidden states of the student are {student.width} wide, those of "
                f"teachers.{name} {teacher.width}. Write projection: linear.",
                rests_on=(f"{base}.projection", f"teachers.{name}.model"),
            )
        )
    if loss.kind in _HEAD_BY_HEAD and student.num_heads != teacher.num_heads:
        faults.append(
            Fault(
                f"{base}.kind",
                f"compares head by head, but the student has {student.num_heads} heads and "
                f"teachers.{name} {teacher.num_heads}. Use attention_ce_mean.",
                rests_on=(f"{base}.kind", f"teachers.{name}.model"),
            )
        )
    if loss.kind == "relation_kl":
        for who, traits, model in (
            ("the student", student, "student"),
            (f"teachers.{name}", teacher, f"teachers.{name}.model"),
        ):
            faults += _relation_faults(base, loss, who, traits, model)
    by_tokens = HEADS[config.task.kind] == "texts"
    if by_tokens and getattr(loss, "positions", "all") == "all":
        faults += _tokens_fit(config, index, loss, name, student, teacher)
    return faults


def _relation_faults(
    base: str, loss: Any, who: str, traits: ModelTraits, model: str
) -> list[Fault]:
    """What keeps one side's states from being read, or from being cut into heads."""
    states, width, what = states_of(loss), traits.width, "width"
    if states != "hidden":
        assert traits.inside is not None, "whoever reads traits looks, if a loss needs it"
        if isinstance(traits.inside, str):
            message = f"is {states}, but {who} {traits.inside}. Use states: hidden."
            return [Fault(f"{base}.states", message, rests_on=(f"{base}.states", model))]
        width, what = traits.inside[states], f"width of the {_PLURAL[states]}"
    if width % loss.relation_heads == 0:
        return []
    path = f"{base}.relation_heads"
    message = f"must divide the {what} of {who}, {width}, got {loss.relation_heads}."
    return [Fault(path, message, rests_on=(path, f"{base}.states", model))]


def _tokens_fit(  # noqa: PLR0917 - plain facts
    config: DistillConfig,
    index: int,
    loss: Any,
    name: str,
    student: ModelTraits,
    teacher: ModelTraits,
) -> list[Fault]:
    """Losses that compare token by token need the same tokens."""
    faults, path = [], f"losses.{index}.positions"
    chosen = hasattr(loss, "positions")
    path = path if chosen else f"losses.{index}.kind"
    if student.tokenizer != teacher.tokenizer:
        subject = "'all'" if chosen else f"{loss.kind}"
        way_out = (
            "Write positions: first or positions: mean."
            if chosen
            else "Use a loss on vectors, e.g. hidden_mse with positions: mean."
        )
        faults.append(
            Fault(
                path,
                f"{subject} compares token by token, but teachers.{name} has another tokenizer than "
                f"the student. {way_out}",
                rests_on=(path, f"teachers.{name}.tokenizer", "student.tokenizer"),
            )
        )
    cut = config.teachers[name].max_tokens
    if cut is not None and cut != config.student.max_tokens:
        said = "positions: all" if chosen else loss.kind
        faults.append(
            Fault(
                f"teachers.{name}.max_tokens",
                f"must equal student.max_tokens = {config.student.max_tokens} for "
                f"losses.{index} with {said}, got {cut}.",
                rests_on=(path, f"teachers.{name}.max_tokens", "student.max_tokens"),
            )
        )
    return faults
