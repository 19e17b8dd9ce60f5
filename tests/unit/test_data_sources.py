import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.config import DistillConfig
from raydistill.data.files import DataFile
from raydistill.data.folder import find_splits
from raydistill.data.label_names import read_labels
from raydistill.data.readers import cells, csv_rows, json_rows
from raydistill.data.readers.reading import Reading
from raydistill.data.routes import Routes
from raydistill.data.sources import load_split
from raydistill.data.splits import load_splits
from raydistill.errors import ConfigError
from raydistill.prepare.data import load_data
from tests.conftest import two_teachers

TEXTS = ["123", "null", "2020-01-01", "NA", 'a "b", c', "été — 😀", "true", " x ", "1e5"]
ROWS = [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(TEXTS)]


def csv_of(rows, separator=",", end="\n"):
    def cell(value):
        text = str(value)
        if separator == "," and any(mark in text for mark in ',"\n\r'):
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(separator.join(map(cell, line)) + end for line in lines).encode()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def load(*paths, name="train", text="text", label="label", **more):
    more = {"path_in_config": f"data.{name}", **more}
    return load_split(name, list(paths), text=text, label=label, **more)


def faults_of(*paths, **more):
    with pytest.raises(ConfigError) as caught:
        load(*paths, **more)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.faults)
    return lines


@pytest.fixture
def in_every_format(tmp_path):
    parquet = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), parquet, row_group_size=4)
    return {
        "jsonl": write(tmp_path / "rows.jsonl", jsonl(ROWS)),
        "json array": write(tmp_path / "array.json", json.dumps(ROWS, indent=1)),
        "json lines": write(tmp_path / "lines.json", jsonl(ROWS)),
        "csv": write(tmp_path / "rows.csv", csv_of(ROWS)),
        "csv from Windows": write(tmp_path / "win.csv", b"\xef\xbb\xbf" + csv_of(ROWS, end="\r\n")),
        "tsv": write(tmp_path / "rows.tsv", csv_of(ROWS, "\t")),
        "jsonl from Windows": write(
            tmp_path / "win.jsonl", b"\xef\xbb\xbf" + jsonl(ROWS).replace("\n", "\r\n").encode()
        ),
        "parquet": parquet,
    }


def test_load_split_gives_texts_as_they_stand_in_every_format(in_every_format):
    """A reader that turns "123" or "null" into a number or nothing changes what is trained on."""
    for name, path in in_every_format.items():
        split = load(path)
        assert split.table["text"].to_pylist() == TEXTS, name
        assert split.labels == ("a", "b"), name
        assert split.table["label"].to_pylist() == [number % 2 for number in range(len(TEXTS))]


def test_fingerprint_depends_on_rows_alone(in_every_format, tmp_path):
    """A fingerprint of the file refuses to resume after a harmless conversion to Parquet."""
    prints = {load(path).fingerprint for path in in_every_format.values()}
    halves = [
        write(tmp_path / "one.jsonl", jsonl(ROWS[:4])),
        write(tmp_path / "two.csv", csv_of(ROWS[4:])),
    ]
    prints.add(load(*halves, labels=["a", "b"]).fingerprint)
    assert len(prints) == 1


@pytest.mark.parametrize(
    "changed",
    [
        ROWS[::-1],
        [{**ROWS[0], "label": "b"}, *ROWS[1:]],
        [{**ROWS[0], "text": "1"}, {**ROWS[1], "text": "23null"}, *ROWS[2:]],
        ROWS[:-1],
    ],
)
def test_fingerprint_changes_with_any_row(changed, tmp_path):
    """A resumed run must notice other data, moved text between rows included."""
    one, other = (
        load(write(tmp_path / f"{name}.jsonl", jsonl(rows)), labels=["a", "b"]).fingerprint
        for name, rows in (("one", ROWS), ("other", changed))
    )
    assert one != other


def test_fingerprint_tells_the_two_texts_of_a_pair_apart(tmp_path):
    """Swapped premise and hypothesis are other data."""
    path = write(tmp_path / "rows.jsonl", jsonl([{"a": "x", "b": "y", "label": 0}]))
    one = load(path, text="a", text_pair="b").fingerprint
    assert one != load(path, text="b", text_pair="a").fingerprint


