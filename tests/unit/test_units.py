"""Units of texts: cut by the text alone, the same in a part as in the whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data import units_of

SIGNS = "ab1２ \n中文かナーｶﾞ。,.-_'é\u0301\u200d\u200b\ufeff👩🇩🇪👍🏽สัด한글가\u1112\u1161\u11abㅋ\u302eا\U0001f600"


def units(text: str) -> list[str]:
    return [text[begin:end] for begin, end in units_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("In 1998s, 上海 don't", ["In", "1998", "s", ",", "上", "海", "don", "'", "t"]),
        ("《战国3》（）", ["《", "战", "国", "3", "》", "（", "）"]),
        ("カメラです", ["カ", "メ", "ラ", "で", "す"]),
        ("サーバーAは", ["サ", "ー", "バ", "ー", "A", "は"]),
        ("ｶﾞとｻｰﾋﾞｽB", ["ｶﾞ", "と", "ｻ", "ｰ", "ﾋﾞ", "ｽ", "B"]),
        ("〆切A", ["〆", "切", "A"]),
        ("한글 두", ["한", "글", "두"]),
        ("서울은 LG의 1998년", ["서", "울", "은", "LG", "의", "1998", "년"]),
        (
            "\u1112\u1161\u11ab\u1100\u1173\u11af ㅋㅋ",
            ["\u1112\u1161\u11ab", "\u1100\u1173\u11af", "ㅋ", "ㅋ"],
        ),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("e\u0301a\u0300b x\u0301", ["e\u0301a\u0300b", "x\u0301"]),
        ("👨\u200d👩\u200d👧🇩🇪🇫🇷 👍🏽!", ["👨\u200d👩\u200d👧", "🇩🇪", "🇫🇷", "👍🏽", "!"]),
        ("\u200b\ufeffa\u200bb", ["a", "b"]),
        ("", []),
        (" \t\n\u3000\u200b", []),
        ("½ ² _", ["½", "²", "_"]),
        ("a" * 70, ["a" * 32, "a" * 32, "a" * 6]),
    ],
)
def test_text_is_cut_into_units(text: str, expected: list[str]) -> None:
    """A unit that is cut otherwise on one side is compared with another on the other."""
    assert units(text) == expected


@settings(deadline=None)
@given(st.text(SIGNS, max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_a_part_has_the_units_of_the_whole(text: str, first: int, last: int) -> None:
    """A teacher sees windows alone; its units would be others than those that answers were placed by."""
    whole = units_of(text)
    if not len(whole):
        return
    first, last = sorted((first % len(whole), last % len(whole)))
    begin, end = whole[first, 0], whole[last, 1]
    assert (units_of(text[begin:end]) + begin).tolist() == whole[first : last + 1].tolist()


@settings(deadline=None)
@given(st.text(SIGNS, max_size=60))
def test_units_stand_one_behind_the_other(text: str) -> None:
    """Whatever can be seen is in one unit, and white space in none."""
    found = units_of(text)
    flat = found.flatten().tolist()
    assert flat == sorted(flat)
    assert (found[:, 0] < found[:, 1]).all()
    outside = [mark for place, mark in enumerate(text) if not any(b <= place < e for b, e in found)]
    assert not any(mark.isalnum() for mark in outside)
    assert not any(text[begin:end].isspace() for begin, end in found)
