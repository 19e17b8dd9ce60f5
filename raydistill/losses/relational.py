r"""How rows lie to each other on the two sides: distances and angles within a group of rows.

Dimensions: ``N`` rows, ``D_S`` and ``D_T`` the widths of the sides.
Symbols: :math:`x_i` the vector of row i, :math:`H` the Huber function, :math:`H(u) = u^2/2` up to 1 and
:math:`|u| - 1/2` beyond.
"""

import torch
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.losses.hidden import unit_length
from raydistill.losses.inputs import at_least_float32

__all__ = ["rkd_angle", "rkd_distance"]


def rkd_distance(student_vectors: Tensor, teacher_vectors: Tensor) -> Tensor:
    r"""Difference of the distances between rows, in units of their mean, one value a row.

    .. math::
        \ell_i = \frac{1}{N - 1} \sum_{j \ne i} H(\psi^S_{ij} - \psi^T_{ij}), \qquad
        \psi_{ij} = \frac{\|x_i - x_j\|}{\mu}, \quad
        \mu = \frac{1}{N (N - 1)} \sum_{k \ne l} \|x_k - x_l\|

    Which rows are near each other, not where they are: nothing changes when one side is moved, turned
    or scaled, so no projection is needed, whatever the widths. The value depends on which rows come
    together; groups of a few dozen are enough, and of two rows nothing can be learned.

    Args:
        student_vectors: ``[N, D_S]``, any floating dtype.
        teacher_vectors: ``[N, D_T]``; no gradient flows into it.

    Returns:
        No unit, per row, ``[N]``, float32 (float64 if a side is), never negative, 0 where the sides are
        similar in the geometrical sense, and with fewer than two rows. Rows at the same place have no
        slope between each other. Not reduced: the mean is over rows.

    Raises:
        SignalError: vectors are not ``[rows, width]``, or rows differ in number.

    Example:
        >>> student = torch.tensor([[0.0], [1.0], [3.0]])
        >>> rkd_distance(student, torch.eye(3))
        tensor([0.1250, 0.0625, 0.0625])

    See Also:
        :func:`rkd_angle`, of triples.

    References:
        Park, Kim, Lu, Cho, *Relational Knowledge Distillation*, CVPR 2019, arXiv:1904.05068, section 3.2.1,
        with the mean over pairs in place of the sum.
    """
    _require_rows(student_vectors, teacher_vectors)
    difference = _distances(student_vectors) - _distances(teacher_vectors.detach())  # [N, N]
    num_others = max(len(difference) - 1, 1)
    return _huber(difference).sum(1) / num_others  # the diagonal is 0 on both sides


def rkd_angle(student_vectors: Tensor, teacher_vectors: Tensor) -> Tensor:
    r"""Difference of the angles that rows form, one value for every row as their vertex.

    .. math::
        \ell_j = \frac{1}{(N - 1)(N - 2)} \sum_{i \ne j} \sum_{k \ne i, j}
            H(\cos^S_{ijk} - \cos^T_{ijk}), \qquad
        \cos_{ijk} = \frac{(x_i - x_j) \cdot (x_k - x_j)}{\|x_i - x_j\| \, \|x_k - x_j\|}

    Of higher order than :func:`rkd_distance`; the paper takes both, this one with twice the weight.
    Nothing changes when a side is moved, turned or scaled. Memory grows with the cube of the rows: 64
    rows take 1 MB a tensor in float32, 512 take 0.5 GB.

    Args:
        student_vectors: ``[N, D_S]``, any floating dtype.
        teacher_vectors: ``[N, D_T]``; no gradient flows into it.

    Returns:
        No unit, per row, ``[N]``, 0 to 1.5, float32 (float64 if a side is), 0 where the sides are similar
        in the geometrical sense, and with fewer than three rows. Two rows at the same place form a right
        angle with any third. Not reduced: the mean is over rows.

    Raises:
        SignalError: vectors are not ``[rows, width]``, or rows differ in number.

    Example:
        >>> student = torch.tensor([[0.0], [1.0], [3.0]])
        >>> rkd_angle(student, torch.eye(3))
        tensor([0.1250, 1.0000, 0.1250])

    See Also:
        :func:`rkd_distance`, of pairs.

    References:
        Park, Kim, Lu, Cho, *Relational Knowledge Distillation*, CVPR 2019, arXiv:1904.05068, section 3.2.2,
        with the mean over triples in place of the sum.
    """
    _require_rows(student_vectors, teacher_vectors)
    difference = _cosines(student_vectors) - _cosines(teacher_vectors.detach())  # [N, N, N]
    rows = len(difference)
    same = torch.eye(rows, dtype=torch.bool, device=difference.device)
    # Vertex first: neither side may be the vertex, nor both the same row.
    counted = ~(same.unsqueeze(2) | same.unsqueeze(1) | same.unsqueeze(0))
    num_pairs = max((rows - 1) * (rows - 2), 1)
    return torch.where(counted, _huber(difference), 0.0).sum((1, 2)) / num_pairs


def _require_rows(student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 2 or teacher.dim() != 2 or len(student) != len(teacher):  # noqa: PLR2004 - [N, D]
        raise SignalError(
            "Vectors of student and teacher must be [rows, width] with the same rows, got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )


def _distances(vectors: Tensor) -> Tensor:
    """Between all rows, in units of their mean, ``[N, N]``; 0 if all are at one place."""
    vectors = at_least_float32(vectors)
    # By differences: a product of matrices loses the distance of rows that are near each other.
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    rows = len(vectors)
    mean = distances.sum() / max(rows * (rows - 1), 1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(vectors: Tensor) -> Tensor:
    """Of the angle at the first row between the second and the third, ``[N, N, N]``."""
    vectors = at_least_float32(vectors)
    edges = unit_length(vectors.unsqueeze(0) - vectors.unsqueeze(1))  # [N, N, D], from the first
    return edges @ edges.transpose(1, 2)


def _huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() <= 1, 0.5 * x.square(), x.abs() - 0.5)
