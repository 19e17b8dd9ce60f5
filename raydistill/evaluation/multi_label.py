"""Figures of a head with a yes or no for each label, against labels and against a teacher. Pure.

N rows, C labels. A label is answered with yes where its probability is above a half.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from raydistill.errors import SignalError
from raydistill.evaluation.metrics import ClassMetrics, require_finite

__all__ = ["multi_label_agreement", "multi_label_metrics", "per_label"]


def multi_label_metrics(
    logits: Tensor, labels: Tensor, *, label_names: Sequence[str]
) -> dict[str, float]:
    r"""F1, exact matches, average precision and negative log-likelihood.

    Micro F1 counts all labels of all rows together, macro F1 is the mean over the labels, where one that
    neither occurs nor is answered counts 0, as in scikit-learn. Average precision needs no threshold: it
    asks whether the rows with a label come first; its mean is over the labels that occur, 0 if none does.

    Args:
        logits: ``[N, C]``, any floating dtype.
        labels: ``[N, C]``, 1 or 0, NaN where it is not known.
        label_names: Names of the C labels in order.

    Returns:
        ``micro_f1``, ``macro_f1``, ``exact_match`` (share of rows with all known labels right),
        ``mean_average_precision`` and ``nll`` (nats, mean over known labels); empty when nothing is known.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity in a row that has a label.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])
        >>> labels = torch.tensor([[1.0, 0.0], [1.0, torch.nan]])
        >>> metrics = multi_label_metrics(logits, labels, label_names=["joy", "fear"])
        >>> round(metrics["micro_f1"], 4), metrics["exact_match"]
        (0.6667, 0.5)
    """
    logits, labels = _labelled(logits, labels, label_names)
    if not len(labels):
        return {}
    known = ~labels.isnan()
    right, wrong, missed = _counts(logits, labels)
    # Where a label is not known any answer is right.
    exact = (((logits > 0) == (labels == 1)) | ~known).all(-1)
    each = binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return {
        "micro_f1": float(_f1(right.sum(), wrong.sum(), missed.sum())),
        "macro_f1": float(_f1(right, wrong, missed).mean()),
        "exact_match": float(exact.double().mean()),
        "mean_average_precision": float(_average_precision(logits, labels).mean()),
        "nll": float(each[known].mean()),
    }


def per_label(logits: Tensor, labels: Tensor, *, label_names: Sequence[str]) -> list[ClassMetrics]:
    """Precision, recall and F1 of every label, in the order of the names.

    Args:
        logits: ``[N, C]``, any floating dtype.
        labels: ``[N, C]``, 1 or 0, NaN where it is not known.
        label_names: Names of the C labels in order.

    Returns:
        One for each label, also for those that do not occur; empty when nothing is known.

    Raises:
        SignalError: the shapes do not fit.
        NotFiniteError: NaN or infinity in a row that has a label.

    Example:
        >>> per_label(
        ...     torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0], [0.0]]), label_names=["joy"]
        ... )
        [ClassMetrics(label='joy', precision=0.5, recall=1.0, f1=0.6666666666666666, support=1, given=2)]
    """
    logits, labels = _labelled(logits, labels, label_names)
    if not len(labels):
        return []
    right, wrong, missed = _counts(logits, labels)
    columns = (
        _share(right, right + wrong),
        _share(right, right + missed),
        _f1(right, wrong, missed),
        right + missed,
        right + wrong,
    )
    return [
        ClassMetrics(label, precision, recall, f1, int(support), int(given))
        for label, precision, recall, f1, support, given in zip(
            label_names, *(column.tolist() for column in columns), strict=True
        )
    ]


def multi_label_agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    r"""How much a student answers as a teacher does, right or wrong.

    .. math:: \mathrm{kl} = \frac{1}{N C} \sum_{i, c} \Big[p_{ic} \log \frac{p_{ic}}{q_{ic}}
        + (1 - p_{ic}) \log \frac{1 - p_{ic}}{1 - q_{ic}}\Big]

    Args:
        student: Logits, ``[N, C]``; :math:`q = \sigma(z)`.
        teacher: The same of the teacher; :math:`p`.

    Returns:
        ``agreement``, the share of labels of rows with the same yes or no, and ``kl``, nats, never negative;
        empty when there are no rows.

    Raises:
        SignalError: the shapes differ.
        NotFiniteError: NaN or infinity in either.

    Example:
        >>> student, teacher = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.5]])
        >>> multi_label_agreement(student, teacher)["agreement"]
        0.5
    """
    if student.dim() != 2 or student.shape != teacher.shape:  # noqa: PLR2004
        raise SignalError(
            "student and teacher must both be [rows, labels] of one shape, got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    require_finite(student, "student's logits")
    require_finite(teacher, "teacher's logits")
    if not student.numel():
        return {}
    q, p = student.detach().double(), teacher.detach().double()
    kl = p.sigmoid() * (logsigmoid(p) - logsigmoid(q))
    kl = kl + (-p).sigmoid() * (logsigmoid(-p) - logsigmoid(-q))
    same = (p > 0) == (q > 0)
    return {"agreement": float(same.double().mean()), "kl": max(0.0, float(kl.mean()))}


def _counts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each label: answered and there, answered and not there, there and not answered; ``[C]``."""
    yes, there, absent = logits > 0, labels == 1, labels == 0
    return (
        (yes & there).sum(0).double(),
        (yes & absent).sum(0).double(),
        (~yes & there).sum(0).double(),
    )


def _f1(right: Tensor, wrong: Tensor, missed: Tensor) -> Tensor:
    return _share(2 * right, 2 * right + wrong + missed)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """0 of nothing."""
    return part / whole.clamp(min=1.0)


def _average_precision(logits: Tensor, labels: Tensor) -> Tensor:
    """Of the labels that occur; 0 if none does."""
    from torchmetrics.functional import classification  # takes seconds; few processes measure

    found = []
    for scores, truth in zip(logits.T, labels.T, strict=True):
        known = ~truth.isnan()
        if (truth == 1).any():
            target = truth[known].long()
            value = classification.binary_average_precision(scores[known].sigmoid(), target)
            found.append(value.double())
    return torch.stack(found) if found else torch.zeros(1)


def _labelled(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Rows of which anything is known, float64 and detached, after all checks."""
    if logits.dim() != 2 or labels.shape != logits.shape:  # noqa: PLR2004
        raise SignalError(
            "logits and labels must both be [rows, labels], got "
            f"{list(logits.shape)} and {list(labels.shape)}."
        )
    if logits.shape[1] != len(label_names):
        raise SignalError(
            f"label_names must name the {logits.shape[1]} labels of the logits, "
            f"got {len(label_names)} names."
        )
    counted = (~labels.isnan()).any(-1)
    require_finite(logits, "logits", counted)
    return logits.detach()[counted].double(), labels[counted].double()
