"""Tagged words: the same from every format, and every odd row named."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.config import DistillConfig
from raydistill.data import Routes, Split, TaggedColumns, find_splits, load_tagged_splits
from raydistill.data.tagged_reader import TAGGED_SUFFIXES
from raydistill.errors import ConfigError
from raydistill.prepare.data import load_data

WORDS = [["Ada", "Lovelace", "wrote"], ["in", "#London", "."], ["中国", "😀"]]
TAGS = [["B-per", "I-per", "O"], ["O", "B-loc", "O"], ["B-loc", "O"]]
LABELS = ("O", "B-loc", "I-loc", "B-per", "I-per")
IDS = [[LABELS.index(tag) for tag in row] for row in TAGS]


def write(path: Path, content: str | list[dict[str, Any]]) -> Path:
    text = (
        content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    )
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(words: list[Any] = WORDS, tags: list[Any] = TAGS) -> list[dict[str, Any]]:
    return [{"tokens": w, "ner_tags": t} for w, t in zip(words, tags, strict=True)]


def load(
    path: Path, routes: Routes | None = None, others: Any = (), **columns: Any
) -> dict[str, Split]:
    files = {"train": [path], **dict(others)}
    return load_tagged_splits(
        files, TaggedColumns(**{"words": "tokens", "tags": "ner_tags", **columns}), routes=routes
    )


def faults_of(path: Path, **columns: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **columns)
    return [str(fault) for fault in caught.value.faults]


def conll(separator: str = "\t", words: Any = WORDS, tags: Any = TAGS) -> str:
    rows = zip(words, tags, strict=True)
    return "\n".join(
        "".join(f"{w}{separator}{t}\n" for w, t in zip(*row, strict=True)) for row in rows
    )


def test_words_mean_the_same_in_every_format(tmp_path: Path) -> None:
    """A word that moves by one place has its neighbour's tag."""
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tokens": WORDS, "ner_tags": TAGS}), parquet)
    spaced = [(" ".join(w), " ".join(t)) for w, t in zip(WORDS, TAGS, strict=True)]
    comments = (
        "-DOCSTART- -X- O\n\n# id 7 domain=en\n"
        + conll(" NNP _ ").replace("\n", "\r\n")
        + "\r\n\r\n"
    )
    made = {
        write(tmp_path / "a.jsonl", rows_of()): {},
        write(tmp_path / "a.json", json.dumps(rows_of())): {},
        parquet: {},
        write(tmp_path / "n.jsonl", rows_of(tags=IDS)): {"labels": LABELS},
        write(tmp_path / "a.conll", conll()): {},
        write(tmp_path / "b.txt", comments): {},
        write(tmp_path / "a.csv", "tokens,ner_tags\n" + "".join(f"{w},{t}\n" for w, t in spaced)): {"separator": " "},
        write(tmp_path / "a.tsv", "tokens\tner_tags\n" + "".join(f"{json.dumps(w)}\t{json.dumps(t)}\n" for w, t in zip(WORDS, TAGS, strict=True))): {},
        write(tmp_path / "s.jsonl", [{"tokens": w, "ner_tags": t} for w, t in spaced]): {"separator": " "},
    }  # fmt: skip
    splits = {path.name: load(path, **columns)["train"] for path, columns in made.items()}
    for name, split in splits.items():
        assert split.labels == LABELS, name
        assert split.table["words"].to_pylist() == WORDS, name
        assert split.table["label"].to_pylist() == IDS, name
    assert len({split.fingerprint for split in splits.values()}) == 1
    other = load(write(tmp_path / "o.jsonl", rows_of(tags=[*TAGS[:2], ["B-per", "O"]])))["train"]
    assert other.fingerprint != splits["a.jsonl"].fingerprint


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("iob1", [["I-per", "I-per", "O"], ["O", "I-loc", "O"], ["I-loc", "O"]]),
        ("bioes", [["B-per", "E-per", "O"], ["O", "S-loc", "O"], ["S-loc", "O"]]),
        ("bioes", [["B-per", "L-per", "O"], ["O", "U-loc", "O"], ["U-loc", "O"]]),
    ],
)
def test_every_scheme_becomes_one(scheme: str, tags: Any, tmp_path: Path) -> None:
    """Two ways to write a span would be two tags for the same word."""
    split = load(write(tmp_path / "a.jsonl", rows_of(tags=tags)), scheme=scheme)["train"]
    names = [[split.labels[one] for one in row] for row in split.table["label"].to_pylist()]
    assert names == TAGS


def test_neighbours_of_one_type_stay_two_spans(tmp_path: Path) -> None:
    """B- inside of a run of I- is all that tells two names apart."""
    path = write(tmp_path / "a.jsonl", rows_of([["a", "b", "c"]], [["I-x", "B-x", "I-x"]]))
    split = load(path, scheme="iob1")["train"]
    assert [split.labels[one] for one in split.table["label"][0].as_py()] == ["B-x", "B-x", "I-x"]


