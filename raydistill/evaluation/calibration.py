"""How far a model's confidence is from how often it is right. Pure."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.config.task import TaskKind
from raydistill.evaluation.tagging import seen_words

__all__ = ["calibration_error"]

_BINS = 15
_BELOW_ONE = 1.0 - 2.0**-24  # the last bin is closed


def calibration_error(kind: TaskKind, logits: Tensor, labels: Tensor) -> float | None:
    r"""Expected calibration error, 15 bins of equal width.

    .. math:: \mathrm{ece} = \sum_b \frac{n_b}{n} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Of classes over rows, of tags over words that the model saw. Of labels that do not exclude each other
    each known yes or no counts, its confidence being that of the answer.

    Args:
        kind: Of the task.
        logits: ``[N, C]``.
        labels: As the task has them.

    Returns:
        None where nothing is a probability, or nothing is known.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
        >>> calibration_error("text_classification", logits, torch.tensor([0, 1]))
        0.0
    """
    if kind in ("text_classification", "tagging"):
        counted = (labels >= 0) & seen_words(logits)
        p = logits[counted].double().softmax(-1)
        right = p.argmax(-1) == labels[counted]
    elif kind == "multi_label_classification":
        counted = ~labels.isnan()
        yes = logits[counted].double().sigmoid()
        right = (yes > 0.5) == (labels[counted] == 1)  # noqa: PLR2004 - a half
        p = torch.stack([yes, 1 - yes], dim=-1)
    else:
        return None
    if not len(right):
        return None
    gaps = _gaps(p, right.double().numpy()).sum(0)
    return float(np.abs(gaps).sum() / len(right))


def _gaps(p: Tensor, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right minus confidence of each row, in the column of its bin, ``[N, 15]``.

    Args:
        p: Probabilities, ``[N, C]``.
        right: Whether the most likely one is, ``[N]``.
    """
    confidence = p.max(-1).values.clamp(max=_BELOW_ONE)
    edges = torch.linspace(0, 1, _BINS + 1, dtype=confidence.dtype)
    place = (torch.bucketize(confidence, edges, right=True) - 1).numpy()
    found = np.zeros((len(right), _BINS))
    found[np.arange(len(right)), place] = right - confidence.numpy()
    return found