any_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).filter(
    lambda text: text.strip()
)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(texts=st.lists(any_text, min_size=1, max_size=8))
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_fast_and_careful_reader_agree(texts, suffix, tmp_path, monkeypatch):
    """Readers that differ make a file's meaning depend on its size or an unrelated row."""
    rows = [{"label": "a", "text": text} for text in texts]
    path = write(tmp_path / f"rows.{suffix}", jsonl(rows) if suffix == "jsonl" else csv_of(rows))
    source = Reading(DataFile(str(path)), {"text": "text", "label": "label"}, "data.train")
    reads = {
        "jsonl": (json_rows.json_fast, json_rows.json_careful),
        "csv": (csv_rows.csv_fast, csv_rows.csv_careful),
    }[suffix]
    fast, careful = (
        {role: cells.to_pylist() for role, cells in read(source).items()} for read in reads
    )
    assert not source.problems
    assert fast == careful
    assert fast["text"] == texts


def test_load_split_reads_rows_longer_than_a_block(tmp_path):
    """Arrow's blocks must not bound the length of a text."""
    long = "x" * (cells.BLOCK_BYTES[0] + 10)
    rows = [{"text": text, "label": "a"} for text in ("short", long)]
    for path in (
        write(tmp_path / "rows.jsonl", jsonl(rows)),
        write(tmp_path / "rows.csv", csv_of(rows)),
    ):
        assert load(path).table["text"].to_pylist() == ["short", long]


def test_csv_texts_may_hold_line_ends(tmp_path):
    """A quoted line end is part of the text, not a new row."""
    path = write(tmp_path / "rows.csv", b'text,label\r\n"a\r\nb",x\r\n"c\nd",y\r\n')
    assert load(path).table["text"].to_pylist() == ["a\r\nb", "c\nd"]


@pytest.mark.parametrize(
    "content",
    ['label,text\na,one\nb,"two\na,three\n', 'label,text\na,one\nb,"two\na,three'],
)
def test_csv_with_an_open_quotation_mark_is_refused(content, tmp_path):
    """Readers swallow all rows behind the mark into one text, without a word."""
    lines = faults_of(write(tmp_path / "rows.csv", content))
    assert len(lines) == 1
    assert "close every quotation mark" in lines[0]
    assert "lines 3 to 4" in lines[0]


def test_tsv_is_read_without_quoting_and_says_so(tmp_path):
    """Quotation marks in GLUE's files are text; in pandas' files they are not: say so."""
    path = write(tmp_path / "rows.tsv", 'text\tlabel\n"He said ""no"""\ta\nplain "x" y\tb\n')
    split = load(path)
    assert split.table["text"].to_pylist() == ['"He said ""no"""', 'plain "x" y']
    assert len(split.notes) == 1
    assert "1 text begin" in split.notes[0]


def test_missing_file_is_refused_with_the_nearest_name(tmp_path):
    """A misspelt path should cost a second, not a search."""
    write(tmp_path / "train.jsonl", jsonl(ROWS))
    (line,) = faults_of(tmp_path / "trian.jsonl")
    assert line.startswith("data.train must be an existing file, got ")
    assert line.endswith("Nearest in that folder: train.jsonl.")


def test_unknown_suffix_is_refused_with_those_known(tmp_path):
    """A guess at a format gives garbage rows."""
    (line,) = faults_of(write(tmp_path / "train.jsnol", jsonl(ROWS)))
    assert ".csv, .json, .jsonl, .parquet, .tsv" in line
    assert "Did you mean '.jsonl'?" in line


@pytest.mark.parametrize("kind", ["jsonl", "json array", "csv", "tsv", "parquet"])
def test_missing_columns_are_refused_all_at_once(kind, in_every_format):
    """One missing column at a time means as many starts as there are mistakes."""
    lines = faults_of(in_every_format[kind], text="txt", text_pair="hypothesis")
    assert len(lines) == 2
    assert "'txt' (task.text)" in lines[0]
    assert "Did you mean 'text'?" in lines[0]
    assert "'hypothesis' (task.text_pair)" in lines[1]
    assert all("label" in line.split("got the columns")[1] for line in lines)


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_empty_json_is_refused(content, tmp_path):
    """An empty split trains for no steps and reports success."""
    (line,) = faults_of(write(tmp_path / "train.json", content))
    assert "at least one row" in line


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_empty_csv_is_refused(content, tmp_path):
    """A file with a header only is as empty as one without."""
    (line,) = faults_of(write(tmp_path / "train.csv", content))
    assert "got none" in line or "empty file" in line


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"text,label\nfine,a\ncaf\xe9,b\n"),
        ("rows.jsonl", b'{"text":"f","label":"a"}\n\n{"text":"caf\xe9","label":"b"}\n'),
    ],
)
def test_bytes_that_are_not_utf8_are_named_by_line_and_offset(name, content, tmp_path):
    """ "invalid UTF-8" without a place cannot be repaired in a file of a million lines."""
    (line,) = faults_of(write(tmp_path / name, content))
    assert f"line 3, byte {content.index(0xE9)} (0xe9)" in line
    assert "UTF-8" in line


