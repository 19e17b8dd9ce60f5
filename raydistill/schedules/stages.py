"""Which part of a run a step belongs to: pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from raydistill.config.stages import StageSection

__all__ = ["Stage", "frozen_names", "plan_stages", "stage_at"]


@dataclass(frozen=True)
class Stage:
    """Steps that belong together.

    Attributes:
        name: As configured; "" if there are no stages.
        begin: First step, from 0.
        end: One behind its last step.
        terms: Places of the terms that count.
        freeze: Patterns of parameters' names.
        learning_rate: Peak; None: that of the run.
    """

    name: str
    begin: int
    end: int
    terms: frozenset[int]
    freeze: tuple[str, ...] = ()
    learning_rate: float | None = None

    @property
    def steps(self) -> int:
        """How many."""
        return self.end - self.begin


def plan_stages(sections: Sequence[StageSection], total: int, num_terms: int) -> tuple[Stage, ...]:
    """The stages of a run; one, if none are configured.

    Args:
        sections: As configured, their shares summing to 1.
        total: Steps of the run.
        num_terms: Items of ``losses``.

    Raises:
        ValueError: a stage would have no step.

    Example:
        >>> halves = [
        ...     StageSection(name="a", share=0.5, losses=[0]),
        ...     StageSection(name="b", share=0.5, losses=[1]),
        ... ]
        >>> [(stage.begin, stage.end) for stage in plan_stages(halves, 9, 2)]
        [(0, 5), (5, 9)]
    """
    if not sections:
        return (Stage("", 0, total, frozenset(range(num_terms))),)
    ends, sum_of_shares = [], 0.0
    for section in sections:
        sum_of_shares += section.share
        ends.append(int(sum_of_shares * total + 0.5))
    ends[-1] = total
    begins = [0, *ends[:-1]]
    for section, begin, end in zip(sections, begins, ends, strict=True):
        if end <= begin:
            raise ValueError(f"stage '{section.name}' has no step of {total}")
    return tuple(
        Stage(s.name, begin, end, frozenset(s.losses), tuple(s.freeze), s.learning_rate)
        for s, begin, end in zip(sections, begins, ends, strict=True)
    )


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of a step; behind the last step, the last."""
    return next((stage for stage in stages if step < stage.end), stages[-1])


def frozen_names(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Names that match any pattern."""
    wanted = list(patterns)
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)}