ODD: list[tuple[list[Any], list[Any], dict[str, Any], str]] = [
    ([["a", "b"]], [["O"]], {"labels": LABELS}, "must have as many tags as words in every row, got another number in a.jsonl, row 1 (2 words, 1 tags)"),
    ([["a"], []], [["O"], []], {"labels": LABELS}, "must have at least one word in every row, got none in a.jsonl, row 2"),
    ([["a"], ["b", 7]], [["O"], ["O", "O"]], {"labels": LABELS}, "must hold words that are text in column 'tokens' (task.words), got a number in a.jsonl, row 2"),
    ([["a", None]], [["O", "O"]], {"labels": LABELS}, "got null in a.jsonl, row 1"),
    ([["a"], "b c"], [["O"], ["O", "O"]], {"labels": LABELS}, "got text in a.jsonl, row 2. Say what stands between words (task.separator)"),
    ([["a", "b"]], [["O", "B-pet"]], {"labels": LABELS}, "must have tags out of O, B-loc, I-loc, B-per, I-per (task.labels), got others in a.jsonl, 'B-pet' in row 1. Did you mean 'B-per'?"),
    ([["a", "b"]], [["O", 5]], {"labels": LABELS}, "got others in a.jsonl, 5 in row 1"),
    ([["a", "b"]], [["O", "I-per"]], {"labels": LABELS}, "got tags that go on with no span in a.jsonl, 'I-per' at word 2 of row 1. Set task.scheme: iob1"),
    ([["a", "b"]], [["B-loc", "I-per"]], {}, "'I-per' at word 2 of row 1"),
    ([["a"], ["b"]], [["O"], None], {"labels": LABELS}, "must have tags in every row, got none in a.jsonl, row 2. Put rows without tags under data.unlabelled."),
    ([["a"]], [["B-per"]], {"labels": ("B-per", "I-per")}, "task.labels must hold O"),
    ([["a"]], [["O"]], {"labels": ("O", "per", "I-x", "B-x")}, "must be O or begin with B-, I- (task.scheme: iob2), got per"),
    ([["a"]], [["O"]], {"labels": ("O", "S-x", "B-x")}, "got S-x. Set task.scheme: bioes."),
    ([["a"]], [["O"]], {"labels": ("O", "I-x")}, "must hold B- of every type"),
    ([["a"]], [[0]], {}, "task.labels must be given where tags are numbers, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "tags", "columns", "line"), ODD)
def test_odd_rows_are_named(words: Any, tags: Any, columns: Any, line: str, tmp_path: Path) -> None:
    """A row that is read otherwise than it was meant teaches what nobody wrote."""
    faults = faults_of(write(tmp_path / "a.jsonl", rows_of(words, tags)), **columns)
    assert len(faults) == 1, faults
    assert line in faults[0]


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    """One fault a run is a run a fault."""
    path = write(
        tmp_path / "a.jsonl", rows_of([["a", "b"], [], ["c"], ["d"]], [["O"], [], ["O"], None])
    )
    assert [line.split(", got")[0] for line in faults_of(path, labels=LABELS)] == [
        "data.train must have as many tags as words in every row",
        "data.train must have at least one word in every row",
        "data.train must have tags in every row",
    ]
    path = write(tmp_path / "b.conll", "Ada\tB-per\nLovelace\n\nx\tI-loc\n\ny\tB-what\n")
    (line,) = faults_of(path, labels=LABELS)
    assert "got one column in b.conll, line 2" in line
    path = write(tmp_path / "c.conll", "Ada\tB-per\n\nx\tI-loc\n\ny\tB-what\n")
    assert [line.split("got ")[1][:6] for line in faults_of(path, labels=LABELS)] == [
        "tags t",
        "others",
    ]
    path.write_bytes("Ada\tB-per\nZürich\tO\n".encode("latin-1"))
    (line,) = faults_of(path, labels=LABELS)
    assert "must be UTF-8" in line


NUMBERED = """#\tn-tv.de vom 26.02.2005 [2005-02-26]
1\tSchartau\tB-PER\tO
2\tsagte\tO\tO
3\tdem\tO\tO

#\tohne [2005-02-26]
1\tTagesspiegel\tB-ORG\tB-LOC
"""


def test_conll_columns_are_those_that_are_named(tmp_path: Path) -> None:
    """GermEval has numbers before the words, a source above them and nested tags behind the outer ones."""
    path = write(tmp_path / "a.conll", NUMBERED)
    for conll_columns, tags in [((1, 2), ["B-ORG"]), ((1, -2), ["B-ORG"]), ((-3, 3), ["B-LOC"])]:
        split = load(path, conll=conll_columns)["train"]
        assert split.table["words"].to_pylist() == [["Schartau", "sagte", "dem"], ["Tagesspiegel"]]
        assert [split.labels[one] for one in split.table["label"].to_pylist()[1]] == tags
    untagged = write(tmp_path / "u.conll", "1\tAda\n2\twrote\n")
    others = {"unlabelled": [untagged]}
    split = load(path, conll=(1, 2), others=others)["unlabelled"]
    assert split.table["words"].to_pylist() == [["Ada", "wrote"]]


def test_configuration_says_where_words_stand(tmp_path: Path) -> None:
    """A setting that reaches no reader is believed to work."""
    config = DistillConfig.model_validate({
        "run": {"name": "names"},
        "data": {"train": str(write(tmp_path / "a.conll", NUMBERED))},
        "task": {"kind": "tagging", "conll": {"words": 1, "tags": 2}},
        "student": {"model": "any"},
        "losses": [{"kind": "cross_entropy"}],
    })  # fmt: skip
    table = load_data(config)["train"].table
    assert table["words"].to_pylist() == [["Schartau", "sagte", "dem"], ["Tagesspiegel"]]
    assert table["label"].to_pylist() == [[3, 0, 0], [1]]


@pytest.mark.parametrize(
    "text",
    [
        NUMBERED,
        "0 Ada B-per\n1 wrote O\n\n0 Rio B-loc\n",
        "# text = au\n1-2\tau\tO\n1\ta\tO\n2\tle\tO\n2.1\tx\tO\n",
    ],
)
def test_numbers_before_words_are_no_words(tmp_path: Path, text: str) -> None:
    """A student of the words 1, 2 and 3 trains without complaint, and knows nothing."""
    (line,) = faults_of(write(tmp_path / "a.conll", text))
    assert "must have words in column 0 (task.conll), got numbers that count them in a.conll, every row. Say where words stand: task.conll: {words: 1}, from 0." in line  # fmt: skip


@pytest.mark.parametrize("text", ["1 O\n\n1 O\n", "1 O\n2 O\n\nRio B-loc\n", "2 O\n3 O\n", "1 O\n2 O\n\n# O\n"])  # fmt: skip
def test_words_may_be_numbers(tmp_path: Path, text: str) -> None:
    """A line of a table is a row too."""
    assert load(write(tmp_path / "a.conll", text), labels=LABELS)["train"].table.num_rows > 0


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ((1, 5), "must have columns 1 and, of tags, 5 in every line, from 0 (task.conll), got 4 columns in a.conll, line 2, line 3, line 4 and 1 more."),
        ((1, -3), "must have columns 1 and, of tags, -3 in every line"),
        ((-5, 2), "must have columns -5 and, of tags, 2 in every line"),
    ],
)  # fmt: skip
def test_columns_that_are_not_there_are_named(tmp_path: Path, columns: Any, line: str) -> None:
    """The neighbour's column is another tag set."""
    lines = faults_of(write(tmp_path / "a.conll", NUMBERED), conll=columns)
    assert any(line in one for one in lines), lines


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    """A column of another name is the most common of all faults."""
    path = write(tmp_path / "a.jsonl", rows_of())
    (line,) = faults_of(path, words="token")
    assert "must hold a column 'token' (task.words)" in line
    assert "Did you mean 'tokens'?" in line
    (line,) = faults_of(tmp_path / "a.xml")
    assert "no such file" in line
    (line,) = faults_of(write(tmp_path / "empty.conll", "\n\n"), labels=LABELS)
    assert "must hold at least one row" in line


