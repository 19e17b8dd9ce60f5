r"""Terms of different scale in one sum: learned factors, or factors relative to one of the terms.

Dimensions: ``terms`` items of ``losses``. Symbols: :math:`L_i` value of term i over the *global* batch, all
micro-batches of all workers, as in :mod:`raydistill.objective`; :math:`w_i` its weight, times the factor of its
schedule.
"""

import math

import torch
from torch import Tensor, nn

from raydistill.losses.inputs import at_least_float32

__all__ = ["RelativeBalance", "UncertaintyBalance", "relative_factors", "uncertainty_sum"]


def uncertainty_sum(
    values: Tensor, weights: Tensor, log_variances: Tensor, share: Tensor | float = 1.0
) -> Tensor:
    r"""Sum of terms, each divided by a learned variance, with the price of a large variance.

    .. math:: L = \sum_i \big( e^{-s_i}\, w_i L_i + \tfrac{1}{2} s_i \big), \qquad s_i = \log \sigma_i^2

    This is the paper's form for classification, :math:`L_i / \sigma_i^2 + \log \sigma_i`, as it fits cross-entropies
    and divergences. Its form for regression has half the squared error, :math:`L_i / 2 \sigma_i^2 + \log \sigma_i`:
    ``weight: 0.5`` gives it. The difference is one of the start only, as the next paragraph shows.

    The best :math:`s_i` for given values is :math:`\log 2 w_i L_i`; there :math:`e^{-s_i} w_i = 1 / (2 L_i)`
    whatever :math:`w_i` is. So every term ends up with the same share, a half, and the sum with
    :math:`\tfrac12 \sum_i (1 + \log 2 w_i L_i)`: what is minimised is the *product* of the terms. Three things
    follow. Weights and their schedules decide how it starts, and are undone as fast as the optimizer moves
    :math:`s_i`. A term that can reach 0, a divergence on a small training set, gets an ever larger factor. And the
    sum may be negative. Choose it to bring terms of unknown scale together, not to say which matters more.

    Args:
        values: :math:`L_i`, ``[terms]``, or this micro-batch's part of them (the parts add up to :math:`L_i`).
        weights: :math:`w_i`, ``[terms]``, 0 or more. A term of weight 0 is left out, its :math:`s_i` too.
        log_variances: :math:`s_i`, ``[terms]``.
        share: What part of the step this is, a number or ``[terms]``: the price :math:`s_i / 2` is paid once a step.
            Over the micro-batches and workers of a step shares must add up to 1; to 0 for a term for which nothing
            counted, else its variance falls without having been measured. ``counts(micro-batch) / counts(step)`` does both.

    Returns:
        A scalar, at least float32, with gradients to ``values`` and ``log_variances``.

    Raises:
        ValueError: ``values``, ``weights``, ``log_variances`` or ``share`` are not one per term.

    Example:
        >>> values, weights = torch.tensor([0.5, 8.0]), torch.tensor([1.0, 2.0])
        >>> uncertainty_sum(values, weights, torch.zeros(2))
        tensor(16.5000)
        >>> best = (2 * weights * values).log()
        >>> uncertainty_sum(values, weights, best).round(decimals=4)
        tensor(2.7329)

    See Also:
        :func:`relative_factors`, which keeps what weights say.

    References:
        Kendall, Gal, Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics*, CVPR 2018, arXiv:1705.07115, section 3.2. There without weights; :math:`s = \log \sigma^2` is
        what it trains too.
    """
    _require_one_each(log_variances.shape, values=values, weights=weights)
    s = at_least_float32(log_variances)
    if isinstance(share, Tensor):
        if share.dim() > 0:
            _require_one_each(log_variances.shape, share=share)
        share = share.to(s)
    price = torch.where(weights > 0, share * s / 2, 0.0)
    return (torch.exp(-s) * weights * at_least_float32(values) + price).sum()


