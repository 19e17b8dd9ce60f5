"""Answers from logits, and their figures as the official scripts count them."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raydistill.data import units_of
from raydistill.ensemble import combine_log_p
from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.answers import exact_match, overlap_f1
from raydistill.evaluation.measures import agree, measure, measure_each
from raydistill.evaluation.spans import (
    answer_agreement,
    answer_metrics,
    answers_of,
    answers_together,
    predictions_of,
)
from raydistill.tasks import Answering, Questions

WORDS = ["the", "a", "Nobel", "prize", "nobel", "Prize.", "in", "1,998", "An", "—", "!"]
INF = float("-inf")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
    st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(lambda some: " ".join(["in", *some])), min_size=1, max_size=3),
)  # fmt: skip
def test_squad_figures_are_those_of_torchmetrics(answer: str, right: list[str]) -> None:
    """A figure that is computed otherwise cannot be compared with any other."""
    from torchmetrics.functional.text import squad

    found = squad(
        [{"prediction_text": answer, "id": "q"}],
        [{"answers": {"answer_start": [0] * len(right), "text": right}, "id": "q"}],
    )
    assert exact_match(answer, right, "squad") * 100 == pytest.approx(found["exact_match"].item())
    assert overlap_f1(answer, right, "squad") * 100 == pytest.approx(found["f1"].item(), abs=1e-4)


@pytest.mark.parametrize(
    ("answer", "right", "f1", "exact"),
    [
        ("", [], 1.0, 1.0),
        ("x", [], 0.0, 0.0),
        ("", ["x"], 0.0, 0.0),
        ("the", [], 1.0, 1.0),  # nothing is left of it, as in the script of SQuAD 2.0
        ("x", ["the", "x"], 1.0, 1.0),
    ],
)
def test_questions_without_an_answer_count_as_in_squad_2(
    answer: str, right: list[str], f1: float, exact: float
) -> None:
    """The rule is another one than that of words in common."""
    assert (overlap_f1(answer, right, "squad"), exact_match(answer, right, "squad")) == (f1, exact)


@pytest.mark.parametrize(
    ("answer", "right", "f1", "exact"),
    [
        # 北京大学 against 在北京: the longest run is 北京; 2/4 and 2/3.
        ("北京大学", ["在北京"], 4 / 7, 0.0),
        # Characters in common that do not stand together count once: 京 or 北.
        ("京北", ["北京"], 2 / 4, 0.0),
        # Signs of the list do not count, neither for one nor for the other.
        ("《北京》，", ["北京"], 1.0, 1.0),
        ("北京。", ["（北京）"], 1.0, 1.0),
        # A full stop of Latin is not in the list: one more segment.
        ("北京.", ["北京"], 4 / 5, 0.0),
        # Words of Latin are one segment each, without case: nexon and 6 年 of 3, nexon 6 of 2.
        ("Nexon 6年", ["NEXON 6"], 4 / 5, 0.0),
        # The hyphen goes, and what it joined is one word.
        ("ω-force", ["ωforce"], 1.0, 1.0),
        ("光荣和ω-force", ["光荣", "ω-Force和光荣"], 2 * 2 / (4 + 2), 0.0),
        ("一", ["二"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
    ],
)
def test_figures_of_chinese_are_those_of_cmrc_2018(
    answer: str, right: list[str], f1: float, exact: float
) -> None:
    """Counted by hand from the script's rules."""
    assert overlap_f1(answer, right, "cmrc2018") == pytest.approx(f1)
    assert exact_match(answer, right, "cmrc2018") == exact


