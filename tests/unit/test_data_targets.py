"""Labels that are not one class a row: the same from every format, and every odd cell named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.data import Split, Targets, label_matrix, load_splits
from raydistill.data.matrix import any_label
from raydistill.errors import ConfigError

LISTS = [["x", "y"], [], ["z"], ["y"]]
MATRIX = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
TEXTS = ["a", "b", "c", "d"]
NAN = float("nan")


def classes(label: str | None = "labels", **more: Any) -> Targets:
    return Targets("classes", label, **more)


def numbers(**more: Any) -> Targets:
    return Targets("numbers", "label", **more)


def write(path: Path, content: str | list[dict[str, Any]]) -> Path:
    text = (
        content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    )
    path.write_text(text, encoding="utf-8")
    return path


def load(targets: Targets, path: Path, **others: Path) -> dict[str, Split]:
    files = {"train": [path], **{name: [other] for name, other in others.items()}}
    labels = list(targets.labels) if targets.labels else None
    return load_splits(files, text="text", label=targets.label, labels=labels, targets=targets)


def faults_of(targets: Targets, path: Path, **others: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(targets, path, **others)
    return [str(fault) for fault in caught.value.faults]


def rows_of(**columns: list[Any]) -> list[dict[str, Any]]:
    names = ["text", *columns]
    return [
        dict(zip(names, row, strict=True)) for row in zip(TEXTS, *columns.values(), strict=False)
    ]


def test_lists_mean_the_same_in_every_format(tmp_path: Path) -> None:
    """A label lost on the way from one format is a no that nobody said."""
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS, "labels": LISTS}), parquet)
    numbered = [[0, 1], [], [2], [1.0]]
    made = {
        write(tmp_path / "a.jsonl", rows_of(labels=LISTS)): classes(),
        parquet: classes(),
        write(tmp_path / "a.csv", "text,labels\na,x; y\nb,\nc,z;\nd,y\n"): classes(separator=";"),
        write(tmp_path / "a.tsv", 'text\tlabels\na\t["x", "y"]\nb\t[]\nc\t["z"]\nd\t["y"]\n'): classes(),
        write(tmp_path / "n.jsonl", rows_of(labels=numbered)): classes(labels=("x", "y", "z")),
        write(tmp_path / "m.jsonl", rows_of(labels=["x,y", "", "z", "y"])): classes(separator=","),
        write(tmp_path / "c.csv", "text,x,y,z\na,1,1,0\nb,0,0.0,0\nc,false,0,TRUE\nd,0,1,0\n"): classes(None, labels=("x", "y", "z")),
    }  # fmt: skip
    splits = {path.name: load(targets, path)["train"] for path, targets in made.items()}
    for name, split in splits.items():
        assert split.labels == ("x", "y", "z"), name
        assert label_matrix(split.table["label"]).tolist() == MATRIX, name
    assert len({split.fingerprint for split in splits.values()}) == 1
    assert "are read as having none of the labels" in splits["a.csv"].notes[0]
    assert splits["a.jsonl"].notes == ()


def test_fingerprint_knows_the_labels(tmp_path: Path) -> None:
    """A resumed run would go on with other labels."""
    one = load(classes(), write(tmp_path / "a.jsonl", rows_of(labels=LISTS)))["train"]
    other = load(classes(), write(tmp_path / "b.jsonl", rows_of(labels=[*LISTS[:3], ["x"]])))
    assert one.fingerprint != other["train"].fingerprint


def test_labels_that_are_not_known_stay_so(tmp_path: Path) -> None:
    """Not known, read as a no, is learnt as a no."""
    targets = classes(None, labels=("x", "y"))
    path = write(tmp_path / "a.csv", "text,x,y\na,1,\nb,-100,0\n")
    other = write(tmp_path / "b.csv", "text\nc\n")
    test = write(tmp_path / "c.csv", "text,x,y\nq,,\n")
    splits = load(targets, path, unlabelled=other, test=test)
    assert label_matrix(splits["train"].table["label"]).tolist() == [[1, -1], [-1, 0]]
    assert label_matrix(splits["unlabelled"].table["label"]).tolist() == [[-1, -1]]
    assert any_label(splits["train"].table)
    assert not any_label(splits["test"].table)
    assert splits["test"].notes[0].startswith("test: 1 of 1 rows have no label")
    whole = pa.concat_tables([splits[name].table for name in ("train", "unlabelled")])
    assert label_matrix(whole["label"]).shape == (3, 2)
    assert label_matrix(whole.slice(1)["label"]).tolist() == [[-1, 0], [-1, -1]]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([["x"], ["q"], ["x", "zz"]], "must have labels out of x, y, z or a number from 0 to 2 (task.labels), got in a.jsonl 'q' in row 2, 'zz' in row 3."),
        ([["x"], 3, ["x"]], "must hold a list of names or numbers, or text in column 'labels' (task.label), got a number in a.jsonl, line 2."),
        ([["x"], {"x": 1}, True], "must hold a list of names or numbers, or text in column 'labels' (task.label), got an object in a.jsonl, line 2."),
        ([["x"], ["x", None], [["x"]]], "must hold lists of labels in column 'labels' (task.label), got '[\"x\", null]' in a.jsonl, row 2, row 3. A list holds names or numbers of labels."),
        ([["x"], "x;y", []], "must hold lists of labels in column 'labels' (task.label), got 'x;y' in a.jsonl, row 2. Say what stands between labels (task.separator), or write lists as JSON has them."),
        ([["x"], ["y", 7], []], "must have labels out of x, y, z or a number from 0 to 2 (task.labels), got in a.jsonl '7' in row 2."),
        ([[0, 1, 0], [1, 0, 0], [0]], "must hold lists of labels in column 'labels' (task.label), got '[0, 1, 0]', which seems to be a yes or no for each label in a.jsonl, row 1, row 2. Name the labels that a row has, or write a column for each label (task.label: null)."),
        ([["x"], None, None], "must have a label in every row, got none in a.jsonl, row 2, row 3. Put rows without a label under data.unlabelled, or leave them out (data.incomplete_rows: drop)."),
    ],
)  # fmt: skip
def test_odd_lists_are_named(tmp_path: Path, content: list[Any], line: str) -> None:
    """A row that is skipped in silence is missing in the student."""
    found = faults_of(classes(labels=("x", "y", "z")), write(tmp_path / "a.jsonl", rows_of(labels=content)))  # fmt: skip
    assert found[0] == f"data.train {line}"


PRINTED = "which seems to be a list as Python prints it in a.csv, row 1. Write lists as JSON has them (json.dumps)."


@pytest.mark.parametrize("separator", [",", None])
@pytest.mark.parametrize("cell", ["['joy', 'fear']", "['joy' 'fear']", "['joy']", "[ 'joy', 'fe"])
def test_lists_that_python_printed_are_named(
    tmp_path: Path, cell: str, separator: str | None
) -> None:
    """Cut at the comma they give classes with brackets in their names, which no teacher knows."""
    path = write(tmp_path / "a.csv", f'text,labels\na,"{cell}"\n')
    (line,) = faults_of(classes(separator=separator), path)
    assert line == f"data.train must hold lists of labels in column 'labels' (task.label), got {cell!r}, {PRINTED}"  # fmt: skip


def test_brackets_may_belong_to_a_label(tmp_path: Path) -> None:
    """`[OOV]` is a name like any other."""
    path = write(tmp_path / "a.csv", "text,labels\na,[x];[y]\nb,[z]\nc,x;[y]\n")
    assert load(classes(separator=";"), path)["train"].labels == ("[x]", "[y]", "[z]", "x")
    bare = write(tmp_path / "b.csv", 'text,labels\na,"[x, y]"\n')
    (line,) = faults_of(classes(separator=","), bare)
    assert "'[x, y]', which seems to be a list as Python prints it" in line


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], "'[0.0, 1.0]', which seems to be a yes or no for each label in a.jsonl, row 1, row 2."),
        ([[0.0, 1.0], [0.0, 1.0]], "'[0.0, 1.0]', which seems to be a yes or no for each label in a.jsonl, row 1, row 2."),
        ([[0, 1], [1, 0], [0, 1]], "[0, 1] or [1, 0] in every row of a.jsonl, which seems to be a yes or no for each label."),
    ],
)  # fmt: skip
def test_a_yes_or_no_for_each_of_two_labels_is_named(
    tmp_path: Path, rows: list[Any], got: str
) -> None:
    """Read as numbers of labels, one label a row becomes both in every row."""
    path = write(tmp_path / "a.jsonl", rows_of(labels=rows))
    (line,) = faults_of(classes(labels=("x", "y")), path)
    assert line == (
        f"data.train must hold lists of labels in column 'labels' (task.label), got {got} Name the labels "
        "that a row has, or write a column for each label (task.label: null)."
    )


def test_numbers_of_two_labels_stay_numbers(tmp_path: Path) -> None:
    """Rows with one label tell that numbers are meant, in whatever order."""
    path = write(tmp_path / "a.jsonl", rows_of(labels=[[0, 1], [1, 0], [1]]))
    split = load(classes(labels=("x", "y")), path)["train"]
    assert label_matrix(split.table["label"]).tolist() == [[1, 1], [1, 1], [0, 1]]


def test_lists_are_named_before_names_are_missed(tmp_path: Path) -> None:
    """Whoever wrote no separator would be asked for names."""
    (line,) = faults_of(classes(), write(tmp_path / "a.csv", "text,labels\na,x;y\n"))
    assert "task.separator" in line
    (line,) = faults_of(classes(), write(tmp_path / "b.csv", "text,labels\na,[]\n"))
    assert line.startswith("task.labels must be given")


@pytest.mark.parametrize("cell", ["2", "yes", "0.5", "x"])
def test_odd_truth_values_are_named(tmp_path: Path, cell: str) -> None:
    """A count taken for a yes is another label."""
    path = write(tmp_path / "a.csv", f"text,x,y\na,1,0\nb,0,{cell}\n")
    assert faults_of(classes(None, labels=("x", "y")), path) == [
        "data.train must hold 0 or 1 (empty: not known) in column 'y' (task.labels.1), got in a.csv "
        f"'{cell}' in row 2."
    ]


def test_columns_of_labels_must_be_there(tmp_path: Path) -> None:
    """A misspelt column would be learnt as not known."""
    path = write(tmp_path / "a.csv", "text,joy,fear\na,1,0\n")
    (line,) = faults_of(classes(None, labels=("joy", "feer")), path)
    assert "must hold a column 'feer' (task.labels.1), got the columns text, joy, fear" in line
    assert line.endswith("Did you mean 'fear'?")


def test_numbers_mean_the_same_in_every_format(tmp_path: Path) -> None:
    """A number rounded on the way is another label."""
    values = [0.1, -2000.0, 3.0, 1e-7]
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS, "label": values}), parquet)
    paths = [
        parquet,
        write(tmp_path / "a.jsonl", rows_of(label=[0.1, -2e3, 3, 1e-7])),
        write(tmp_path / "a.json", json.dumps(rows_of(label=values))),
        write(tmp_path / "a.csv", "text,label\na,.1\nb,-2e3\nc, +3 \nd,1E-7\n"),
    ]
    splits = [load(numbers(), path)["train"] for path in paths]
    for split in splits:
        assert split.labels == ("label",)
        np.testing.assert_array_equal(label_matrix(split.table["label"])[:, 0], values)
    assert len({split.fingerprint for split in splits}) == 1


def test_several_numbers_some_of_them_missing(tmp_path: Path) -> None:
    """A missing number is no 0."""
    targets = numbers(labels=("v", "w"))
    path = write(tmp_path / "a.jsonl", rows_of(v=[1, None, 3], w=[0.5, 2.0, None]))
    split = load(targets, path)["train"]
    np.testing.assert_array_equal(
        label_matrix(split.table["label"]), [[1, 0.5], [NAN, 2.0], [3, NAN]]
    )
    assert split.notes == ()
    same = load(targets, write(tmp_path / "b.jsonl", rows_of(v=[1, 1], w=[0, 1])))["train"]
    assert same.notes == (
        "train: 'v' is the same number in every row; there is nothing to learn from.",
    )


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["1", "five", "nan"], "'five' in row 2, 'nan' in row 3."),
        (["1", "inf", "1e39"], "'inf' in row 2, '1e39' in row 3."),
        (["1", "1,5", "1_000"], "'1,5' in row 2, '1_000' in row 3."),
    ],
)
def test_odd_numbers_are_named(tmp_path: Path, cells: list[str], named: str) -> None:
    """One infinite label ends a run in its first epoch."""
    content = "text,label\n" + "".join(f'{t},"{c}"\n' for t, c in zip(TEXTS, cells, strict=False))
    (line,) = faults_of(numbers(), write(tmp_path / "a.csv", content))
    rule = "must hold finite numbers (empty: no label) in column 'label' (task.label)"
    assert line == f"data.train {rule}, got in a.csv {named}"


def test_numbers_that_only_a_format_can_hold(tmp_path: Path) -> None:
    """NaN of a data frame, a truth value, a list: none of them is a label."""
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0.1, NAN]}), parquet)
    (line,) = faults_of(numbers(), parquet)
    assert line.endswith("got in a.parquet 'nan' in row 2.")
    pq.write_table(pa.table({"text": ["a", "b"], "label": [True, False]}), parquet)
    (line,) = faults_of(numbers(), parquet)
    assert "must hold numbers in column 'label' (task.label), got bool" in line
    rows = rows_of(label=[1, True, [2]])
    found = faults_of(numbers(), write(tmp_path / "a.jsonl", rows))
    assert [line.partition("got ")[2] for line in found] == [
        "a truth value in a.jsonl, line 2.", "an array in a.jsonl, line 3."
    ]  # fmt: skip
    (line,) = faults_of(numbers(), write(tmp_path / "b.csv", "text,label\na,1\nb,\n"))
    assert "must have a label in every row, got none in b.csv, row 2." in line


def test_labels_that_never_occur_are_noted(tmp_path: Path) -> None:
    """A head that learns nothing but no looks trained."""
    path = write(tmp_path / "a.jsonl", rows_of(labels=[["x"], [], ["x"]]))
    (note,) = load(classes(labels=("x", "y", "z")), path)["train"].notes
    assert note == "train: 'y', 'z' are in no row; there is nothing to learn from."


def test_minus_one_is_not_known_where_a_yes_or_no_stands(tmp_path: Path) -> None:
    """Rows that nobody judged, which benchmarks mark so, are no rows without the label."""
    targets = classes(None, labels=("x", "y"))
    train = write(tmp_path / "a.csv", "text,x,y\na,1,0\nb,0,1\n")
    test = write(tmp_path / "t.csv", "text,x,y\nq,-1,-1\nr,1,0\ns,-1.0,1\nt,0,1\n")
    split = load(targets, train, test=test)["test"]
    assert label_matrix(split.table["label"]).tolist() == [[-1, -1], [1, 0], [-1, 1], [0, 1]]
    assert split.notes[0] == "t.csv: 3 cells of -1 in 'x', 'y' are read as not known."
    assert split.notes[1].startswith("test: 1 of 4 rows have no label")


def test_minus_one_in_place_of_no_is_refused(tmp_path: Path) -> None:
    """A no that is read as not known leaves a label that every row has."""
    path = write(tmp_path / "a.csv", "text,x,y\na,1,0\nb,-1,1\n")
    assert faults_of(classes(None, labels=("x", "y")), path) == [
        "data.train must hold 0 or 1 (-1 or empty: not known) in column 'x' (task.labels.0), got 1 and "
        "-1, but 0 in no row. Write 0 where the label is not there, and leave cells empty where nobody knows."
    ]


def test_one_number_in_all_measured_rows_is_noted(tmp_path: Path) -> None:
    """Benchmarks that keep their scores back write -1 everywhere; a mean error against it looks like a figure."""
    train = write(tmp_path / "a.csv", "text,label\na,1\nb,2.5\n")
    test = write(tmp_path / "t.csv", "text,label\nq,-1.0\nr,-1.0\ns,\n")
    one = write(tmp_path / "v.csv", "text,label\nv,2\n")
    splits = load(numbers(), train, test=test, validation=one)
    assert splits["test"].notes == (
        "test: 1 of 3 rows have no label; figures that need one leave them out.",
        "test: the same number is in every row of 'label' (-1); figures on it mean little. If it "
        "stands for no label, leave these cells empty.",
    )
    assert splits["validation"].notes == ()


@pytest.mark.parametrize(
    ("targets", "train", "named"),
    [
        (classes(None, labels=("joy", "fear")), "text,joy,fear\na,1,0\nb,0,1\n", "columns 'joy' (task.labels.0), 'fear' (task.labels.1)"),
        (classes(separator=";"), "text,labels\na,x\nb,y\n", "column 'labels' (task.label)"),
        (numbers(), "text,label\na,1\nb,2\n", "column 'label' (task.label)"),
    ],
)  # fmt: skip
def test_test_rows_need_no_columns_of_labels(
    tmp_path: Path, targets: Targets, train: str, named: str
) -> None:
    """Benchmarks keep them to themselves."""
    test = write(tmp_path / "t.csv", "index,text\n0,q\n")
    split = load(targets, write(tmp_path / "a.csv", train), test=test)["test"]
    assert not any_label(split.table)
    assert split.notes[0] == f"t.csv has no {named}: its rows are read as rows without labels."


def test_test_rows_have_all_columns_of_labels_or_none(tmp_path: Path) -> None:
    """One that is missing alone was forgotten."""
    train = write(tmp_path / "a.csv", "text,joy,fear\na,1,0\nb,0,1\n")
    test = write(tmp_path / "t.csv", "text,joy\nq,1\n")
    (line,) = faults_of(classes(None, labels=("joy", "fear")), train, test=test)
    assert line.startswith("data.test must hold a column 'fear' (task.labels.1)")
