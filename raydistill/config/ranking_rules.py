"""Rules of rows that are candidates of queries, and of settings that nothing else reads."""

from typing import TYPE_CHECKING, Any

from raydistill.config.losses import GroupLoss
from raydistill.config.ranking import SCORE, RankedTask
from raydistill.config.schedules import CosineTemperature, LinearTemperature, StepTemperature
from raydistill.errors import Fault

if TYPE_CHECKING:
    from raydistill.config.root import DistillConfig

__all__ = ["ranking_faults"]

_FILES = ("corpus", "queries", "qrels")
_WEIGHTINGS = ("fixed", "validation", "stochastic")


def ranking_faults(config: "DistillConfig") -> list[Fault]:
    """What does not fit a task of candidates, or fits no other task."""
    if not isinstance(config.task, RankedTask):
        return [
            Fault(
                f"data.{name}",
                f"has no effect: it is for task.kind: reranking or retrieval, got {config.task.kind}. Remove it.",
                rests_on=(f"data.{name}", "task.kind"),
            )
            for name in _FILES
            if getattr(config.data, name) is not None
        ]
    return [
        *_data_faults(config),
        *_copy_faults(config),
        *_group_faults(config, config.task),
        *_ensemble_faults(config),
        *_loss_faults(config),
        *_label_map_faults(config),
    ]


def _data_faults(config: "DistillConfig") -> list[Fault]:
    """A way to read rows that knows no groups."""
    if not config.data.streaming:
        return []
    message = f"must be left out with task.kind: {config.task.kind}: queries with their passages are read as a whole."
    return [Fault("data.streaming", message, rests_on=("data.streaming", "task.kind"))]


def _copy_faults(config: "DistillConfig") -> list[Fault]:
    """Rows that are made from others have no query of their own; moved ones are compared pair by pair."""
    faults, section, kind = [], config.adversarial, config.task.kind
    if config.augmentation is not None:
        message = f"must be left out with task.kind: {kind}: rows that are made from others belong to no query."
        faults.append(Fault("augmentation", message, rests_on=("augmentation", "task.kind")))
    if section is not None and kind == "retrieval":
        message = (
            "must be left out with task.kind: retrieval, where a pair has embeddings of two texts."
        )
        return [*faults, Fault("adversarial", message, rests_on=("adversarial", "task.kind"))]
    if getattr(section, "against", "") == "labels":
        path = "adversarial.against"
        message = "must be teachers with task.kind: reranking, where a pair alone has no place, or use kind: vat."
        faults.append(Fault(path, message, rests_on=("adversarial", "task.kind")))
    if section is not None and section.temperature != 1:
        path = "adversarial.temperature"
        message = "must be 1 with task.kind: reranking: scores of pairs are compared as they are."
        faults.append(Fault(path, message, rests_on=("adversarial", "task.kind")))
    return faults


def _group_faults(config: "DistillConfig", task: RankedTask) -> list[Fault]:
    """Steps and forward passes are made of whole groups."""
    training, faults = config.training, []
    size = training.group_rows
    for name in ("batch_rows", "micro_batch_rows"):
        rows = getattr(training, name)
        if rows is not None and rows % size:
            path = f"training.{name}"
            message = f"must be a multiple of training.group_rows = {size}, the candidates of a query, got {rows}."
            faults.append(Fault(path, message, rests_on=(path, "training.group_rows")))
    if task.max_positives >= size:
        message = (
            f"must be less than training.group_rows = {size}, or groups have nothing but relevant candidates, "
            f"got {task.max_positives}."
        )
        basis = ("task.max_positives", "training.group_rows")
        faults.append(Fault("task.max_positives", message, rests_on=basis))
    groups = training.batch_rows // size
    if not faults and training.num_workers > groups:
        message = (
            f"must not exceed the {groups} groups of a step (training.batch_rows / training.group_rows), "
            f"got {training.num_workers}."
        )
        rests_on = ("training.num_workers", "training.batch_rows", "training.group_rows")
        faults.append(Fault("training.num_workers", message, rests_on=rests_on))
    return faults


def _ensemble_faults(config: "DistillConfig") -> list[Fault]:
    ensemble, faults = config.ensemble, []
    if ensemble.weighting.kind not in _WEIGHTINGS:
        faults.append(
            Fault(
                "ensemble.weighting.kind",
                f"is {ensemble.weighting.kind}, which weighs teachers row by row, but with task.kind: {config.task.kind} "
                f"the candidates of a query are one. Use {', '.join(_WEIGHTINGS[:2])} or {_WEIGHTINGS[2]}.",
                rests_on=("ensemble.weighting", "task.kind"),
            )
        )
    return faults


def _loss_faults(config: "DistillConfig") -> list[Fault]:
    faults = []
    for index, loss in enumerate(config.losses):
        path = f"losses.{index}.temperature"
        setting: Any = getattr(loss, "temperature", 1.0)
        known = isinstance(
            setting, int | float | LinearTemperature | CosineTemperature | StepTemperature
        )
        if isinstance(loss, GroupLoss) and not known:
            message = (
                f"must be a number, linear, cosine or step over candidates, got {setting.kind}."
            )
            faults.append(Fault(path, message, rests_on=(path,)))
        if loss.kind == "ranknet" and loss.soft and loss.against == "labels":
            path = f"losses.{index}.soft"
            message = "must be false with against: labels, which have an order and no probability."
            faults.append(Fault(path, message, rests_on=(path, f"losses.{index}.against")))
    return faults


def _label_map_faults(config: "DistillConfig") -> list[Fault]:
    return [
        Fault(
            f"teachers.{name}.label_map",
            f"must say which of two labels means relevant, {{LABEL: {SCORE}}}, got {teacher.label_map}.",
            rests_on=(f"teachers.{name}.label_map", "task.kind"),
        )
        for name, teacher in config.teachers.items()
        if teacher.label_map is not None and list(teacher.label_map.values()) != [SCORE]
    ]
