"""Questions, contexts and answers from files: every form, and everything that may be wrong with them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.data import QuestionColumns, Split, load_question_splits
from raydistill.data.checks import RowFaults
from raydistill.data.files import DataFile
from raydistill.errors import ConfigError
from tests.unit.windows import make_questions

ROWS = make_questions(4, 7, unanswerable=True)


def columns(**changes: Any) -> QuestionColumns:
    named = {"question": "question", "context": "context", "id": "id", "answers": "answers"}
    return QuestionColumns(**{**named, "answer": "answer", "answer_start": "answer_start", "labels": ("start", "end"), **changes})  # fmt: skip


def load(path: Path, **changes: Any) -> Split:
    return load_question_splits({"train": [path]}, columns(**changes))["train"]


def faults(path: Path, split: str = "train", **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_question_splits({split: [path]}, columns(**changes))
    return [str(fault) for fault in error.value.faults]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def nested(rows: list[dict[str, Any]]) -> dict[str, Any]:
    paragraphs = []
    for row in rows:
        answers = row["answers"]
        listed = [
            {"text": t, "answer_start": s}
            for t, s in zip(answers["text"], answers["answer_start"], strict=True)
        ]
        one = {"id": row["id"], "question": row["question"], "answers": listed}
        if not listed:
            one |= {"is_impossible": True, "plausible_answers": [{"text": "x", "answer_start": 0}]}
        paragraphs.append({"context": row["context"], "qas": [one]})
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}


def test_every_form_of_a_file_gives_the_same_rows(tmp_path: Path) -> None:
    """The same data under another name would be other data to a run that goes on."""
    files = [lines(tmp_path / "a.jsonl", ROWS)]
    (tmp_path / "b.json").write_text(json.dumps(ROWS))
    (tmp_path / "c.json").write_text(json.dumps(nested(ROWS)))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    files += [tmp_path / name for name in ("b.json", "c.json", "d.parquet")]
    found = [load(file) for file in files]
    assert len({one.fingerprint for one in found}) == 1
    first = found[0].table.to_pylist()
    assert all(one.table.to_pylist() == first for one in found)
    assert [row["label"] for row in first] == [0, 1, 1, 0]
    assert first[1]["answers"] == ROWS[1]["answers"]["text"]
    assert first[1]["starts"] == ROWS[1]["answers"]["answer_start"]
    assert found[0].labels == ("start", "end")


def test_flat_columns_hold_one_answer(tmp_path: Path) -> None:
    """CSV has no lists."""
    path = tmp_path / "rows.csv"
    text = "question,context,answer,answer_start\n"
    text += 'Who?,"Ada, in Rio.",Ada,0\nWhere?,"Ada, in Rio.",Rio,8\nWhen?,"Ada, in Rio.",,\n'
    path.write_text(text)
    table = load(path, answers=None, id=None).table
    assert table["answers"].to_pylist() == [["Ada"], ["Rio"], []]
    assert table["id"].to_pylist() == ["1", "2", "3"]
    assert table["label"].to_pylist() == [1, 1, 0]
    path.write_text(text + "X?,Ada,Ada,one\n")
    (fault,) = faults(path, answers=None, id=None)
    assert "whole numbers, 0 or more, in column 'answer_start' (task.columns.answer_start)" in fault
    assert "row 4 (one)" in fault


def test_answers_in_csv_may_be_json(tmp_path: Path) -> None:
    """A data set that was saved as CSV has them so."""
    path = tmp_path / "rows.csv"
    path.write_text(
        'id,question,context,answers\n1,Who?,Ada,"{""text"": [""Ada""], ""answer_start"": [0]}"\n'
    )
    assert load(path).table["answers"].to_pylist() == [["Ada"]]


def changed(row: int = 1, **change: Any) -> list[dict[str, Any]]:
    rows = [dict(one) for one in ROWS]
    rows[row] |= change
    return rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (changed(answers={"text": ["Rio"], "answer_start": [9999]}), "inside of their contexts, got others in a.jsonl, row 2 (3 characters from 9999"),
        (changed(answers={"text": ["Rio"], "answer_start": [-1]}), "inside of their contexts"),
        (changed(answers={"text": ["xyz"], "answer_start": [0]}), "stand in their contexts at answer_start, got another text there in a.jsonl, row 2 ('xyz', there '"),
        (changed(answers={"text": ["Rio", "xyz"], "answer_start": [-1, 0]}), "inside of their contexts, got others in a.jsonl, row 2 (3 characters from -1"),
        (changed(answers={"text": [" "], "answer_start": [0]}), "answers with text, got blank ones in a.jsonl, row 2"),
        (changed(answers={"text": ["a", "b"], "answer_start": [0]}), "objects with lists text and answer_start of one length in column 'answers' (task.columns.answers), got something else in a.jsonl, row 2"),
        (changed(answers=3), "an object or a list of objects, or text in column 'answers' (task.columns.answers), got a number"),
        (changed(answers=None), "have answers in every row, got none in a.jsonl, row 2. Put questions without answers under data.unlabelled"),
        (changed(context="\u200b "), "a context with text in every row, got none in a.jsonl, row 2"),
        (changed(id=ROWS[0]["id"]), f"an id of its own for every question, got some twice in a.jsonl, {ROWS[0]['id']!r} in row 2"),
        (changed(id=None), "have an id in column 'id' (task.columns.id) of every row, got none in a.jsonl, row 2"),
        ([{k: v for k, v in row.items() if k != "context"} for row in ROWS], "hold a column 'context' (task.columns.context), got the columns id, question, answers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_rows_is_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], expected: str
) -> None:
    """A wrong place teaches a student nonsense, and nobody sees it."""
    (fault,) = faults(lines(tmp_path / "a.jsonl", rows))
    assert fault.startswith("data.train must ")
    assert expected in fault


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"data": [{"title": "t"}]}, "hold a list paragraphs as SQuAD has it, got none in a.json, data[0]"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "have a context in every paragraph, got none in a.json, data[0].paragraphs[0]"),
        ({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1}]}]}]}, "have an id and a question in every item of qas"),
        ({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": [1]}]}]}]}, "hold answers as lists of text and answer_start"),
        ({"data": []}, "hold at least one question, got none in a.json"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_nested_files_says_where(
    tmp_path: Path, content: Any, expected: str
) -> None:
    """Row numbers mean nothing in such a file."""
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert any(expected in fault for fault in faults(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"context": "Ada \ud83d"}, "hold text in every context, got half of a surrogate pair (\\ud800 … \\udfff) in a.json, data[0].paragraphs[1]."),
        ({"question": "Who\ud83d?"}, "hold text in the id and the question of every item of qas, got half of a surrogate pair (\\ud800 … \\udfff) in a.json, data[0].paragraphs[1].qas[0]."),
        ({"id": "\udfff"}, "hold text in the id and the question of every item of qas"),
        ({"answers": {"text": ["Rio", "\ud83d"], "answer_start": [8, -1]}, "context": "Ada, in Rio."}, "hold text in every answer"),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_in_a_nested_file_is_one_line(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    """It cannot be written as UTF-8: not into a table, and not to a terminal either."""
    (tmp_path / "a.json").write_text(json.dumps(nested(changed(**change))))
    (fault,) = faults(tmp_path / "a.json")
    assert expected in fault
    fault.encode()


def test_half_a_surrogate_pair_in_an_answer_of_a_row_is_one_line(tmp_path: Path) -> None:
    """Answers pass the reader of columns as JSON, in which it is an escape."""
    answers = {"text": ["Rio", "\ud83d"], "answer_start": [8, -1]}
    rows = changed(answers=answers, context="Ada, in Rio.")
    (fault,) = faults(lines(tmp_path / "a.jsonl", rows))
    assert "hold text in every answer, got half of a surrogate pair" in fault


def test_rows_in_an_array_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of gigabytes would be held as a whole to learn that it is not nested."""
    from raydistill.data import squad

    whole: list[int] = []
    known = json.loads
    monkeypatch.setattr(squad.json, "loads", lambda text: whole.append(len(text)) or known(text))
    path = tmp_path / "b.json"
    path.write_bytes(b"\xef\xbb\xbf \n" + json.dumps(ROWS).encode())
    problems = RowFaults("data.train", "b.json")
    assert squad.unfolded(DataFile(str(path)), problems) is None
    assert not whole
    (tmp_path / "c.json").write_text(json.dumps(nested(ROWS)))
    found = squad.unfolded(DataFile(str(tmp_path / "c.json")), problems)
    assert found is not None
    assert [one.id for one in found] == [row["id"] for row in ROWS]
    assert len(whole) == 1