def test_rows_without_tags(tmp_path: Path) -> None:
    """Rows that only teachers speak about, and rows of validation that nobody tagged."""
    train = write(tmp_path / "train.jsonl", rows_of())
    more = write(tmp_path / "more.conll", "Grace\nHopper\n\nRio\n")
    dev = write(tmp_path / "dev.jsonl", [*rows_of()[:1], {"tokens": ["x", "y"], "ner_tags": None}])
    splits = load(train, others={"unlabelled": [more], "validation": [dev]})
    assert splits["unlabelled"].table["words"].to_pylist() == [["Grace", "Hopper"], ["Rio"]]
    assert splits["unlabelled"].table["label"].to_pylist() == [[-100, -100], [-100]]
    assert splits["unlabelled"].table["row_id"].to_pylist() == [3, 4]
    assert splits["validation"].table["label"].to_pylist()[1] == [-100, -100]
    notes = " ".join(splits["validation"].notes)
    assert "1 of 2 rows have no tags" in notes
    assert "1 of 2 texts of validation also occur in train" in notes


def test_rows_of_words_have_routes(tmp_path: Path) -> None:
    """A specialist that is asked about other rows teaches what it does not know."""
    rows = [
        {**row, "of": name} for row, name in zip(rows_of(), ("wide", "deep", "wide"), strict=True)
    ]
    routes = Routes("of", ("wide", "deep"), {})
    split = load(write(tmp_path / "a.jsonl", rows), routes)["train"]
    assert split.table["route"].to_pylist() == [0, 1, 0]
    assert split.fingerprint != load(write(tmp_path / "b.jsonl", rows_of()))["train"].fingerprint


def test_conll_files_are_found_in_a_folder(tmp_path: Path) -> None:
    """A folder as it was downloaded."""
    for name in ("train.txt", "dev.conll", "test.bio", "readme.txt"):
        write(tmp_path / name, conll())
    found = find_splits(tmp_path, suffixes=TAGGED_SUFFIXES)
    assert {split: path.name for split, path in found.items()} == {
        "train": "train.txt", "validation": "dev.conll", "test": "test.bio",
    }  # fmt: skip
