"""Who is to stop early: decided from what trials have told so far, and from nothing else.

The rules are those of Ray Tune's AsyncHyperBandScheduler and MedianStoppingRule. Theirs keep what they
know in a process; here it lies in the records, so that a search that was killed decides as if it had
not been.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from raydistill.config.tuning import AshaStopper, MedianStopper
from raydistill.tuning.records import TrialRecord

__all__ = ["is_to_stop"]

_ROUNDING = 1e-9
Reports = Sequence[tuple[int, int, float]]


def is_to_stop(
    stopper: AshaStopper | MedianStopper,
    record: TrialRecord,
    others: Sequence[TrialRecord],
    *,
    maximize: bool,
) -> bool:
    """Whether a trial ends after what it told last.

    Args:
        stopper: The rule.
        record: Of the trial; its last report is the new one.
        others: Records of the others, with what they have told before this.
        maximize: Whether more is better.
    """
    sign = 1.0 if maximize else -1.0
    if isinstance(stopper, AshaStopper):
        return _asha(stopper, record.reports, [one.reports for one in others], sign)
    step, steps, _ = record.reports[-1]
    means = [_mean(stopper, one, step / steps) for one in others]
    known = [sign * mean for mean in means if math.isfinite(mean)]
    if not _reached(step / steps, stopper.min_share) or len(known) < stopper.min_trials:
        return False
    best = max((sign * v for _, _, v in record.reports if math.isfinite(v)), default=-math.inf)
    return best < statistics.median(known)


def _asha(stopper: AshaStopper, mine: Reports, others: Sequence[Reports], sign: float) -> bool:
    """At a new mark: whether the value is below the part of the others' there that goes on."""
    step, steps, value = mine[-1]
    mark = _mark(stopper, step / steps)
    if mark is None or mark in _at_marks(stopper, mine[:-1]):
        return False
    found = [_at_marks(stopper, reports).get(mark, math.nan) for reports in others]
    there = [sign * other for other in found if math.isfinite(other)]
    if not there:
        return False
    return sign * value < float(np.percentile(there, 100 * (1 - 1 / stopper.reduction)))


def _mark(stopper: AshaStopper, share: float) -> int | None:
    """The highest mark, from 0, that a share of the steps has come to."""
    if not _reached(share, stopper.min_share):
        return None
    times = math.log(share / stopper.min_share) / math.log(stopper.reduction)
    return max(0, math.floor(times + _ROUNDING))


def _at_marks(stopper: AshaStopper, reports: Reports) -> dict[int, float]:
    """A trial's values at marks: the first report that comes to a mark, and to none above it."""
    found: dict[int, float] = {}
    for step, steps, value in reports:
        if (mark := _mark(stopper, step / steps)) is not None:
            found.setdefault(mark, value)
    return found


def _mean(stopper: MedianStopper, other: TrialRecord, share: float) -> float:
    """Of what another told from `min_share` to a share of the steps; NaN: it has not come so far."""
    shares = [step / steps for step, steps, _ in other.reports]
    if other.state != "finished" and not (shares and _reached(shares[-1], share)):
        return math.nan
    values = [
        value
        for at, (_, _, value) in zip(shares, other.reports, strict=True)
        if _reached(at, stopper.min_share) and _reached(share, at)
    ]
    return statistics.fmean(values) if values else math.nan


def _reached(share: float, mark: float) -> bool:
    return share >= mark - _ROUNDING
