"""Rules of tasks that compare parts of a row: words of tagging, units of a context of question answering."""

from typing import TYPE_CHECKING, Any

from raydistill.config.losses import CustomLoss, HardLoss, SoftLoss
from raydistill.config.presets import PRESETS
from raydistill.config.task import HEADS
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["unit_faults"]

_FIT = ("hidden_mse", "cos", "vid")
_PARTS = {"words": "word", "spans": "unit"}


def unit_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit a task whose rows have parts that are compared; nothing of others."""
    kind = config.task.kind
    part = _PARTS.get(HEADS[kind])
    if part is None:
        return []
    faults = _student_faults(config)
    if config.data.streaming:
        faults.append(
            Fault(
                "data.streaming",
                f"must be false with task.kind: {kind}: all rows are tried on the tokenizers before the run begins.",
                rests_on=("data.streaming", "task.kind"),
            )
        )
    for index, loss in enumerate(config.losses):
        faults += _loss_faults(f"losses.{index}", loss, kind, part)
    return faults


def _loss_faults(base: str, loss: Any, kind: str, part: str) -> list[Fault]:
    if isinstance(loss, HardLoss | SoftLoss):
        return []
    if not isinstance(loss, CustomLoss) and loss.kind not in _FIT:
        return [
            Fault(
                f"{base}.kind",
                f"is {loss.kind}, which compares whole texts or pairs of tokens, but task.kind is {kind}, where "
                f"{part}s are compared. Use {', '.join(_FIT)} or a loss on logits.",
                rests_on=(base, "task.kind"),
            )
        ]
    if loss.positions == "all":
        return []
    path = f"{base}.positions"
    return [
        Fault(
            path,
            f"must be all with task.kind: {kind}, got {loss.positions}: states are compared {part} by {part}, "
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
            f"is a network that answers for whole texts, but task.kind is {config.task.kind}. Use model, from_teacher, "
            "from_config or a preset of a transformer.",
            rests_on=(path, "task.kind"),
        )
    ]
