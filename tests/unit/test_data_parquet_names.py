"""Names of classes that a Parquet file says itself."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.data import TaggedColumns, load_splits, load_tagged_splits
from raydistill.data.files import DataFile
from raydistill.data.hub import find_dataset_splits
from raydistill.data.readers import Skip, read_chunks, read_columns
from raydistill.data.readers.parquet import parquet_names
from raydistill.errors import ConfigError

TAGS = ["O", "B-per", "I-per"]
MOODS = ["good", "bad"]  # not in the order of the alphabet


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As `datasets` writes one."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import List as ListOf

    features = Features(
        {
            "text": Value("string"),
            "tokens": ListOf(Value("string")),
            "ner_tags": ListOf(ClassLabel(names=TAGS)),
            "label": ClassLabel(names=MOODS),
        }
    )
    columns = {
        "text": ["fine film", "dull film"],
        "tokens": [["Ada", "Lovelace", "ran"], ["it", "rains"]],
        "ner_tags": [[1, 2, 0], [0, 0]],
        "label": [0, 1],
    }
    path = tmp_path / "train.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


def test_numbers_in_a_parquet_file_of_datasets_have_their_names(file: Path) -> None:
    """Without them every such file needs a list in the configuration, and a wrong one is not noticed."""
    split = load_splits({"train": [str(file)]}, text="text", label="label")["train"]
    assert split.labels == tuple(MOODS)
    assert split.table["label"].to_pylist() == [0, 1]
    tagged = load_tagged_splits(
        {"train": [str(file)]}, TaggedColumns("tokens", "ner_tags", None, "iob2", None)
    )["train"]
    assert tagged.labels == tuple(TAGS)


def test_what_is_written_down_wins(file: Path) -> None:
    """Whoever names the classes means it."""
    given = load_splits({"train": [str(file)]}, text="text", label="label", labels=["a", "b"])
    assert given["train"].labels == ("a", "b")


def test_negative_numbers_of_classes_are_no_label(tmp_path: Path) -> None:
    """`datasets` writes -1 where a benchmark keeps its labels to itself, whatever the classes are called."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["-1", "+1"])})
    for name, labels in (("train", [0, 1]), ("test", [-1, 1])):
        rows = {"text": [f"{name} {label}" for label in labels], "label": labels}
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
    path = DataFile(str(tmp_path / "test.parquet"))
    wanted = {"text": "text", "label": "label"}
    read = read_columns(path, wanted, path_in_config="data.test")
    assert read["label"].to_pylist() == [None, "+1"]
    (chunk,) = read_chunks(path, wanted, path_in_config="data.test", skip=Skip(0))
    assert chunk.columns["label"].to_pylist() == [None, "+1"]
    number = read_columns(path, wanted, path_in_config="data.test", cells="number")
    assert number["label"].to_pylist() == ["-1", "1"]


def written(folder: Path, names: list[str], tags: list[str]) -> dict[str, Path]:
    """The same rows as Parquet and as `datasets` saves them, with classes of these names."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    from datasets import List as ListOf

    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=names),
            "tokens": ListOf(Value("string")),
            "ner_tags": ListOf(ClassLabel(names=tags)),
        }
    )
    rows = {
        "text": ["a", "b", "c"],
        "label": [1, 2, 1],  # nobody has the first class
        "tokens": [["x", "y"], ["x"], ["y"]],
        "ner_tags": [[1, 2], [0], [0]],
    }
    made = Dataset.from_dict(rows, features=features)
    made.to_parquet(folder / "train.parquet")
    DatasetDict({"train": made}).save_to_disk(folder / "saved")
    return {"parquet": folder / "train.parquet", "saved": folder / "saved"}


def files_of(source: Path) -> dict[str, list[Any]]:
    """Of a file, or of a folder that `datasets` saved."""
    if source.is_dir():
        return {name: [split] for name, split in find_dataset_splits(str(source)).items()}
    return {"train": [str(source)]}


def labels_of(source: Path, labels: list[str] | None) -> tuple[tuple[str, ...], list[int]]:
    """Names and numbers of the rows' classes."""
    split = load_splits(files_of(source), text="text", label="label", labels=labels)["train"]
    return split.labels, split.table["label"].to_pylist()


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_classes_that_are_called_by_numbers_are_taken_by_their_places(tmp_path, kind):
    """Stars "1" to "3" at the places 0 to 2: read as names, every row of two stars has one."""
    source = written(tmp_path, ["1", "2", "3"], TAGS)[kind]
    assert labels_of(source, None) == (("1", "2", "3"), [1, 2, 1])
    assert labels_of(source, ["bad", "fair", "good"]) == (("bad", "fair", "good"), [1, 2, 1])
    assert labels_of(source, ["3", "2", "1"]) == (("3", "2", "1"), [1, 0, 1])


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_tags_in_another_order_than_the_files_keep_their_names(tmp_path, kind):
    """Numbers of the file counted into the configuration's list: every B- becomes an O."""
    source = written(tmp_path, [*MOODS, "so"], TAGS)[kind]
    for labels in (("B-per", "I-per", "O"), ("O", "B-name", "I-name")):
        columns = TaggedColumns("tokens", "ner_tags", None, "iob2", labels)
        split = load_tagged_splits(files_of(source), columns)["train"]
        found = [[split.labels[tag] for tag in tags] for tags in split.table["label"].to_pylist()]
        kind_of = labels[1].partition("-")[2] if labels[0] == "O" else "per"
        assert found == [[f"B-{kind_of}", f"I-{kind_of}"], ["O"], ["O"]]


def test_tags_in_lists_of_one_length_have_names_too(tmp_path):
    """Where every row has as many words, `datasets` writes another kind of list, of which the names were passed over."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import List as ListOf

    tags = ListOf(ClassLabel(names=TAGS), length=2)
    features = Features({"tokens": ListOf(Value("string"), length=2), "ner_tags": tags})
    rows = {"tokens": [["Ada", "Lovelace"], ["it", "rains"]], "ner_tags": [[1, 2], [0, 0]]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    columns = TaggedColumns("tokens", "ner_tags", None, "iob2", ("B-per", "I-per", "O"))
    split = load_tagged_splits({"train": [str(tmp_path / "train.parquet")]}, columns)["train"]
    assert split.table["label"].to_pylist() == [[0, 1], [2, 2]]


def test_a_number_behind_the_last_class_is_named(tmp_path):
    """A file that was put together from two has numbers of the other's classes."""
    source = written(tmp_path, ["1", "2", "3"], TAGS)["parquet"]
    table = pq.read_table(source)
    place = table.column_names.index("label")
    pq.write_table(table.set_column(place, "label", pa.array([0, 7, 1])), source)
    with pytest.raises(ConfigError, match=r"numbers of its 3 classes in column 'label', got 7 in"):
        labels_of(source, None)


def test_a_column_without_classes_has_no_names(file: Path, tmp_path: Path) -> None:
    """Columns of text must not be taken for classes, nor a broken file end in a traceback."""
    assert parquet_names(DataFile(str(file)), "text") is None
    assert parquet_names(DataFile(str(file)), "missing") is None
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    assert parquet_names(DataFile(str(broken)), "label") is None
