"""Figures of a classifier against hard labels, and of a student against a teacher. Pure.

N rows, C classes. Everything is computed in float64 and leaves as a Python float.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.errors import NotFiniteError, SignalError

__all__ = [
    "ClassMetrics",
    "agreement_metrics",
    "classification_metrics",
    "greater_is_better",
    "per_class",
    "require_finite",
]

_IGNORED = -100
_ECE_BINS = 15
# torchmetrics' bins are closed to the left: a confidence of exactly 1 would have a sixteenth.
_BELOW_ONE = 1.0 - 2.0**-24
_SMALLER_IS_BETTER = frozenset({"nll", "ece", "kl", "loss", "mse", "rmse", "mae", "difference"})


@dataclass(frozen=True)
class ClassMetrics:
    """One class against all others.

    Attributes:
        label: Its name.
        precision: Of the rows given this class, the share that has it; 0 when none was.
        recall: Of the rows that have it, the share found; 0 when there is none.
        f1: Their harmonic mean.
        support: Rows that have it.
        given: Rows given it, rightly or wrongly.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    given: int


def classification_metrics(
    logits_or_log_p: Tensor, labels: Tensor, *, label_names: Sequence[str]
) -> dict[str, float]:
    r"""Accuracy, macro F1, negative log-likelihood and calibration error.

    .. math::
        \mathrm{nll} = -\frac{1}{n} \sum_i \log q_{i, y_i}, \qquad
        \mathrm{ece} = \sum_b \frac{n_b}{n} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Macro F1 is the mean over the classes that occur, as label or as answer, as scikit-learn has it:
    a class that neither has does not pull it down.

    Args:
        logits_or_log_p: ``[N, C]``, any floating dtype; log-probabilities are logits too.
        labels: ``[N]``, integers; -100 is ignored.
        label_names: Names of the C classes in order.

    Returns:
        ``accuracy``, ``macro_f1``, ``nll`` (mean, nats), ``ece`` (15 bins of equal width, the last
        one closed); empty when no row has a label.

    Raises:
        SignalError: the shapes do not fit, or a label is not one of the classes.
        NotFiniteError: NaN or infinity in a row that has a label.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
        >>> metrics = classification_metrics(
        ...     logits, torch.tensor([0, 0, -100]), label_names=["no", "yes"]
        ... )
        >>> round(metrics["accuracy"], 4), round(metrics["nll"], 4)
        (0.5, 0.7201)
    """
    from torchmetrics.functional import classification  # takes seconds; few processes measure

    logits, labels = _labelled(logits_or_log_p, labels, label_names)
    if not len(labels):
        return {}
    num_classes = len(label_names)
    log_q = logits.log_softmax(-1)  # [N, C]
    probabilities = log_q.exp().clamp(max=_BELOW_ONE)
    answers = logits.argmax(-1)  # [N]
    return {
        "accuracy": float(
            classification.multiclass_accuracy(answers, labels, num_classes, average="micro")
        ),
        "macro_f1": float(
            classification.multiclass_f1_score(answers, labels, num_classes, average="macro")
        ),
        "nll": float(-log_q.gather(-1, labels.unsqueeze(-1)).mean()),
        "ece": float(
            classification.multiclass_calibration_error(
                probabilities, labels, num_classes, n_bins=_ECE_BINS
            )
        ),
    }


