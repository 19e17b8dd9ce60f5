r"""Moves of a student's embeddings against it, each row's by itself.

With the embeddings :math:`E \in \mathbb{R}^{L \times D}` of a row, a move R has at most the length
:math:`\|R\|_2 \le \epsilon \|E\|_2`, over all tokens: a share of what is there, whatever width, length and
model. Every norm is of one row, so nothing depends on how a batch is cut.

Dimensions: B rows, S tokens with padding, D width.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["ascend", "directions", "probe", "radii"]

Total = Callable[[Tensor], Tensor]
"""Moves ``[B, S, D]`` to the sum of the rows' losses, a scalar: rows do not see each other in it."""


def radii(embeddings: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    """The longest move of each row, ``[B, 1, 1]``, without gradient.

    Args:
        embeddings: ``[B, S, D]``.
        mask: Bool, True for tokens, ``[B, S]``.
        epsilon: Share of the embeddings' length.
    """
    return epsilon * _lengths(_inside(embeddings.detach().float(), mask))


def ascend(
    total: Total, radius: Tensor, mask: Tensor, like: Tensor, *, steps: int, step_size: float
) -> Tensor:
    r"""Steps up the gradient, each followed by a projection; one of the full length is the fast gradient method.

    .. math:: R_{k+1} = \Pi_{\|R\| \le r}\Big(R_k + \alpha r \frac{\nabla \ell(R_k)}{\|\nabla \ell(R_k)\|}\Big),
              \qquad R_0 = 0

    Args:
        total: What grows.
        radius: r of each row, ``[B, 1, 1]``.
        mask: Bool, True for tokens, ``[B, S]``.
        like: Of the shape of a move, ``[B, S, D]``.
        steps: How many.
        step_size: :math:`\alpha`.

    References:
        Miyato, Dai, Goodfellow, *Adversarial Training Methods for Semi-Supervised Text Classification*,
        ICLR 2017, arXiv:1605.07725, formula 5. Madry et al., *Towards Deep Learning Models Resistant to
        Adversarial Attacks*, ICLR 2018, arXiv:1706.06083, section 2.1.
    """
    move = torch.zeros_like(like, dtype=torch.float32)
    for _ in range(steps):
        move = move + step_size * radius * _unit(_slope(total, move, mask))
        move = move * (radius / _lengths(move).clamp(min=1e-30)).clamp(max=1.0)
    return move


def probe(
    total: Total, radius: Tensor, mask: Tensor, start: Tensor, *, steps: int, length: float
) -> Tensor:
    r"""The direction in which a divergence from the own answer grows most, by power iterations.

    .. math:: d \leftarrow \frac{\nabla_R\, \mathrm{KL}(q \,\|\, q_R)}{\|\cdot\|} \Big|_{R = \xi r d}, \qquad
              R = r d

    Args:
        total: The divergence; its gradient at no move is 0, so a start is needed.
        radius: r of each row, ``[B, 1, 1]``.
        mask: Bool, True for tokens, ``[B, S]``.
        start: First directions, ``[B, S, D]``.
        steps: How many.
        length: :math:`\xi`.

    References:
        Miyato, Maeda, Koyama, Ishii, *Virtual Adversarial Training*, 2018, arXiv:1704.03976, section 3.3.
    """
    direction = _unit(_inside(start, mask))
    for _ in range(steps):
        slope = _slope(total, length * radius * direction, mask)
        # Where nothing changes, the direction stays as good as any.
        direction = torch.where(_lengths(slope) > 0, _unit(slope), direction)
    return radius * direction


def directions(row_ids: Sequence[int], mask: Tensor, width: int, *, seed: int, step: int) -> Tensor:
    """Normal numbers for each row's tokens, ``[B, S, D]`` float32: of seed, step and row alone.

    Args:
        row_ids: Of the rows.
        mask: Bool, True for tokens, ``[B, S]``.
        width: D.
        seed: Of the run.
        step: Optimizer steps done.
    """
    out = torch.zeros(*mask.shape, width)
    for row, (name, keep) in enumerate(zip(row_ids, mask.cpu(), strict=True)):
        digest = hashlib.blake2b(f"{seed} {step} {name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        out[row, keep] = torch.randn(int(keep.sum()), width, generator=generator)
    return out.to(mask.device)


def _slope(total: Total, move: Tensor, mask: Tensor) -> Tensor:
    """Gradient at a move; 0 for padding and where it is not finite, which is found elsewhere."""
    move = move.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(total(move), move)
    return _inside(slope.detach().float(), mask).nan_to_num(0.0, 0.0, 0.0)


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.unsqueeze(-1), values, 0.0)


def _lengths(values: Tensor) -> Tensor:
    """Euclidean, of each row, ``[B, 1, 1]``."""
    found: Tensor = torch.linalg.vector_norm(values, dim=(1, 2), keepdim=True)
    return found


def _unit(values: Tensor) -> Tensor:
    """Each row of length 1; one of nothing stays so."""
    # By the largest first: squares of small gradients would vanish.
    values = values / values.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
    return values / _lengths(values).clamp(min=1e-30)