def test_utf16_is_recognised(tmp_path):
    """A spreadsheet's "Unicode text" would give one fault a line."""
    (line,) = faults_of(write(tmp_path / "rows.csv", "text,label\na,b\n".encode("utf-16")))
    assert "UTF-16" in line


def test_malformed_json_lines_are_named_three_and_counted(tmp_path):
    """All faults at once, but not a screen of them."""
    good = '{"text": "x", "label": "a"}'
    path = write(tmp_path / "rows.jsonl", "\n".join([good, "{", good, "x", "[", "{]", "]", good]))
    (line,) = faults_of(path)
    assert "line 2 (" in line
    assert "line 4 (" in line
    assert "line 5 (" in line
    assert "line 6" not in line
    assert "and 2 more" in line


def test_malformed_array_is_named_by_line(tmp_path):
    """A missing comma in an array is found at its line."""
    path = write(tmp_path / "rows.json", '[{"text": "x"}\n,{"text": "y"}\n{}]')
    lines = faults_of(path)
    assert "line 3" in lines[0]
    assert "'label' (task.label)" in lines[1]


def test_json_texts_that_are_not_text_are_named(tmp_path):
    """A number silently written out as text may not be what the file means."""
    path = write(tmp_path / "rows.jsonl", '{"text": 5, "label": 1}\n{"text": ["x"], "label": 0}\n')
    lines = faults_of(path)
    assert any("a number" in line and "line 1" in line for line in lines)
    assert any("an array" in line and "line 2" in line for line in lines)


def test_half_a_surrogate_pair_is_named(tmp_path):
    """It cannot be written as UTF-8; a traceback from deep inside would be our bug."""
    (line,) = faults_of(write(tmp_path / "rows.jsonl", '{"text": "x\\ud83d", "label": 0}\n'))
    assert "surrogate" in line
    assert "line 1" in line


def test_ragged_csv_rows_are_named_by_line(tmp_path):
    """A comma in an unquoted text shifts the label away."""
    path = write(tmp_path / "rows.csv", "text,label\na,0\nb, and c,1\nd\n")
    lines = faults_of(path)
    assert len(lines) == 1
    assert "line 3 (3 columns), line 4 (1 column)" in lines[0]


def test_semicolons_are_recognised(tmp_path):
    """Half of Europe's spreadsheets write them."""
    lines = faults_of(write(tmp_path / "rows.csv", "text;label\na;0\n"))
    assert all("semicolons" in line for line in lines)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_without_text_are_named_three_and_counted(kind, tmp_path):
    """Empty texts teach the label of nothing."""
    texts = ["a", "", "b", " \t", "\u3000", "", "c"]
    rows = [{"text": text, "label": "x"} for text in texts]
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        rows[5]["text"] = None
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, jsonl(rows) if kind == "jsonl" else csv_of(rows))
    (line,) = faults_of(path)
    assert "row 2, row 4, row 5 and 1 more" in line


def test_both_texts_of_a_pair_are_checked(tmp_path):
    """A pair with one empty side is no pair."""
    rows = [{"p": "a", "h": "", "label": 0}, {"p": None, "h": "b", "label": 0}]
    lines = faults_of(write(tmp_path / "rows.jsonl", jsonl(rows)), text="p", text_pair="h")
    assert "task.text)" in lines[0]
    assert "row 2" in lines[0]
    assert "task.text_pair)" in lines[1]
    assert "row 1" in lines[1]


