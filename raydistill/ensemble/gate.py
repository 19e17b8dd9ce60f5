r"""Weights of the teachers that are learned, row by row.

Dimensions: ``M`` teachers, ``B`` rows, ``V`` classes, ``F`` features. Symbols: :math:`b_i` base weight,
:math:`p_i` distribution of teacher i, :math:`y` label.

What a gate must not learn from is the distance between the student and the combined target. That
distance is smallest for the teacher that is easiest to imitate, and a gate that may choose goes there:
to the smoothest teacher, or to the one the student resembles already, right or wrong. So the gate has an
objective of its own, :func:`gate_loss`: the mixture shall give the label probability. Its weights go
*detached* into :func:`~raydistill.ensemble.combine.combine_log_p`.

A gate may still settle on one teacher, where that one is better everywhere; or because the labelled rows
are those that the teachers were trained on, and one has learned them by heart. Against the second:
labelled rows that no teacher has seen, weight decay on the gate (it pulls back to the base weights,
where the gate starts), or few features. No term that evens out the load is added: it would pay
for asking worse teachers, and there is no load to even out, as every teacher answers anyway.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raydistill.ensemble.combine import log_mixture
from raydistill.ensemble.inputs import (
    checked_labels,
    entropy_share,
    require_answered,
    softened,
    softmax_of_answered,
    stack_logits,
)
from raydistill.errors import SignalError
from raydistill.losses.softening import IGNORED_LABEL

__all__ = ["Gate", "gate_features", "gate_loss"]


class Gate(nn.Module):
    r"""Weights from features of a row: a softmax over the teachers that answered.

    .. math::
        w_i = \frac{b_i \, e^{g_i}}{\sum_{j \in A} b_j \, e^{g_j}}, \qquad g = U f + c

    U and c start at 0, so the gate starts at the base weights and a run with a gate that learns nothing
    is the run without it. Features: the student's representation of the row (it says what the row is
    about), or :func:`gate_features` of the teachers' answers (they say who is sure), or both side by side.

    Args:
        width: ``F``.
        base: One per teacher, positive.

    Attributes:
        weight: U, ``[M, F]``.
        bias: c, ``[M]``.

    Raises:
        ValueError: the width or a base weight is not positive.

    Example:
        >>> gate = Gate(3, [0.75, 0.25])
        >>> gate(torch.ones(1, 3), torch.ones(2, 1, dtype=torch.bool)).detach()
        tensor([[0.7500],
                [0.2500]])

    See Also:
        :func:`gate_loss`, from which it learns.

    References:
        Jacobs, Jordan, Nowlan, Hinton, *Adaptive Mixtures of Local Experts*, Neural Computation 3(1),
        1991: gate and error. There the experts learn too; here they are frozen. Liu, Zhang, Wang,
        *Adaptive Multi-Teacher Multi-level Knowledge Distillation*, Neurocomputing 2020,
        arXiv:2103.04062: learned weights per row, for distillation; trained with the student's loss.
    """

    log_base: Tensor

    def __init__(self, width: int, base: Sequence[float]) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width of a gate must be positive, got {width}.")
        if not base or not all(math.isfinite(weight) and weight > 0 for weight in base):
            raise ValueError(f"base weights of a gate must be positive, got {list(base)}.")
        # Not nn.Linear: its own start would move the global random state.
        self.weight = nn.Parameter(torch.zeros(len(base), width))
        self.bias = nn.Parameter(torch.zeros(len(base)))
        self.register_buffer("log_base", torch.tensor(list(base), dtype=torch.float64).log())

    def forward(self, features: Tensor, answered: Tensor) -> Tensor:
        """The weights of a batch.

        Args:
            features: ``[B, F]`` or ``[..., F]``, any floating dtype; no gradient flows into them.
            answered: Bool, ``[M, B]``.

        Returns:
            ``[M, B]``, float32 (float64 if features or parameters are), with a gradient for the gate;
            columns sum to 1, or are 0 where nobody answered.

        Raises:
            SignalError: shapes do not fit.
        """
        if features.shape[-1:] != self.weight.shape[1:]:
            raise SignalError(
                f"features of a gate must be [..., {self.weight.shape[1]}], got {list(features.shape)}."
            )
        require_answered(answered, (len(self.weight), *features.shape[:-1]))
        dtype = torch.promote_types(features.dtype, self.weight.dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        # Not a matrix product: the bits of so small a one depend on where in memory its factors lie.
        wide = features.detach().double().unsqueeze(-2)  # [..., 1, F]
        scores = (wide * self.weight.double()).sum(-1) + self.bias.double()  # [..., M]
        # In float64 the start is the base weights to the last bit.
        return softmax_of_answered((scores + self.log_base).movedim(-1, 0), answered).to(dtype)


def gate_features(logits: Sequence[Tensor] | Tensor, answered: Tensor) -> Tensor:
    r"""What a gate may know of the teachers' answers: how sure each is.

    .. math::
        f = (1 - H_1, \ldots, 1 - H_M, \; \max_v p_{1v}, \ldots, \max_v p_{Mv}), \qquad
        H_i = -\frac{1}{\log V} \sum_v p_{iv} \log p_{iv}

    Two numbers a teacher whatever the number of classes, so the gate stays small and cannot learn
    which class a row has.

    Args:
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, or all in one, ``[M, B, V]``.
        answered: Bool, ``[M, B]``.

    Returns:
        ``[B, 2 M]``, between 0 and 1, float32 (float64 if the logits are), without gradient; 0 for a
        teacher that did not answer.

    Raises:
        ValueError: there are no teachers.
        SignalError: shapes do not fit.

    Example:
        >>> gate_features([torch.tensor([[3.0, 1.0]]).log()], torch.tensor([[True]]))
        tensor([[0.1887, 0.7500]])
    """
    stacked = stack_logits(logits)
    require_answered(answered, stacked.shape[:-1])
    p = torch.softmax(softened(stacked, answered), dim=-1)
    features = torch.cat([1.0 - entropy_share(p), p.amax(-1)])  # [2 M, B]
    return features.masked_fill(~answered.repeat(2, *[1] * (answered.dim() - 1)), 0.0).movedim(
        0, -1
    )


def gate_loss(
    weights: Tensor,
    logits: Sequence[Tensor] | Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""What a gate learns from: cross-entropy of the mixture with the hard label.

    .. math::
        \ell = -\log \sum_i w_i \, p_{iy}, \qquad p_i = \mathrm{softmax}(z_i / \tau), \qquad
        \frac{\partial \ell}{\partial g_i} = w_i - \frac{w_i \, p_{iy}}{\sum_j w_j \, p_{jy}}

    The second is the weight before the label is known minus the weight after, so the gate learns to
    foresee which teacher will have been right. A teacher that is sure and wrong costs most; one
    that is right in other rows keeps its weight there. The student does not occur: nothing is gained by
    following a teacher that is easy to imitate.

    Args:
        weights: ``[M, B]``, of a :class:`Gate`; where 0 the teacher is not read.
        logits: One tensor per teacher, ``[B, V]`` or ``[..., V]``, or all in one, ``[M, B, V]``. No
            gradient flows into them.
        labels: Integer classes, ``[B]``, ``0 … V-1``, or -100: none.
        temperature: :math:`\tau > 0`, a number or one per row; 1 unless the teachers are to be
            judged softened.

    Returns:
        Nats per row, ``[B]``, float32 (float64 if the logits are), never negative (to rounding), not
        reduced; 0 with zero gradient where there is no label or nobody answered, so average over
        ``(labels != -100) & answered(weights)``. Infinite, with zero gradient, where all teachers
        exclude the right class (logit -inf).

    Raises:
        ValueError: the temperature is not a positive finite number.
        SignalError: shapes do not fit, or labels are not integers or not a class.

    Example:
        >>> wide, deep = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 3.0]]).log()
        >>> gate_loss(torch.tensor([[0.5], [0.5]]), [wide, deep], torch.tensor([0]))
        tensor([0.6931])

    See Also:
        :func:`~raydistill.ensemble.weighting.label_cross_entropy_weights`: weights from the label itself.

    References:
        Jacobs, Jordan, Nowlan, Hinton, *Adaptive Mixtures of Local Experts*, Neural Computation 3(1),
        1991: negative log-likelihood of a mixture, there of Gaussians, here of classes.
    """
    stacked = stack_logits(logits)
    if weights.shape != stacked.shape[:-1]:
        raise SignalError(
            f"weights must be one per teacher and row, shape {list(stacked.shape[:-1])}, "
            f"got {list(weights.shape)}."
        )
    weights = weights.to(device=stacked.device, dtype=stacked.dtype)
    index = checked_labels(labels, stacked)
    read = weights != 0
    log_p = torch.log_softmax(softened(stacked, read, temperature), dim=-1)
    values = -log_mixture(weights, log_p.gather(-1, index)).squeeze(-1)  # [M, B, 1] -> [B]
    return torch.where((labels != IGNORED_LABEL) & read.any(0), values, 0.0)
