"""Names of classes that a Parquet file says itself."""

from pathlib import Path

import pytest

from raydistill.data import TaggedColumns, load_splits, load_tagged_splits
from raydistill.data.files import DataFile
from raydistill.data.readers import Skip, read_chunks, read_columns
from raydistill.data.readers.parquet import parquet_names

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
    assert read["label"].to_pylist() == [None, "1"]
    (chunk,) = read_chunks(path, wanted, path_in_config="data.test", skip=Skip(0))
    assert chunk.columns["label"].to_pylist() == [None, "1"]
    number = read_columns(path, wanted, path_in_config="data.test", cells="number")
    assert number["label"].to_pylist() == ["-1", "1"]


def test_a_column_without_classes_has_no_names(file: Path, tmp_path: Path) -> None:
    """Columns of text must not be taken for classes, nor a broken file end in a traceback."""
    assert parquet_names(DataFile(str(file)), "text") is None
    assert parquet_names(DataFile(str(file)), "missing") is None
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    assert parquet_names(DataFile(str(broken)), "label") is None
