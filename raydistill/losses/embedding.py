"""How far the student's embeddings are from the teacher's: per position, not reduced.

Dimensions: ``D`` width of an embedding, ``...`` any number of positions (``[B]`` for one text a row, ``[B, C]``
for several: a query and its passages).

Widths must agree: a smaller student needs a projection in between.
"""

import torch
from torch import Tensor

from raydistill.losses.hidden import cos, hidden_mse
from raydistill.losses.inputs import at_least_float32, require_same_shape

__all__ = ["embedding_cos", "embedding_l2", "embedding_mse"]


def embedding_mse(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    r"""Mean squared error between two embeddings.

    .. math:: \ell = \frac{1}{D} \sum_d (e^S_d - e^T_d)^2

    Length and direction, coordinate by coordinate: for a student that is to take the teacher's place
    in an index that exists already. The mean over ``D`` makes it small for unit vectors (at
    most :math:`4 / D`), so its weight has to grow with ``D``.

    Args:
        student_embedding: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_embedding: Same shape; no gradient flows into it.

    Returns:
        Squared units of the embeddings per position, ``[...]``, float32 (float64 if a side is), never
        negative, 0 where both agree. Not reduced: see
        :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ.

    Example:
        >>> student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> embedding_mse(student, teacher)
        tensor([ 2.0000, 12.5000])

    See Also:
        :func:`embedding_cos`, blind to length; :func:`embedding_l2`, the distance itself;
        :func:`~raydistill.losses.hidden.hidden_mse`, the same of hidden states.

    References:
        Reimers, Gurevych, *Making Monolingual Sentence Embeddings Multilingual using Knowledge
        Distillation*, EMNLP 2020, arXiv:2004.09813. sentence-transformers' ``EmbedDistillLoss`` with
        ``distance_metric="mse"``: the mean over positions of this.
    """
    _require_same_embeddings(student_embedding, teacher_embedding)
    return hidden_mse(student_embedding, teacher_embedding)


def embedding_l2(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    r"""Euclidean distance between two embeddings.

    .. math:: \ell = \sqrt{\textstyle\sum_d (e^S_d - e^T_d)^2}

    Its gradient has length 1 however far the two are apart: outliers do not rule a step, and embeddings
    that nearly agree are still pushed, past each other if the step is larger than the distance. The
    gradient at equality is 0.

    Args:
        student_embedding: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_embedding: Same shape; no gradient flows into it.

    Returns:
        Units of the embeddings per position, ``[...]``, float32 (float64 if a side is), never negative,
        0 where both agree. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ.

    Example:
        >>> student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> embedding_l2(student, teacher)
        tensor([2., 5.])

    See Also:
        :func:`embedding_mse`, smooth at equality.

    References:
        Kim et al., *EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval*, 2023,
        arXiv:2301.12005, formulas 7 and 8. sentence-transformers' ``EmbedDistillLoss`` with
        ``distance_metric="l2"``: the mean over positions of this.
    """
    _require_same_embeddings(student_embedding, teacher_embedding)
    teacher = at_least_float32(teacher_embedding).detach()
    values: Tensor = torch.linalg.vector_norm(at_least_float32(student_embedding) - teacher, dim=-1)
    return values


def embedding_cos(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    r"""One minus the cosine between two embeddings.

    .. math::
        \ell = 1 - \frac{e^S \cdot e^T}{\sqrt{(\|e^S\|^2 + \epsilon)\,(\|e^T\|^2 + \epsilon)}},
        \qquad \epsilon = 10^{-12}

    The direction only: for embeddings that are compared by cosine later. The student's lengths are free, and
    its gradient shrinks as they grow. A zero vector gives 1.

    Args:
        student_embedding: ``[..., D]``, any floating dtype, after the projection if there is one.
        teacher_embedding: Same shape; no gradient flows into it.

    Returns:
        No unit, per position, ``[...]``, 0 to 2, float32 (float64 if a side is), 0 where the directions
        agree. Not reduced: see :func:`raydistill.losses.reduction.masked_mean`.

    Raises:
        SignalError: the two shapes differ.

    Example:
        >>> student = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
        >>> embedding_cos(student, teacher).round(decimals=4)
        tensor([0.0000, 1.0000, 0.4000])

    See Also:
        :func:`embedding_mse`, where lengths matter; :func:`~raydistill.losses.hidden.cos`, the same of
        hidden states.

    References:
        sentence-transformers' ``EmbedDistillLoss`` with ``distance_metric="cosine"``, its default: the mean
        over positions of this, but for vectors shorter than some 1e-5, where its epsilon is another.
    """
    _require_same_embeddings(student_embedding, teacher_embedding)
    return cos(student_embedding, teacher_embedding)


def _require_same_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Refuse embeddings of two shapes."""
    require_same_shape(
        student, teacher, "Embeddings", "Where only the widths differ, set `projection: linear`."
    )