def per_class(
    logits_or_log_p: Tensor, labels: Tensor, *, label_names: Sequence[str]
) -> list[ClassMetrics]:
    """Precision, recall and F1 of every class, in the order of the names.

    Args:
        logits_or_log_p: ``[N, C]``, any floating dtype.
        labels: ``[N]``, integers; -100 is ignored.
        label_names: Names of the C classes in order.

    Returns:
        One for each class, also for those that do not occur; empty when no row has a label.

    Raises:
        SignalError: the shapes do not fit, or a label is not one of the classes.
        NotFiniteError: NaN or infinity in a row that has a label.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> per_class(logits, torch.tensor([0, 0]), label_names=["no", "yes"])[0]
        ClassMetrics(label='no', precision=1.0, recall=0.5, f1=0.6666666865348816, support=2, given=1)
    """
    from torchmetrics.functional import classification  # takes seconds; few processes measure

    logits, labels = _labelled(logits_or_log_p, labels, label_names)
    if not len(labels):
        return []
    num_classes = len(label_names)
    answers = logits.argmax(-1)
    columns = [
        metric(answers, labels, num_classes, average="none").tolist()
        for metric in (
            classification.multiclass_precision,
            classification.multiclass_recall,
            classification.multiclass_f1_score,
        )
    ]
    counts = classification.multiclass_stat_scores(answers, labels, num_classes, average="none")
    columns += [counts[:, -1].tolist(), (counts[:, 0] + counts[:, 1]).tolist()]  # right + wrong
    return [
        ClassMetrics(label, float(precision), float(recall), float(f1), int(rows), int(given))
        for label, precision, recall, f1, rows, given in zip(label_names, *columns, strict=True)
    ]


def agreement_metrics(student: Tensor, teacher: Tensor) -> dict[str, float]:
    r"""How much a student answers as a teacher does, right or wrong.

    .. math:: \mathrm{kl} = \frac{1}{N} \sum_i \sum_c p_{ic} (\log p_{ic} - \log q_{ic})

    Args:
        student: Logits or log-probabilities, ``[N, C]``; :math:`q`.
        teacher: The same of the teacher; :math:`p`.

    Returns:
        ``agreement``, the share of rows with the same most likely class, and ``kl``, nats at
        temperature 1, never negative; empty when there are no rows.

    Raises:
        SignalError: the shapes differ, or are not ``[N, C]``.
        NotFiniteError: NaN or infinity in either.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> agreement_metrics(student, teacher)["agreement"]
        1.0
    """
    if student.dim() != 2 or student.shape != teacher.shape:  # noqa: PLR2004
        raise SignalError(
            "student and teacher must both be [rows, classes] of one shape, got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    require_finite(student, "student's logits")
    require_finite(teacher, "teacher's logits")
    if not len(student):
        return {}
    log_q = student.detach().double().log_softmax(-1)
    log_p = teacher.detach().double().log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    same = log_p.argmax(-1) == log_q.argmax(-1)
    return {"agreement": float(same.double().mean()), "kl": max(0.0, float(kl))}


def greater_is_better(name: str) -> bool:
    """Which way a metric improves, by the last part of its name.

    Example:
        >>> greater_is_better("validation/accuracy"), greater_is_better("validation/nll")
        (True, False)
    """
    return name.rsplit("/", 1)[-1] not in _SMALLER_IS_BETTER


def _labelled(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Rows that have a label, float64 and detached, after all checks."""
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:  # noqa: PLR2004
        raise SignalError(
            "logits must be [rows, classes] and labels [rows], got "
            f"{list(logits.shape)} and {list(labels.shape)}."
        )
    if logits.shape[1] != len(label_names):
        raise SignalError(
            f"label_names must name the {logits.shape[1]} classes of the logits, "
            f"got {len(label_names)} names."
        )
    counted = labels != _IGNORED
    require_finite(logits, "logits", counted)
    wrong = counted & ((labels < 0) | (labels >= len(label_names)))
    if wrong.any():
        raise SignalError(
            f"labels must be -100 or 0 to {len(label_names) - 1}, "
            f"got {int(labels[wrong][0])} in row {int(wrong.nonzero()[0])}."
        )
    return logits.detach()[counted].double(), labels[counted].long()


def require_finite(logits: Tensor, subject: str, counted: Tensor | None = None) -> None:
    """Raise NotFiniteError naming the rows.

    Args:
        logits: ``[N, C]``.
        subject: Whose they are.
        counted: Rows that matter, ``[N]`` bool; None: all.
    """
    broken = ~torch.isfinite(logits).all(-1)  # [N]
    if counted is not None:
        broken = broken & counted
    if broken.any():
        raise NotFiniteError(subject, broken.nonzero().flatten().tolist())
