"""Whether a version may have an alias: the rule that its configuration gave it, and what it says."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from raydistill.tracking.tags import METRIC_TAG, PROMOTION_TAG, as_number, as_settings, data_of

__all__ = ["Decision", "PromotionRule", "decide_champion", "rule_of"]

_ROUNDING = 1e-12  # 0.802 - 0.8 is 0.0020000000000000018, and 0.9 + 0.002 more than 0.902


@dataclass(frozen=True)
class Decision:
    """Whether an alias moves.

    Attributes:
        move: To the new version.
        reason: A clause that continues "because".
    """

    move: bool
    reason: str


@dataclass(frozen=True)
class PromotionRule:
    """What an alias asks of a new version. Kept with each version, as a tag.

    Attributes:
        alias: Which it is about.
        metric: The metric that decides, with its split: ``validation/accuracy``.
        better_by: By how much it must be better at least; 0: by whatever.
        greater_is_better: Of that metric.
    """

    alias: str
    metric: str
    better_by: float
    greater_is_better: bool

    def as_tag(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    def decide(self, new: Mapping[str, str], holder: Mapping[str, str] | None) -> Decision:
        """See :func:`decide_champion`."""
        return decide_champion(
            new,
            holder,
            self.metric,
            greater_is_better=self.greater_is_better,
            better_by=self.better_by,
        )


def rule_of(tags: Mapping[str, str], alias: str) -> PromotionRule | None:
    """The rule that a version was registered with; ``None`` if there is none for this alias.

    Args:
        tags: Of the version.
        alias: That would move.
    """
    found = as_settings(tags.get(PROMOTION_TAG))
    if found is None or found.get("alias") != alias or not isinstance(found.get("metric"), str):
        return None
    better_by = as_number(json.dumps(found.get("better_by", 0.0))) or 0.0
    return PromotionRule(
        alias, found["metric"], better_by, bool(found.get("greater_is_better", True))
    )


def decide_champion(
    new: Mapping[str, str],
    champion: Mapping[str, str] | None,
    metric_name: str,
    *,
    greater_is_better: bool,
    better_by: float = 0.0,
) -> Decision:
    """Compares two versions by their tags. Only figures of the same data are compared.

    Args:
        new: Tags of the new version; hold the metric.
        champion: Tags of the version that has the alias; ``None`` when none has.
        metric_name: As in the metrics file, ``test/accuracy``.
        greater_is_better: Of that metric.
        better_by: The least difference that counts.
    """
    value = as_number(new.get(METRIC_TAG + metric_name))
    if value is None:
        return Decision(False, f"its {metric_name} is not a finite number")
    if champion is None:
        return Decision(True, "there was none")
    other = as_number(champion.get(METRIC_TAG + metric_name))
    if other is None:
        return Decision(False, f"the present one has no {metric_name} to compare with")
    data = data_of(new, metric_name)
    if data is None or data_of(champion, metric_name) != data:
        return Decision(False, f"the present one's {metric_name} was measured on other data")
    gain = value - other if greater_is_better else other - value
    better = gain > 0 and gain >= better_by - _ROUNDING
    margin = f" by {better_by:g}" if better_by else ""
    comparison = f"{metric_name} {value:.6g} is {'' if better else 'not '}better than {other:.6g}"
    return Decision(better, comparison + margin)
