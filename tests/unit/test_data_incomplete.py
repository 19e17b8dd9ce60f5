"""Rows that lack a text or a label: refused, or left out as if no file had ever held them."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from raydistill.config import DistillConfig, parse_config
from raydistill.data import Split, Targets, load_splits
from raydistill.data.hub import DatasetSplit
from raydistill.data.routes import Routes
from raydistill.data.sources import load_split
from raydistill.errors import ConfigError
from raydistill.prepare.data import load_data
from tests.conftest import two_teachers, write_rows

PAIRS = [
    ("a man", "a person", "yes"),
    ("a dog", "a cat", None),
    ("", "a cat", "no"),
    ("a cat", "  ", "-100"),
    ("rain", "sun", "no"),
    ("sun", "light", "-1"),
    ("snow", "white", "-"),
]
COMPLETE = [PAIRS[0], PAIRS[4]]


def rows_of(pairs: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(("a", "b", "label"), pair, strict=True)) for pair in pairs]


def load(path: Path | DatasetSplit, name: str = "train", **more: Any) -> Split:
    more = {"label": "label", "labels": ["no", "yes"], "incomplete": "drop", **more}
    return load_split(name, [path], text="a", text_pair="b", path_in_config=f"data.{name}", **more)


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_the_rest_is_what_a_file_without_them_gives(tmp_path: Path, suffix: str) -> None:
    """With gaps in the numbers of rows, or another fingerprint, a file that was cleaned is other data."""
    path = tmp_path / f"rows.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(rows_of(PAIRS)))
    else:
        write_rows(path, rows_of(PAIRS))
    split = load(path)
    clean = load(write_rows(tmp_path / "clean.jsonl", rows_of(COMPLETE)), incomplete="refuse")
    assert split.table.equals(clean.table)
    assert split.table["row_id"].to_pylist() == [0, 1]
    assert split.fingerprint == clean.fingerprint
    assert split.notes == (
        "train: 5 of 7 rows are left out, 2 without a text and 4 without a label (data.incomplete_rows: drop).",
    )
    assert clean.notes == ()


def test_unless_it_is_written_they_are_refused(tmp_path: Path) -> None:
    """Rows that go in silence are missed by nobody."""
    path = write_rows(tmp_path / "rows.jsonl", rows_of(PAIRS[:3]))
    with pytest.raises(ConfigError) as caught:
        load(path, incomplete="refuse")
    assert len(caught.value.faults) == 2
    assert all("data.incomplete_rows: drop" in str(fault) for fault in caught.value.faults)


def test_a_mark_that_is_no_name_is_no_label(tmp_path: Path) -> None:
    """SNLI's "-" would else have to be taken out of the files by hand."""
    path = write_rows(tmp_path / "rows.jsonl", rows_of([COMPLETE[0], PAIRS[6]]))
    with pytest.raises(ConfigError, match="drop reads such a mark as no label"):
        load(path, incomplete="refuse")
    assert load(path).num_rows == 1
    assert load(path, labels=["-", "yes"]).num_rows == 2
    assert load(path, labels=None).labels == ("-", "yes")
    measured = load(path, "test")
    assert measured.table["label"].to_pylist() == [1, -100]


def test_measured_rows_need_a_text_only(tmp_path: Path) -> None:
    """The test rows of a benchmark have no labels at all."""
    path = write_rows(tmp_path / "rows.jsonl", rows_of(PAIRS))
    split = load(path, "test")
    assert split.table["label"].to_pylist() == [1, -100, 0, -100, -100]
    assert split.notes[0].startswith("test: 2 of 7 rows are left out, 2 without a text (data.")
    unlabelled = load(path, "unlabelled", first_row_id=10)
    assert unlabelled.table["row_id"].to_pylist() == [10, 11, 12, 13, 14]


def test_faults_name_rows_by_their_place_in_the_file(tmp_path: Path) -> None:
    """Whoever looks at row 2 of the file would find nothing wrong there."""
    rows = rows_of([*PAIRS[:4], ("q", "r", "yse")])
    with pytest.raises(ConfigError, match="'yse' in row 5"):
        load(write_rows(tmp_path / "rows.jsonl", rows))
    routes = Routes("b", ("t",), {"a person": "t"})
    with pytest.raises(ConfigError, match=r"'sun' \(row 5\)"):
        load(write_rows(tmp_path / "more.jsonl", rows_of(PAIRS[:5])), routes=routes)