def test_faults_of_all_files_come_at_once(tmp_path):
    """Fixing one file to learn of the next is a waste."""
    one = write(tmp_path / "one.jsonl", '{"text": "", "label": "z"}\n')
    two = write(tmp_path / "two.csv", "text,label\na\n")
    lines = faults_of(one, two, labels=["a", "b"])
    assert len(lines) == 3
    assert sum("one.jsonl" in line for line in lines) == 2
    assert sum("two.csv" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("cells", "names", "ids"),
    [
        (["pos", "neg"], ["neg", "pos"], [1, 0]),
        ([1, 0], ["neg", "pos"], [1, 0]),
        (["1", "0"], ["neg", "pos"], [1, 0]),
        ([1.0, 0.0], ["neg", "pos"], [1, 0]),
        ([True, False], ["neg", "pos"], [1, 0]),
        (["pos", 0], ["neg", "pos"], [1, 0]),
        ([1, 3], ["1", "2", "3"], [0, 2]),
        ([1, 0], ["0", "1"], [1, 0]),
    ],
)
def test_labels_resolve_to_their_numbers(cells, names, ids, tmp_path):
    """Stars 1 to 3 read as class numbers 1 to 3 shift every label by one."""
    rows = [{"text": "x", "label": cell} for cell in cells]
    split = load(write(tmp_path / "rows.jsonl", jsonl(rows)), labels=names)
    assert split.table["label"].to_pylist() == ids
    assert split.table["label"].type == pa.int32()


@pytest.mark.parametrize("bad", ["positve", 7, -1, "2", 0.5])
def test_label_that_is_not_known_is_refused(bad, tmp_path):
    """It would index another class, or crash the loss in a worker an hour later."""
    rows = [{"text": "x", "label": cell} for cell in ["positive", bad]]
    (line,) = faults_of(
        write(tmp_path / "rows.jsonl", jsonl(rows)), labels=["negative", "positive"]
    )
    assert "row 2" in line
    assert repr(str(bad)) in line
    assert ("Did you mean 'positive'?" in line) == (bad == "positve")


def test_number_that_is_no_star_is_refused(tmp_path):
    """With the names 1 to 3, a cell 0 is no class, though position 0 exists."""
    rows = [{"text": "x", "label": cell} for cell in [1, 0]]
    (line,) = faults_of(write(tmp_path / "r.jsonl", jsonl(rows)), labels=["1", "2", "3"])
    assert "'0' in row 2" in line


@pytest.mark.parametrize("cell", [None, "", -100, "-100"])
def test_training_row_without_label_is_refused(cell, tmp_path):
    """It would be left out of the hard loss without a word."""
    rows = [{"text": "x", "label": "a"}, {"text": "y", "label": cell}]
    path = write(tmp_path / "rows.jsonl", jsonl(rows))
    (line,) = faults_of(path, labels=["a", "b"])
    assert "row 2" in line
    assert "data.unlabelled" in line
    split = load(path, name="validation", labels=["a", "b"])
    assert split.table["label"].to_pylist() == [0, -100]
    assert "1 of 2 rows have no label" in split.notes[0]


@pytest.mark.parametrize("cells", [[-1, 1, -1], [-1.0, 1.0, -1.0], ["-1", "pos", "-1"]])
def test_minus_one_is_no_label_where_classes_have_names(cells, tmp_path):
    """The test rows of a benchmark, whose labels are kept back, would refuse the whole run."""
    rows = [{"text": str(number), "label": cell} for number, cell in enumerate(cells)]
    split = load(write(tmp_path / "t.jsonl", jsonl(rows)), name="test", labels=["neg", "pos"])
    assert split.table["label"].to_pylist() == [-100, 1, -100]
    assert split.notes == (
        "test: 2 of 3 rows have no label (2 of them -1); figures that need one leave them out.",
    )


@pytest.mark.parametrize("names", [["-1", "0", "1"], ["-1.0", "0.0", "1.0"]])
def test_minus_one_is_a_class_where_a_name_spells_it(names, tmp_path):
    """A third of the rows would lose its label."""
    rows = [{"text": name, "label": name} for name in names]
    split = load(write(tmp_path / "t.jsonl", jsonl(rows)), name="test", labels=names)
    assert split.table["label"].to_pylist() == [0, 1, 2]
    assert split.notes == ()


