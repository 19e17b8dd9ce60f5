"""Queries and passages: the same groups from every form of file, and every odd row named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from raydistill.config import DistillConfig
from raydistill.config.ranking import RankingColumns, RetrievalTask
from raydistill.data import Split, label_matrix
from raydistill.data.drawing import draw_group
from raydistill.data.negatives import Mined, _words, mine_negatives
from raydistill.data.ranking import RankingFiles, load_groups
from raydistill.errors import ConfigError
from raydistill.prepare.ranking import load_ranking

COLUMNS = RankingColumns().by_role
CORPUS = [
    {"doc_id": "a", "title": "", "text": "red apples"},
    {"doc_id": "b", "title": "Fruit", "text": "green pears"},
    {"doc_id": "c", "title": "", "text": "blue stones"},
]
BY_IDS = [
    {"query_id": 1, "query": "apples", "positive_ids": ["a"], "negative_ids": ["c", "b"]},
    {"query_id": 2, "query": "pears", "positive_ids": ["b"], "negative_ids": ["a"]},
]
BY_TEXTS = [
    {"query": "apples", "positives": ["red apples"], "negatives": ["blue stones", "Fruit green pears"]},
    {"query": "pears", "positives": "Fruit green pears", "negatives": ["red apples"]},
]  # fmt: skip
BY_PAIRS = [
    {"query": "apples", "passage": "red apples", "label": 1},
    {"query": "pears", "passage": "Fruit green pears", "label": 1},
    {"query": "apples", "passage": "blue stones", "label": 0},
    {"query": "apples", "passage": "Fruit green pears", "label": 0},
    {"query": "pears", "passage": "red apples", "label": 0},
]
CANDIDATES = [{"query_id": "2", "doc_ids": ["c", "b"], "bm25": [2.0, 1.0]}]
QUERIES = [{"query_id": 2, "query": "pears"}]
QRELS = [
    {"query_id": "2", "doc_id": "b", "relevance": 2},
    {"query_id": "2", "doc_id": "a", "relevance": 1},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(folder: Path, train: Any = None, form: str = "jsonl", **more: Any) -> dict[str, Split]:
    """Splits from rows; ``more`` has other splits, files beside them, and settings."""
    rows = {"train": train, **{k: v for k, v in more.items() if isinstance(v, list)}}
    paths = {
        name: write(folder / f"{name}.{form}", some)
        for name, some in rows.items()
        if some is not None
    }
    beside = {name: [paths.pop(name)] for name in ("corpus", "queries", "qrels") if name in paths}
    settings = {k: v for k, v in more.items() if not isinstance(v, list)}
    splits = {name: [path] for name, path in paths.items()}
    return load_groups(RankingFiles(splits=splits, columns=COLUMNS, **beside, **settings))


def faults_of(folder: Path, *args: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, *args, **more)
    return "\n".join(str(fault) for fault in caught.value.faults)


def rows_of(split: Split) -> list[tuple[str, str, float, int]]:
    table = split.table
    grades = label_matrix(table["label"])[:, 0].tolist()
    columns = [table[name].to_pylist() for name in ("text", "text_pair", "group")]
    return [(q, p, g, n) for q, p, n, g in zip(*columns, grades, strict=True)]


EXPECTED = [
    ("apples", "red apples", 1.0, 0),
    ("apples", "blue stones", 0.0, 0),
    ("apples", "Fruit green pears", 0.0, 0),
    ("pears", "Fruit green pears", 1.0, 1),
    ("pears", "red apples", 0.0, 1),
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_groups_are_the_same_from_ids_texts_and_pairs(tmp_path: Path, form: str) -> None:
    """A form that means something else trains another student from the same data."""
    texts = [{**row, "positives": [row["positives"]]} if isinstance(row["positives"], str) else row for row in BY_TEXTS]  # fmt: skip
    found = [
        load(tmp_path, BY_IDS, form, corpus=CORPUS),
        load(tmp_path, texts if form == "parquet" else BY_TEXTS, form),
        load(tmp_path, BY_PAIRS, form),
    ]
    assert [rows_of(one["train"]) for one in found] == [EXPECTED] * 3
    assert len({one["train"].fingerprint for one in found}) == 1
    assert found[0]["train"].table["row_id"].to_pylist() == list(range(5))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_passages_with_titles_are_read_as_those_of_the_corpus(tmp_path: Path, form: str) -> None:
    """A passage that is JSON teaches brackets; one without its title is another than the corpus has."""
    titles = {f"{row['title']} {row['text']}".strip(): row for row in CORPUS}
    rows = [
        {"query": row["query"], **{name: [titles[text] for text in np.atleast_1d(row[name])] for name in ("positives", "negatives")}}
        for row in BY_TEXTS
    ]  # fmt: skip
    assert rows_of(load(tmp_path, rows, form)["train"]) == EXPECTED


def test_a_text_in_brackets_is_a_text(tmp_path: Path) -> None:
    """Abstracts begin with numbers of footnotes."""
    rows = [{"query": "q", "positives": "[1] See [2].", "negatives": '["a", "b"]'}]
    split = load(tmp_path, rows)["train"]
    assert split.table["text_pair"].to_pylist() == ["[1] See [2].", "a", "b"]


def test_pairs_of_csv_are_groups(tmp_path: Path) -> None:
    """Spreadsheets have a pair a row, in any order."""
    assert rows_of(load(tmp_path, BY_PAIRS, "csv")["train"]) == EXPECTED


def test_files_of_beir_are_read_as_they_are(tmp_path: Path) -> None:
    """Whoever has to rename columns of a public data set looks for another tool."""
    corpus = [{"_id": row["doc_id"], **{k: row[k] for k in ("title", "text")}} for row in CORPUS]
    queries = [{"_id": "1", "text": "apples"}, {"_id": "2", "text": "pears"}]
    judged = [("1", "a", 1), ("2", "b", 1), ("1", "c", 0), ("1", "b", 0), ("2", "a", 0)]
    train = tmp_path / "train.tsv"
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {name: [write(tmp_path / f"{name}.jsonl", rows)] for name, rows in (("corpus", corpus), ("queries", queries))}  # fmt: skip
    split = load_groups(RankingFiles(splits={"train": [train]}, columns=COLUMNS, **files))["train"]
    assert sorted(rows_of(split)) == sorted(EXPECTED)
    train.write_text("\n".join([*lines, "1\ta\t1", "7\ta\t1", "1\tz\t1"]) + "\n")
    with pytest.raises(ConfigError) as caught:
        load_groups(RankingFiles(splits={"train": [train]}, columns=COLUMNS, **files))
    said = str(caught.value)
    for what in ("every passage of a query once, got 'a' twice", "the id '7'", "the id 'z'"):
        assert what in said


def test_judgements_below_zero_are_not_relevant(tmp_path: Path) -> None:
    """TREC has -1 and -2; who removes them by hand changes a published file."""
    qrels = [*QRELS, {"query_id": "2", "doc_id": "c", "relevance": -2}]
    train = [{**row, "relevance": row["relevance"] or -1} for row in (*QRELS, {"query_id": "2", "doc_id": "c", "relevance": 0})]  # fmt: skip
    beside = {"corpus": CORPUS, "queries": QUERIES, "qrels": qrels, "validation": CANDIDATES}
    found = load(tmp_path, train, **beside)
    assert rows_of(found["validation"])[0] == ("pears", "blue stones", 0.0, 0)
    assert rows_of(found["train"])[2] == ("pears", "blue stones", 0.0, 0)
    assert "1 judgements of data.qrels are below 0; they count as 0." in found["train"].notes
    assert "1 judgements are below 0; they count as 0." in found["train"].notes


def test_faults_name_columns_as_the_file_has_them(tmp_path: Path) -> None:
    """A column 'relevance' is not to be found in BEIR's files."""
    beir = [{"query-id": "2", "corpus-id": "b", "score": "high"}]
    beside = {"corpus": CORPUS, "queries": QUERIES}
    said = faults_of(tmp_path, beir, qrels=beir, **beside)
    assert said.count("in column 'score' (task.columns.relevance), got 'high'") == 2