class UncertaintyBalance(nn.Module):
    r"""The log-variances :math:`s_i` of :func:`uncertainty_sum`, all 0 at the start: weights as they are.

    They are parameters: the optimizer must hold them, without weight decay.

    Args:
        num_terms: Items of ``losses``.

    Example:
        >>> balance = UncertaintyBalance(2)
        >>> balance(torch.tensor([0.5, 8.0]), torch.tensor([1.0, 2.0])).item()
        16.5
        >>> balance.factors()
        tensor([1., 1.])

    References:
        As :func:`uncertainty_sum`.
    """

    def __init__(self, num_terms: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(num_terms))

    def forward(self, values: Tensor, weights: Tensor, share: Tensor | float = 1.0) -> Tensor:
        """See :func:`uncertainty_sum`."""
        return uncertainty_sum(values, weights, self.log_variances, share)

    def factors(self) -> Tensor:
        """What multiplies the weights now, ``[terms]``, for records; no gradient flows through it."""
        return torch.exp(-at_least_float32(self.log_variances.detach()))


def relative_factors(values: Tensor, weights: Tensor, *, main: int, max_factor: float) -> Tensor:
    r"""Factors that bring every term to the size of one of them.

    .. math:: f_i = w_i \, \min\!\big(\texttt{max\_factor},\, |L_m| / |L_i|\big), \qquad
              L = \sum_i f_i L_i

    with m the main term and :math:`f` taken for a constant: at these values every term contributes
    :math:`w_i |L_m|`, so weights are shares, and a hidden-state loss of 300 beside a cross-entropy of 0.3 needs no
    search for 0.001. As a term falls faster than the main one, its factor grows: it never fades out. The main
    term keeps its scale (:math:`f_m = w_m`), and with it the learning rate its meaning; take the one that must
    not be 0, usually the hard labels or the soft target.

    Args:
        values: :math:`L_i`, ``[terms]``, over the global batch; no gradient flows into them. Signs are not
            looked at, so that a term that is negative is still minimised.
        weights: :math:`w_i`, ``[terms]``, 0 or more.
        main: m, counted from 0.
        max_factor: Bound of the ratio, > 0, for terms near 0.

    Returns:
        :math:`f_i`, ``[terms]``, at least float32, without gradient. The ratio is never NaN: it is ``max_factor`` for
        a term of 0 (which stays 0), 0 for all others while the main term is 0, and 1 where both are 0, or one of
        them is not finite.

    Raises:
        ValueError: ``values`` and ``weights`` are not one per term, ``main`` is none of them, or ``max_factor``
            is not positive and finite.

    Example:
        >>> values, weights = torch.tensor([0.5, 5.0, 0.0]), torch.tensor([1.0, 2.0, 1.0])
        >>> relative_factors(values, weights, main=0, max_factor=100.0)
        tensor([  1.0000,   0.2000, 100.0000])

    See Also:
        :class:`RelativeBalance`, which knows the values; :func:`uncertainty_sum`, without a main term.

    References:
        NVIDIA *Model-Optimizer*, ``LogitsAndIntermediatesLossBalancer``: intermediate terms, averaged, to the
        size of the one on logits, the sum of both to that of the student's own loss, times ``kd_loss_scale``
        s. With one term of each kind that is here ``weight: s / 2`` for both, as long as factors are of the same
        values. It divides by each micro-batch's own values, and by 0 where the distillation loss is 0.
    """
    _require_one_each(values.shape, values=values, weights=weights)
    _require_options(len(values), main, max_factor)
    size = at_least_float32(values.detach()).abs()
    own = size[main]
    ratio = torch.where(size * max_factor > own, own / size, max_factor)
    as_it_is = (size == own) | ~torch.isfinite(size) | ~torch.isfinite(own)
    return weights.detach() * torch.where(as_it_is, 1.0, ratio)