def test_minus_one_beside_other_numbers_asks_for_names(tmp_path):
    """-1 and 1 are two classes in many files: nobody but the user knows."""
    rows = [{"text": str(number), "label": number} for number in (-1, 1)]
    (line,) = faults_of(write(tmp_path / "rows.jsonl", jsonl(rows)))
    assert line.startswith("task.labels must be given")
    assert 'Name them: ["-1", "1"].' in line


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "json", "parquet"])
def test_test_rows_need_no_column_of_labels(suffix, tmp_path):
    """GLUE's test.tsv has none, and the whole run would be refused for figures that nobody can have."""
    rows = [{"index": str(number), "text": f"text {number}"} for number in range(2)]
    path = tmp_path / f"test.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        content = {"tsv": csv_of(rows, "\t"), "jsonl": jsonl(rows), "json": json.dumps(rows)}
        write(path, content[suffix])
    split = load(path, name="test", labels=["a", "b"])
    assert split.table["label"].to_pylist() == [-100, -100]
    assert split.notes[0] == (
        f"{path.name} has no column 'label' (task.label): its rows are read as rows without labels."
    )
    assert split.notes[1].startswith("test: 2 of 2 rows have no label")
    labelled = write(tmp_path / "more.jsonl", jsonl([{"text": "more", "label": "b"}]))
    assert load(path, labelled, name="test", labels=["a", "b"]).table["label"].to_pylist()[2:] == [
        1
    ]
    for name in ("train", "validation"):
        (line,) = faults_of(path, name=name, labels=["a", "b"])
        assert "must hold a column 'label' (task.label)" in line


def test_a_misspelt_column_of_labels_is_refused_in_test_rows_too(tmp_path):
    """Figures would be missing at the end of the run, hours later."""
    path = write(tmp_path / "t.jsonl", jsonl([{"text": "x", "lable": "a"}]))
    (line,) = faults_of(path, name="test", labels=["a", "b"])
    assert line.endswith("Did you mean 'lable'?")
    path = write(tmp_path / "u.jsonl", jsonl([{"sentence": "x"}]))
    assert len(faults_of(path, name="test", labels=["a", "b"])) == 2


def test_unlabelled_ignores_labels(tmp_path):
    """Whatever stands in the label column of unlabelled rows must not reach the loss."""
    path = write(tmp_path / "rows.jsonl", jsonl([{"text": "x", "label": ["?"]}, {"text": "y"}]))
    split = load(path, name="unlabelled", labels=["a", "b"], first_row_id=10)
    assert split.table["label"].to_pylist() == [-100, -100]
    assert split.table["row_id"].to_pylist() == [10, 11]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (list(range(11)), tuple(map(str, range(11)))),
        (["1", "0"], ("0", "1")),
    ],
)
def test_labels_come_from_the_training_rows_when_nobody_names_them(cells, names, tmp_path):
    """Numbers sorted as text put class 10 before class 2."""
    rows = [{"text": "x", "label": cell} for cell in cells]
    assert load(write(tmp_path / "rows.jsonl", jsonl(rows))).labels == names


@pytest.mark.parametrize(
    ("cells", "noted"),
    [
        (
            ["a", "-", "b", "-"],
            "train: '-' (2 of 4 rows) is a class like the others. If no label is",
        ),
        (
            ["a", "-", "?"],
            "train: '-' (1 of 3 rows), '?' (1 of 3 rows) are classes like the others.",
        ),
        (["+", "-"], None),
        (["a", "😀", "n/a"], None),
    ],
)
def test_marks_that_become_classes_are_noted(cells, noted, tmp_path):
    """SNLI marks pairs without a gold label by "-", and no teacher knows such a class."""
    rows = [{"text": str(number), "label": cell} for number, cell in enumerate(cells)]
    path = write(tmp_path / "rows.jsonl", jsonl(rows))
    notes = load(path).notes
    assert len(notes) == (noted is not None)
    assert all(note.startswith(noted) and "task.labels" in note for note in notes)
    assert load(path, labels=sorted(set(cells))).notes == ()


@pytest.mark.parametrize("cells", [[1, 2, 3], ["a", 1], [None, None]])
def test_labels_that_cannot_be_derived_are_refused(cells, tmp_path):
    """Stars 1 to 5 with a class missing would be numbered differently in the next file."""
    rows = [{"text": "x", "label": cell} for cell in cells]
    (line,) = faults_of(write(tmp_path / "rows.jsonl", jsonl(rows)))
    assert line.startswith("task.labels must be given")


@pytest.mark.parametrize(
    "content", [["n", "p"], {"n": 0, "p": 1}, {"0": "n", "1": "p"}, {"1": "p", "0": "n"}]
)
def test_read_labels_takes_every_form_of_labels_json(content, tmp_path):
    """Names in the wrong order exchange the classes."""
    write(tmp_path / "labels.json", json.dumps(content))
    assert read_labels(None, [tmp_path / "train.jsonl"]) == ("n", "p")


