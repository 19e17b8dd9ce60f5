"""Figures of predicted numbers, against labels and against a teacher. Pure.

N rows, C targets; figures are means over the targets. Everything is computed in float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from raydistill.errors import SignalError
from raydistill.evaluation.metrics import require_finite

__all__ = ["TargetMetrics", "number_agreement", "number_metrics", "per_target"]

_FEWEST = 2  # rows without which nothing varies


@dataclass(frozen=True)
class TargetMetrics:
    """One of several numbers.

    Attributes:
        label: Its name.
        rmse: Root of the mean squared error, in its unit.
        mae: Mean absolute error.
        pearson: Correlation with the labels.
        spearman: Correlation of the ranks.
        support: Rows that have it.
    """

    label: str
    rmse: float
    mae: float
    pearson: float
    spearman: float
    support: int


def number_metrics(
    values: Tensor, labels: Tensor, *, label_names: Sequence[str]
) -> dict[str, float]:
    r"""Errors and correlations.

    .. math:: \mathrm{r2} = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    Args:
        values: Predicted, ``[N, C]``, any floating dtype.
        labels: ``[N, C]``, NaN where there is none.
        label_names: Names of the C targets in order.

    Returns:
        ``mse`` and its root ``rmse``, ``mae``, ``pearson`` and ``spearman`` (0 where either side does not
        vary) and ``r2`` (where the labels do not vary 1 if all are met, else 0), each a mean over the
        targets (``rmse`` too); empty when there is no label.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity in a row that has a label.

    Example:
        >>> import torch
        >>> values, labels = (
        ...     torch.tensor([[1.0], [2.0], [4.0]]),
        ...     torch.tensor([[1.0], [3.0], [4.0]]),
        ... )
        >>> metrics = number_metrics(values, labels, label_names=["stars"])
        >>> round(metrics["mae"], 4), round(metrics["spearman"], 4)
        (0.3333, 1.0)
    """
    each = [_of_target(*pair) for pair in _labelled(values, labels, label_names) if len(pair[0])]
    if not each:
        return {}
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}


def per_target(
    values: Tensor, labels: Tensor, *, label_names: Sequence[str]
) -> list[TargetMetrics]:
    """The figures of each of several targets; empty for a single one, whose figures are those of all.

    Args:
        values: Predicted, ``[N, C]``, any floating dtype.
        labels: ``[N, C]``, NaN where there is none.
        label_names: Names of the C targets in order.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity in a row that has a label.
    """
    found = []
    for name, (own, truth) in zip(label_names, _labelled(values, labels, label_names), strict=True):
        if len(label_names) > 1 and len(truth):
            of = _of_target(own, truth)
            figures = {key: of[key] for key in ("rmse", "mae", "pearson", "spearman")}
            found.append(TargetMetrics(name, **figures, support=len(truth)))
    return found


def number_agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """How much a student predicts what a teacher does, right or wrong.

    Args:
        student: ``[N, C]``.
        teacher: The same of the teacher.

    Returns:
        ``correlation`` (Pearson's) and ``difference`` (root of the mean square, in the labels' unit), means
        over the targets; empty when there are no rows.

    Raises:
        SignalError: the shapes differ.
        NotFiniteError: NaN or infinity in either.

    Example:
        >>> import torch
        >>> number_agreement(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]]))[
        ...     "difference"
        ... ]
        1.0
    """
    if student.dim() != 2 or student.shape != teacher.shape:  # noqa: PLR2004
        raise SignalError(
            "student and teacher must both be [rows, targets] of one shape, got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    require_finite(student, "student's numbers")
    require_finite(teacher, "teacher's numbers")
    if not student.numel():
        return {}
    columns = zip(student.detach().double().T, teacher.detach().double().T, strict=True)
    each: list[Mapping[str, float]] = [_of_target(own, theirs) for own, theirs in columns]
    return {
        "correlation": sum(one["pearson"] for one in each) / len(each),
        "difference": sum(one["rmse"] for one in each) / len(each),
    }


def _of_target(values: Tensor, labels: Tensor) -> dict[str, float]:
    """Of one target, ``[n]`` each, at least one."""
    from torchmetrics import functional  # takes seconds; few processes measure

    mse = float(functional.mean_squared_error(values, labels))
    found = {
        "rmse": mse**0.5,
        "mse": mse,
        "mae": float(functional.mean_absolute_error(values, labels)),
    }
    vary = [len(one) >= _FEWEST and bool((one != one[0]).any()) for one in (values, labels)]
    for name, metric in (("pearson", _pearson), ("spearman", functional.spearman_corrcoef)):
        found[name] = float(metric(values, labels)) if all(vary) else 0.0
    found["r2"] = float(functional.r2_score(values, labels)) if vary[1] else float(mse == 0)
    return found


def _pearson(values: Tensor, labels: Tensor) -> Tensor:
    """Torchmetrics' warns of small variances and takes them for none: of numbers brought to size 1."""
    from torchmetrics.functional import pearson_corrcoef

    one, other = ((x - x.mean()) / (x - x.mean()).abs().amax() for x in (values, labels))
    found: Tensor = pearson_corrcoef(one, other)
    return found


def _labelled(
    values: Tensor, labels: Tensor, label_names: Sequence[str]
) -> list[tuple[Tensor, Tensor]]:
    """Of each target predictions and labels where it has one, float64 and detached, after all checks."""
    if values.dim() != 2 or labels.shape != values.shape:  # noqa: PLR2004
        raise SignalError(
            "predictions and labels must both be [rows, targets], got "
            f"{list(values.shape)} and {list(labels.shape)}."
        )
    if values.shape[1] != len(label_names):
        raise SignalError(
            f"label_names must name the {values.shape[1]} targets of the predictions, "
            f"got {len(label_names)} names."
        )
    require_finite(values, "predictions", (~labels.isnan()).any(-1))
    return [
        (own.detach()[~truth.isnan()].double(), truth[~truth.isnan()].double())
        for own, truth in zip(values.T, labels.T, strict=True)
    ]
