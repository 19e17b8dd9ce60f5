"""Names of classes that a Parquet file says itself."""

from pathlib import Path

import pytest

from raydistill.data import TaggedColumns, load_splits, load_tagged_splits
from raydistill.data.files import DataFile
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


def test_a_column_without_classes_has_no_names(file: Path, tmp_path: Path) -> None:
    """Columns of text must not be taken for classes, nor a broken file end in a traceback."""
    assert parquet_names(DataFile(str(file)), "text") is None
    assert parquet_names(DataFile(str(file)), "missing") is None
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    assert parquet_names(DataFile(str(broken)), "label") is None
