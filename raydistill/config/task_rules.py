"""Rules between the task and what is minimised: which losses, ensembles and options fit which outputs."""

from typing import TYPE_CHECKING, Any

from raydistill.config.answer_rules import answer_faults
from raydistill.config.losses import CustomLoss, GroupLoss, HardLoss, SoftLoss, on_labels
from raydistill.config.schedules import CwsmTemperature, FlswTemperature
from raydistill.config.task import (
    EXCLUSIVE,
    LABEL_LOSSES,
    LOGIT_LOSSES,
    MORE_LABEL_LOSSES,
    MultiLabelClassificationTask,
    TaggingTask,
    TaskKind,
)
from raydistill.config.unit_rules import unit_faults
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["task_faults"]

_MEANING: dict[TaskKind, str] = {
    "text_classification": "exactly one label a row",
    "multi_label_classification": "a yes or no for each label",
    "regression": "numbers",
    "tagging": "exactly one tag a word",
    "reranking": "candidates of a query",
    "question_answering": "a start and an end in a text",
    "retrieval": "embeddings of queries and passages",
}
_COMPLETED: tuple[TaskKind, ...] = (
    "text_classification",
    "multi_label_classification",
    "regression",
)
_BY_PROBABILITY = ("confidence", "label_cross_entropy", "agreement", "gate")


def task_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit the task."""
    faults = [*_column_faults(config), *_incomplete_faults(config)]
    for index, loss in enumerate(config.losses):
        faults += _loss_faults(config, index, loss)
    if config.task.kind == "regression":
        faults += _number_faults(config)
    return faults + unit_faults(config) + answer_faults(config)


def _incomplete_faults(config: "DistillConfig") -> list[Fault]:
    """Where rows cannot be left out."""
    if config.data.incomplete_rows == "refuse":
        return []
    path, faults = "data.incomplete_rows", []
    if config.task.kind not in _COMPLETED:
        faults.append(
            Fault(
                path,
                f"must be refuse with task.kind: {config.task.kind}; rows are left out of {', '.join(_COMPLETED)} only.",
                rests_on=(path, "task.kind"),
            )
        )
    if config.data.streaming:
        faults.append(
            Fault(
                path,
                "must be refuse with data.streaming: a resumed run passes over rows that it does not look at.",
                rests_on=(path, "data.streaming"),
            )
        )
    return faults


def _column_faults(config: "DistillConfig") -> list[Fault]:
    task = config.task
    if isinstance(task, TaggingTask) and task.conll.words == task.conll.tags:
        both = ("task.conll.words", "task.conll.tags")
        message = f"must be another column than the words' ({task.conll.words}), got the same."
        return [Fault("task.conll.tags", message, rests_on=both)]
    if not isinstance(task, MultiLabelClassificationTask) or task.label is not None:
        return []
    faults = []
    if task.labels is None:
        faults.append(
            Fault(
                "task.labels",
                "is needed with task.label: null: the columns, one for each label.",
                rests_on=("task.labels", "task.label"),
            )
        )
    if task.separator is not None:
        faults.append(
            Fault(
                "task.separator",
                "has no effect with task.label: null, where every label has a column. Remove one.",
                rests_on=("task.separator", "task.label"),
            )
        )
    return faults


def _loss_faults(config: "DistillConfig", index: int, loss: Any) -> list[Fault]:
    base, kind = f"losses.{index}", config.task.kind
    labels = (LABEL_LOSSES[kind], *MORE_LABEL_LOSSES.get(kind, ()))
    fit = labels if on_labels(loss) else LOGIT_LOSSES[kind]
    if isinstance(loss, HardLoss | SoftLoss | GroupLoss) and loss.kind not in fit:
        tables = [
            one for one in LABEL_LOSSES if loss.kind in (LABEL_LOSSES[one], *LOGIT_LOSSES[one])
        ]
        return [
            Fault(
                f"{base}.kind",
                f"is {loss.kind}, which is for {_MEANING[tables[0]]} ({tables[0]}), but task.kind is "
                f"{kind}. Use {' or '.join(fit)}.",
                rests_on=(base, "task.kind"),
            )
        ]
    if kind in EXCLUSIVE:
        return []
    faults = [
        Fault(
            f"{base}.{option}",
            f"must be false: it is for {_MEANING['text_classification']}, but task.kind is {kind}.",
            rests_on=(f"{base}.{option}", "task.kind"),
        )
        for option in ("standardize", "probability_shift")
        if getattr(loss, option, False)
    ]
    faults += _temperature_faults(config, base, loss)
    partial = [n for n, t in config.teachers.items() if t.missing_labels == "abstain"]
    if partial and isinstance(loss, CustomLoss) and loss.needs == "logits":
        faults.append(
            Fault(
                base,
                f"reads the logits of all labels, but teachers.{partial[0]} may know only some "
                f"(missing_labels: abstain). Use e.g. {LOGIT_LOSSES[kind][0]}.",
                rests_on=(base, f"teachers.{partial[0]}.missing_labels"),
            )
        )
    return faults


def _temperature_faults(config: "DistillConfig", base: str, loss: Any) -> list[Fault]:
    setting, kind = getattr(loss, "temperature", 1.0), config.task.kind
    softened = isinstance(loss, SoftLoss | CustomLoss)  # else it is of something else
    path = f"{base}.temperature"
    if softened and kind == "regression" and setting != 1.0:
        return [
            Fault(
                path,
                "must be 1 with task.kind: regression: numbers are not softened.",
                rests_on=(path, "task.kind"),
            )
        ]
    if softened and isinstance(setting, FlswTemperature | CwsmTemperature):
        return [
            Fault(
                path,
                f"is {setting.kind}, which is made for a softmax over exclusive labels, but task.kind is "
                f"{kind}. Use a number, linear or cosine.",
                rests_on=(path, "task.kind"),
            )
        ]
    return []


def _number_faults(config: "DistillConfig") -> list[Fault]:
    ensemble, faults = config.ensemble, []
    if ensemble.weighting.kind in _BY_PROBABILITY:
        faults.append(
            Fault(
                "ensemble.weighting.kind",
                f"is {ensemble.weighting.kind}, which judges probabilities, but task.kind is regression. "
                "Use fixed, validation or stochastic.",
                rests_on=("ensemble.weighting", "task.kind"),
            )
        )
    if ensemble.combine in ("log_probabilities", "best"):
        faults.append(
            Fault(
                "ensemble.combine",
                f"is {ensemble.combine}, but task.kind is regression: of numbers there is the mean (leave it "
                "out), or a loss for each teacher (losses).",
                rests_on=("ensemble.combine", "task.kind"),
            )
        )
    if ensemble.temperatures:
        faults.append(
            Fault(
                "ensemble.temperatures",
                "must be left out with task.kind: regression: numbers are not softened.",
                rests_on=("ensemble.temperatures", "task.kind"),
            )
        )
    return faults
