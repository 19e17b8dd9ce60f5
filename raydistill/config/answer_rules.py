"""Rules of question answering, where each row has classes of its own: the units of its window."""

from typing import TYPE_CHECKING, Any

from raydistill.config.losses import CustomLoss
from raydistill.config.question_answering import AnswerColumns, QuestionAnsweringTask
from raydistill.config.schedules import CwsmTemperature, FlswTemperature
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["answer_faults"]

_WEIGHTINGS = ("fixed", "validation", "stochastic", "routing")
_WHY = (
    "task.kind is question_answering, where every row has as many classes as its window has units"
)


def answer_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit a task of answers; nothing of others."""
    if not isinstance(config.task, QuestionAnsweringTask):
        return []
    faults = _column_faults(config.task.columns)
    weighting = config.ensemble.weighting.kind
    if weighting not in _WEIGHTINGS:
        faults.append(
            Fault(
                "ensemble.weighting.kind",
                f"is {weighting}, which weighs teachers by their classes, but {_WHY}. Use "
                f"{', '.join(_WEIGHTINGS[:-1])} or {_WEIGHTINGS[-1]}.",
                rests_on=("ensemble.weighting", "task.kind"),
            )
        )
    for index, loss in enumerate(config.losses):
        faults += _loss_faults(f"losses.{index}", loss)
    for name, teacher in config.teachers.items():
        given = {
            "label_map": teacher.label_map is not None,
            "missing_labels": teacher.missing_labels == "abstain",
        }
        faults += [
            Fault(
                f"teachers.{name}.{setting}",
                "has no effect with task.kind: question_answering, where models have a start and an end. Remove it.",
                rests_on=(f"teachers.{name}.{setting}", "task.kind"),
            )
            for setting, there in given.items()
            if there
        ]
    return faults


def _column_faults(columns: AnswerColumns) -> list[Fault]:
    """Columns of a single answer that nobody reads."""
    if columns.answers is None:
        return []
    return [
        Fault(
            f"task.columns.{name}",
            f"has no effect: answers are read from column {columns.answers!r}. Write task.columns.answers: null, "
            "or remove it.",
            rests_on=(f"task.columns.{name}", "task.columns.answers"),
        )
        for name in ("answer", "answer_start")
        if getattr(columns, name) != name
    ]


def _loss_faults(base: str, loss: Any) -> list[Fault]:
    faults = [
        Fault(
            f"{base}.{option}",
            f"must be false: it looks at all classes of a row, but {_WHY}.",
            rests_on=(f"{base}.{option}", "task.kind"),
        )
        for option in ("standardize", "probability_shift")
        if getattr(loss, option, False)
    ]
    setting = getattr(loss, "temperature", 1.0)
    if isinstance(setting, FlswTemperature | CwsmTemperature):
        path = f"{base}.temperature"
        faults.append(
            Fault(
                path,
                f"is {setting.kind}, which follows from the classes of each row, but {_WHY}. Use a number, linear, "
                "cosine or learned.",
                rests_on=(path, "task.kind"),
            )
        )
    if isinstance(loss, CustomLoss) and loss.needs == "logits":
        faults.append(
            Fault(
                f"{base}.needs",
                f"must be hidden: a function of logits would see padding as classes, for {_WHY}.",
                rests_on=(base, "task.kind"),
            )
        )
    return faults
