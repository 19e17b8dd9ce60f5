"""Who stops early, by hand; and that a search that was killed stops the same."""

import pytest

from raydistill.config.tuning import AshaStopper, MedianStopper
from raydistill.tuning.records import TrialRecord
from raydistill.tuning.stopping import is_to_stop

ASHA = AshaStopper(kind="asha", min_share=0.25, reduction=2)
MEDIAN = MedianStopper(kind="median", min_share=0.25, min_trials=2)


def told(number: int, *values: float, every: int = 10, state: str = "running") -> TrialRecord:
    """A trial of 40 steps that told these values so far."""
    reports = tuple((every * (i + 1), 40, value) for i, value in enumerate(values))
    return TrialRecord(number, {}, state=state, reports=reports)


def stops(stopper, record, *others, maximize=True) -> bool:
    return is_to_stop(stopper, record, others, maximize=maximize)


def test_asha_lets_the_better_part_go_on():
    """The example of Ray's own docstring: of 2 and 4 the cutoff is 3, of 2, 4 and 1 it is 2."""
    assert not stops(ASHA, told(0, 2.0)), "the first at a mark has nobody to be compared with"
    assert not stops(ASHA, told(1, 4.0), told(0, 2.0))
    assert stops(ASHA, told(2, 1.0), told(0, 2.0), told(1, 4.0))
    assert stops(ASHA, told(2, 2.9), told(0, 2.0), told(1, 4.0))
    assert not stops(ASHA, told(2, 3.0), told(0, 2.0), told(1, 4.0)), "as good as the cutoff"
    assert not stops(ASHA, told(3, 2.0), told(0, 2.0), told(1, 4.0), told(2, 1.0))
    assert stops(ASHA, told(2, 4.5), told(0, 2.0), told(1, 4.0), maximize=False)


def test_asha_looks_at_marks_alone():
    """Between two marks a dip would end what is better at the next."""
    ahead = told(0, 0.5, 0.6, 0.7)
    assert not stops(ASHA, told(1, 0.4, every=9), ahead), "before the first mark"
    assert stops(ASHA, told(1, 0.4), ahead), "at 10 steps"
    assert stops(ASHA, told(1, 0.5, 0.5), ahead), "at 20 steps"
    assert not stops(ASHA, told(1, 0.5, 0.6, 0.1), ahead), "at 30 steps there is no mark"
    # Whose first evaluation is at the second mark is compared there, and nobody with it at the first.
    assert stops(ASHA, told(1, 0.5, every=20), ahead)
    assert not stops(ASHA, told(1, 0.1), told(0, 0.6, every=20))


def test_a_share_that_has_no_exact_number_is_still_reached():
    """100 * 0.14 is more than 14: such a mark would be missed by an evaluation."""
    stopper = ASHA.model_copy(update={"min_share": 0.14})
    record = TrialRecord(1, {}, reports=((14, 100, 0.1),))
    assert stops(stopper, record, TrialRecord(0, {}, reports=((14, 100, 0.2),)))


def test_values_that_are_no_numbers_decide_nothing():
    """One NaN among the others would stop all, or none ever."""
    nan = float("nan")
    assert not stops(ASHA, told(1, 0.1), told(0, nan))
    assert stops(ASHA, told(2, 0.1), told(0, nan), told(1, 0.2))
    assert not stops(ASHA, told(1, nan), told(0, 0.2))
    assert not stops(MEDIAN, told(2, 0.1), told(0, nan), told(1, 0.2))
    assert stops(MEDIAN, told(3, nan), told(0, 0.1), told(1, 0.2))


def test_median_compares_the_best_with_the_running_means_of_the_others():
    """A trial that was good once must not end for a later dip; a slow start of the others counts."""
    first, second = told(0, 0.2, 0.4, 0.6), told(1, 0.4, 0.6, 0.8)
    # After 20 steps the others' means are 0.3 and 0.5, their median 0.4.
    assert stops(MEDIAN, told(2, 0.1, 0.39), first, second)
    assert not stops(MEDIAN, told(2, 0.1, 0.4), first, second)
    assert not stops(MEDIAN, told(2, 0.45, 0.1), first, second), "its best counts"
    assert not stops(MEDIAN, told(2, 0.9, 0.39), first, second, maximize=False)
    assert stops(MEDIAN, told(2, 0.9, 0.45), first, second, maximize=False)


def test_median_waits_for_enough_others_that_came_so_far():
    """Stopped by one neighbour, or by those that have only begun."""
    first, second = told(0, 0.5, 0.5), told(1, 0.5)
    assert not stops(MEDIAN, told(2, 0.1, 0.1), first, second)
    assert stops(MEDIAN, told(2, 0.1), first, second)
    done = told(1, 0.5, state="finished")
    assert stops(MEDIAN, told(2, 0.1, 0.1), first, done), "who has finished came to all steps"
    early = MEDIAN.model_copy(update={"min_share": 0.5})
    assert not stops(early, told(2, 0.1), told(0, 0.5), told(1, 0.5))


@pytest.mark.parametrize("stopper", [ASHA, MEDIAN])
def test_what_comes_later_is_not_asked(stopper):
    """The same trials, one after another, stop the same however often the search was resumed."""
    courses = [(0.5, 0.6), (0.4, 0.7), (0.45, 0.5), (0.2, 0.9), (0.6, 0.65), (0.44, 0.4)]

    def search(records: list[TrialRecord]) -> list[TrialRecord]:
        for number in range(len(records), len(courses)):
            for seen in (1, 2):
                record = told(number, *courses[number][:seen])
                if stops(stopper, record, *records):
                    records.append(record.changed(stopped_at=10 * seen, state="stopped"))
                    break
            else:
                records.append(record.changed(state="finished"))
        return records

    whole = search([])
    assert {record.state for record in whole} == {"finished", "stopped"}
    for cut in range(len(whole)):
        assert search(whole[:cut]) == whole