SPREAD = "The duck 名龙尖, that is 俗名龙尖, lives here."


@pytest.mark.parametrize(
    ("texts", "starts", "kept"),
    [
        # A place that is a little beside the answer, to either side; never from -1, which is none.
        (["duck"], [3], [("duck", 4)]),
        (["duck"], [7], [("duck", 4)]),
        (["The", "The"], [-1, 0], [("The", 0), ("The", -1)]),
        # Of three places the nearest one.
        (["e"], [34], [("e", 35)]),
        # What has no place stands behind what has one, and its text is kept.
        (["duck birds", "duck"], [-1, 4], [("duck", 4), ("duck birds", -1)]),
        (["lives", "duck"], [0, 4], [("duck", 4), ("lives", -1)]),
        (["here", "ducks", "duck"], [9999, 5, 5], [("duck", 4), ("here", -1), ("ducks", -1)]),
    ],
)
def test_answers_without_a_place_stand_behind_those_with_one(
    tmp_path: Path, texts: list[str], starts: list[int], kept: list[tuple[str, int]]
) -> None:
    """CMRC 2018 as it is published would be refused for answers that figures alone need."""
    answers = {"text": texts, "answer_start": starts}
    found = load(lines(tmp_path / "a.jsonl", changed(answers=answers, context=SPREAD)))
    row = found.table.to_pylist()[1]
    assert list(zip(row["answers"], row["starts"], strict=True)) == kept
    assert row["label"] == 1