@pytest.mark.parametrize(
    "content",
    ["{", "5", '["a", 1]', '{"a": 0, "b": 2}', '{"a": true}', "[]", '["a", "a"]', '[" "]'],
)
def test_read_labels_refuses_other_forms(content, tmp_path):
    """A gap in the numbers gives a class that no name belongs to."""
    write(tmp_path / "labels.json", content)
    with pytest.raises(ConfigError) as caught:
        read_labels(None, [tmp_path / "train.jsonl"])
    assert str(caught.value).startswith("task.labels must ")


def test_configured_labels_win(tmp_path):
    """What the user wrote must not be overruled by a file that happens to lie there."""
    write(tmp_path / "labels.json", '["x", "y"]')
    assert read_labels(["a", "b"], [tmp_path / "train.jsonl"]) == ("a", "b")
    assert read_labels(None, [tmp_path / "elsewhere" / "train.jsonl"]) is None


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_parquet_text_may_be_stored_in_any_way(kind, tmp_path):
    """pandas' categories are dictionaries."""
    types = {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "dictionary": pa.dictionary(pa.int8(), pa.string()),
    }
    table = pa.table({"text": pa.array(["x", "y"], types[kind]), "label": pa.array([1, 0])})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert load(tmp_path / "rows.parquet").table["text"].to_pylist() == ["x", "y"]


def test_parquet_of_another_type_is_refused(tmp_path):
    """Numbers in the text column mean that it is the wrong column."""
    pq.write_table(pa.table({"text": [1, 2], "label": [["x"], ["y"]]}), tmp_path / "rows.parquet")
    lines = faults_of(tmp_path / "rows.parquet")
    assert "int64" in lines[0]
    assert "list" in lines[1]
    (line,) = faults_of(write(tmp_path / "torn.parquet", b"PAR1 torn"))
    assert "readable Parquet file" in line


def test_load_splits_finds_the_faults_of_all_splits(tmp_path):
    """A fault in train must not hide that the test file has no label column."""
    files = {
        "train": [write(tmp_path / "train.csv", "text,label\n,a\n")],
        "validation": [write(tmp_path / "dev.csv", "text,label\nx,b\n")],
        "test": [write(tmp_path / "test.csv", "text,lable\nx,b\n")],
    }
    with pytest.raises(ConfigError) as caught:
        load_splits(files, text="text", label="label")
    assert [fault.path for fault in caught.value.faults] == ["data.train", "data.test"]


def test_load_splits_numbers_unlabelled_rows_behind_train_and_notes_overlap(tmp_path):
    """Equal row ids would give a row another row's signal; known test texts flatter the student."""
    files = {
        "train": [write(tmp_path / "train.jsonl", jsonl(ROWS))],
        "unlabelled": [write(tmp_path / "more.jsonl", jsonl([{"text": "u"}, {"text": "v"}]))],
        "test": [
            write(
                tmp_path / "test.jsonl",
                jsonl([{"text": text, "label": "a"} for text in ("new", "123", "NA", "u")]),
            )
        ],
    }
    splits = load_splits(files, text="text", label="label")
    ids = [*splits["train"].table["row_id"].to_pylist()]
    ids += splits["unlabelled"].table["row_id"].to_pylist()
    assert ids == list(range(len(ROWS) + 2))
    notes = "\n".join(splits["test"].notes)
    assert "2 of 4 texts of test also occur in train (row 2, row 3 of test)" in notes
    assert "1 of 4 texts of test also occur in unlabelled (row 4 of test)" in notes


def test_pairs_overlap_only_when_both_texts_do(tmp_path):
    """A premise shared by several hypotheses is no leak."""
    paths = {
        name: [write(tmp_path / f"{name}.jsonl", jsonl([{"p": "a", "h": h, "label": 0}]))]
        for name, h in (("train", "x"), ("validation", "y"), ("test", "x"))
    }
    splits = load_splits(paths, text="p", text_pair="h", label="label", labels=["n", "y"])
    assert splits["validation"].notes == ()
    assert len(splits["test"].notes) == 1


def test_labels_that_train_never_has_are_noted(tmp_path):
    """A class without a training row cannot be learnt from labels; hence its score of 0."""
    paths = {
        "train": [write(tmp_path / "train.jsonl", jsonl(ROWS))],
        "test": [write(tmp_path / "test.jsonl", jsonl([{"text": "new", "label": "c"}]))],
    }
    splits = load_splits(paths, text="text", label="label", labels=["a", "b", "c"])
    assert any("never occur in train: 'c'" in note for note in splits["test"].notes)


