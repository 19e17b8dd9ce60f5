"""Rules of tagging: what compares words, and what only compares texts or tokens."""

from typing import TYPE_CHECKING, Any

from raydistill.config.losses import CustomLoss, HardLoss, SoftLoss
from raydistill.config.presets import PRESETS
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["tagging_faults"]

_OF_WORDS = ("hidden_mse", "cos", "vid")


def tagging_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit a task whose rows are words."""
    faults = _student_faults(config)
    if config.data.streaming:
        faults.append(
            Fault(
                "data.streaming",
                "must be false with task.kind: tagging: all words are tried on the tokenizers before the run begins.",
                rests_on=("data.streaming", "task.kind"),
            )
        )
    for index, loss in enumerate(config.losses):
        faults += _loss_faults(f"losses.{index}", loss)
    return faults


def _loss_faults(base: str, loss: Any) -> list[Fault]:
    if isinstance(loss, HardLoss | SoftLoss):
        return []
    if not isinstance(loss, CustomLoss) and loss.kind not in _OF_WORDS:
        return [
            Fault(
                f"{base}.kind",
                f"is {loss.kind}, which compares whole texts or pairs of tokens, but task.kind is tagging, where "
                f"words are compared. Use {', '.join(_OF_WORDS)} or a loss on logits.",
                rests_on=(base, "task.kind"),
            )
        ]
    if loss.positions == "all":
        return []
    path = f"{base}.positions"
    return [
        Fault(
            path,
            f"must be all with task.kind: tagging, got {loss.positions}: states are compared word by word, "
            "whatever the tokenizers of the two sides. Leave it out.",
            rests_on=(path, "task.kind"),
        )
    ]


def _student_faults(config: "DistillConfig") -> list[Fault]:
    student = config.student
    preset = PRESETS.get(student.preset) if student.preset is not None else None
    path = "student.network"
    if preset is not None and preset.part == "network":
        path = "student.preset"
    elif student.network is None:
        return []
    return [
        Fault(
            path,
            "is a network that answers for whole texts, but task.kind is tagging. Use model, from_teacher, "
            "from_config or a preset of a transformer.",
            rests_on=(path, "task.kind"),
        )
    ]