def test_answers_without_a_place_are_counted(tmp_path: Path) -> None:
    """A data set whose places are of another text would be mended in silence."""
    answers = {"text": ["here", "ducks", "duck", "The"], "answer_start": [9999, -1, 5, 0]}
    found = load(lines(tmp_path / "a.jsonl", changed(answers=answers, context=SPREAD)))
    notes = " ".join(found.notes)
    assert "train: 1 of 5 answers stand up to 3 characters beside their answer_start" in notes
    assert "train: 2 of 5 answers do not stand in their contexts at answer_start" in notes
    whole = {"text": ["duck", "The", "ducks", "here"], "answer_start": [4, 0, -1, -1]}
    again = load(lines(tmp_path / "b.jsonl", changed(answers=whole, context=SPREAD)))
    assert again.table.to_pylist()[1]["starts"] == [4, 0, -1, -1]


def test_rows_that_are_cut_otherwise_than_before_are_other_rows(tmp_path: Path) -> None:
    """A run that goes on would go on with other windows."""
    answers = {"text": ["Ada"], "answer_start": [0]}
    for context, version in (("Ada 서울", 2), ("Ada 上海", 1), ("Ada サーバー 서울", 3)):
        row = {"id": "1", "question": "Who?", "context": context, "answers": answers}
        whole = hashlib.sha256(f"raydistill questions {version}".encode())
        whole.update(np.array([1, 0], "<i8").tobytes())
        for text in ("Who?", context, "Ada"):
            content = text.encode()
            whole.update(len(content).to_bytes(8, "little") + content)
        assert load(lines(tmp_path / "a.jsonl", [row])).fingerprint == whole.hexdigest()


def test_broken_json_is_said_by_the_reader_of_columns(tmp_path: Path) -> None:
    """A traceback is no answer to a missing brace."""
    (tmp_path / "a.json").write_text('{"data": [')
    assert any("malformed JSON" in fault for fault in faults(tmp_path / "a.json"))


def test_rows_without_answers_may_be_measured_on_or_not(tmp_path: Path) -> None:
    """Unlabelled questions have no column of answers at all."""
    bare = [{k: v for k, v in row.items() if k != "answers"} for row in ROWS]
    files: dict[str, Any] = {"train": [lines(tmp_path / "a.jsonl", ROWS)]}
    files["unlabelled"] = [lines(tmp_path / "u.jsonl", bare)]
    files["test"] = [lines(tmp_path / "t.jsonl", changed(answers=None, question=" "))]
    splits = load_question_splits(files, columns())
    assert splits["unlabelled"].table["label"].to_pylist() == [-100] * 4
    assert splits["unlabelled"].table["row_id"].to_pylist() == [4, 5, 6, 7]
    assert splits["test"].table["label"].to_pylist() == [0, -100, 1, 0]
    notes = " ".join(splits["test"].notes)
    assert "of 1 of 4 questions no answer is known" in notes
    assert "1 of 4 questions are empty" in notes
    assert "3 of 4 texts of test also occur in train" in notes


def test_data_sets_of_hugging_face_have_answers_too(tmp_path: Path) -> None:
    """SQuAD is on the hub in this form."""
    import datasets

    from raydistill.data import find_dataset_splits

    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    parts = find_dataset_splits(str(tmp_path / "saved"), splits={"train": "train"})
    found = load_question_splits({"train": [parts["train"]]}, columns())["train"]
    assert found.fingerprint == load(lines(tmp_path / "a.jsonl", ROWS)).fingerprint