@pytest.mark.parametrize(
    ("answer", "right", "f1", "exact"),
    [
        # 서울은 against 서울: two characters of three, and of two.
        ("서울은", ["서울"], 4 / 5, 0.0),
        # Brackets part words, other signs go, and white space counts for neither.
        ("《서울》", ["서울"], 1.0, 1.0),
        ("서울(시)", ["서울 시"], 1.0, 1.0),
        ("서울.시", ["서울 시"], 1.0, 0.0),
        # Characters in any order, each as often as both have it; articles of English are characters too.
        ("울서서", ["서울"], 2 * 2 / 5, 0.0),
        ("The LG", ["lg"], 2 * 2 / 7, 0.0),
        ("세종", ["이순신", "세종대왕"], 2 * 2 / 6, 0.0),
        ("", [], 1.0, 1.0),
        ("()", ["서울"], 0.0, 0.0),
    ],
)
def test_figures_of_korean_are_those_of_korquad(
    answer: str, right: list[str], f1: float, exact: float
) -> None:
    """Counted by hand from the script's rules."""
    assert overlap_f1(answer, right, "characters") == pytest.approx(f1)
    assert exact_match(answer, right, "characters") == exact


WINDOWS = ["Ada saw Rio.", "Rio, or York", "中国 in 42"]


def questions(of: list[int], answers: list[Any], **options: Any) -> Questions:
    sizes = np.array([len(units_of(window)) for window in WINDOWS], dtype=np.int64)
    ids = [f"q{one}" for one in dict.fromkeys(of)]
    return Questions(sizes, np.array(of), WINDOWS, ids, answers, Answering(**options))


def places(*windows: dict[int, tuple[float, float]]) -> Tensor:
    """Logits of all places: 0 but for those that are named (-2: no answer, -1: other pieces)."""
    found = []
    for window, said in zip(WINDOWS, windows, strict=True):
        one = torch.zeros(len(units_of(window)) + 2, 2)
        for unit, (start, end) in said.items():
            one[unit + 2] = torch.tensor([start, end])
        found.append(one)
    return torch.cat(found)


def test_best_answer_is_the_largest_pair_over_all_windows() -> None:
    """An answer that stands in the second window only would be lost."""
    asked = questions([0, 0, 1], [["York"], ["42"]])
    logits = places({0: (1.0, 0.0), 2: (0.0, 2.0)}, {3: (4.0, 3.0)}, {3: (5.0, 0.0), 1: (0.0, 9.0)})
    assert predictions_of(logits, asked) == {"q0": "York", "q1": "中国"}
    first, second = answers_of(logits, asked)
    assert (first.score, first.null_score) == (7.0, 0.0)
    assert second.score == 9.0  # the start behind the end is no answer
    assert answer_metrics(logits, asked) == {"f1": 0.5, "exact_match": 0.5}


