"""Words and units between BERT's word pieces and XLM-R's unigrams, the real ones, in both directions.

What is expected is written a second time, from texts alone: no offset of a tokenizer is used.
"""

import re
import unicodedata
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch

from raydistill.data import Split, units_of
from raydistill.errors import ConfigError
from raydistill.models.pieces import encode_words, tokenize_words
from raydistill.models.span_pieces import encode_spans, tokenize_spans
from raydistill.models.spans import FIRST_UNIT, lay_out, merge, merge_targets, span_logits
from raydistill.prepare.sides import Side
from raydistill.prepare.windows import windows_for
from raydistill.prepare.words import map_words
from raydistill.tasks import Answering, QuestionAnswering, Tagging
from tests.unit.pretrained import load_pretrained

# Two wheels of 80 MiB are fetched the first time.
pytestmark = [pytest.mark.network, pytest.mark.timeout(2400)]

BOTH = [("bert", "xlmr"), ("xlmr", "bert")]


@pytest.fixture(scope="session")
def real(pytestconfig: pytest.Config) -> dict[str, Any]:
    return load_pretrained(pytestconfig.cache.mkdir("raydistill-tokenizers"))


def bert_text(text: str) -> str:
    """As BERT's basic tokenizer reads it, without spaces: no controls, no accents, lower case."""
    kept = [c for c in text if c.isspace() or not (unicodedata.category(c)[0] == "C" or c == "\ufffd")]  # fmt: skip
    bare = [c for c in unicodedata.normalize("NFD", "".join(kept)) if unicodedata.category(c) != "Mn"]  # fmt: skip
    return "".join("".join(bare).lower().split())


def xlmr_text(text: str) -> str:
    """As XLM-R's rules read it, without spaces: NFKC, controls gone, zero-width characters as spaces."""
    gone = {*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F}
    blank = {*range(0x200B, 0x2010), 0x2581, 0xFEFF, 0xFFFD}
    kept = [" " if ord(c) in blank else c for c in text if ord(c) not in gone]
    return "".join(unicodedata.normalize("NFKC", "".join(kept)).replace("▁", "").split())


READ = {"bert": bert_text, "xlmr": xlmr_text}


def bare(piece: str) -> str | None:
    """The text of a piece; None: unknown."""
    if piece in ("[UNK]", "<unk>"):
        return None
    return piece.removeprefix("##").replace("▁", "")


# Words, and what each tokenizer leaves out of them: places in the row.
SENTENCES: list[tuple[list[str], list[int], list[int]]] = [
    (["Ada", "Lovelace", "went", "unbelievably", "to", "Rio-Paris", "."], [], []),
    (["上海市", "的", "iPhone15", "很", "好", "，", "Ada", "也", "去"], [], []),
    (["東京タワー", "に", "行った", "สวัสดีครับ", "กำแพง"], [], []),
    (["مَرْحَبًا", "السلام", "नमस्ते", "हिन्दी", "किताबें", "한국어", "\u1112\u1161\u11ab"], [], []),
    (["😀", "👨‍👩‍👧", "👍🏽", "🇩🇪", "❤️", "🧑🏽‍🚀", "1️⃣"], [], []),
    (["", "Ada", "\u200b", "\u200d", "\ufeff", "\x07", " ", "\u3000", "Rio"],
     [0, 2, 3, 4, 5, 6, 7], [0, 2, 3, 4, 5, 6, 7]),
    # Marks, soft hyphens and controls of direction: BERT drops them, XLM-R has pieces of them.
    (["\u0301", "\u00ad", "\ufe0f", "\u2060", "\u202e", "e\u0301", "é"], [0, 1, 2, 3, 4], []),
    (["\u200e", "▁", "\ufffd", "a\u200bb"], [0, 2], [0, 1, 2]),
    (["ﬁn", "①", "½", "１２", "Straße", "İstanbul", "ﾊﾝｶｸ", "ﷺ", "New York"], [], []),
]  # fmt: skip
ROWS = [words for words, _, _ in SENTENCES]
LOST = {"bert": [lost for _, lost, _ in SENTENCES], "xlmr": [lost for _, _, lost in SENTENCES]}