def test_find_splits_knows_the_common_names(tmp_path):
    """A folder of dev.csv without validation.csv is a folder with validation rows."""
    for name in ("train.jsonl", "dev.csv", "test.parquet", "unlabelled.json", "notes.txt"):
        write(tmp_path / name, "")
    found = {name: path.name for name, path in find_splits(tmp_path).items()}
    assert found == {
        "train": "train.jsonl",
        "unlabelled": "unlabelled.json",
        "validation": "dev.csv",
        "test": "test.parquet",
    }


def test_files_that_look_like_splits_and_are_none_are_noted(tiny, tmp_path):
    """MNLI's dev_matched.tsv would vanish, and no checkpoint would be chosen."""
    folder = tmp_path / "rows"
    folder.mkdir()
    names = (
        "train.jsonl",
        "dev_matched.jsonl",
        "test-0.jsonl",
        "trainer_state.json",
        "labels.json",
    )
    for name in names:
        write(folder / name, '["a", "b"]' if name == "labels.json" else jsonl(ROWS))
    settings = {**two_teachers(tiny, tmp_path), "data": {"folder": str(folder)}}
    splits = load_data(DistillConfig.model_validate(settings))
    assert splits["train"].notes == (
        f"{folder} has also dev_matched.jsonl, test-0.jsonl, which are not used. What should be used "
        "is named under data.train, data.validation and so on.",
    )
    settings["data"]["validation"] = str(folder / "dev_*.jsonl")
    (note,) = load_data(DistillConfig.model_validate(settings))["train"].notes
    assert f"{folder} has also test-0.jsonl, which is not used." in note


def test_find_splits_refuses_two_files_for_one_split(tmp_path):
    """Taking one of train.csv and train.jsonl in silence may be the stale one."""
    for name in ("train.csv", "train.jsonl", "dev.csv", "val.csv"):
        write(tmp_path / name, "")
    with pytest.raises(ConfigError) as caught:
        find_splits(tmp_path)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="existing folder"):
        find_splits(tmp_path / "nowhere")


def test_load_splits_does_not_take_names_from_test_when_train_is_faulty(tmp_path):
    """Complaints about the numbering in a test file would send the user to the wrong file."""
    files = {
        "train": [write(tmp_path / "train.csv", "text,label\n,0\n")],
        "test": [write(tmp_path / "test.csv", "text,label\nx,4\n")],
    }
    with pytest.raises(ConfigError) as caught:
        load_splits(files, text="text", label="label")
    assert [fault.path for fault in caught.value.faults] == ["data.train"]


def test_load_splits_without_train_needs_names(tmp_path):
    """Labels that nobody judged would all be "none", and accuracy a division by zero."""
    files = {"test": [write(tmp_path / "test.csv", "text,label\nx,b\n")]}
    with pytest.raises(ConfigError, match=r"task\.labels must be given"):
        load_splits(files, text="text", label="label")
    split = load_splits(files, text="text", label="label", labels=["a", "b"])["test"]
    assert split.table["label"].to_pylist() == [1]


def test_what_comes_late_in_a_file_is_read_with_the_same_care(tmp_path):
    """Types guessed from the first rows alone lose or break the thousandth."""
    rows = [{"text": f"{number}", "label": 0} for number in range(json_rows.PEEK_ROWS + 5)]
    mixed = jsonl([*rows, {"text": "x", "label": "b"}])
    split = load(write(tmp_path / "mixed.jsonl", mixed), labels=["a", "b"])
    assert split.table["label"].to_pylist() == [0] * len(rows) + [1]
    latin = jsonl(rows).encode() + b'{"text": "caf\xe9", "label": 0}\n'
    (line,) = faults_of(write(tmp_path / "latin.jsonl", latin))
    assert f"line {len(rows) + 1}, byte {latin.index(0xE9)}" in line


LANGUAGES = Routes("lang", ("e5", "minilm"), {"zh": "e5", "en": "minilm", "7": "minilm"})
CELLS = ["zh", "en", "minilm", "e5", "7"]
PLACES = [0, 1, 1, 0, 1]


def routed_rows(cells):
    return [{"text": f"t{i}", "label": "ab"[i % 2], "lang": cell} for i, cell in enumerate(cells)]