def test_answers_are_no_longer_than_allowed() -> None:
    """A start in one sentence and an end in another are two answers."""
    logits = places({0: (5.0, 0.0), 2: (0.0, 5.0)}, {0: (3.0, 3.0)}, {})
    for longest, answer in ((3, "Ada saw Rio"), (2, "Rio")):
        asked = questions([0, 0, 1], [["x"], None], max_answer_units=longest)
        found = answers_of(logits, asked)[0]
        assert found.text == answer
    assert answer_metrics(logits, questions([0, 0, 1], [None, None])) == {}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_best_answer_is_that_of_trying_all(seed: int, longest: int) -> None:
    """Written a second time, slowly."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(len(units_of(w)) + 2 for w in WINDOWS), 2, generator=draw)
    logits[torch.rand(logits.shape, generator=draw) < 0.3] = INF
    logits[[0, 6, 12]] = logits[[0, 6, 12]].nan_to_num(neginf=0.0)
    asked = questions([0, 1, 2], [["x"]] * 3, max_answer_units=longest)
    for window, answer in enumerate(answers_of(logits, asked)):
        units = units_of(WINDOWS[window])
        own = logits[asked.begins[window] + 2 : asked.begins[window + 1]]
        tried = [
            (float(own[i, 0] + own[j, 1]), WINDOWS[window][units[i, 0] : units[j, 1]])
            for i in range(len(units))
            for j in range(i, min(i + longest, len(units)))
        ]
        best = max(score for score, _ in tried)
        assert answer.score == pytest.approx(best)
        assert answer.text == (next(t for s, t in tried if s == best) if best > INF else "")


def test_no_answer_is_given_where_its_score_is_larger() -> None:
    """Of several windows the one that is least sure of nothing says whether there is something."""
    logits = places({0: (2.0, 2.0), -2: (9.0, 9.0)}, {-2: (3.0, 3.0)}, {-2: (1.0, 1.0)})
    answers: list[Any] = [[], ["42"]]
    asked = questions([0, 0, 1], answers, unanswerable=True)
    assert [one.null_score for one in answers_of(logits, asked)] == [6.0, 2.0]
    assert predictions_of(logits, asked) == {"q0": "", "q1": ""}
    assert answer_metrics(logits, asked) == {
        "f1": 0.5, "exact_match": 0.5, "answerable_f1": 0.0, "answerable_exact_match": 0.0,
        "unanswerable_accuracy": 1.0,
    }  # fmt: skip
    lenient = questions([0, 0, 1], answers, unanswerable=True, null_threshold=2.5)
    assert predictions_of(logits, lenient) == {"q0": "Ada", "q1": "中"}
    always = questions([0, 0, 1], answers)  # where no data has such questions
    assert predictions_of(logits, always) == {"q0": "Ada", "q1": "中"}


def test_model_that_sees_nothing_answers_nothing() -> None:
    """An argmax of nothing would be the first unit."""
    logits = torch.full((18, 2), INF)
    logits[[0, 6, 12]] = 0.0
    assert set(predictions_of(logits, questions([0, 1, 2], [["x"]] * 3)).values()) == {""}


def test_wrong_logits_are_refused() -> None:
    """A figure of NaN is a figure of nothing."""
    asked = questions([0, 1, 2], [["x"]] * 3)
    with pytest.raises(SignalError, match="a start and an end of 18 places"):
        answers_of(torch.zeros(16, 2), asked)
    broken = torch.zeros(18, 2)
    broken[7, 1] = torch.nan
    with pytest.raises(NotFiniteError) as error:
        answers_of(broken, asked)
    assert error.value.rows == (1,)


def test_agreement_is_over_classes_that_both_have() -> None:
    """A student of characters and a teacher of words never have the same classes."""
    asked = questions([0, 1, 2], [["x"]] * 3)
    student = torch.randn(18, 2, generator=torch.Generator().manual_seed(3))
    teacher = student.clone()
    assert answer_agreement(student, teacher, asked) == {"agreement": 1.0, "kl": 0.0}
    # The teacher's second unit begins in the first: the student's mass of both is compared.
    teacher[3, 0] = INF
    teacher[2, 0] = torch.logaddexp(student[2, 0], student[3, 0])
    found = agree("question_answering", student, teacher, questions=asked)
    assert found["kl"] == pytest.approx(0.0, abs=1e-6)
    teacher[2, 0] += 1.0
    assert answer_agreement(student, teacher, asked)["kl"] > 1e-3


def test_teachers_together_are_their_mixture() -> None:
    """The ensemble's figures would be those of something that nobody taught."""
    asked = questions([0, 1, 2], [["x"]] * 3)
    draw = torch.Generator().manual_seed(5)
    one, two = torch.randn(18, 2, generator=draw), torch.randn(18, 2, generator=draw)
    two[4, 1] = INF
    found = answers_together({"a": one, "b": two}, {"a": 0.25, "b": 0.75}, "probabilities", asked)
    assert found[4, 1] == INF
    window = slice(6, 12)
    expected = combine_log_p([one[window].T, two[window].T], [0.25, 0.75]).T
    torch.testing.assert_close(found[window], expected)
    route = torch.tensor([0, 0, 1, 1, -1, -1])
    sent = answers_together({"a": one, "b": two}, {"a": 0.25, "b": 0.75}, "logits", asked, route)
    torch.testing.assert_close(sent[6:12], two[6:12].log_softmax(0))
    assert measure("question_answering", found, torch.empty(0), label_names=("start", "end"), questions=asked)  # fmt: skip
    assert measure_each("question_answering", found, torch.empty(0), label_names=()) == ()
