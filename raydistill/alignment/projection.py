"""Learned maps from the student's hidden width to the teacher's; thrown away after training.

Dimensions: ``D_S`` the student's width, ``D_T`` the teacher's.

Their parameters must be found by ``.to()``, the optimiser, the gradient clipping and the
checkpoint, hence a module of modules. Their start must not depend on what was built
before, hence a generator of their own: the same seed and key give the same weights on every worker
and in every run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ProjectionSpec", "Projections", "build_projection", "projection_key"]

_ACTIVATIONS: dict[str, type[nn.Module] | None] = {"linear": None, "relu": nn.ReLU, "tanh": nn.Tanh}
_INIT_STD = 0.02


@dataclass(frozen=True)
class ProjectionSpec:
    """One projection.

    Attributes:
        key: Readable and unique, without dots; see :func:`projection_key`.
        kind: ``linear``, or ``relu`` or ``tanh`` after it.
        student_width: In.
        teacher_width: Out.
    """

    key: str
    kind: Literal["linear", "relu", "tanh"]
    student_width: int
    teacher_width: int


def projection_key(loss_index: int, teacher: str, student_layer: int, teacher_layer: int) -> str:
    """The name of a projection in checkpoints and in the optimiser.

    Args:
        loss_index: Place of the loss in the configuration.
        teacher: Its name.
        student_layer: Resolved, 0 … n.
        teacher_layer: Resolved, 0 … n.

    Raises:
        ValueError: the teacher's name holds a dot, which a module's name must not.

    Example:
        >>> projection_key(1, "wide", 2, 8)
        'loss1_wide_student2_teacher8'
    """
    if "." in teacher:
        raise ValueError(f"a teacher's name must not hold a dot, got {teacher!r}.")
    return f"loss{loss_index}_{teacher}_student{student_layer}_teacher{teacher_layer}"


def build_projection(kind: str, student_width: int, teacher_width: int, seed: int) -> nn.Module:
    r"""A map from the student's width to the teacher's, for losses that compare coordinates.

    .. math:: h \mapsto a(W h + b), \qquad W \sim N(0, 0.02^2),\; b = 0,\;
              a \in \{\mathrm{id}, \mathrm{relu}, \tanh\}

    ``linear`` is the one to take. ``relu`` can only reach states that are never negative, ``tanh``
    only those within ±1: for teachers whose layer ends in that activation, such as a pooler.

    Args:
        kind: ``linear``, ``relu`` or ``tanh``.
        student_width: ``D_S``.
        teacher_width: ``D_T``.
        seed: Of the weights. The global random state is neither read nor moved.

    Returns:
        A module, ``[..., D_S] -> [..., D_T]``, float32 on the CPU.

    Raises:
        ValueError: the kind is not known, or a width is not positive.

    Example:
        >>> build_projection("linear", 4, 6, seed=7)(torch.zeros(2, 4)).shape
        torch.Size([2, 6])

    References:
        Yang et al., *TextBrewer*, 2020, arXiv:2002.12620, ``projections.py``: kinds and start.
        Jiao et al., *TinyBERT*, 2019, arXiv:1909.10351, formula 8: the linear one, without b.
    """
    if kind not in _ACTIVATIONS:
        raise ValueError(f"projection must be one of {', '.join(_ACTIVATIONS)}, got {kind!r}.")
    if student_width < 1 or teacher_width < 1:
        raise ValueError(
            f"widths of a projection must be positive, got {student_width} and {teacher_width}."
        )
    # On meta first: the constructor's own start would move the global random state.
    linear = nn.Linear(student_width, teacher_width, device="meta", dtype=torch.float32)
    linear = linear.to_empty(device="cpu")
    nn.init.normal_(linear.weight, std=_INIT_STD, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(linear.bias)
    activation = _ACTIVATIONS[kind]
    return linear if activation is None else nn.Sequential(linear, activation())


class Projections(nn.Module):
    """All projections of a run, by key.

    Each starts from the seed and its key alone: adding a loss leaves the others as they were.

    Args:
        specs: One per projection; none is fine.
        seed: Of the run.

    Raises:
        ValueError: two have the same key, a key is empty or holds a dot, or one cannot be built.

    Example:
        >>> key = projection_key(1, "wide", 2, 8)
        >>> projections = Projections([ProjectionSpec(key, "linear", 4, 6)], seed=7)
        >>> projections(key, torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 6])
        >>> [name for name, _ in projections.named_parameters()]
        ['by_key.loss1_wide_student2_teacher8.weight', 'by_key.loss1_wide_student2_teacher8.bias']
    """

    def __init__(self, specs: Sequence[ProjectionSpec], seed: int) -> None:
        super().__init__()
        self.by_key = nn.ModuleDict()
        for spec in specs:
            if not spec.key or "." in spec.key:
                raise ValueError(
                    f"key of a projection must not be empty or hold a dot, got {spec.key!r}."
                )
            if spec.key in self.by_key:
                raise ValueError(f"key of a projection must be unique, got {spec.key!r} twice.")
            self.by_key[spec.key] = build_projection(
                spec.kind, spec.student_width, spec.teacher_width, _seed_of(spec.key, seed)
            )

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def __len__(self) -> int:
        return len(self.by_key)

    def forward(self, key: str, student_hidden: Tensor) -> Tensor:
        """The student's states in the teacher's width.

        Args:
            key: Of the projection.
            student_hidden: ``[..., D_S]``; computed in the projection's dtype (half precision in,
                float32 out), unless autocast says otherwise.

        Returns:
            ``[..., D_T]``.
        """
        projection = self.by_key[key]
        dtype = next(projection.parameters()).dtype
        projected: Tensor = projection(student_hidden.to(dtype))
        return projected


def _seed_of(key: str, seed: int) -> int:
    """A seed of its own for each key, the same in every process (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big")