def configured(out: Path, **more: Any) -> dict[str, Split]:
    """What a configuration reads; ``more`` of its data and its task."""
    task: dict[str, Any] = {"kind": "retrieval", **more.pop("task", {})}
    config = DistillConfig.model_validate(
        {
            "run": {"name": "x", "output_dir": str(out)},
            "data": more,
            "task": task,
            "student": {"model": "none"},
            "losses": [{"kind": "in_batch_cross_entropy"}],
            "evaluation": {"retrieval": "corpus"} if "folder" in more else {},
        }
    )
    assert isinstance(config.task, RetrievalTask)
    return load_ranking(config, config.task)


def test_a_folder_of_beir_is_read_as_it_is(tmp_path: Path) -> None:
    """Its judgements lie in a folder of their own, and are the rows where no candidates are listed."""
    write(tmp_path / "corpus.jsonl", [{"_id": row["doc_id"], **{k: row[k] for k in ("title", "text")}} for row in CORPUS])  # fmt: skip
    write(tmp_path / "queries.jsonl", [{"_id": "1", "text": "apples"}, {"_id": "2", "text": "pears"}])  # fmt: skip
    (tmp_path / "qrels").mkdir()
    for name, rows in (("train", ["1\ta\t1"]), ("dev", ["2\tb\t1"]), ("test", ["2\tb\t2", "2\ta\t1"])):  # fmt: skip
        lines = ["query-id\tcorpus-id\tscore", *rows]
        (tmp_path / "qrels" / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^data.validation must have a query with a relevant"):
        configured(tmp_path, folder=str(tmp_path))
    write(tmp_path / "dev_candidates.jsonl", [{"query_id": "2", "doc_ids": ["a", "b"]}])
    found = configured(tmp_path, folder=str(tmp_path))
    assert rows_of(found["train"]) == EXPECTED[:1]
    assert [row[1:3] for row in rows_of(found["validation"])] == [("red apples", 0.0), ("Fruit green pears", 1.0)]  # fmt: skip
    assert [row[1:3] for row in rows_of(found["test"])] == [("Fruit green pears", 2.0), ("red apples", 1.0)]  # fmt: skip
    (tmp_path / "dev_candidates.jsonl").rename(tmp_path / "elsewhere.jsonl")
    named = configured(tmp_path, folder=str(tmp_path), validation=str(tmp_path / "elsewhere.jsonl"))
    assert rows_of(named["validation"]) == rows_of(found["validation"])


def test_triplets_are_rows_of_one_passage_each(tmp_path: Path) -> None:
    """Most public training data of embedders has these three columns."""
    rows = [{"anchor": "apples", "positive": "red apples", "negative": text} for text in ("blue stones", "pears")]  # fmt: skip
    columns = {"query": "anchor", "positives": "positive", "negatives": "negative"}
    for form in ("jsonl", "csv", "parquet"):
        path = write(tmp_path / f"triplets.{form}", rows)
        split = configured(tmp_path, train=str(path), task={"columns": columns})["train"]
        assert [row[1:] for row in rows_of(split)] == [
            ("red apples", 1.0, 0), ("blue stones", 0.0, 0), ("red apples", 1.0, 1), ("pears", 0.0, 1)
        ]  # fmt: skip


def test_negatives_stand_in_columns_of_one_each(tmp_path: Path) -> None:
    """Rows of mined negatives mostly have a column for each; those after the first would be left out."""
    rows = [
        {"query": "apples", "positives": "red apples", "hard_1": "blue stones", "hard_2": "Fruit green pears"},
        {"query": "pears", "positives": "Fruit green pears", "hard_1": "red apples", "hard_2": ""},
    ]  # fmt: skip
    task = {"columns": {"negatives": ["hard_1", "hard_2"]}}
    for form in ("jsonl", "csv", "parquet"):
        path = write(tmp_path / f"train.{form}", rows)
        assert rows_of(configured(tmp_path, train=str(path), task=task)["train"]) == EXPECTED
    named = {"negatives": ["hard_1", "hrad_2"]}
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, train=str(path), task={"columns": named})
    (fault,) = caught.value.faults
    assert "must hold a column 'hrad_2' (task.columns.negatives.1), got the columns" in str(fault)
    assert fault.rests_on == ("data.train", "task.columns.negatives.1")
    alone = write(tmp_path / "alone.jsonl", [{"query": "pears", "positives": "pears"}])
    assert len(rows_of(configured(tmp_path, train=str(alone), task=task)["train"])) == 1
    with pytest.raises(ValueError, match="must be the name of a column, or a list of them"):
        configured(tmp_path, train=str(path), task={"columns": {"negatives": []}})