@pytest.mark.parametrize("name", READ)
def test_pieces_of_a_word_spell_it(real: dict[str, Any], name: str) -> None:
    """A piece of the neighbour teaches the neighbour's tag."""
    inputs, pieces = tokenize_words(real[name], ROWS, 512)
    tokens = real[name].convert_ids_to_tokens(inputs["input_ids"].flatten().tolist())
    words = [word for row in ROWS for word in row]
    spelt = 0
    for number, word in enumerate(words):
        own = pieces.place[pieces.word == number].tolist()
        assert own == list(range(own[0], own[-1] + 1)) if own else not pieces.mapped[number]
        if not own:
            continue
        assert int(pieces.first[number]) == own[0]
        texts = [bare(tokens[place]) for place in own]
        if None not in texts:
            spelt += 1
            assert "".join(map(str, texts)) == READ[name](word), word
    assert spelt > 20
    lost = [
        [place for place, there in enumerate(row.tolist()) if not there]
        for row in torch.split(pieces.mapped, [len(row) for row in ROWS])
    ]
    assert lost == LOST[name]


def table_of(rows: Sequence[Sequence[str]]) -> pa.Table:
    return pa.table(
        {
            "words": pa.array(rows, pa.list_(pa.string())),
            "label": pa.array([[0] * len(row) for row in rows], pa.list_(pa.int32())),
            "row_id": pa.array(range(len(rows)), pa.int64()),
        }
    )


def mapped_rows(
    real: dict[str, Any], names: tuple[str, str], rows: Any, cuts: tuple[int, int], monkeypatch: Any
) -> Any:
    """What is found out before a run of these two on these rows."""
    student, teacher = names
    own = Side("the student", "student", cuts[0], "student.max_tokens", real[student])
    cut_path, model = "teachers.t.max_tokens", "teachers.t.model"
    other = Side("teachers.t", model, cuts[1], cut_path, real[teacher], "t")
    monkeypatch.setattr("raydistill.prepare.words.sides_of", lambda *_, **__: (own, {"t": other}))
    config: Any = SimpleNamespace(task=SimpleNamespace(kind="tagging"))
    split = Split("train", table_of(rows), ("O",), "", ())
    none: Any = None
    return map_words(config, {"train": split}, student=none, sources={}, traits={})