def test_rows_go_to_the_teacher_that_their_cell_leads_to_in_every_format(tmp_path):
    """A row of another language teaches what its teacher does not know."""
    rows = routed_rows(CELLS)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    paths = [
        write(tmp_path / "rows.jsonl", jsonl(rows)),
        write(tmp_path / "rows.json", json.dumps(rows, indent=1)),
        write(tmp_path / "mixed.jsonl", jsonl([*rows[:4], rows[4] | {"lang": 7}])),
        write(tmp_path / "rows.csv", csv_of(rows)),
        write(tmp_path / "rows.tsv", csv_of(rows, "\t")),
        tmp_path / "rows.parquet",
    ]
    plain = load(paths[0])
    assert "route" not in plain.table.column_names
    found = [load(path, routes=LANGUAGES) for path in paths]
    assert {tuple(split.table["route"].to_pylist()) for split in found} == {tuple(PLACES)}
    assert len({split.fingerprint for split in found} | {plain.fingerprint}) == 2
    assert found[0].notes == ("rows go by column 'lang': 2 to e5, 3 to minilm.",)


def test_numbers_are_cells_too(tmp_path):
    """A column of numbers is read as numbers by some formats, and as 1.0 where one is missing."""
    numbers = Routes("lang", ("e5", "minilm"), {"0": "e5", "1": "minilm"}, others_to_all=True)
    rows = routed_rows([1, 0, None])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ints.parquet")
    floats = [row | {"lang": None if row["lang"] is None else float(row["lang"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(floats), tmp_path / "floats.parquet")
    paths = [
        write(tmp_path / "ints.jsonl", jsonl(rows)),
        write(tmp_path / "floats.jsonl", jsonl(floats)),
        write(tmp_path / "array.json", json.dumps(floats, indent=1)),
        tmp_path / "ints.parquet",
        tmp_path / "floats.parquet",
    ]
    for path in paths:
        assert load(path, routes=numbers).table["route"].to_pylist() == [1, 0, -1], path.name


def test_cells_that_lead_nowhere_are_a_fault_or_go_to_all(tmp_path):
    """A misspelt language, sent to some teacher in silence, is taught by the wrong one."""
    cells = ["zh", "fr", None, "en", "fr", "En", "de", ""]
    path = write(tmp_path / "train.jsonl", jsonl(routed_rows(cells)))
    assert faults_of(path, routes=LANGUAGES) == [
        "data.train must have cells in column 'lang' (ensemble.weighting.column) that lead to a teacher: zh, en, 7, "
        "the names of teachers (e5, minilm), got in train.jsonl 'fr' (row 2 and 1 more), an empty cell (row 3 "
        "and 1 more), 'En' (row 6) and 1 more. Add them to ensemble.weighting.routes, or set "
        "ensemble.weighting.others to all."
    ]
    split = load(path, routes=Routes("lang", ("e5", "minilm"), LANGUAGES.by_cell, True))
    assert split.table["route"].to_pylist() == [0, -1, -1, 1, -1, -1, -1, -1]
    assert split.notes == ("rows go by column 'lang': 1 to e5, 1 to minilm, 6 to all.",)
    (line,) = faults_of(path, routes=Routes("language", ("e5", "minilm"), {}))
    assert line == (
        "data.train must hold a column 'language' (ensemble.weighting.column), got the columns label, lang, text "
        "in train.jsonl. Did you mean 'lang'?"
    )


def test_routes_of_measured_rows_are_read_and_change_no_fingerprint(tmp_path):
    """Students of two runs are compared only if their fingerprints of the test rows are the same."""
    path = write(tmp_path / "rows.jsonl", jsonl(routed_rows(CELLS)))
    names = {"labels": ["a", "b"]}
    for name, same in (
        ("train", False),
        ("unlabelled", False),
        ("validation", True),
        ("test", True),
    ):
        split, plain = (
            load(path, name=name, routes=LANGUAGES, **names),
            load(path, name=name, **names),
        )
        assert split.table["route"].to_pylist() == PLACES
        assert (split.fingerprint == plain.fingerprint) == same, name


def test_other_routes_are_other_data(tmp_path):
    """A resumed run would teach some rows by another teacher than before."""
    path = write(tmp_path / "rows.jsonl", jsonl(routed_rows(["zh", "en"])))
    swapped = Routes("lang", ("e5", "minilm"), {"zh": "minilm", "en": "e5"})
    assert load(path, routes=LANGUAGES).fingerprint != load(path, routes=swapped).fingerprint


def test_a_column_may_be_label_and_route(tmp_path):
    """Specialists of single classes are chosen by the label itself."""
    path = write(tmp_path / "rows.jsonl", jsonl(ROWS))
    by_label = Routes("label", ("a", "other"), {"b": "other"})
    split = load(path, routes=by_label)
    assert split.table["route"].to_pylist() == split.table["label"].to_pylist()