@pytest.mark.parametrize("form", ["lists", "pairs", "ids"])
def test_splits_of_data_sets_are_read_as_files_are(tmp_path: Path, form: str) -> None:
    """Most public rows are on the hub; whoever has to write them to files first looks for another tool."""
    lists = [{**row, "positives": [*np.atleast_1d(row["positives"])]} for row in BY_TEXTS]
    rows = Dataset.from_list({"lists": lists, "pairs": BY_PAIRS, "ids": BY_IDS}[form])
    if form == "pairs":
        rows = rows.cast_column("label", ClassLabel(names=["no", "yes"]))
    DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path / "set")
    beside = {"corpus": str(write(tmp_path / "corpus.jsonl", CORPUS))} if form == "ids" else {}
    data = {"dataset": str(tmp_path / "set"), "splits": {"train": "train"}, **beside}
    split = configured(tmp_path, **data)["train"]
    assert rows_of(split) == EXPECTED
    assert split.origins == (f"{tmp_path / 'set'} train",)
    data["splits"] = {"train": "train", "validation": "nowhere"}
    with pytest.raises(ConfigError, match=r"data.splits.*nowhere"):
        configured(tmp_path, **data)
    data["splits"] = {"train": "train", "validation": "dev"}
    assert rows_of(configured(tmp_path, **data)["validation"]) == EXPECTED
    with pytest.raises(
        ConfigError, match=r"data.train must hold a column 'zz' \(task.columns.query"
    ):
        configured(tmp_path, **data, task={"columns": {"query": "zz", "query_id": "zz"}})