def test_nothing_left_is_a_fault(tmp_path: Path) -> None:
    """A run on no rows would divide by zero."""
    path = write_rows(tmp_path / "rows.jsonl", rows_of(PAIRS[1:4]))
    with pytest.raises(ConfigError, match="must hold at least one complete row, got none in rows"):
        load(path)


@pytest.mark.parametrize(
    ("targets", "columns", "kept"),
    [
        (Targets("numbers", "label"), {"label": [1.5, None, 2]}, [0, 2]),
        (Targets("numbers", None, ("v", "w")), {"v": [1, None, None], "w": [1, 2, None]}, [0, 1]),
        (Targets("classes", "label"), {"label": [["x"], None, []]}, [0, 2]),
        (Targets("classes", None, ("v", "w")), {"v": [1, -1, 0], "w": [None, -100, 1]}, [0, 2]),
    ],
)
def test_other_labels_lack_too(
    tmp_path: Path, targets: Targets, columns: dict[str, list[Any]], kept: list[int]
) -> None:
    """A row with some of its labels is a row to learn from, and an empty list is a label."""
    rows = [
        {"a": f"{i}", "b": "x", **{name: cells[i] for name, cells in columns.items()}}
        for i in range(3)
    ]
    labels = targets.names
    path = write_rows(tmp_path / "rows.jsonl", rows)
    split = load(path, label=targets.label, labels=labels, targets=targets)
    assert split.table["text"].to_pylist() == [str(i) for i in kept]
    assert f"{3 - len(kept)} without a label" in split.notes[0]


@pytest.mark.parametrize(
    ("targets", "cells", "said"),
    [
        (Targets("numbers", "label"), [1, "many"], "'many' in row 2"),
        (Targets("classes", "label"), [["x"], "x;y"], "'x;y' in rows.jsonl, row 2"),
        (Targets("classes", None, ("label",)), ["1", "maybe"], "'maybe' in row 2"),
    ],
)
def test_what_is_wrong_is_not_left_out(
    tmp_path: Path, targets: Targets, cells: list[Any], said: str
) -> None:
    """A misspelt label would vanish with its row."""
    rows = [{"a": "x", "b": "y", "label": cell} for cell in cells]
    labels = targets.names
    with pytest.raises(ConfigError, match=said):
        load(write_rows(tmp_path / "rows.jsonl", rows), labels=labels, targets=targets)


def test_data_sets_of_the_hub_lose_them_too(tmp_path: Path) -> None:
    """Of such rows a user cannot take anything out."""
    features = Features(
        {"a": Value("string"), "b": Value("string"), "label": ClassLabel(names=["no", "yes"])}
    )
    rows = {"a": ["p", "q", ""], "b": ["x", "y", "z"], "label": [1, -1, 0]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    split = load(DatasetSplit(str(tmp_path / "set"), "train"))
    assert split.table["text"].to_pylist() == ["p"]
    assert split.table["label"].to_pylist() == [1]


def test_unlabelled_rows_count_from_the_end_of_train(tmp_path: Path) -> None:
    """Numbers of rows that are left out are not taken by anybody."""
    files = {
        name: [write_rows(tmp_path / f"{name}.jsonl", rows_of(PAIRS))]
        for name in ("train", "unlabelled")
    }
    splits = load_splits(files, text="a", text_pair="b", label="label", labels=["no", "yes"], incomplete="drop")  # fmt: skip
    assert splits["unlabelled"].table["row_id"].to_pylist() == [2, 3, 4, 5, 6]


def test_a_configuration_leaves_them_out(tiny: Any, tmp_path: Path) -> None:
    """What a user writes must reach the loader."""
    settings = two_teachers(tiny, tmp_path)
    rows = [{"text": "x", "label": "pos"}, {"text": "y", "label": "neg"}, {"text": "z"}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    settings["data"] = {"train": str(path), "incomplete_rows": "drop"}
    assert load_data(DistillConfig.model_validate(settings))["train"].num_rows == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"task": {"kind": "tagging"}}, "must be refuse with task.kind: tagging"),
        ({"data": {"streaming": True}}, "must be refuse with data.streaming"),
    ],
)
def test_where_rows_cannot_be_left_out_it_is_said(
    tiny: Any, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    """A setting without effect would be believed."""
    settings = two_teachers(tiny, tmp_path)
    data = {"train": "x.jsonl", "incomplete_rows": "drop", **more.pop("data", {})}
    _, faults = parse_config({**settings, **more, "data": data})
    assert any(str(fault).startswith(f"data.incomplete_rows {said}") for fault in faults), faults
