r"""How much each teacher's answer counts in each row, judged by the answers themselves.

Dimensions: ``M`` teachers, ``B`` rows, ``V`` classes. Symbols: :math:`b_i` base weight of teacher i,
:math:`A` the teachers that answered this row, :math:`p_i` softened distribution of teacher i.

All give ``[M, B]``, without gradient, computed in float64: zero or more, sum 1 over the teachers that
answered a row, 0 for one that did not, a column of zeros where none did. What stands in the logits of a
teacher that did not answer, NaN included, is not read. Base weights are relative and need not sum to 1.
Weights that are known before anybody answers are made in :mod:`raydistill.ensemble.choice`; those that
are learned, in :mod:`raydistill.ensemble.gate`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.ensemble.inputs import (
    base_column,
    checked_labels,
    entropy_share,
    require_answered,
    require_sharpness,
    softened,
    softmax_of_answered,
    stack_logits,
)
from raydistill.losses.softening import IGNORED_LABEL

__all__ = [
    "agreement_weights",
    "confidence_weights",
    "fixed_weights",
    "label_cross_entropy_weights",
]


def fixed_weights(base: Sequence[float] | Tensor, answered: Tensor) -> Tensor:
    r"""The base weights, shared out among the teachers that answered.

    .. math:: w_i = \frac{b_i}{\sum_{j \in A} b_j}

    The first choice: nothing to tune, and the target means the same in every row. Where a teacher is
    silent in rows of one kind only, those rows are taught by the others alone.

    Args:
        base: One per teacher, zero or more, numbers or ``[M]``.
        answered: Bool, ``[M, B]`` or ``[M, ...]``.

    Returns:
        ``[M, B]``, float32 (float64 if ``base`` is); where all answered, ``base`` scaled to sum 1.

    Raises:
        ValueError: ``base`` is not one weight per teacher, negative or not finite.
        SignalError: ``answered`` is not bool.

    Example:
        >>> fixed_weights([3.0, 1.0], torch.tensor([[True, False], [True, True]]))
        tensor([[0.7500, 0.0000],
                [0.2500, 1.0000]])

    See Also:
        :func:`~raydistill.ensemble.combine.normalise_weights`, for the weights of a configuration.
    """
    require_answered(answered)
    dtype = base.dtype if isinstance(base, Tensor) else torch.float32
    weights = _shared_out(base_column(base, answered), answered)
    return weights.to(torch.promote_types(dtype, torch.float32))


def confidence_weights(
    logits: Sequence[Tensor] | Tensor,
    base: Sequence[float] | Tensor,
    answered: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    sharpness: float = 1.0,
) -> Tensor:
    r"""More weight for teachers that are sure of their answer.

    .. math::
        w_i = \frac{b_i \, e^{-s H_i}}{\sum_{j \in A} b_j \, e^{-s H_j}}, \qquad
        H_i = -\frac{1}{\log V} \sum_v p_{iv} \log p_{iv} \in [0, 1]

    For teachers that each know a part of the data and doubt outside it. Needs no label. It believes
    what a teacher says of itself: one that is sure and wrong, as a network trained to the end is, wins.
    Calibrate first (a temperature above 1), or use :func:`label_cross_entropy_weights` where there are
    labels. The weights of two teachers shift against each other by at most the factor :math:`e^s`.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, or all in one, ``[M, B, V]``.
        base: One per teacher, zero or more, numbers or ``[M]``.
        answered: Bool, ``[M, B]``.
        temperature: :math:`\tau > 0` that softens :math:`p_i`, a number or one per row, ``[B]``.
        sharpness: :math:`s \ge 0`; at 0 the base weights.

    Returns:
        ``[M, B]``, float32 (float64 if the logits are).

    Raises:
        ValueError: the temperature, the sharpness or ``base`` is not of that kind.
        SignalError: shapes do not fit.

    Example:
        >>> sure, unsure = torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> confidence_weights([sure, unsure], [0.5, 0.5], torch.ones(2, 1, dtype=torch.bool))
        tensor([[0.7311],
                [0.2689]])

    See Also:
        :func:`agreement_weights`, which asks the other teachers instead.

    References:
        Kwon, Na, Lee, Kim, *Adaptive Knowledge Distillation Based on Entropy*, ICASSP 2020: labels of
        lower entropy at a larger rate. The formula is ours. Theirs, as the code of CA-MKD has it
        (``EBKD``), is :math:`1 - H_i / \sum_j H_j`: of M teachers none gets more than the (M - 1)th part
        of the weight.
    """
    require_sharpness(sharpness)
    stacked = stack_logits(logits)
    require_answered(answered, stacked.shape[:-1])
    p = torch.softmax(softened(stacked, answered, temperature), dim=-1)
    scores = base_column(base, answered).log() - sharpness * entropy_share(p).double()  # [M, B]
    return softmax_of_answered(scores, answered).to(stacked.dtype)


def label_cross_entropy_weights(
    logits: Sequence[Tensor] | Tensor,
    labels: Tensor,
    base: Sequence[float] | Tensor,
    answered: Tensor,
) -> Tensor:
    r"""More weight for teachers that give the right class more probability: CA-MKD.

    .. math::
        w_i = \frac{1}{m - 1} \left( 1 - \frac{e^{c_i}}{\sum_{j \in A} e^{c_j}} \right), \qquad
        c_i = -\log \mathrm{softmax}(z_i)_y, \quad m = |A|

    and 1 for a teacher that answered alone. Keeps a teacher that is wrong about a row from teaching it.
    With two teachers it is :math:`w_i \propto \mathrm{softmax}(z_i)_y`. With more it says whom to
    leave out, not whom to follow: none gets more than the (m - 1)th part. On rows that the teachers were
    trained on, the one that has learned them by heart weighs most.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, or all in one, ``[M, B, V]``. Not
            softened, as in the paper.
        labels: Integer classes, ``[B]``, ``0 … V-1``, or -100: none.
        base: One per teacher, zero or more; used in rows without a label only, as
            :func:`fixed_weights` does.
        answered: Bool, ``[M, B]``.

    Returns:
        ``[M, B]``, float32 (float64 if the logits are).

    Raises:
        ValueError: ``base`` is not one weight per teacher, negative or not finite.
        SignalError: shapes do not fit, or labels are not integers or not a class.

    Example:
        >>> wide, deep = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 3.0]]).log()
        >>> both = torch.ones(2, 1, dtype=torch.bool)
        >>> label_cross_entropy_weights([wide, deep], torch.tensor([0]), [0.5, 0.5], both)
        tensor([[0.7500],
                [0.2500]])

    See Also:
        :class:`~raydistill.ensemble.gate.Gate`, which learns from the same and needs no label later.

    References:
        Zhang, Chen, Wang, *Confidence-Aware Multi-Teacher Knowledge Distillation*, ICASSP 2022,
        arXiv:2201.00007, the loss of teacher predictions. Their code divides the weighted sum of losses
        by M once more. Theirs asks every teacher and has a label in every row.
    """
    stacked = stack_logits(logits)
    require_answered(answered, stacked.shape[:-1])
    index = checked_labels(labels, stacked)
    log_p = torch.log_softmax(softened(stacked, answered), dim=-1)
    cost = -log_p.gather(-1, index).squeeze(-1).double()  # [M, B]
    cost = cost.clamp(max=torch.finfo(torch.float64).max)  # inf - inf is NaN
    num_answered = answered.sum(0)
    weights = (1.0 - softmax_of_answered(cost, answered)) / (num_answered - 1).clamp(min=1)
    weights = torch.where(num_answered == 1, 1.0, weights).masked_fill(~answered, 0.0)
    fallback = _shared_out(base_column(base, answered), answered)
    return torch.where(labels == IGNORED_LABEL, fallback, weights).to(stacked.dtype)


def agreement_weights(
    logits: Sequence[Tensor] | Tensor,
    base: Sequence[float] | Tensor,
    answered: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    sharpness: float = 1.0,
) -> Tensor:
    r"""More weight for teachers that say what the others say.

    .. math::
        w_i = \frac{b_i \, e^{-s D_i}}{\sum_{j \in A} b_j \, e^{-s D_j}}, \qquad
        D_i = \frac{\mathrm{JS}(p_i, o_i)}{\log 2} \in [0, 1], \qquad
        o_i = \frac{\sum_{j \in A, j \ne i} b_j \, p_j}{\sum_{j \in A, j \ne i} b_j}

    with JS the Jensen-Shannon divergence, the mean of the two KL divergences from :math:`(p_i + o_i)/2`.
    For three teachers or more of which one may be broken, or strange to a row: it is outvoted. Needs no
    label. A teacher that alone is right is outvoted too. Symmetric and bounded, so two teachers keep
    their base weights (there is no majority), as one does; and a teacher that excludes a class counts
    as far away, not as infinitely far.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, or all in one, ``[M, B, V]``.
        base: One per teacher, zero or more, numbers or ``[M]``.
        answered: Bool, ``[M, B]``.
        temperature: :math:`\tau > 0` that softens :math:`p_i`, a number or one per row, ``[B]``.
        sharpness: :math:`s \ge 0`; at 0 the base weights. The weights of two teachers shift against
            each other by at most the factor :math:`e^s`.

    Returns:
        ``[M, B]``, float32 (float64 if the logits are).

    Raises:
        ValueError: the temperature, the sharpness or ``base`` is not of that kind.
        SignalError: shapes do not fit.

    Example:
        >>> cat, dog = torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]])
        >>> all_three = torch.ones(3, 1, dtype=torch.bool)
        >>> agreement_weights([cat, cat, dog], [1.0, 1.0, 1.0], all_three)
        tensor([[0.3996],
                [0.3996],
                [0.2007]])

    See Also:
        :func:`confidence_weights`, which asks each teacher about itself.

    References:
        Lin, *Divergence Measures Based on the Shannon Entropy*, IEEE Transactions on Information
        Theory 37(1), 1991: the divergence. The weights are our own form.
    """
    require_sharpness(sharpness)
    stacked = stack_logits(logits)
    require_answered(answered, stacked.shape[:-1])
    p = torch.softmax(softened(stacked, answered, temperature), dim=-1)
    column = base_column(base, answered)
    voices = (column * answered).to(p.dtype)  # [M, B]
    apart = ~torch.eye(len(p), dtype=torch.bool, device=p.device)
    mix = voices.unsqueeze(0) * apart.view(len(p), len(p), *[1] * (voices.dim() - 1))
    total = mix.sum(1, keepdim=True)  # [M, 1, B]: what the others weigh together
    others = torch.einsum("ij...,j...v->i...v", mix / torch.where(total == 0, 1.0, total), p)
    distance = _jensen_shannon(p, others) / math.log(2.0)
    scores = column.log() - sharpness * distance.double()  # of one alone any distance will do
    return softmax_of_answered(scores, answered).to(stacked.dtype)


def _shared_out(column: Tensor, answered: Tensor) -> Tensor:
    """Base weights over the sum of those that answered, ``[M, ...]``; 0 where none did."""
    weights = column * answered
    total = weights.sum(0)
    return weights / torch.where(total == 0, 1.0, total)


def _jensen_shannon(p: Tensor, o: Tensor) -> Tensor:
    """In nats, ``[..., V] -> [...]``: entropy of the mean minus mean of the entropies."""
    entr = torch.special.entr  # 0 at 0
    values: Tensor = entr((p + o) / 2) - (entr(p) + entr(o)) / 2
    return values.sum(-1).clamp(min=0.0)