def test_candidates_are_judged_and_cut(tmp_path: Path) -> None:
    """A relevant passage that nobody can find belongs into the ideal order all the same."""
    beside = {"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS, "validation": CANDIDATES}
    split = load(tmp_path, BY_IDS, **beside)["validation"]
    assert rows_of(split) == [("pears", "blue stones", 0.0, 0), ("pears", "Fruit green pears", 2.0, 0)]  # fmt: skip
    assert split.table["missed"].to_pylist() == [[1.0], []]
    assert split.table["ordered"].to_pylist() == [True, True]
    beside["test"] = beside.pop("validation")
    cut = load(tmp_path, BY_IDS, max_candidates=1, **beside)["test"]
    assert cut.num_rows == 1
    assert sorted(cut.table["missed"].to_pylist()[0]) == [1.0, 2.0]
    assert cut.fingerprint != split.fingerprint
    assert "1 of 1 queries are trained on" in " ".join(split.notes)


ALIKE = {
    "relevant alone": [{"query_id": "2", "doc_id": "b", "relevance": 1}],
    "of one grade": [{"query": "q", "passage": text, "label": 1} for text in "ab"],
    "relevant ones missed": [{"query_id": "2", "doc_ids": ["c"]}],
}


@pytest.mark.parametrize("rows", list(ALIKE.values()), ids=list(ALIKE))
def test_rows_that_tell_no_order_from_another_choose_no_student(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    """nDCG is 1 whatever a student says, and the first one measured is kept as the best."""
    beside = {"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS}
    said = faults_of(tmp_path, BY_TEXTS, validation=rows, **beside)
    assert "a relevant candidate and one that is not, got none" in said
    notes = load(tmp_path, BY_TEXTS, test=rows, **beside)["test"].notes
    assert any("the same for every model" in note for note in notes)


def test_one_query_with_an_order_is_enough(tmp_path: Path) -> None:
    """Of grades 2 and 1 there is a better order; where nothing is relevant nothing is chosen by."""
    beside = {"corpus": CORPUS, "queries": QUERIES}
    graded = [{**row} for row in QRELS]
    assert "validation" in load(tmp_path, BY_TEXTS, validation=graded, **beside)
    none = [{"query": "q", "passage": text, "label": 0} for text in "ab"]
    assert "validation" in load(tmp_path, BY_TEXTS, validation=none, **beside)


def test_measured_queries_without_text_are_left_out(tmp_path: Path) -> None:
    """Nobody can answer them, and who publishes them cannot be asked."""
    blank = {"query_id": "3", "doc_ids": ["a"]}
    beside = {"corpus": CORPUS, "queries": [*QUERIES, {"query_id": "3", "query": ""}], "qrels": QRELS}  # fmt: skip
    split = load(tmp_path, BY_IDS, test=[*CANDIDATES, blank], **beside)["test"]
    assert set(split.table["text"].to_pylist()) == {"pears"}
    assert "1 queries have no text (row 2) and are left out." in split.notes
    trained = {"query_id": "3", "positive_ids": ["a"]}
    assert "a query in every row, got an empty one" in faults_of(tmp_path, [trained], **beside)


def test_unlabelled_rows_go_on_with_the_numbers_of_training(tmp_path: Path) -> None:
    """Two queries of one number would be one group."""
    found = load(tmp_path, BY_TEXTS, unlabelled=BY_PAIRS)
    assert found["unlabelled"].table["group"].to_pylist() == [2, 2, 2, 3, 3]
    assert found["unlabelled"].table["row_id"].to_pylist() == list(range(5, 10))
    assert np.isnan(label_matrix(found["unlabelled"].table["label"])).all()


BAD = {
    "no positive": ([{"query": "q", "positives": [], "negatives": ["x"]}], {}, "a relevant passage for every query"),
    "empty group": ([{"query": "q", "positives": [], "negatives": []}], {}, "at least one passage for every query"),
    "not in the corpus": ([{**BY_IDS[0], "positive_ids": ["z"]}], {"corpus": CORPUS}, "data.corpus, got the id 'z'"),
    "passage twice": ([{**BY_IDS[0], "negative_ids": ["a"]}], {"corpus": CORPUS}, "every passage of a query once, got 'a' twice"),
    "query twice": ([BY_IDS[0], BY_IDS[0]], {"corpus": CORPUS}, "every query once, got an id twice"),
    "document twice": (BY_IDS, {"corpus": [*CORPUS, CORPUS[0]]}, "every id once, got an id twice"),
    "document without text": (BY_IDS, {"corpus": [*CORPUS, {"doc_id": "d", "title": "", "text": " "}]}, "text in every row"),
    "no corpus": (BY_IDS, {}, "hold texts, or name data.corpus"),
    "negative label": ([{**BY_PAIRS[0], "label": -1}], {}, "numbers of 0 or more in column 'label' (task.columns.label), got '-1'"),
    "no number": ([{**BY_PAIRS[0], "label": "yes"}], {}, "got 'yes'"),
    "two judgements": ([*BY_PAIRS, {**BY_PAIRS[0], "label": 0}], {}, "two judgements that differ"),
    "empty query": ([{**BY_PAIRS[0], "query": " "}], {}, "a query and a passage in every row"),
    "none of the columns": ([{"q": "x", "p": "y"}], {}, "one of the columns 'doc_ids'"),
    "no queries": ([{"query_id": "1", "positive_ids": ["a"]}], {"corpus": CORPUS}, "or name data.queries"),
    "unknown query": ([{"query_id": "7", "positive_ids": ["a"]}], {"corpus": CORPUS, "queries": QUERIES}, "the id '7'"),
    "half a grade": (BY_IDS, {"corpus": CORPUS, "qrels": [{**QRELS[0], "relevance": 0.5}]}, "whole numbers in column 'relevance' (task.columns.relevance), got '0.5'"),
    "half a grade below 0": (BY_IDS, {"corpus": CORPUS, "qrels": [{**QRELS[0], "relevance": -0.5}]}, "got '-0.5'"),
    "no judgements": (BY_IDS, {"corpus": CORPUS, "queries": QUERIES, "test": CANDIDATES}, "be judged by data.qrels"),
    "half a label": (BY_TEXTS, {"validation": [{**BY_PAIRS[0], "label": 0.5}]}, "data.validation must hold whole numbers in column 'label'"),
    "null among texts": ([{"query": "q", "positives": ["Paris", None]}], {}, "column 'positives' (task.columns.positives), got null in train.jsonl, row 1."),
    "numbers for texts": ([{"query": "q", "positives": ["a"], "negatives": [1, 2]}], {}, "column 'negatives' (task.columns.negatives), got a number"),
    "a number in brackets": ([{"query": "q", "positives": "[1]"}], {}, "got a number in train.jsonl, row 1."),
    "lists for texts": ([{"query": "q", "positives": [["a"]]}], {}, "got a list in train.jsonl, row 1."),
    "objects without text": ([{"query": "q", "positives": [{"title": "a"}]}], {}, "got an object without a text 'text'"),
    "title that is a number": ([{"query": "q", "positives": [{"title": 1, "text": "a"}]}], {}, "got a number"),
    "half a character": ([{"query": "q", "positives": ["Pa\ud83d"]}], {}, "got half of a surrogate pair"),
    "null among ids": ([{**BY_IDS[0], "negative_ids": ["c", None]}], {"corpus": CORPUS}, "a list of ids in column 'negative_ids' (task.columns.negative_ids), got null"),
    "objects for ids": ([{**BY_IDS[0], "positive_ids": [{"id": "a"}]}], {"corpus": CORPUS}, "got an object"),
    "no column of ids": (BY_IDS, {"corpus": [{"id": "a", "text": "x"}]}, "a column 'doc_id' (task.columns.doc_id)"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_rows_are_named(tmp_path: Path, case: str) -> None:
    """One line that says which row, and what of it."""
    train, beside, expected = BAD[case]
    assert expected in faults_of(tmp_path, train, **beside)


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    """Fixing one file after the other takes a day."""
    said = faults_of(
        tmp_path,
        [BY_IDS[0], {**BY_IDS[1], "positive_ids": []}],
        corpus=CORPUS,
        qrels=[{**QRELS[0], "relevance": "yes"}],
        test=[{"query_id": "9", "doc_ids": []}],
    )
    assert [line.split()[0] for line in said.splitlines()] == ["data.qrels", "data.train", "data.test"]  # fmt: skip


def test_mined_negatives_share_words_and_are_nobodys_own(tmp_path: Path) -> None:
    """A passage that is relevant and taught as not relevant unteaches the student."""
    corpus = ["green pears and apples", "red apples", "apples of gold", "stones", "red apples and red cars"]  # fmt: skip
    found = mine_negatives(["red apples"], [["red apples"]], corpus, Mined(2))
    assert found == [["red apples and red cars", "apples of gold"]]
    assert mine_negatives(["red apples"], [["red apples"]], corpus, Mined(2, skip=1))[0][0] == "apples of gold"  # fmt: skip
    assert mine_negatives(["nothing there"], [[]], corpus, Mined(2)) == [[]]
    chinese = ["战国无双的角色", "声优的工作", "战国时代"]
    assert mine_negatives(["战国无双"], [[chinese[0]]], chinese, Mined(1)) == [["战国时代"]]
    only_pairs = [{"query": "pears", "positives": ["green pears"]}, {"query": "apples", "positives": ["red apples and pears"]}]  # fmt: skip
    split = load(tmp_path, only_pairs, mined=Mined(1))["train"]
    assert rows_of(split)[1] == ("pears", "red apples and pears", 0.0, 0)
    assert "BM25 finds fewer than 1 passages for 1 queries." in split.notes


SIGNS = {
    "hindi": ("हिन्दी में", "में हिन्दी पढ़ता", "मा हीन दीदी"),
    "tamil": ("தமிழ்", "இது தமிழ் மொழி", "தம ழக"),
    "arabic": ("كِتَابٌ", "هذا كتاب", "ك ت اب"),
    "hebrew": ("שָׁלוֹם", "זה שלום", "ש לו ם"),
    "accents": ("cafe\u0301", "ein café", "ein cafe"),
    "joiners": ("ශ්\u200dරී", "මේ ශ්රී", "ශ රී"),
    "thai": ("แมวดำ", "ฉันเห็นแมวสีขาว", "หมาสีขาว"),
    "lao": ("ພາສາ", "ແມ່ນພາສາລາວ", "ໝາໃຫຍ່"),
    "khmer": ("ភាសា", "នេះជាភាសាខ្មែរ", "កម្ពុជា"),
    "burmese": ("မြန်မာ", "ဒါကမြန်မာစာ", "ကျေးဇူး"),
}


@pytest.mark.parametrize("script", list(SIGNS))
def test_words_are_whole_with_their_vowel_signs(script: str) -> None:
    """Consonants alone are in common with anything: what BM25 finds by them has nothing to do with the query."""
    query, same, other = SIGNS[script]
    assert mine_negatives([query], [[]], [other, same], Mined(2)) == [[same]]


def test_words_without_signs_are_what_they_were() -> None:
    """Other words are other negatives, and runs that began with the ones could not go on."""
    words = {
        "Don't stop_it: 3½ x²!": ["don", "t", "stop_it", "3½", "x²"],
        "東京都の iPhone12で가나다": ["東京", "京都", "都の", "iphone12", "で가", "가나", "나다"],
        "İstanbul, STRASSE straße": ["i", "stanbul", "strasse", "strasse"],
        "1\ufe0f\u20e3 ☀\ufe0f Ⅻ": ["1", "ⅻ"],
    }
    assert {text: _words(text) for text in words} == words


def test_nothing_that_is_known_to_be_relevant_is_mined(tmp_path: Path) -> None:
    """Of a query in several rows the other rows' passages are no negatives, nor what only qrels know, nor itself."""
    corpus = [{"doc_id": f"d{i}", "text": f"apples {i}"} for i in range(4)]
    corpus += [
        {"doc_id": "q", "text": "apples apples"},
        {"doc_id": "n", "text": "apples and pears"},
    ]
    rows = [{"query_id": None, "query": "apples", "positive_ids": [f"d{i}"]} for i in range(2)]
    rows += [{"query_id": "q", "query": "apples", "positive_ids": ["d3"]}]
    qrels = [{"query_id": "q", "doc_id": "d2", "relevance": 1}]
    split = load(tmp_path, rows, corpus=corpus, qrels=qrels, mined=Mined(5))["train"]
    expected = [("d0", "n"), ("d1", "n"), ("d3", "n")]
    texts = {row["doc_id"]: row["text"] for row in corpus}
    assert [passage for _, passage, _, _ in rows_of(split)] == [texts[one] for pair in expected for one in pair]  # fmt: skip
    queries = [{"query_id": "7", "query": "apples"}]
    by_text = [{"query": "apples", "positives": ["apples 0"]}]
    qrels = [{"query_id": "7", "doc_id": f"d{i}", "relevance": 1} for i in range(1, 4)]
    beside = {"corpus": corpus, "queries": queries, "qrels": qrels, "mined": Mined(1)}
    split = load(tmp_path, by_text, **beside)["train"]
    assert rows_of(split)[1][1] == "apples apples"


def test_drawn_groups_hold_one_relevant_candidate_first() -> None:
    """A loss that takes the first for the relevant one would learn the wrong order."""
    grades = np.array([0.0, 1.0, 0.0, 3.0, 0.0, np.nan, 0.0])
    seen: set[int] = set()
    for epoch in range(20):
        places = draw_group(grades, most=4, positives=1, seed=3, epoch=epoch, group=5)
        assert len(set(places.tolist())) == 4
        assert grades[places[0]] > 0
        assert not (grades[places[1:]] > 0).any()
        seen |= set(places.tolist())
    assert seen == set(range(7)), "every candidate has its turn"
    both = draw_group(grades, most=4, positives=2, seed=3, epoch=0, group=5)
    assert grades[both[:2]].tolist() == [3.0, 1.0]
    few = draw_group(grades[:2], most=4, positives=1, seed=3, epoch=0, group=5)
    assert few.tolist() == [1, 0]


def test_drawn_groups_are_a_matter_of_seed_epoch_and_query() -> None:
    """Draws that hang together show every query's same negatives in every epoch."""
    grades = np.array([1.0, *[0.0] * 9])

    def drawn(**changes: int) -> list[int]:
        options = {"seed": 1, "epoch": 0, "group": 0, **changes}
        return draw_group(grades, most=4, positives=1, **options).tolist()

    assert drawn() == drawn() == [0, 6, 8, 9]
    assert len({tuple(drawn(**{name: 1 + (name == "seed")})) for name in ("seed", "epoch", "group")} | {tuple(drawn())}) == 4  # fmt: skip


def test_pairs_of_a_query_are_one_group_whatever_file_they_are_in(tmp_path: Path) -> None:
    """A query cut by files would be two orders, one of them without a relevant passage."""
    paths = [write(tmp_path / f"{i}.jsonl", BY_PAIRS[i::2]) for i in range(2)]
    split = load_groups(RankingFiles(splits={"train": paths}, columns=COLUMNS))["train"]
    assert sorted(rows_of(split)) == sorted(EXPECTED)


def test_all_queries_without_a_relevant_passage_are_counted(tmp_path: Path) -> None:
    """One a run takes as many runs as there are."""
    rows = [{"query": f"q{i}", "positives": [], "negatives": ["x"]} for i in range(5)]
    assert "got none in train.jsonl, row 1, train.jsonl, row 2, train.jsonl, row 3 and 2 more." in faults_of(tmp_path, rows)  # fmt: skip


NOT_ROWS = {
    "number.jsonl": ('{"query": "q", "positives": ["a"]}\n5\n', "one JSON object a row, got a number in number.jsonl, line 2."),
    "null.jsonl": ("null\n", "one JSON object a row, got null in null.jsonl, line 1."),
    "array.json": ("[1, 2]", "one JSON object a row, got a number in array.json, row 1, row 2."),
    "deep.jsonl": ('{"query": "q", "positives": ["a"]}\n{"query": "r", "positives": ' + "[" * 50_000 + "]" * 50_000 + "}\n", "nested too deeply in deep.jsonl, line 2."),
    "deep.json": ('[{"query": "r", "positives": ' + "[" * 50_000 + "]" * 50_000 + "}]", "nested too deeply in deep.json, line 1."),
}  # fmt: skip


@pytest.mark.parametrize("name", list(NOT_ROWS))
@pytest.mark.parametrize("place", ["train", "corpus"])
def test_what_is_no_row_is_named_alone(tmp_path: Path, name: str, place: str) -> None:
    """A traceback says nothing of the line, and a fault about columns sends to the wrong place."""
    content, expected = NOT_ROWS[name]
    if place == "corpus":
        content = content.replace('"query"', '"doc_id"').replace(
            '"positives": ["a"]', '"text": "a"'
        )
        content = content.replace('"positives"', '"text"')
    (tmp_path / name).write_text(content, encoding="utf-8")
    sound = write(tmp_path / "sound.jsonl", BY_TEXTS)
    files = {"splits": {"train": [sound]}, place: [tmp_path / name]}
    files = {"splits": {"train": [tmp_path / name]}} if place == "train" else files
    with pytest.raises(ConfigError) as caught:
        load_groups(RankingFiles(columns=COLUMNS, **files))
    (fault,) = caught.value.faults
    assert fault.path == f"data.{place}"
    assert expected in str(fault)
