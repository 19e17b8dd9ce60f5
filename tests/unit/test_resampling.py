"""Whether two models differ by more than chance: every figure, on every resample, against the plain metric."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from raydistill.evaluation.calibration import calibration_error
from raydistill.evaluation.measures import measure
from raydistill.evaluation.resampling import Sums, mean_of, paired_bootstrap
from raydistill.evaluation.statistics import RESAMPLED, Measured, comparable_metrics, resampled
from raydistill.tasks import QueryGroups, Questions
from raydistill.tasks.questions import Answering

NAMES = ["O", "B-x", "I-x", "B-y"]
ALL = [(kind, metric) for kind in RESAMPLED for metric in comparable_metrics(kind)]


def made(kind: str, seed: int = 0, units: int = 30) -> Measured:
    """What a model may have said, with rows without labels, ties and labels that hardly occur."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(units, 4, generator=draw).round(decimals=1)
    if kind == "text_classification":
        labels = torch.randint(0, 3, (units,), generator=draw)
        labels[:3] = -100
        return Measured(logits, labels, NAMES)
    if kind == "tagging":
        sentences = torch.arange(units).repeat_interleave(torch.arange(units) % 5)
        labels = torch.randint(0, 4, (len(sentences),), generator=draw)
        labels[sentences == 3] = -100
        logits = torch.randn(len(sentences), 4, generator=draw) + 2 * torch.eye(4)[labels.clamp(0)]
        logits[5] = -torch.inf
        return Measured(logits, labels, NAMES, sentences=sentences)
    if kind == "question_answering":
        return asked([i % 7 for i in range(units)], torch.randn(7, 2, 6, 2, generator=draw))
    if kind in ("reranking", "retrieval"):
        grades = torch.randint(0, 3, (units * 4, 1), generator=draw).float()
        grades[:4] = 0.0
        queries = QueryGroups(np.arange(units + 1) * 4, [(1.0,) if i % 9 == 8 else () for i in range(units)])  # fmt: skip
        scores = torch.randn(units * 4, 1, generator=draw).round(decimals=1)
        return Measured(scores, grades, ["score"], queries=queries)
    labels = torch.randn(units, 4, generator=draw)
    logits = (logits + labels).round(decimals=1)
    if kind == "multi_label_classification":
        labels = (labels > torch.tensor([0.0, 0.5, 1.2, 9.0])).float()
    labels[0] = torch.nan
    labels[1, 2] = torch.nan
    return Measured(logits, labels, NAMES)


def asked(which: list[int], logits: torch.Tensor) -> Measured:
    """Questions of two windows each, every one out of seven that differ; of the first nobody knows the answer."""
    answers = [None, (), ("one two",), ("four",), ("two three",), ("one",), ("three four",)]
    questions = Questions(
        sizes=np.full(2 * len(which), 4),
        question=np.arange(len(which)).repeat(2),
        windows=["one two three four"] * (2 * len(which)),
        ids=[f"q{place}" for place in range(len(which))],
        answers=[answers[i] for i in which],
        answering=Answering(max_answer_units=4, unanswerable=True),
    )
    places = torch.cat([logits[i].flatten(0, 1) for i in which])
    return Measured(places, torch.tensor(which), ["start", "end"], questions=questions)


def repeated(found: Measured, kind: str, weights: np.ndarray) -> Measured:
    """The same with each unit as often as it was drawn, written out."""
    units = [i for i, times in enumerate(weights.astype(int)) for _ in range(times)]
    if found.queries is not None:
        rows = [list(range(*found.queries.rows(i).indices(10**9))) for i in units]
        starts = np.cumsum([0, *(len(own) for own in rows)])
        queries = QueryGroups(starts, [found.queries.missed[i] for i in units])
        places = [row for own in rows for row in own]
        return Measured(found.logits[places], found.labels[places], found.label_names, queries)
    if found.questions is not None:
        each = found.logits.view(-1, 2, 6, 2)
        firsts = {int(which): place for place, which in enumerate(found.labels.tolist())}
        of_all = torch.stack([each[firsts[i]] for i in range(7)])
        return asked([int(found.labels[i]) for i in units], of_all)
    if found.sentences is not None:
        own = [(found.sentences == i).nonzero().flatten() for i in units]
        sentences = torch.arange(len(own)).repeat_interleave(torch.tensor([len(x) for x in own]))
        places = torch.cat(own)
        return Measured(
            found.logits[places], found.labels[places], found.label_names, sentences=sentences
        )
    return Measured(found.logits[units], found.labels[units], found.label_names)


