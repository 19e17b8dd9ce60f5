r"""Numbers compared as numbers: a teacher's logits, or a label that is a number. Not reduced.

Dimensions: ``V`` classes, ``...`` any number of positions (``[B]``, ``[B, S]``).
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.inputs import at_least_float32
from raydistill.losses.softening import checked_temperature, require_same_classes

__all__ = ["logit_mse", "mse"]


def logit_mse(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    r"""Mean squared error between two sets of logits.

    .. math:: \ell = \tau^2 \, \frac{1}{V} \sum_v \Big(\frac{z^S_v - z^T_v}{\tau}\Big)^2

    With the factor :math:`\tau^2` the temperature cancels and changes nothing; without it
    (TextBrewer's ``mse``) it is a weight of :math:`1 / \tau^2`. Where both sides have the same mean it is
    twice what :func:`~raydistill.losses.divergence.forward_kl` comes to at a high temperature. It sees a
    constant that is added to all logits, which a softmax does not: a student is
    punished for an offset that means nothing. For a teacher whose output is one number or several
    (a regression, a score) there is no such offset, and this is the loss.

    A combined distribution in which a class has probability 0 has the logit ``-inf`` there, which is
    infinitely far away; combine such teachers as logits.

    Args:
        student_logits: Unnormalised scores, ``[..., V]``, any floating dtype.
        teacher_logits: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, a number or one per position, ``[...]``.
        scale_by_temperature_squared: Whether to multiply by :math:`\tau^2`.

    Returns:
        Squared logits per position, ``[...]``, float32 (float64 if a side is), never negative, 0 where
        both agree. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ, or the temperatures are not one per position.

    Example:
        >>> student = torch.tensor([[2.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 0.0]])
        >>> logit_mse(student, teacher, temperature=2.0).round(decimals=4)
        tensor([0.3333])
        >>> options = {"temperature": 2.0, "scale_by_temperature_squared": False}
        >>> logit_mse(student, teacher, **options).round(decimals=4)
        tensor([0.0833])

    See Also:
        :func:`raydistill.losses.divergence.forward_kl`, which does not see an offset; :func:`mse`, with
        labels; :func:`raydistill.losses.softening.standardize_logits`, which takes offset and scale away.

    References:
        Ba, Caruana, *Do Deep Nets Really Need to be Deep?*, NeurIPS 2014, arXiv:1312.6184, section 2.2,
        formula 1 (there half of it, summed). Yang et al., *TextBrewer*, 2020, arXiv:2002.12620,
        ``kd_mse_loss``: this one without the factor.
    """
    require_same_classes(student_logits, teacher_logits)
    tau = checked_temperature(temperature, teacher_logits)
    difference = at_least_float32(student_logits) - at_least_float32(teacher_logits).detach()
    values = difference.square().mean(-1)  # [..., V] -> [...]
    return values if scale_by_temperature_squared else values / tau**2


def mse(student_values: Tensor, labels: Tensor) -> Tensor:
    r"""Squared error of a number that is predicted.

    .. math:: \ell = (z^S - y)^2

    The truth beside what the teachers think of it, where the truth is a number: a rating, a similarity.
    One far outlier rules a batch. Labels have a unit: with those between 0 and 5 the loss, and so its
    weight against other terms, is 25 times that of labels between 0 and 1. What a teacher predicts is
    compared by :func:`logit_mse`, which needs no labels; TextBrewer's ``mse`` is that one.

    Zeros where there is no label are placeholders: use ``~labels.isnan()`` as the mask of the mean.

    Args:
        student_values: One number per position, ``[...]``, any floating dtype; of a head with one output
            ``logits.squeeze(-1)``.
        labels: Floating numbers, ``[...]``; NaN: has none.

    Returns:
        Squared units of the label per position, ``[...]``, float32 (float64 for a float64 student), never
        negative, 0 where there is no label. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ, or labels are not floating numbers.

    Example:
        >>> mse(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, torch.nan, 2.0]))
        tensor([1., 0., 9.])

    See Also:
        :func:`logit_mse`, with a teacher's number; :func:`raydistill.losses.hard_label.cross_entropy`, where
        the label is a class.

    References:
        :func:`torch.nn.functional.mse_loss`, equal to it with ``reduction="none"``.
    """
    if not labels.is_floating_point():
        raise SignalError(
            f"labels of a regression must be floating numbers (NaN = none), got {labels.dtype}. "
            "Write `labels.float()`."
        )
    if labels.shape != student_values.shape:
        raise SignalError(
            f"labels must be one per position, shape {list(student_values.shape)}, "
            f"got {list(labels.shape)}. Write `logits.squeeze(-1)` for a head with one output."
        )
    student = at_least_float32(student_values)
    difference = student - labels.detach().to(student.dtype)
    return torch.where(labels.isnan(), 0.0, difference).square()
