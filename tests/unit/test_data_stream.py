"""Rows that are read while they are used: the same rows, checks and places as when they are read whole."""

import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from raydistill.config import DistillConfig, parse_config
from raydistill.data.files import DataFile
from raydistill.data.hub import DatasetSplit
from raydistill.data.readers import CHUNK_ROWS, Skip
from raydistill.data.routes import Routes
from raydistill.data.sources import load_split, stream_split
from raydistill.data.splits import load_splits
from raydistill.data.stream import Stream, StreamPart
from raydistill.data.targets import Targets
from raydistill.errors import ConfigError
from raydistill.prepare import prepare
from raydistill.prepare.data import load_data
from raydistill.storing import known_shelf
from tests.conftest import two_teachers

LABELS = ("a", "b")
NUMBER = 2 * CHUNK_ROWS + 300
ROWS = [{"text": f'text {n}, "x"', "label": LABELS[n % 2]} for n in range(NUMBER)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture(params=["jsonl", "csv", "tsv", "parquet", "saved", "hub", "remote"])
def origin(request, tmp_path, monkeypatch):
    """The same rows in every form."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / f"rows.{request.param}"
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(LABELS))})
    numbered = [{**row, "label": LABELS.index(row["label"])} for row in ROWS]
    if request.param == "remote":
        uri = f"memory://{tmp_path.name}/rows.jsonl"
        fsspec.filesystem("memory").pipe(uri, jsonl(ROWS).encode())
        return uri
    if request.param in ("saved", "hub"):
        dataset = Dataset.from_list(numbered, features=features)
        if request.param == "saved":
            dataset.save_to_disk(path)
        else:
            dataset.to_parquet(path / "train.parquet")
        return DatasetSplit(str(path), "train", streaming=True)
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700)
        return path
    csv = (f"{quoted(row['text'])},{row['label']}\n" for row in ROWS)
    tsv = (f"{row['text']}\t{row['label']}\n" for row in ROWS)
    content = {
        "jsonl": "\n" + jsonl(ROWS),
        "csv": "text,label\n" + "".join(csv),
        "tsv": "text\tlabel\n" + "".join(tsv),
    }
    return write(path, content[request.param])


def streamed(*paths, name="train", **more):
    more = {"label": "label", "labels": LABELS, **more}
    return stream_split(name, paths, text="text", path_in_config=f"data.{name}", **more)


def rows_of(tables):
    return [row for table in tables for row in table.to_pylist()]


def expected(first=0):
    return [
        {"text": row["text"], "label": LABELS.index(row["label"]), "row_id": number}
        for number, row in enumerate(ROWS)
    ][first:]


def test_a_stream_holds_the_rows_that_are_read_whole(origin):
    """A row lost or turned at the edge of a block is lost in silence."""
    stream = streamed(origin).stream
    assert rows_of(stream.tables(500)) == expected()
    assert [table.num_rows for table in stream.tables(1000)] == [1000, 1000, NUMBER - 2000]


def test_rows_are_passed_over(origin):
    """A resumed run that begins one row too late is another run."""
    stream = streamed(origin).stream
    for passed in (1, 699, 700, CHUNK_ROWS, 1500, NUMBER - 1, NUMBER, NUMBER + 7):
        skip = Skip(passed)
        assert rows_of(stream.tables(400, skip)) == expected(passed), passed
        assert skip.left == max(0, passed - NUMBER)


def test_parts_follow_each_other(tmp_path):
    """Each file begins where the one before ends."""
    parts = [
        write(tmp_path / f"part-{n}.jsonl", jsonl(ROWS[n * 700 : (n + 1) * 700])) for n in (0, 1)
    ]
    empty = write(tmp_path / "part-00.jsonl", "\n\n")
    last = tmp_path / "part-2.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS[1400:]), last)
    stream = streamed(parts[0], empty, parts[1], last).stream
    assert rows_of(stream.tables(333)) == expected()
    assert rows_of(stream.tables(333, Skip(1300))) == expected(1300)
    more = write(tmp_path / "more.jsonl", jsonl([{"text": "unlabelled"}]))
    both = Stream.joined([stream, streamed(more, name="unlabelled").stream])
    assert rows_of(both.tables(333))[NUMBER:] == [
        {"text": "unlabelled", "label": -100, "row_id": NUMBER}
    ]


def test_parquet_groups_that_are_passed_over_are_not_read(tmp_path):
    """To go on in the middle of a terabyte must not take its first half."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700, compression="none")
    stream = streamed(path).stream
    content = bytearray(path.read_bytes())
    at = content.index(b"text 5,")
    content[4:at] = bytes(at - 4)
    path.write_bytes(content)
    assert rows_of(stream.tables(400, Skip(700))) == expected(700)


@pytest.mark.parametrize(
    ("suffix", "bad", "said"),
    [
        ("jsonl", '{"text": "x", "label": "c"}', "got in rows.jsonl 'c' in line {line}."),
        ("jsonl", '{"text": " ", "label": "a"}', "got none in rows.jsonl, line {line}."),
        ("jsonl", '{"label": "a"}', "got none in rows.jsonl, line {line}."),
        ("jsonl", '{"text": 5, "label": "a"}', "got a number in rows.jsonl, line {line}."),
        ("jsonl", '{"text": "x"}', "must have a label in every row, got none in rows.jsonl, line {line}."),
        ("jsonl", "{", "malformed JSON in rows.jsonl, line {line} (Expecting"),
        ("jsonl", "5", "hold one JSON object a row, got a number in rows.jsonl, line {line}."),
        ("jsonl", b'{"text": "\xe9"}', "must be UTF-8, got other bytes in rows.jsonl, line {line}."),
        ("csv", "one", "2 columns in every row, as its header has, got more or fewer in rows.csv, line {line} (1 column)"),
        ("csv", "x,c", "'c' in line {line}."),
        ("csv", b"\xe9,a", "must be UTF-8, got other bytes in rows.csv, line {line}, byte"),
        ("csv", 'x,"open', "must close every quotation mark"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_when_it_is_met(tmp_path, suffix, bad, said):
    """Without file and line a bad row among millions is not found."""
    good = CHUNK_ROWS + 50
    text = jsonl(ROWS[:good]) if suffix == "jsonl" else "text,label\n" + f"{'x' * 300},a\n" * good
    bad = bad if isinstance(bad, bytes) else bad.encode()
    rest = b'{"text": "x", "label": "a"}\n' if suffix == "jsonl" else b"x,a\n"
    path = write(tmp_path / f"rows.{suffix}", text.encode() + bad + b"\n" + rest * 3)
    tables = streamed(path).stream.tables(100)
    for _ in range(CHUNK_ROWS // 100):
        next(tables)
    with pytest.raises(ConfigError) as caught:
        rows_of(tables)
    (fault,) = caught.value.faults
    assert str(fault).startswith("data.train must ")
    assert said.format(line=good + (1 if suffix == "jsonl" else 2)) in fault.message


def test_a_quotation_mark_that_is_never_closed_is_named(tmp_path):
    """All rows behind it are one text, and nobody misses them."""
    text = "text,label\n" + "x,a\n" * 2000 + '"open,a\n' + "x,a\n" * 3
    tables = streamed(write(tmp_path / "rows.csv", text)).stream.tables(100)
    with pytest.raises(ConfigError, match="must close every quotation mark, got one"):
        rows_of(tables)


def test_an_endless_cell_is_refused(tmp_path, monkeypatch):
    """Behind an unclosed quotation mark the rest of a terabyte is one cell."""
    monkeypatch.setattr("raydistill.data.readers.csv_rows._LONGEST_CELL", 1000)
    text = "text,label\n" + "x,a\n" * 2000 + '"x,a\n' + "x,a\n" * 2000
    stream = streamed(write(tmp_path / "rows.csv", text)).stream
    with pytest.raises(ConfigError, match=r"field larger than field limit \(1000\)"):
        rows_of(stream.tables(100))


def test_first_rows_of_all_files_are_checked_before_anything_starts(tmp_path):
    """A wrong column in the second file would end the run after hours."""
    good = write(tmp_path / "good.jsonl", jsonl(ROWS[:5]))
    other = write(tmp_path / "other.csv", "sentence,label\nx,a\n")
    array = write(tmp_path / "array.json", json.dumps(ROWS[:5]))
    with pytest.raises(ConfigError) as caught:
        streamed(good, other, array)
    first, second = (str(fault) for fault in caught.value.faults)
    assert "must hold a column 'text' (task.text), got the columns sentence, label" in first
    assert "one JSON object a line to be streamed, got an array in array.json" in second
    empty = write(tmp_path / "empty.jsonl", "")
    with pytest.raises(ConfigError, match=r"at least one row, got none in empty\.jsonl"):
        streamed(empty)
    with pytest.raises(ConfigError, match="no such file"):
        streamed(tmp_path / "none.jsonl")


def test_fingerprint_of_a_stream(tmp_path):
    """A resumed run must refuse other rows, and accept the same ones elsewhere."""
    (tmp_path / "moved").mkdir()
    one = streamed(write(tmp_path / "rows.jsonl", jsonl(ROWS))).fingerprint
    assert streamed(write(tmp_path / "moved" / "r.jsonl", jsonl(ROWS))).fingerprint == one
    for other in (ROWS[:-1], [*ROWS[:-1], {"text": "y" + ROWS[-1]["text"][1:], "label": "a"}]):
        found = streamed(write(tmp_path / "other.jsonl", jsonl(other))).fingerprint
        assert found != one
    turned = streamed(tmp_path / "rows.jsonl", label=None).fingerprint
    assert turned != one


CLASSES = Targets("classes", "labels")
LANGUAGES = Routes("lang", ("e5", "minilm"), {"zh": "e5", "1": "minilm"})


def many_rows(cells):
    """Each with the cells of a column of labels."""
    lang = ["zh", "e5", 1.0]
    return [{"text": f"t{n}", "labels": cell, "lang": lang[n % 3]} for n, cell in enumerate(cells)]


def as_strings(rows):
    return [str(sorted(row.items())) for row in rows]  # NaN equals NaN


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "saved"])
@pytest.mark.parametrize(
    ("targets", "names", "cells"),
    [
        (CLASSES, ("x", "y", "z"), [["x", "y"], [], ["z"], ["y"]]),
        (CLASSES, ("x", "y", "z"), [[0, 1], [], [2], [1]]),
        (Targets("classes", "labels", separator=";"), ("x", "y"), ["x; y", "y", "x", "y"]),
        (Targets("classes", None, ("labels",)), ("labels",), [1, 0, 1, 0]),
        (Targets("classes", None, ("labels",)), ("labels",), [True, False, True, False]),
        (Targets("numbers", "labels"), ("labels",), [0.1, -2.0, 1e-9, 3.0]),
        (Targets("numbers", "labels"), ("labels",), [1, 2, 30, -4]),
    ],
)
def test_labels_of_every_kind_and_routes_are_those_that_are_read_whole(
    tmp_path, suffix, targets, names, cells
):
    """A stream must not change what rows say, or who teaches them."""
    rows, path = many_rows(cells), tmp_path / f"rows.{suffix}"
    rows = [{**row, "lang": str(row["lang"]).removesuffix(".0")} for row in rows]
    origin = path
    if suffix == "jsonl":
        write(path, jsonl(rows))
    elif suffix == "csv":
        cell = [row["labels"] if isinstance(row["labels"], str) else json.dumps(row["labels"]) for row in rows]  # fmt: skip
        lines = (
            f"{row['text']},{quoted(text)},{row['lang']}\n"
            for row, text in zip(rows, cell, strict=True)
        )
        write(path, "text,labels,lang\n" + "".join(lines))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        Dataset.from_list(rows).save_to_disk(path)
        origin = DatasetSplit(str(path), "train", streaming=True)
    more = {"text": "text", "labels": names, "targets": targets, "routes": LANGUAGES}
    whole = load_split("train", [origin], path_in_config="data.train", **more)
    found = stream_split("train", [origin], path_in_config="data.train", **more)
    assert as_strings(rows_of(found.stream.tables(3))) == as_strings(whole.table.to_pylist())
    assert found.table.schema.field("label").type == whole.table.schema.field("label").type
    assert found.notes == ("the first 4 rows go by column 'lang': 3 to e5, 1 to minilm.",)
    unlabelled = stream_split("unlabelled", [origin], path_in_config="data.unlabelled", **more)
    both = Stream.joined([found.stream, unlabelled.stream])
    empty = str(targets.nothing(1, names).to_pylist()[0])
    assert [str(row["label"]) for row in rows_of(both.tables(5))][4:] == [empty] * 4


def test_numbers_of_routes_are_spelled_as_when_they_are_read_whole(tmp_path):
    """1.0 beside an empty cell is the 1 of the configuration, in a stream as well."""
    path = write(tmp_path / "rows.jsonl", jsonl(many_rows([["x"]] * 3)))
    more = {"text": "text", "labels": ("x",), "targets": CLASSES, "routes": LANGUAGES}
    whole = load_split("train", [path], path_in_config="data.train", **more)
    found = stream_split("train", [path], path_in_config="data.train", **more)
    assert whole.table["route"].to_pylist() == found.table["route"].to_pylist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("targets", "bad", "said"),
    [
        (CLASSES, {"labels": ["q"]}, "'q' in line {line}"),
        (CLASSES, {"labels": "x;y"}, "must hold lists of labels in column 'labels' (task.label), got 'x;y' in rows.jsonl, line {line}."),
        (CLASSES, {"labels": 5}, "must hold a list of names or numbers, or text in column 'labels' (task.label), got a number in rows.jsonl, line {line}."),
        (CLASSES, {"labels": None}, "must have a label in every row, got none in rows.jsonl, line {line}."),
        (CLASSES, {"labels": ["x"], "lang": "fr"}, "got in rows.jsonl 'fr' (line {line})."),
        (Targets("numbers", "labels"), {"labels": "much"}, "'much' in line {line}."),
        (Targets("numbers", "labels"), {"labels": True}, "must hold a number in column 'labels' (task.label), got a truth value in rows.jsonl, line {line}."),
    ],
)  # fmt: skip
def test_bad_labels_and_routes_are_named_when_they_are_met(tmp_path, targets, bad, said):
    """Without file and line a bad row among millions is not found."""
    good = ["x"] if targets is CLASSES else 0.5
    rows = many_rows([good] * (CHUNK_ROWS + 10))
    path = write(tmp_path / "rows.jsonl", jsonl([*rows, {**rows[0], **bad}, *rows[:2]]))
    names = ("x",) if targets is CLASSES else ("labels",)
    stream = streamed(path, label=None, labels=names, targets=targets, routes=LANGUAGES).stream
    with pytest.raises(ConfigError) as caught:
        rows_of(stream.tables(100))
    (fault,) = caught.value.faults
    assert said.format(line=len(rows) + 1) in fault.message


def test_fingerprint_of_a_stream_knows_routes_and_what_labels_mean(tmp_path):
    """A resumed run would go on with other labels, or other teachers."""
    path = write(tmp_path / "rows.jsonl", jsonl(many_rows(["x"] * 5)))
    plain = {"label": None, "labels": ("x", "y")}
    options = [
        {"targets": Targets("classes", "labels", separator=";")},
        {"targets": Targets("classes", "labels", separator=",")},
        {"label": "labels"},
        {"label": "labels", "routes": LANGUAGES},
        {"label": "labels", "routes": Routes("lang", ("e5", "minilm"), {"zh": "minilm", "1": "minilm"})},
        {"label": "labels", "routes": Routes("lang", ("minilm", "e5"), LANGUAGES.by_cell)},
        {"label": "labels", "routes": Routes("lang", ("e5", "minilm"), LANGUAGES.by_cell, True)},
    ]  # fmt: skip
    found = [streamed(path, **{**plain, **more}).fingerprint for more in options]
    assert len(set(found)) == len(options)


def test_names_of_labels_must_be_given(tmp_path):
    """Names taken from the first rows would be others than those of all rows."""
    rows = write(tmp_path / "rows.jsonl", jsonl(ROWS[:20]))
    more = {"text": "text", "label": "label", "streaming": True}
    with pytest.raises(ConfigError, match=r"task\.labels must be given with data\.streaming"):
        load_splits({"train": [rows]}, **more)
    write(tmp_path / "labels.json", '["b", "a"]')
    several = {"text": "text", "targets": Targets("classes", "label", separator=";")}
    assert load_splits({"train": [rows]}, streaming=True, **several)["train"].labels == ("b", "a")
    split = load_splits({"train": [rows], "test": [rows]}, **more)["train"]
    assert (split.labels, split.num_rows) == (("b", "a"), None)


def test_a_stream_travels_without_its_rows(tmp_path):
    """Workers read it where they are, wherever that is."""
    path = write(tmp_path / "rows.jsonl", jsonl(ROWS))
    stream = streamed(path).stream
    assert stream.files == [path]
    part = StreamPart(DataFile(str(path)), (("text", "text"), ("label", "label")), "data.train")
    assert stream == Stream((part,), LABELS)


@pytest.fixture
def settings(tiny, tmp_path):
    """A sound run on a stream."""
    return {
        **two_teachers(tiny, tmp_path),
        "data": {"folder": str(tiny["data"]), "streaming": True},
        "training": {"batch_rows": 16, "max_steps": 25},
        "tracking": {"enabled": False},
    }


def test_a_run_on_a_stream_is_planned(settings):
    """Nobody counts its rows: what rests on their number must not."""
    prepared, faults = prepare(DistillConfig.model_validate(settings))
    assert faults == []
    assert prepared is not None
    assert (prepared.steps.total, prepared.steps.per_epoch) == (25, None)
    assert (prepared.steps.evaluate_every, prepared.steps.checkpoint_every) == (3, 3)
    assert prepared.num_train_rows is None
    assert [file.name for file in prepared.stream.files] == ["train.jsonl", "unlabelled.jsonl"]
    assert prepared.splits["validation"].num_rows == 40
    assert set(prepared.files_everywhere) >= {"student", f"data.train ({prepared.stream.files[0]})"}
    assert prepared.manifest["data.shuffle_rows"] == 8192
    assert known_shelf(prepared, "wide") is None


def test_what_needs_counted_rows_is_refused(settings):
    """Epochs of a stream have no end that a schedule could know."""
    del settings["training"]["max_steps"]
    settings["teachers"]["wide"]["placement"] = "cached"
    _, faults = parse_config(settings)
    assert [fault.path for fault in faults] == ["teachers.wide.placement", "training.max_steps"]
    settings["training"]["max_steps"] = 5
    settings["teachers"]["wide"]["placement"] = "auto"
    settings["student"] = {"network": {"kind": "lstm", "embeddings": {"kind": "words"}}}
    _, (fault,) = parse_config(settings)
    assert fault.path == "student.network.embeddings.kind"
    assert "takes the words of all training rows" in fault.message


def test_splits_that_are_measured_are_read_whole(settings):
    """A figure over a part of the rows is another figure."""
    splits = load_data(DistillConfig.model_validate(settings))
    assert {name for name, split in splits.items() if split.stream} == {"train", "unlabelled"}
    whole = load_split("test", [splits["test"].origins[0]], text="text", label="label",
        labels=["negative", "positive"], path_in_config="data.test")  # fmt: skip
    assert whole.fingerprint == splits["test"].fingerprint