class RelativeBalance(nn.Module):
    r"""Factors of :func:`relative_factors`, from the values of the steps before.

    .. math:: A_i \leftarrow \mu A_i + (1 - \mu) |L_i|, \qquad f_i = w_i \min(\texttt{max\_factor},\, A_m / A_i)

    Why not this step's values: a factor must be there before the backward pass of the first micro-batch, the
    value of the global batch only after the forward pass of the last, on the slowest worker. A second forward
    pass would be the price. A micro-batch's own values, as Model-Optimizer takes them, make the result depend on how
    the batch is cut, and a small one's ratio is mostly noise. The averages lag: of a term that halves at
    once, the factor follows within some :math:`1 / (1 - \mu)` steps.

    The averages are buffers, so a checkpoint holds them and a run that is resumed has the same factors. All
    workers must call :meth:`update` with the same values, sums over all of them.

    Args:
        num_terms: Items of ``losses``.
        main: Place of the main term, counted from 0.
        max_factor: Bound of the ratio.
        momentum: :math:`\mu`, from 0 to below 1; 0 looks at the step before only.

    Raises:
        ValueError: ``main`` is no term, ``max_factor`` is not positive and finite, or ``momentum`` is not at
            least 0 and below 1.

    Example:
        >>> balance = RelativeBalance(2, main=0, max_factor=1e4, momentum=0.5)
        >>> weights = torch.tensor([1.0, 1.0])
        >>> balance(weights)  # the first step: nothing known
        tensor([1., 1.])
        >>> balance.update(torch.tensor([1.0, 4.0]))
        >>> balance(weights)
        tensor([1.0000, 0.2500])
        >>> balance.update(torch.tensor([1.0, 0.0]))  # averages 1 and 2
        >>> balance(weights)
        tensor([1.0000, 0.5000])

    References:
        As :func:`relative_factors`.
    """

    averages: Tensor
    measured: Tensor

    def __init__(self, num_terms: int, *, main: int, max_factor: float, momentum: float) -> None:
        super().__init__()
        _require_options(num_terms, main, max_factor)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}.")
        self.main, self.max_factor, self.momentum = main, max_factor, momentum
        self.register_buffer("averages", torch.zeros(num_terms))
        self.register_buffer("measured", torch.zeros(num_terms, dtype=torch.bool))

    def forward(self, weights: Tensor) -> Tensor:
        """What to multiply the terms of the coming step with.

        Args:
            weights: Of the terms, ``[terms]``, 0 or more.

        Returns:
            ``[terms]``, at least float32, without gradient; the plain weight of a term that has not been measured,
            and of all while the main term has not.

        Raises:
            ValueError: ``weights`` are not one per term.
        """
        found = relative_factors(self.averages, weights, main=self.main, max_factor=self.max_factor)
        known = self.measured & self.measured[self.main]
        return torch.where(known, found, weights.detach().to(found.dtype))

    @torch.no_grad()
    def update(self, values: Tensor, counted: Tensor | None = None) -> None:
        """Take in the values of a step that is done.

        A value that is not finite changes nothing: one NaN would stay in the average for ever.

        Args:
            values: Of the terms over the global batch, unweighted, ``[terms]``.
            counted: Bool, ``[terms]``: False for a term for which nothing counted in this step; its value of 0 says
                nothing. None: all counted.

        Raises:
            ValueError: ``values`` or ``counted`` are not one per term.
        """
        if counted is None:
            counted = torch.ones_like(self.measured)
        _require_one_each(self.averages.shape, values=values, counted=counted)
        size = values.abs().to(self.averages)
        counted = counted.to(self.measured) & torch.isfinite(size)
        mixed = self.momentum * self.averages + (1.0 - self.momentum) * size
        new = torch.where(self.measured, mixed, size)
        self.averages.copy_(torch.where(counted, new, self.averages))
        self.measured.logical_or_(counted)


def _require_options(num_terms: int, main: int, max_factor: float) -> None:
    if not 0 <= main < num_terms:
        raise ValueError(f"main must be the place of a term, 0 to {num_terms - 1}, got {main}.")
    if not (math.isfinite(max_factor) and max_factor > 0):
        raise ValueError(f"max_factor must be a positive finite number, got {max_factor}.")


def _require_one_each(shape: torch.Size, **tensors: Tensor) -> None:
    """Refuse what would broadcast: one number taken for all terms, in silence."""
    for name, tensor in tensors.items():
        if len(shape) != 1 or tensor.shape != shape:
            raise ValueError(
                f"{name} must be one per term, shape {list(shape)}, got {list(tensor.shape)}."
            )
