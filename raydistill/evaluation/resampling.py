"""Whether two models differ by more than chance: a bootstrap over the rows that both were measured on. Pure.

R resamples, U units: rows, or sentences or queries, whatever is drawn as a whole. K counts a unit.

A figure such as F1 is no mean over units, so it is computed again on each resample, from sums: of a unit it
needs a few counts, those of a resample are one matrix product away, and the figure is a formula of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Paired", "Resampled", "Sums", "mean_of", "paired_bootstrap"]

Array = NDArray[np.float64]
_CELLS = 1 << 21  # of a matrix of weights that is held at once


class Resampled(Protocol):
    """A figure that can be computed on any resample of its units."""

    @property
    def units(self) -> int:
        """How many there are."""
        ...

    def values(self, weights: Array) -> Array:
        """The figure on each resample.

        Args:
            weights: How often each unit was drawn, ``[R, U]``.

        Returns:
            ``[R]``, NaN where the figure does not exist.
        """
        ...


@dataclass(frozen=True)
class Sums:
    """A figure of sums over units.

    Attributes:
        counts: Of each unit, ``[U, K]``.
        figure: From sums ``[R, K]`` to ``[R]``.
    """

    counts: Array
    figure: Callable[[Array], Array]

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.counts)

    def values(self, weights: Array) -> Array:
        """The figure on each resample."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.figure(weights @ self.counts)


def mean_of(each: Array, weights: Array | None = None) -> Sums:
    """A mean over units, or a weighted one.

    Args:
        each: Of each unit, ``[U]``; with ``weights`` the sum over what it holds.
        weights: What it counts, ``[U]``; None: 1.

    Example:
        >>> mean_of(np.array([1.0, 0.0, 1.0])).values(np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]]))
        array([0.66666667, 1.        ])
    """
    whole = np.ones_like(each) if weights is None else weights
    return Sums(np.stack([each, whole], axis=1), lambda sums: sums[:, 0] / sums[:, 1])


@dataclass(frozen=True)
class Paired:
    """Two models on the same units.

    Attributes:
        first: The figure of the first.
        second: Of the second.
        difference: Second minus first.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        p_value: Two-sided.
        level: Of the interval.
        units: Drawn from.
        resamples: On which both have the figure.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    units: int
    resamples: int

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out, and the p-value is as small as the level wants it.

        The latter nearly follows from the former, but ends of the interval lie between two resamples, and the
        p-value counts whole ones, and one more.
        """
        return (self.low > 0 or self.high < 0) and self.p_value + self.level <= 1


def paired_bootstrap(
    first: Resampled, second: Resampled, *, resamples: int, seed: int, level: float = 0.95
) -> Paired:
    r"""The difference of a figure of two models, with a percentile interval and a two-sided p-value.

    .. math::
        p = \min\Big(1, \; 2 \, \frac{1 + \min(\#\{d^*_r \le 0\}, \#\{d^*_r \ge 0\})}{1 + R}\Big)

    Units are drawn with replacement, as many as there are; both models are measured on the same draws, so
    what is hard for both does not count as a difference. The p-value is near the one at which the percentile
    interval begins to hold 0, and not below it: with the drawn resamples the difference that was measured counts as
    one more, so that it is never below :math:`2 / (R + 1)`.

    Args:
        first: Of one model.
        second: Of the other, on the same units in the same order.
        resamples: R.
        seed: Of the draws.
        level: Of the interval.

    Raises:
        ValueError: the units are not as many, or there are none.

    Example:
        >>> right = np.array([1.0] * 60 + [0.0] * 40)
        >>> found = paired_bootstrap(mean_of(right), mean_of(np.ones(100)), resamples=999, seed=0)
        >>> found.difference, found.significant, found.p_value
        (0.4, True, 0.002)
    """
    if first.units != second.units or not first.units:
        raise ValueError(
            f"both must have the same units, at least one, got {first.units} and {second.units}"
        )
    whole = np.ones((1, first.units))
    one, other = float(first.values(whole)[0]), float(second.values(whole)[0])
    gaps = np.concatenate(
        [second.values(w) - first.values(w) for w in _draws(first.units, resamples, seed)]
    )
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps):
        raise ValueError("the figure exists on no resample")
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    tail = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
    return Paired(
        first=one,
        second=other,
        difference=other - one,
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (1 + tail) / (1 + len(gaps))),
        level=level,
        units=first.units,
        resamples=len(gaps),
    )


def _draws(units: int, resamples: int, seed: int) -> Iterator[Array]:
    """Weights of all resamples, some at a time; how many at a time changes nothing."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // units)
    for begin in range(0, resamples, step):
        rows = min(step, resamples - begin)
        drawn = generator.integers(0, units, size=(rows, units))
        drawn += np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)
