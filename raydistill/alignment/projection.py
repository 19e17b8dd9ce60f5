"""Learned maps between the hidden widths of student and teacher; thrown away after training.

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
from torch.nn.utils import parametrizations

__all__ = ["ProjectionKind", "ProjectionSpec", "Projections", "build_projection", "projection_key"]

ProjectionKind = Literal["linear", "relu", "tanh", "mlp", "orthogonal"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
_KINDS = ("linear", "relu", "tanh", "mlp", "orthogonal")
_INIT_STD = 0.02


@dataclass(frozen=True)
class ProjectionSpec:
    """One projection.

    Attributes:
        key: Readable and unique, without dots; see :func:`projection_key`.
        kind: What map it is.
        width_in: Of the side that is mapped.
        width_out: Of the other.
        hidden_width: Of an ``mlp``; None: the larger of the two.
        learning_rate: Its own; None: that of all projections.
        weight_decay: Its own; None: that of the student.
    """

    key: str
    kind: ProjectionKind
    width_in: int
    width_out: int
    hidden_width: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None


def projection_key(
    loss_index: int, teacher: str, student_layer: int | str, teacher_layer: int | str
) -> str:
    """The name of a projection in checkpoints and in the optimiser.

    Args:
        loss_index: Place of the loss in the configuration.
        teacher: Its name.
        student_layer: Resolved, 0 … n; several as ``2_4``.
        teacher_layer: Likewise.

    Raises:
        ValueError: the teacher's name holds a dot, which a module's name must not.

    Example:
        >>> projection_key(1, "wide", 2, 8)
        'loss1_wide_student2_teacher8'
    """
    if "." in teacher:
        raise ValueError(f"a teacher's name must not hold a dot, got {teacher!r}.")
    return f"loss{loss_index}_{teacher}_student{student_layer}_teacher{teacher_layer}"


def build_projection(
    kind: str, width_in: int, width_out: int, seed: int, *, hidden_width: int | None = None
) -> nn.Module:
    r"""A map from one width to another, for losses that compare coordinates.

    .. math::
        \text{linear, relu, tanh:}\quad & h \mapsto a(W h + b), \qquad W \sim N(0, 0.02^2),\; b = 0,\;
              a \in \{\mathrm{id}, \mathrm{relu}, \tanh\} \\
        \text{mlp:}\quad & h \mapsto W_2\, \mathrm{gelu}(W_1 h + b_1) + b_2 \\
        \text{orthogonal:}\quad & h \mapsto W h, \qquad W^\top W = 1 \text{ or } W W^\top = 1

    ``linear`` is the one to take. ``relu`` can only reach states that are never negative, ``tanh``
    only those within ±1: for teachers whose layer ends in that activation, such as a pooler. ``mlp`` may
    take over what the student should learn. ``orthogonal`` can neither stretch nor bend: distances and
    angles in the smaller space stay as they are, so the student has to get them right by itself.

    Args:
        kind: ``linear``, ``relu``, ``tanh``, ``mlp`` or ``orthogonal``.
        width_in: Of what comes in.
        width_out: Of what comes out.
        seed: Of the weights. The global random state is neither read nor moved.
        hidden_width: Of an ``mlp``, in the middle; None: the larger of the two.

    Returns:
        A module, ``[..., width_in] -> [..., width_out]``, float32 on the CPU.

    Raises:
        ValueError: the kind is not known, or a width is not positive.

    Example:
        >>> build_projection("linear", 4, 6, seed=7)(torch.zeros(2, 4)).shape
        torch.Size([2, 6])
        >>> weight = build_projection("orthogonal", 6, 4, seed=7).weight
        >>> torch.allclose(weight @ weight.T, torch.eye(4), atol=1e-6)
        True

    References:
        Yang et al., *TextBrewer*, 2020, arXiv:2002.12620, ``projections.py``: the first three and their
        start. Jiao et al., *TinyBERT*, 2019, arXiv:1909.10351, formula 8: the linear one, without b.
        Miles, Mikolajczyk, *Understanding the Role of the Projector in Knowledge Distillation*, AAAI
        2024, arXiv:2303.11098: what larger projectors take over. Miles, Elezi, Deng, *VkD*, CVPR 2024,
        arXiv:2403.06213: orthogonal ones.
    """
    if kind not in _KINDS:
        raise ValueError(f"projection must be one of {', '.join(_KINDS)}, got {kind!r}.")
    middle = max(width_in, width_out) if hidden_width is None else hidden_width
    if min(width_in, width_out, middle) < 1:
        raise ValueError(
            f"widths of a projection must be positive, got {width_in}, {middle} and {width_out}."
        )
    generator = torch.Generator().manual_seed(seed)
    if kind == "mlp":
        first = _linear(width_in, middle, generator)
        return nn.Sequential(first, nn.GELU(), _linear(middle, width_out, generator))
    if kind == "orthogonal":
        return _orthogonal(width_in, width_out, generator)
    linear = _linear(width_in, width_out, generator)
    return nn.Sequential(linear, _ACTIVATIONS[kind]()) if kind in _ACTIVATIONS else linear


def _empty(width_in: int, width_out: int, *, bias: bool) -> nn.Linear:
    # On meta first: the constructor's own start would move the global random state.
    linear = nn.Linear(width_in, width_out, bias=bias, device="meta", dtype=torch.float32)
    return linear.to_empty(device="cpu")


def _linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    linear = _empty(width_in, width_out, bias=True)
    nn.init.normal_(linear.weight, std=_INIT_STD, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def _orthogonal(width_in: int, width_out: int, generator: torch.Generator) -> nn.Module:
    linear = _empty(width_in, width_out, bias=False)
    nn.init.orthogonal_(linear.weight, generator=generator)
    # Without trivialization there is no second matrix beside the weights that checkpoints would carry.
    return parametrizations.orthogonal(linear, use_trivialization=False)


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
                spec.kind,
                spec.width_in,
                spec.width_out,
                _seed_of(spec.key, seed),
                hidden_width=spec.hidden_width,
            )
        self.specs = tuple(specs)

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def __len__(self) -> int:
        return len(self.by_key)

    def forward(self, key: str, hidden: Tensor) -> Tensor:
        """States in the other side's width.

        Args:
            key: Of the projection.
            hidden: ``[..., width_in]``; computed in the projection's dtype (half precision in,
                float32 out), unless autocast says otherwise.

        Returns:
            ``[..., width_out]``.
        """
        projection = self.by_key[key]
        dtype = next(projection.parameters()).dtype
        projected: Tensor = projection(hidden.to(dtype))
        return projected


def _seed_of(key: str, seed: int) -> int:
    """A seed of its own for each key, the same in every process (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big")