def plain(kind: str, metric: str, found: Measured) -> float:
    values = measure(
        kind, found.logits, found.labels, label_names=found.label_names,
        queries=found.queries, sentences=found.sentences, questions=found.questions,
    )  # fmt: skip
    return values[metric]


def labelled_units(found: Measured, kind: str) -> list[int]:
    """Those that can be drawn."""
    if found.queries is not None:
        graded = [bool((found.labels[found.queries.rows(i)] > 0).any()) or bool(found.queries.missed[i]) for i in range(found.queries.number)]  # fmt: skip
        return [i for i, there in enumerate(graded) if there]
    if found.questions is not None:
        return [i for i, right in enumerate(found.questions.answers) if right is not None]
    if found.sentences is not None:
        return sorted(set(found.sentences[found.labels >= 0].tolist()))
    known = found.labels >= 0 if found.labels.dim() == 1 else (~found.labels.isnan()).any(1)
    return known.nonzero().flatten().tolist()


@pytest.mark.parametrize(("kind", "metric"), ALL)
def test_a_figure_on_a_resample_is_that_of_the_rows_written_out(kind: str, metric: str) -> None:
    """An interval of some other figure than the one that is shown would be believed."""
    found = made(kind)
    figure, units = resampled(kind, metric, found), labelled_units(found, kind)
    assert figure.units == len(units)
    draw = np.random.default_rng(1)
    weights = np.stack([
        np.ones(len(units)), *(np.bincount(draw.integers(0, len(units), len(units)), minlength=len(units)) for _ in range(6)),
    ]).astype(float)  # fmt: skip
    whole = max(units) + 1 if kind not in ("reranking", "retrieval") else found.queries.number
    for value, one in zip(figure.values(weights), weights, strict=True):
        of_all = np.zeros(whole)
        of_all[units] = one
        assert value == pytest.approx(plain(kind, metric, repeated(found, kind, of_all)), abs=2e-6)


def test_spread_that_is_rounding_is_none() -> None:
    """A correlation of resamples of one row drawn again and again would be noise."""
    values = torch.tensor([[0.1], [0.2], [0.7]])
    found = Measured(values, values.clone(), ["x"])
    once = np.array([[3.0, 0.0, 0.0]])
    for metric in ("pearson", "spearman"):
        assert resampled("regression", metric, found).values(once).tolist() == [0.0]
    assert resampled("regression", "r2", found).values(once).tolist() == [1.0]


