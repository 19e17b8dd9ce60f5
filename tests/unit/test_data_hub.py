"""Data sets that Hugging Face `datasets` loads, from folders: no hub here."""

import pickle
from types import SimpleNamespace

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from raydistill.config import DistillConfig, parse_config
from raydistill.data import Targets, hub, label_matrix
from raydistill.data.hub import DatasetSplit, find_dataset_splits
from raydistill.data.sources import load_split
from raydistill.data.splits import load_splits
from raydistill.errors import ConfigError
from raydistill.prepare.data import load_data
from tests.conftest import two_teachers, write_rows

FEATURES = Features(
    {
        "sentence": Value("string"),
        "label": ClassLabel(names=["neg", "pos"]),
        "idx": Value("int32"),
        "many": [Value("int32")],
    }
)


def rows(name, labels=(0, 1, 1, 0)):
    return {
        "sentence": [f"{name} {i}" for i in range(len(labels))],
        "label": list(labels),
        "idx": list(range(len(labels))),
        "many": [[1]] * len(labels),
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where `datasets` keeps what it read from a folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(params=["saved", "files"])
def folder(request, tmp_path):
    """A data set as `save_to_disk` writes it, and as a folder of Parquet files."""
    splits = DatasetDict(
        {
            "train": Dataset.from_dict(rows("train"), features=FEATURES),
            "validation": Dataset.from_dict(rows("validation", (1, 0)), features=FEATURES),
            "test": Dataset.from_dict(rows("test", (-1, -1, -1)), features=FEATURES),
        }
    )
    target = tmp_path / "set"
    if request.param == "saved":
        splits.save_to_disk(target)
    else:
        for name, split in splits.items():
            split.to_parquet(target / f"{name}-00000-of-00001.parquet")
    return str(target)


def load(folder, **more):
    parts = find_dataset_splits(folder, splits=more.pop("splits", None))
    columns = {"text": "sentence", "label": "label", **more}
    return load_splits({name: [part] for name, part in parts.items()}, **columns)


def faults_of(**more):
    with pytest.raises(ConfigError) as caught:
        load(**more)
    return str(caught.value).split("\n")


def test_a_class_label_names_the_classes(folder):
    """Names "0" and "1" would not match those of any teacher."""
    splits = load(folder)
    assert splits["train"].labels == ("neg", "pos")
    assert splits["train"].table["label"].to_pylist() == [0, 1, 1, 0]
    assert splits["validation"].table["text"].to_pylist() == ["validation 0", "validation 1"]
    assert splits["train"].origins == (f"{folder} train",)


def test_minus_one_is_no_label(folder):
    """The hidden labels of a benchmark's test split would count as the last class."""
    assert load(folder)["test"].table["label"].to_pylist() == [-100] * 3


def test_rows_have_the_fingerprint_of_the_same_rows_in_a_file(folder, tmp_path):
    """A data set that was saved as files must go on in a resumed run."""
    lines = [
        {"text": text, "label": ["neg", "pos"][label]}
        for text, label in zip(rows("train")["sentence"], rows("train")["label"], strict=True)
    ]
    file = load_split(
        "train",
        [write_rows(tmp_path / "train.jsonl", lines)],
        text="text",
        label="label",
        path_in_config="data.train",
    )
    assert load(folder)["train"].fingerprint == file.fingerprint


def test_task_labels_order_or_rename_the_classes(folder):
    """Names in another order are the same classes; other names are said."""
    turned = load(folder, labels=["pos", "neg"])["train"]
    assert turned.table["label"].to_pylist() == [1, 0, 0, 1]
    assert turned.notes == ()
    renamed = load(folder, labels=["bad", "good"])["train"]
    assert renamed.table["label"].to_pylist() == [0, 1, 1, 0]
    assert "neg is bad, pos is good" in renamed.notes[0]
    (line,) = faults_of(folder=folder, labels=["only"])[:1]
    assert "must have labels out of only" in line


def test_lists_of_classes_have_the_names_of_the_data_set(tmp_path):
    """Numbers would not match the labels of any teacher, and count from another order."""
    features = Features(
        {"sentence": Value("string"), "topics": [ClassLabel(names=["b", "a", "c"])]}
    )
    content = {"sentence": ["x", "y", "z"], "topics": [[0, 2], [], None]}
    dataset = DatasetDict({name: Dataset.from_dict({k: v[:most] for k, v in content.items()}, features=features) for name, most in (("train", 2), ("test", 3))})  # fmt: skip
    dataset.save_to_disk(tmp_path / "set")
    topics = Targets("classes", "topics")
    splits = load(str(tmp_path / "set"), targets=topics, label=None)
    assert splits["train"].labels == ("b", "a", "c")
    assert label_matrix(splits["train"].table["label"]).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert label_matrix(splits["test"].table["label"]).tolist()[2] == [-1, -1, -1]
    turned = load(str(tmp_path / "set"), targets=topics, label=None, labels=["a", "b", "c"])
    assert label_matrix(turned["train"].table["label"]).tolist() == [[0, 1, 1], [0, 0, 0]]
    renamed = load(str(tmp_path / "set"), targets=topics, label=None, labels=["p", "q", "r"])
    assert label_matrix(renamed["train"].table["label"]).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert "b is p, a is q, c is r" in renamed["train"].notes[0]
    (line, *_) = faults_of(folder=str(tmp_path / "set"), label="topics")
    assert "must hold names or numbers in column 'topics' (task.label), got list" in line


def test_classes_are_numbers_where_numbers_are_learnt(folder):
    """Names of stars are no numbers, their places are."""
    splits = load(folder, targets=Targets("numbers", "label"), label=None)
    assert label_matrix(splits["train"].table["label"]).tolist() == [[0.0], [1.0], [1.0], [0.0]]


def test_splits_are_named(folder):
    """What is trained on is the user's choice."""
    splits = load(folder, splits={"train": "validation", "test": "train"})
    assert {name: split.num_rows for name, split in splits.items()} == {"train": 2, "test": 4}
    (line,) = faults_of(folder=folder, splits={"train": "trian"})
    assert line.startswith(f"data.splits.train must be a split of {folder}, got: ")
    assert "validation" in line


def test_a_slice_is_a_split(tmp_path):
    """Many data sets have no validation split."""
    folder = str(tmp_path / "set")
    Dataset.from_dict(rows("train"), features=FEATURES).to_parquet(f"{folder}/train.parquet")
    splits = load(folder, splits={"train": "train[:75%]", "validation": "train[75%:]"})
    assert [splits[name].num_rows for name in ("train", "validation")] == [3, 1]
    (line,) = faults_of(folder=folder, splits={"train": "train[:x%]"})
    assert line.startswith("data.splits.train must be a split of ")


def test_rows_that_were_selected_or_shuffled_come_as_they_are(tmp_path):
    """`datasets` keeps such rows as a list of numbers beside the whole table."""
    whole = Dataset.from_dict(rows("train"), features=FEATURES).select([3, 1])
    whole.save_to_disk(tmp_path / "set")
    assert load(str(tmp_path / "set"))["train"].table["text"].to_pylist() == ["train 3", "train 1"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": "sentense"}, "must hold a column 'sentense' (task.text), got the columns"),
        ({"text": "many"}, "must hold text in column 'many' (task.text), got list"),
        ({"label": "class"}, "must hold a column 'class' (task.label)"),
    ],
)
def test_wrong_columns_are_refused(folder, columns, said):
    """Their names differ from set to set."""
    assert any(
        said in line and "in set train" in line for line in faults_of(folder=folder, **columns)
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/has-this-set", ("data.dataset", "can be reached", "HF_HUB_OFFLINE")),
        ("./nowhere", ("data.dataset", "an id of the hub or an existing folder")),
        ("torn", ("data.dataset", "Parquet magic bytes")),
        ("two", ("data.config", "must be one of a, b")),
        ("odd", ("data.splits", "which split is train", "whole")),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, monkeypatch, capfd, name, said):
    """Its libraries raise whatever their parts do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    one = Dataset.from_dict({"sentence": ["x"], "label": [0]})
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "train.parquet").write_text("no Parquet at all")
    for part in "ab":
        one.to_parquet(tmp_path / "two" / part / "train.parquet")
    (tmp_path / "two" / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files: a/*.parquet\n"
        "- config_name: b\n  data_files: b/*.parquet\n---\n"
    )
    DatasetDict({"whole": one}).save_to_disk(tmp_path / "odd")
    capfd.readouterr()
    (line,) = faults_of(folder=name)
    assert line.startswith(f"{said[0]} ")
    assert all(part in line for part in said[1:])
    assert capfd.readouterr().err == ""


def test_a_configuration_chooses_columns_and_splits(tiny, tmp_path, folder):
    """What a user writes must reach the loader."""
    settings = two_teachers(tiny, tmp_path)
    test = write_rows(tmp_path / "test.jsonl", [{"sentence": "x", "label": "pos"}])
    settings["data"] = {"dataset": folder, "splits": {"train": "train"}, "test": str(test)}
    settings["task"] = {"text": "sentence"}
    splits = load_data(DistillConfig.model_validate(settings))
    assert {name: split.num_rows for name, split in splits.items()} == {"train": 4, "test": 1}
    assert splits["test"].table["label"].to_pylist() == [1]


def test_splits_that_are_not_used_are_noted(tiny, tmp_path):
    """MNLI's validation_matched would vanish, and no checkpoint would be chosen."""
    names = ("train", "validation_matched", "test_matched")
    parts = {name: Dataset.from_dict(rows(name), features=FEATURES) for name in names}
    DatasetDict(parts).save_to_disk(tmp_path / "set")
    settings = two_teachers(tiny, tmp_path)
    settings["task"] = {"text": "sentence"}
    settings["data"] = {"dataset": str(tmp_path / "set")}
    splits = load_data(DistillConfig.model_validate(settings))
    assert list(splits) == ["train"]
    assert splits["train"].notes == (
        f"{tmp_path / 'set'} has also the splits validation_matched, test_matched, which are not used. "
        "What should be used is named under data.splits.",
    )
    settings["data"]["splits"] = {"train": "train", "validation": "validation_matched"}
    assert load_data(DistillConfig.model_validate(settings))["train"].notes == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"folder": "x", "dataset": "y"}, "data.folder must be left out with data.dataset"),
        ({"folder": "x", "revision": "main"}, "data.revision has no effect without data.dataset"),
        ({"folder": "x", "splits": {"train": "a"}}, "data.splits has no effect without"),
        ({"dataset": "x", "splits": {"dev": "a"}}, "must be one of train, unlabelled"),
    ],
)
def test_settings_that_contradict_are_refused(tiny, tmp_path, data, said):
    """Of two sources one would be ignored."""
    _, faults = parse_config({**two_teachers(tiny, tmp_path), "data": data})
    assert any(said in str(fault) for fault in faults), faults


def test_the_commit_of_the_hub_is_recorded():
    """ "main" is another data set next month."""
    sums = {f"hf://datasets/nyu-mll/glue@{'a1' * 20}/sst2/train-0.parquet": {}}
    assert hub._commit(SimpleNamespace(download_checksums=sums)) == "a1" * 20
    assert hub._commit(SimpleNamespace(download_checksums={"/a/b": {}})) is None


def test_a_split_travels_without_its_rows(folder):
    """Workers load it where they are."""
    part = DatasetSplit(folder, "train")
    assert part.loaded.num_rows == 4
    there = pickle.loads(pickle.dumps(part))
    assert "loaded" not in vars(there)
    assert there == part
    assert there.loaded.num_rows == 4
