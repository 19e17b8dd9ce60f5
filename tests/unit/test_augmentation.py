"""New rows from rows: the same from the same, whatever else there is, and no more changed than was asked."""

from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.augmentation import (
    Draws,
    NewRows,
    Recipe,
    Synonyms,
    Unit,
    augment,
    augmented_table,
    by_text,
    contextual,
    delete,
    insert,
    join_units,
    mask,
    ngram,
    read_wordnet,
    read_words,
    rows_drawn,
    split_units,
    swap,
    synonym,
    typo,
)
from raydistill.data import label_matrix
from raydistill.data.matrix import as_lists

TEXTS = [
    "A good film , with a plot that it does not need .",
    "It's dull, and well-known; 3 stars at most!",
    "这部电影很好看，演员也不错。",
    "short",
    "mixed 中文 and English",
]
LIST = Synonyms([["good", "fine", "nice"], ["电影", "影片"], ["好看", "精彩"], ["film", "movie"]])
CHANGES = {
    "delete": partial(delete, rate=0.3),
    "swap": partial(swap, rate=0.3),
    "insert": partial(insert, rate=0.3),
    "synonyms inserted": partial(insert, rate=0.3, synonyms=LIST),
    "mask": partial(mask, rate=0.3, token="[MASK]"),
    "ngram": partial(ngram, shortest=2, longest=4),
    "synonym": partial(synonym, rate=0.5, synonyms=LIST),
    "typo": partial(typo, rate=0.3),
}
RECIPE = Recipe(7, [by_text(change) for change in CHANGES.values()], [1.0] * len(CHANGES))


def words_of(text: str) -> list[str]:
    return [unit.text for unit in split_units(text) if unit.is_word]


def test_draws_are_the_same_everywhere():
    """A run that is resumed on another machine, or after an upgrade, would see other rows."""
    assert Draws(7, "a film").fraction() == 0.9148823548155574
    draws, again = Draws(7, "a film"), Draws(7, "a film")
    assert [draws.below(1000) for _ in range(20)] == [again.below(1000) for _ in range(20)]
    assert Draws(7, "a film").fraction() != Draws(8, "a film").fraction()
    assert Draws("1", "2").fraction() != Draws("12").fraction() != Draws(12).fraction()


def test_draws_are_fair():
    """A rate that is rounded to whole words would be another rate in short texts."""
    numbers = [Draws(0, i).about(1.3) for i in range(4000)]
    assert set(numbers) == {1, 2}
    assert sum(numbers) / 4000 == pytest.approx(1.3, abs=0.03)
    places = [Draws(1, i).some(2, 5) for i in range(4000)]
    assert all(len(set(some)) == 2 and some == sorted(some) for some in places)
    for place in range(5):
        assert sum(place in some for some in places) / 4000 == pytest.approx(0.4, abs=0.03)
    taken = [Draws(2, i).weighted([1.0, 0.0, 3.0]) for i in range(4000)]
    assert taken.count(1) == 0
    assert taken.count(2) / 4000 == pytest.approx(0.75, abs=0.03)
    assert Draws(3, "x").some(9, 2) == [0, 1]


@given(st.text(max_size=60))
def test_text_in_words_is_the_text(text):
    """What splitting loses is changed though nobody asked for it."""
    for words in ("auto", "spaces", "characters"):
        assert join_units(split_units(text, words)).split() == text.split()
        assert "".join(u.text for u in split_units(text, words)) == "".join(text.split())


def test_words_of_many_languages():
    """A language whose words are cut in the middle is not augmented but spoilt."""
    assert words_of("It's well-known, 3 stars.") == ["It's", "well-known", "3", "stars"]
    assert words_of("这部电影很好。") == list("这部电影很好")
    assert words_of("हिन्दी भाषा।") == ["हिन्दी", "भाषा"]
    assert words_of("Ünïcode naïveté") == ["Ünïcode", "naïveté"]
    assert [u.text for u in split_units("ab 中文", "spaces")] == ["ab", "中文"]
    assert [u.text for u in split_units("ab c", "characters")] == ["a", "b", "c"]
    assert split_units("a ,b") == [Unit("a", False), Unit(",", True), Unit("b", False)]