def test_the_interval_is_scipys() -> None:
    """An interval that nobody else finds is none."""
    draw = np.random.default_rng(3)
    one = draw.random(80)
    other = one + 0.1 + 0.3 * draw.standard_normal(80)
    found = paired_bootstrap(mean_of(one), mean_of(other), resamples=20_000, seed=0)
    theirs = stats.bootstrap(
        (one, other), lambda a, b, axis: (b - a).mean(axis), paired=True, vectorized=True,
        n_resamples=20_000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert found.low == pytest.approx(theirs.low, abs=0.004)
    assert found.high == pytest.approx(theirs.high, abs=0.004)
    assert found.difference == pytest.approx((other - one).mean())
    # Of a mean the bootstrap's p-value is close to that of the paired t-test.
    assert found.p_value == pytest.approx(stats.ttest_rel(one, other).pvalue, abs=0.01)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """At 95 % one of twenty comparisons of equals may be called significant, not one of five."""
    draw = np.random.default_rng(0)
    held, trials = 0, 300
    for trial in range(trials):
        right = draw.random((120, 3)) < 0.8  # what is hard is hard for both
        one = (right[:, 0] & right[:, 1]).astype(float)
        other = (right[:, 0] & right[:, 2]).astype(float)
        found = paired_bootstrap(mean_of(one), mean_of(other), resamples=400, seed=trial)
        held += not found.significant
        assert found.significant == (found.p_value <= 0.05)
    assert 0.91 < held / trials < 0.985


@pytest.mark.parametrize(("level", "resamples"), [(0.95, 100), (0.95, 199), (0.95, 999), (0.9, 99), (0.99, 399)])  # fmt: skip
def test_what_is_significant_has_a_small_p_value_and_an_interval_without_0(
    level: float, resamples: int
) -> None:
    """A verdict that one of the two numbers beside it contradicts is no verdict."""
    doubtful = 0
    for seed in range(200):
        each = np.random.default_rng(seed).normal(0.28, 1.0, 40)
        found = paired_bootstrap(mean_of(np.zeros(40)), mean_of(each), resamples=resamples, seed=seed, level=level)  # fmt: skip
        apart = found.low > 0 or found.high < 0
        small = round(found.p_value, 9) <= round(1 - level, 9)
        assert found.significant == (apart and small) == small
        doubtful += apart and not small
    assert doubtful or resamples > 200  # they do differ


def test_a_difference_that_is_there_is_found_and_equals_are_equal() -> None:
    draw = np.random.default_rng(0)
    one = (draw.random(400) < 0.6).astype(float)
    better = np.maximum(one, draw.random(400) < 0.3)
    found = paired_bootstrap(mean_of(one), mean_of(better), resamples=999, seed=0)
    assert (found.significant, found.p_value) == (True, 0.002)
    same = paired_bootstrap(mean_of(one), mean_of(one), resamples=999, seed=0)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    turned = paired_bootstrap(mean_of(better), mean_of(one), resamples=999, seed=0)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed must give the same interval on a machine with less memory."""
    one, other = np.linspace(0, 1, 50), np.linspace(0.1, 0.9, 50) ** 2
    whole = paired_bootstrap(mean_of(one), mean_of(other), resamples=500, seed=4)
    monkeypatch.setattr("raydistill.evaluation.resampling._CELLS", 350)
    assert paired_bootstrap(mean_of(one), mean_of(other), resamples=500, seed=4) == whole


def test_resamples_without_the_figure_are_left_out_and_other_units_refused() -> None:
    rare = Sums(np.eye(4)[:, :1], lambda sums: sums[:, 0] / sums[:, 0])
    found = paired_bootstrap(rare, rare, resamples=500, seed=0)
    assert 250 < found.resamples < 400  # a unit of four is not drawn in 32 % of resamples
    with pytest.raises(ValueError, match="same units"):
        paired_bootstrap(rare, mean_of(np.ones(3)), resamples=100, seed=0)


def test_chance_makes_a_calibration_error_larger_and_nothing_is_tested_by_it() -> None:
    """Two models that are equally well calibrated would be called significantly different."""
    assert all("ece" not in comparable_metrics(kind) for kind in RESAMPLED)
    draw = np.random.default_rng(0)
    found = []
    for spread in (0.01, 0.3):
        sure = torch.from_numpy(0.7 + spread * (2 * draw.random((40, 250)) - 1))
        right = torch.from_numpy(draw.random(sure.shape)) < sure
        labels = torch.where(right, 0, 1)
        logits = torch.stack([sure.log(), (1 - sure).log()], dim=-1)
        pairs = zip(logits, labels, strict=True)
        found.append(np.mean([calibration_error("text_classification", z, y) for z, y in pairs]))
    assert found[1] > 2 * found[0]


def test_calibration_is_of_what_is_answered() -> None:
    """A model that is sure and right half of the time is off by a half, in every kind of task."""
    sure = torch.tensor([[9.0, -9.0], [9.0, -9.0]])
    halves: dict[str, tuple[Tensor, Tensor]] = {
        "text_classification": (sure, torch.tensor([0, 1])),
        "tagging": (torch.cat([sure, torch.full((1, 2), -torch.inf)]), torch.tensor([0, 1, 1])),
        "multi_label_classification": (sure, torch.tensor([[1.0, 1.0], [torch.nan, 0.0]])),
    }
    expected = {"multi_label_classification": 1 / 3}
    for kind, (logits, labels) in halves.items():
        error = calibration_error(kind, logits, labels)
        assert error == pytest.approx(expected.get(kind, 0.5), abs=1e-3), kind
    assert calibration_error("regression", sure, sure) is None
    found = made("text_classification")
    expected_ece = plain("text_classification", "ece", found)
    assert calibration_error("text_classification", found.logits, found.labels) == pytest.approx(
        expected_ece, abs=1e-6
    )
