"""Terms on logits: one value a row, against one combined teacher or against each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from raydistill.config.schedules import (
    CurriculumTemperature,
    CwsmTemperature,
    FlswTemperature,
    TemperatureSetting,
)
from raydistill.ensemble import combine_log_p
from raydistill.losses import LossEntry, standardize_logits
from raydistill.schedules import (
    LearnedTemperature,
    cwsm_temperature,
    flsw_temperature,
    scheduled_temperature,
)
from raydistill.terms.view import View

__all__ = ["SoftMatch", "soft_values", "temperature_of"]


@dataclass(frozen=True)
class SoftMatch:
    """A term on logits of student and teachers.

    Attributes:
        entry: The loss.
        options: Of its function, without temperature and labels.
        temperature: A number, or how it changes.
        standardize: Both sides' logits first.
        shift: Teachers' logits towards the label first.
    """

    entry: LossEntry
    options: Mapping[str, Any] = field(default_factory=dict)
    temperature: TemperatureSetting = 1.0
    standardize: bool = False
    shift: bool = False


def temperature_of(
    match: SoftMatch, view: View, progress: float, learned: torch.nn.Module | None
) -> float | Tensor:
    """The temperature of a term: a number, one that is learned, or one per row, ``[B]``.

    Those that compare rows with a mean over rows take the mean over a group
    (``training.group_rows``), so that it does not depend on how a batch is cut.

    Args:
        match: The term.
        view: Student and teachers.
        progress: Share of the run that is done.
        learned: Of a setting that is learned.
    """
    setting = match.temperature
    match setting:
        case CurriculumTemperature():
            assert isinstance(learned, LearnedTemperature), "it is a module of the objective"
            return learned(progress)  # type: ignore[no-any-return]
        case FlswTemperature() | CwsmTemperature():
            return _by_row(match, setting, view)
    return scheduled_temperature(setting, progress)


def _by_row(match: SoftMatch, setting: FlswTemperature | CwsmTemperature, view: View) -> Tensor:
    student = view.student.logits
    teacher = _mean_logits(
        view, view.teacher_logits(standardize=match.standardize, shift=match.shift)
    )
    base, beta, minimum = setting.base, setting.beta, setting.minimum
    if isinstance(setting, FlswTemperature):
        gamma = setting.gamma
        rule = partial(flsw_temperature, base=base, beta=beta, gamma=gamma, minimum=minimum)
        found = view.by_group(rule, student, teacher)
    else:
        rule = partial(cwsm_temperature, base=base, beta=beta, minimum=minimum)
        found = view.by_group(rule, student)
    return found.where(view.heard, setting.base)


def soft_values(
    match: SoftMatch,
    view: View,
    *,
    combine: Literal["probabilities", "logits", "log_probabilities", "best", "losses"],
    temperature: float | Tensor,
) -> Tensor:
    r"""Values of one soft loss, ``[B]``.

    Combined, the target is :math:`\tau \log p` with p the teachers' softened mixture: logits whose
    softmax at :math:`\tau` is p, so every loss takes several teachers as it takes one. Of losses that
    see a shift of the logits (``logit_mse``) the target is the weighted mean of logits. With ``losses``
    it is :math:`\sum_i w_i \ell_i`.

    Args:
        match: The term.
        view: Student and teachers.
        combine: How several teachers become one.
        temperature: A number, or one per row.
    """
    entry = match.entry
    teachers = view.teacher_logits(standardize=match.standardize, shift=match.shift)  # [M, B, C]
    student = view.student.logits
    student = standardize_logits(student) if match.standardize else student
    options: dict[str, Any] = dict(match.options)
    if "temperature" in entry.options:
        options["temperature"] = temperature
    if len(teachers) == 1:
        return _values(entry, student, teachers[0], options, view)
    if combine == "losses":
        weights = _as_tensor(view, teachers)
        # A teacher that does not answer a row says nothing, NaN included.
        values = [
            torch.where(
                weights[i] == 0, 0.0, weights[i] * _values(entry, student, one, options, view, i)
            )
            for i, one in enumerate(teachers)
        ]
        return torch.stack(values).sum(0)
    if not entry.shift_invariant or (combine == "logits" and _is_learned(temperature)):
        target = _mean_logits(view, teachers)
    else:
        log_p = combine_log_p(teachers, view.weights, temperature=temperature, space=combine)
        by_row = isinstance(temperature, Tensor) and temperature.dim() > 0
        target = (temperature.unsqueeze(-1) if by_row else temperature) * log_p  # type: ignore[union-attr]
    return _values(entry, student, target, options, view)


def _is_learned(temperature: float | Tensor) -> bool:
    return isinstance(temperature, Tensor) and temperature.requires_grad


def _mean_logits(view: View, teachers: Tensor) -> Tensor:
    """Weighted mean of the teachers' logits, ``[B, C]``; who does not answer is not read."""
    weights = _as_tensor(view, teachers).unsqueeze(-1)
    return torch.where(weights == 0, 0.0, weights * teachers).sum(0)


def _as_tensor(view: View, like: Tensor) -> Tensor:
    """Weights ``[M, B]``."""
    if isinstance(view.weights, Tensor):
        return view.weights
    return like.new_tensor(view.weights).unsqueeze(1).expand(like.shape[:2])


def _values(  # noqa: PLR0917 - plain facts
    entry: LossEntry,
    student: Tensor,
    target: Tensor,
    options: dict[str, Any],
    view: View,
    teacher: int | None = None,
) -> Tensor:
    """One call of the loss, ``[B]``; of losses across rows one call a group."""
    if "labels" in entry.needs:
        options = {**options, "labels": view.batch.labels}
    if entry.over != "rows":
        values = entry.function(student, target, **options)
        if view.classes is not None and not entry.shift_invariant:
            # A mean over classes: padding, the same on both sides, has no part in it.
            values = values * student.shape[-1] / view.classes
        return values
    by_row = {n: v for n, v in options.items() if isinstance(v, Tensor) and v.dim()}
    others = {name: value for name, value in options.items() if name not in by_row}

    def of_group(own: Tensor, theirs: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(by_row, values, strict=True))
        return entry.function(own, theirs, **others, **named)

    return view.by_group(of_group, student, target, *by_row.values(), teacher=teacher)