@pytest.mark.parametrize("text", TEXTS)
def test_operations_do_what_they_say(text):
    """A deletion that adds, or an exchange that loses, is another operation."""
    before, units = words_of(text), split_units(text)
    for seed in range(20):
        after = {n: change(units, Draws(seed, text)) for n, change in CHANGES.items()}
        words = {name: [u.text for u in found if u.is_word] for name, found in after.items()}
        assert 1 <= len(words["delete"]) <= max(1, len(before) - 1)
        assert is_part(words["delete"], before)
        assert sorted(words["swap"]) == sorted(before)
        assert len(before) == 1 or words["swap"] != before or len(set(before)) < len(before)
        assert len(words["insert"]) > len(before)
        assert is_part(before, words["insert"])
        assert set(words["insert"]) == set(before)
        assert is_part(before, words["synonyms inserted"])
        assert len([u for u in after["mask"] if u.text == "[MASK]"]) >= 1
        assert len(after["mask"]) == len(units)
        found = after["ngram"]
        assert min(2, len(units)) <= len(found) <= 4
        assert any(found == units[i : i + len(found)] for i in range(len(units)))
        assert any(u.is_word for u in found)


def is_part(part: list[str], whole: list[str]) -> bool:
    left = iter(whole)
    return all(word in left for word in part)


def test_typos_are_slips_of_single_letters():
    """A word that nobody could read is not what fingers do."""
    seen = set()
    for seed in range(60):
        (slipped,) = typo(split_units("picture"), Draws(seed), rate=0.1)
        assert abs(len(slipped.text) - 7) <= 1
        seen.add(len(slipped.text))
        assert slipped.text != "picture"
    assert seen == {6, 7, 8}
    assert typo(split_units("a"), Draws(0), rate=1.0)[0].text


def test_synonyms_take_the_place_of_words_and_of_characters_together():
    """Half of a Chinese word replaced is no word."""
    everything = partial(synonym, rate=1.0, synonyms=LIST)
    found = {
        join_units(everything(split_units("Good film, 好看的电影!"), Draws(i))) for i in range(30)
    }
    assert found == {"Fine movie, 精彩的影片!", "Nice movie, 精彩的影片!"}
    assert by_text(everything)(["nothing here"], [Draws(0)]) == ["nothing here"]


def test_rows_do_not_depend_on_each_other():
    """Rows would differ between workers, after a resume, and when a row is added to the data."""
    rows = {"text": TEXTS, "text_pair": TEXTS[::-1]}
    options = {"columns": ("text", "text_pair"), "epoch": 0, "copy": 0}
    whole = augment(rows, RECIPE, **options)
    order = [3, 0, 4]
    part = augment({n: [column[i] for i in order] for n, column in rows.items()}, RECIPE, **options)
    assert part == {name: [whole[name][i] for i in order] for name in whole}
    again = augment(rows, RECIPE, **options)
    assert again == whole
    for other in ({"epoch": 1}, {"copy": 1}):
        assert augment(rows, RECIPE, **{**options, **other}) != whole
    alone = augment(rows, RECIPE, **{**options, "columns": ("text",)})
    assert alone["text_pair"] == TEXTS[::-1]
    assert alone["text"] == whole["text"]


def test_one_operation_or_all():
    """A text that was to be changed a little would not be recognised."""
    first, second = (lambda texts, draws, a=a: [f"{text}{a}" for text in texts] for a in "xy")
    for apply, allowed in (("one", {"ax", "ay"}), ("all", {"axy"})):
        recipe = Recipe(0, [first, second], [1.0, 1.0], apply)
        found = {augment({"text": ["a"]}, recipe, columns=("text",), epoch=e, copy=0)["text"][0] for e in range(30)}  # fmt: skip
        assert found == allowed


def make_table(labels: pa.Array, texts=tuple(TEXTS)) -> pa.Table:
    ids = pa.array(range(len(texts)), pa.int64())
    return pa.table({"text": pa.array(texts, pa.large_string()), "label": labels, "row_id": ids})


LABELS = pa.array([0, 1, 0, -100, 1], pa.int32())


def test_new_rows_stand_in_order_with_ids_and_labels_of_their_own():
    """A label that moves to another row's text teaches the wrong thing."""
    table = make_table(LABELS)
    made = augmented_table(table, NewRows(("text",), copies=2), RECIPE, epoch=0, first_row_id=50)
    assert made.schema == table.schema
    assert made["row_id"].to_pylist() == list(range(50, 60))
    assert made["label"].to_pylist() == [label for label in LABELS.to_pylist() for _ in range(2)]
    first = augment({"text": TEXTS}, RECIPE, columns=("text",), epoch=0, copy=0)["text"]
    assert made["text"].to_pylist()[::2] == first
    without = NewRows(("text",), copies=2, keeps_labels=False)
    found = augmented_table(table, without, RECIPE, epoch=0, first_row_id=50)
    assert found["label"].to_pylist() == [-100] * 10
    assert found["label"].type == table["label"].type


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_new_rows_of_several_labels_have_none(kind):
    """A 0 in place of nothing is a label."""
    import numpy as np

    dtype = np.int8 if kind == "classes" else np.float64
    table = make_table(as_lists(np.ones((5, 3), dtype)))
    new = NewRows(("text",), keeps_labels=False)
    made = augmented_table(table, new, RECIPE, epoch=0, first_row_id=0)
    assert made.schema == table.schema
    matrix = label_matrix(made["label"])
    assert (np.isnan(matrix) if kind == "numbers" else matrix == -1).all()