@pytest.mark.parametrize("names", BOTH)
def test_words_are_compared_where_both_have_pieces(
    real: dict[str, Any], names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word that one side lacks is averaged over zeros, or stops the run in its middle."""
    found = mapped_rows(real, names, ROWS, (512, 512), monkeypatch)
    student, teacher = names
    assert found.faults == []
    assert found.counted == {
        "train/words_unmapped": float(sum(map(len, LOST[student]))),
        "teachers/t/words_unmapped": float(sum(map(len, LOST[teacher]))),
    }
    assert len(found.notes) == 2
    task = Tagging(found.splits["train"].table, ("O",), ("t",))
    batch = task.batch(range(len(ROWS)), real[student], 512)
    expected = {
        name: [place not in gone for row, gone in zip(ROWS, LOST[name], strict=True) for place in range(len(row))]
        for name in names
    }  # fmt: skip
    assert batch.counts.tolist() == expected[student]
    assert batch.answered is not None
    assert batch.answered[0].tolist() == expected[teacher]
    # What a teacher says of itself while it answers is what was found out before.
    assert tokenize_words(real[teacher], ROWS, 512)[1].mapped.tolist() == expected[teacher]


@pytest.mark.parametrize("names", BOTH)
def test_each_side_loses_the_words_behind_its_own_cut(
    real: dict[str, Any], names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same number of tokens ends at another word."""
    rows = [[*ROWS[0], *ROWS[1]] * 3, [*ROWS[3], *ROWS[2]], ROWS[0][:2]]
    cuts = (24, 16)
    found = mapped_rows(real, names, rows, cuts, monkeypatch)
    assert found.faults == []
    lost = []
    for name, cut in zip(names, cuts, strict=True):
        _, whole = encode_words(real[name], rows, 512)
        places = [ids[: cut - 1] for ids in whole]  # all but the sign at the end
        lost.append(
            [sorted(set(range(len(row))) - set(ids)) for row, ids in zip(rows, places, strict=True)]
        )
    assert lost[0] != lost[1]
    assert lost[0][2] == lost[1][2] == []
    assert found.splits["train"].table["unmapped.t"].to_pylist() == lost[1]
    assert found.counted["train/words_unmapped"] == sum(map(len, lost[0])) > 10
    batch = Tagging(found.splits["train"].table, ("O",), ("t",)).batch(
        range(3), real[names[0]], cuts[0]
    )
    assert int((~batch.counts).sum()) == sum(map(len, lost[0]))


@pytest.mark.parametrize("names", BOTH)
def test_rows_of_which_a_side_sees_nothing_are_named(
    real: dict[str, Any], names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a row teaches nothing, and its mean would be over no word."""
    rows = [ROWS[0], ["", "\u200b"], ["\u0301", "\u00ad"], ["👨‍👩‍👧"]]
    found = mapped_rows(real, names, rows, (512, 512), monkeypatch)
    faults = dict(zip(names, map(str, found.faults), strict=True))
    assert "makes no piece of any word in row 2, row 3 of train" in faults["bert"]
    assert "makes no piece of any word in row 2 of train" in faults["xlmr"]
    assert [fault.path for fault in found.faults] == ["data.train", "teachers.t.model"]


QUESTION = "Who went 去了 where?"
WINDOWS = [
    "Ada Lovelace went unbelievably often to Rio-Paris, in 1998.",
    "艾达在上海市和Ada一起买了iPhone15，花了300元。",
    "彼は東京タワーに行った。サーバーAは動く。ｶﾞとﾊﾝｶｸ。",
    "Hello สวัสดีครับ กำแพง ผู้ใหญ่",
    "مَرْحَبًا بالعالم। नमस्ते हिन्दी किताबें १२३",
    "서울에 있는 한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "x 😀 y 👨‍👩‍👧 z 👍🏽 a 🇩🇪 b ❤️ c 🧑🏽‍🚀 d 1️⃣ e",
    "a\u200bb \ufeffAda\u200d \u00adRio\x07 e\u0301 é \u2060 \u0301",
    "ﬁn ① ½ kg １２ Straße İstanbul ﷺ ™Ada ㎏ 3.14%",
]


def places_of(name: str, window: str, tokens: list[str]) -> tuple[list[int], list[int], list[int]]:
    """Starts, ends and unseen units of a window, from the text of its pieces alone.

    Units as the tokenizer reads them stand on one line of text, and pieces spell the same line.
    """
    read = READ[name]
    units = [read(window[begin:end]) for begin, end in units_of(window).tolist()]
    hidden = "[\u00ad\u2060]*"  # pieces that nobody sees stand between units
    spans_of = units_of(window).tolist()
    ends_before = [0, *(end for _, end in spans_of)]
    gaps = [window[e:b] for e, (b, _) in zip(ends_before, spans_of, strict=False)]
    spaces = [" " if any(c.isspace() for c in gap) and number else "" for number, gap in enumerate(gaps)]  # fmt: skip
    line = "".join(space + unit for space, unit in zip(spaces, units, strict=True))
    texts = [bare(token) for token in tokens]
    pattern = "".join(" ?([^ ]+?)" if text is None else f" ?({re.escape(re.sub(hidden, '', text))})" for text in texts)  # fmt: skip
    spelt = re.fullmatch(pattern + " *", line)
    assert spelt is not None, (window, tokens, line)
    spans = [spelt.span(group + 1) for group in range(len(tokens))]
    at, starts, ends, unseen = 0, [], [], []
    for number, (space, unit) in enumerate(zip(spaces, units, strict=True)):
        begin = at + len(space)
        end = begin + len(unit)
        at = end
        starts.append(next((i for i, (b, e) in enumerate(spans) if begin <= b < end and e > b), -1))
        ends.append(max((i for i, (b, e) in enumerate(spans) if begin < e <= end and e > b), default=-1))  # fmt: skip
        if not unit:
            unseen.append(number)
    return starts, ends, unseen


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("window", WINDOWS, ids=range(len(WINDOWS)))
def test_units_begin_and_end_where_their_text_does(
    real: dict[str, Any], name: str, window: str
) -> None:
    """An answer that begins a piece too late is another answer."""
    inputs, (found,) = encode_spans(real[name], [[QUESTION], [window]], 512)
    encoding = real[name](QUESTION, window).encodings[0]
    mine = [place for place, of in enumerate(encoding.sequence_ids) if of == 1]
    tokens = real[name].convert_ids_to_tokens([inputs["input_ids"][0][place] for place in mine])
    starts, ends, unseen = places_of(name, window, tokens)
    at = lambda places: [-1 if p < 0 else mine[p] for p in places]  # noqa: E731
    assert found.starts.tolist() == at(starts)
    assert found.ends.tolist() == at(ends)
    assert found.unseen.tolist() == unseen


def side_of(real: dict[str, Any], name: str, cut: int, teacher: str | None = None) -> Side:
    where = f"teachers.{teacher}" if teacher else "student"
    return Side(where, where, cut, f"{where}.max_tokens", real[name], teacher)


def questions(contexts: Sequence[str], answers: Sequence[str]) -> Split:
    """Questions whose answer stands in their context, or is empty."""
    known = [[text] if text else [] for text in answers]
    starts = [[c.index(a)] if a else [] for c, a in zip(contexts, answers, strict=True)]
    table = pa.table(
        {
            "text": pa.array([QUESTION] * len(contexts), pa.large_string()),
            "text_pair": pa.array(contexts, pa.large_string()),
            "label": pa.array([int(bool(text)) for text in answers], pa.int32()),
            "row_id": pa.array(range(len(contexts)), pa.int64()),
            "id": [f"q{number}" for number in range(len(contexts))],
            "answers": pa.array(known, pa.list_(pa.string())),
            "starts": pa.array(starts, pa.list_(pa.int64())),
        }
    )
    return Split("train", Answering().kept_in(table), ("start", "end"), "", ())


ANSWERS = ["Rio-Paris", "iPhone15", "A", "กำแพง", "नमस्ते", "서울", "👍🏽", "Rio", "½"]


@pytest.mark.parametrize("names", BOTH)
def test_overlapping_windows_fit_both_and_lose_nothing(
    real: dict[str, Any], names: tuple[str, str]
) -> None:
    """What is behind the cut of one of the two is answered by nobody."""
    split = questions(WINDOWS, ANSWERS)
    cuts = (24, 27)
    sides = [side_of(real, names[0], cuts[0]), side_of(real, names[1], cuts[1], "t")]
    table = windows_for(split, sides, 0.34).table
    assert table.num_rows > len(WINDOWS) + 4
    columns = table["text"].to_pylist(), table["text_pair"].to_pylist()
    for name, cut in zip(names, cuts, strict=True):
        assert max(map(len, real[name](*columns)["input_ids"])) <= cut
    for question, (context, answer) in enumerate(zip(WINDOWS, ANSWERS, strict=True)):
        mine = [row for row, of in enumerate(table["question"].to_pylist()) if of == question]
        at, covered, given = 0, 0, set()
        for row in mine:
            window = columns[1][row]
            begin = context.index(window, at)
            assert not len(units_of(context[covered:begin]))
            assert begin == 0 or row == mine[0] or begin < covered
            at, covered = begin + 1, begin + len(window)
            start, end = table["label"][row].as_py()
            if start:
                units = units_of(window)
                given.add(window[units[start - FIRST_UNIT, 0] : units[end - FIRST_UNIT, 1]])
        assert not len(units_of(context[covered:]))
        assert given == {answer}


@pytest.mark.parametrize("names", BOTH)
def test_units_are_compared_where_both_see_them_and_no_mass_is_lost(
    real: dict[str, Any], names: tuple[str, str]
) -> None:
    """A softmax over pieces that loses mass on its way to units is that of no model."""
    split = questions(WINDOWS, ANSWERS)
    sides = [side_of(real, names[0], 512), side_of(real, names[1], 512, "t")]
    table = windows_for(split, sides, 0.34).table
    assert table.num_rows == len(WINDOWS)
    batch = QuestionAnswering(table, ("start", "end"), ("t",)).batch(range(9), real[names[0]], 512)
    assert batch.spans is not None
    said, kept = [], []
    for seed, name in enumerate(names):
        inputs, pieces = tokenize_spans(real[name], [[QUESTION] * 9, WINDOWS], 512)
        draw = torch.Generator().manual_seed(seed)
        values = 3 * torch.randn(*inputs["input_ids"].shape, 2, generator=draw)
        units, rest = span_logits(values, inputs["attention_mask"], pieces)
        logits, there = lay_out(units, rest, pieces.mapped[:, :2], pieces.units.row)
        whole = values.masked_fill(inputs["attention_mask"].unsqueeze(2) == 0, -torch.inf)
        said.append((logits, whole.logsumexp(1).flatten(), pieces))
        kept.append(there)
    assert torch.equal(batch.spans.shared, said[0][2].mapped[:, 2] & said[1][2].mapped[:, 2])
    target = merge_targets(kept[0] & kept[1])
    common = (kept[0] & kept[1]).bool()
    for logits, whole, _ in said:
        merged = merge(logits, target)
        torch.testing.assert_close(merged.logsumexp(1), whole, atol=1e-5, rtol=1e-5)
        assert (merged.softmax(1)[~common] == 0).all()
    # The label of a row is a class that both sides have.
    assert common.gather(1, target.gather(1, batch.labels.unsqueeze(1))).all()


@pytest.mark.parametrize("names", BOTH)
def test_windows_of_which_a_side_sees_nothing_are_named(
    real: dict[str, Any], names: tuple[str, str]
) -> None:
    """A teacher that sees an empty context says something all the same."""
    split = questions([WINDOWS[0], "\u0301 \ufe0f"], [ANSWERS[0], ""])
    sides = [side_of(real, names[0], 128), side_of(real, names[1], 128, "t")]
    who = sides[names.index("bert")].who
    with pytest.raises(
        ConfigError, match=rf"has no piece of any unit of a window \({who}\): row 2 \(q1\)\."
    ):
        windows_for(split, sides, 0.34)
