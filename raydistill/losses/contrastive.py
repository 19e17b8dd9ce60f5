r"""Whether the student finds its own teacher's vector among those of other rows.

Dimensions: ``N`` rows, ``D`` width.
"""

import torch
from torch import Tensor

from raydistill.losses.hidden import unit_length
from raydistill.losses.inputs import at_least_float32, require_same_shape
from raydistill.losses.softening import checked_temperature

__all__ = ["contrastive"]


def contrastive(
    student_vectors: Tensor, teacher_vectors: Tensor, *, temperature: float = 0.07
) -> Tensor:
    r"""Cross-entropy of a row finding its own teacher's vector among those of the group.

    .. math::
        \ell_i = -\log \frac{\exp(\cos(s_i, t_i) / \tau)}{\sum_j \exp(\cos(s_i, t_j) / \tau)}

    A student's vector must be nearer to its own teacher's than to those of other rows; how near is
    left open once it is clear, so little capacity goes into what does not tell rows apart. The other
    rows are the lesson: of one row the value is 0, and it grows as the logarithm of their number, so
    groups of different size cannot be compared. Two rows of the same text push against each other.
    It is not 0 where both sides agree: there it is
    :math:`\log \sum_j \exp((\cos(t_i, t_j) - 1) / \tau)`, and it still pulls the rows apart.

    Args:
        student_vectors: ``[N, D]``, any floating dtype, after the projection if there is one.
        teacher_vectors: Same shape; no gradient flows into it.
        temperature: :math:`\tau > 0`, divides the cosines. Small looks at the nearest rows only.

    Returns:
        Nats per row, ``[N]``, float32 (float64 if a side is), above 0, or 0 of a single row; at most
        :math:`\log N + 2 / \tau`. Not reduced: the mean is over rows.

    Raises:
        ValueError: ``temperature`` is not a positive finite number.
        SignalError: the two shapes differ.

    Example:
        >>> contrastive(torch.eye(2), torch.eye(2), temperature=1.0).round(decimals=4)
        tensor([0.3133, 0.3133])

    See Also:
        :func:`~raydistill.losses.relational.rkd_distance`, how rows lie to each other, without a contest.

    References:
        Tian, Krishnan, Isola, *Contrastive Representation Distillation*, ICLR 2020, arXiv:1910.10699,
        section 3: the same aim, there with a memory of thousands of negatives and a noise-contrastive
        estimate; the form with the batch as negatives is that of van den Oord, Li, Vinyals, 2018,
        arXiv:1807.03748, section 2.3.
    """
    require_same_shape(
        student_vectors,
        teacher_vectors,
        "Vectors",
        "Where only the widths differ, set `projection: linear`.",
    )
    tau = checked_temperature(temperature, student_vectors)
    student, teacher = at_least_float32(student_vectors), at_least_float32(teacher_vectors).detach()
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    cosines = unit_length(student).to(dtype) @ unit_length(teacher).to(dtype).T  # [N, N]
    return -(cosines / tau).log_softmax(1).diagonal()