def test_share_of_rows_is_drawn_by_their_texts():
    """Rows that are added later would change which of the others are drawn."""
    texts = tuple(f"text {i}" for i in range(2000))
    table = make_table(pa.array([0] * 2000, pa.int32()), texts)
    drawn = set(rows_drawn(table, 0.3, seed=1).tolist())
    assert len(drawn) / 2000 == pytest.approx(0.3, abs=0.04)
    head = set(rows_drawn(table.slice(0, 500), 0.3, seed=1).tolist())
    assert head == {row for row in drawn if row < 500}
    assert drawn != set(rows_drawn(table, 0.3, seed=2).tolist())


WORDS = {"good": 0.6, "fine": 0.3, "film": 0.1}


def fixed_candidates(texts):
    """The same three words at every mask."""
    return [[list(WORDS.items())] * text.count("[M]") for text in texts]


def test_contextual_words_are_drawn_by_probability_and_never_the_same():
    """A word replaced by itself is a row that teachers answer once more for nothing."""
    operation = contextual(fixed_candidates, token="[M]", rate=0.1, action="substitute")
    found = [operation(["good"], [Draws(i)])[0] for i in range(400)]
    assert set(found) == {"fine", "film"}
    assert found.count("fine") / 400 == pytest.approx(0.75, abs=0.07)
    added = contextual(fixed_candidates, token="[M]", rate=0.1, action="insert")
    assert {added(["a plot ."], [Draws(i)])[0] for i in range(40)} <= {
        f"{a} plot{b} ." for a, b in [(f"a {word}", "") for word in WORDS] + [("a", f" {word}") for word in WORDS]
    }  # fmt: skip
    assert operation(["has [M] in it"], [Draws(0)]) == ["has [M] in it"]
    assert operation(["很"], [Draws(0)]) == ["很"]  # none of the words is written like it


def test_what_a_model_did_not_read_stays():
    """Behind its last position a model says nothing."""
    operation = contextual(lambda texts: [[] for _ in texts], token="[M]", rate=1.0, action="substitute")  # fmt: skip
    assert operation(["a long text"], [Draws(0)]) == ["a long text"]


BAD_LISTS = [
    (b"", "must hold words"),
    (b"good\tfine\nfilm\n", "line 2"),
    (b"good, Good\n", "line 1"),
    (b"good\xff", "must be UTF-8"),
]


@pytest.mark.parametrize(("content", "said"), BAD_LISTS, ids=[said for _, said in BAD_LISTS])
def test_bad_word_lists_are_refused(tmp_path, content, said):
    """Rows that silently stay as they are train nothing new."""
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_words(path)
    with pytest.raises(ValueError, match="does not exist"):
        read_words(tmp_path / "other.txt")


def test_word_lists_and_wordnet_are_read(tmp_path):
    """Files as people have them."""
    path = tmp_path / "words.txt"
    path.write_text("# films\ngood\tfine\n\n电影，影片\nfine, nice , great\n", "utf-8")
    found = read_words(path)
    assert list(found.of("FINE")) == ["good", "nice", "great"]
    assert list(found.of("影片")) == ["电影"]
    licence = "  1 This software\n"
    lines = {
        "noun": "00001740 03 n 02 movie 0 motion_picture 0 001 @ 1 n 0000 | a film\n",
        "verb": "",
        "adj": "00001740 00 a 02 able(p) 0 capable 0 000 | having\n",
        "adv": "",
    }
    for part, line in lines.items():
        (tmp_path / f"data.{part}").write_text(licence + line, "utf-8")
    net = read_wordnet(tmp_path)
    assert list(net.of("movie")) == ["motion picture"]
    assert list(net.of("capable")) == ["able"]
    (tmp_path / "data.adv").write_text("no synset\n", "utf-8")
    with pytest.raises(ValueError, match=r"data\.adv is none"):
        read_wordnet(tmp_path)
    (tmp_path / "data.verb").unlink()
    with pytest.raises(ValueError, match=r"no data\.verb"):
        read_wordnet(tmp_path)
