"""A packed model for answers: questions and contexts in, the answer, its score and its place out."""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
import torch

from raydistill.data import UNIT, units_of
from raydistill.evaluation.spans import answers_of
from raydistill.models.span_pieces import tokenize_spans
from raydistill.models.spans import span_logits, span_table
from raydistill.tasks import Answering, Questions
from raydistill.tracking import save_model_folder
from tests.unit.windows import CONTEXT, grams, make_answerer, pieces

ROWS = [
    ("Where went Ada?", CONTEXT),
    ("Who?", "中国 👨\u200d👩\u200d👧 \u200bRio"),
    ("", "Paris"),
]


def packed(folder: Path, tokenizer: Any, length: int = 256, **changes: Any) -> Any:
    student = make_answerer(folder / "student", tokenizer, seed=5, length=length)
    settings = {
        "max_answer_units": 6, "null_threshold": 0.0, "unanswerable": False, "overlap": 0.33, "unit": UNIT,
        **changes,
    }  # fmt: skip
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(student)
    model = save_model_folder(
        student, folder / "model", task_kind="question_answering", labels=["start", "end"],
        text_columns=["question", "context"], example={"question": "Who?", "context": "Ada"},
        answering=settings,
    )  # fmt: skip
    return mlflow.pyfunc.load_model(str(model))


@pytest.mark.parametrize("make", [pieces, grams])
@pytest.mark.parametrize("unanswerable", [False, True])
def test_answers_are_those_of_the_evaluation(make: Any, unanswerable: bool, tmp_path: Path) -> None:
    """What is served would be another model than the one that was measured."""
    from transformers import AutoModelForQuestionAnswering

    model = packed(tmp_path, make(), unanswerable=unanswerable)
    found = model.predict(pd.DataFrame(ROWS, columns=["question", "context"]))
    texts = [list(column) for column in zip(*ROWS, strict=True)]
    inputs, spans = tokenize_spans(make(), texts, 256)
    plain = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        out = plain(**inputs)
    values = torch.stack([out.start_logits, out.end_logits], -1)
    units, rest = span_logits(values, inputs["attention_mask"], spans)
    sizes = torch.bincount(spans.units.row)
    answering = Answering(6, 0.0, unanswerable, "squad")
    asked = Questions(sizes.numpy(), torch.arange(3).numpy(), texts[1], ["a", "b", "c"], [None] * 3, answering)  # fmt: skip
    table = span_table(units, rest, spans.mapped[:, :2], sizes.tolist())
    for row, answer in enumerate(answers_of(table, asked)):
        assert found["answer"][row] == answer.text
        if answer.text:
            start, end = found["start"][row], found["end"][row]
            assert texts[1][row][start:end] == answer.text
            whole = values[row][inputs["attention_mask"][row].bool()].log_softmax(0)
            logged = answer.score - (values[row][inputs["attention_mask"][row].bool()]).logsumexp(0).sum()  # fmt: skip
            assert found["score"][row] == pytest.approx(logged.exp().item(), rel=1e-3)
            assert found["score"][row] <= whole.exp().max().item()
        else:
            assert (found["start"][row], found["end"][row]) == (0, 0)
            assert 0 <= found["score"][row] <= 1


def test_long_contexts_are_read_in_windows(tmp_path: Path) -> None:
    """What lies behind the longest input of a model would never be an answer."""
    model = packed(tmp_path, pieces(), length=24)
    filler = "Ada went to Rio and Alan saw the New York. " * 6
    found = [
        model.predict([{"question": "Who?", "context": filler[place:] + filler[:place]}])
        for place in range(0, 120, 11)
    ]
    starts = [int(one["start"][0]) for one in found]
    assert max(starts) > 100
    whole = filler + "x"
    answer = model.predict([{"question": "Who?", "context": whole}])
    start, end = int(answer["start"][0]), int(answer["end"][0])
    assert answer["answer"][0] == whole[start:end]
    units = units_of(whole)
    assert start in units[:, 0]
    assert end in units[:, 1]
    with pytest.raises(Exception, match="leaves no room"):
        model.predict([{"question": "Ada " * 30, "context": "Rio"}])


@pytest.mark.parametrize("make", [pieces, grams])
def test_places_are_those_of_a_scan_from_the_beginning(make: Any) -> None:
    """A unit missed at the border of a window is an answer that is never given."""
    from raydistill.tracking.serving_answers import QuestionAnswerer

    text = f"{CONTEXT} \u200b中国 {CONTEXT}"
    units = [(int(begin), int(end)) for begin, end in units_of(text)]
    windows = make()(
        "Who?", text, truncation="only_second", max_length=24, stride=8,
        return_overflowing_tokens=True,
    ).encodings  # fmt: skip
    assert len(windows) > 3
    for window in windows:
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for place, (begin, end) in enumerate(window.offsets):
            if window.sequence_ids[place] != 1 or window.tokens[place] in ("▁", "Ġ"):
                continue
            if mine := [u for u, (b, e) in enumerate(units) if begin < e and end > b]:
                starts.setdefault(mine[0], place)
                ends[mine[-1]] = place
        assert QuestionAnswerer._places(window, units) == (starts, ends)


def test_rows_come_in_any_form(tmp_path: Path) -> None:
    """Users send rows, columns and frames."""
    model = packed(tmp_path, pieces())
    row = {"question": "Where went Ada?", "context": CONTEXT}
    whole = model.predict(pd.DataFrame([row]))
    assert whole.columns.tolist() == ["answer", "score", "start", "end"]
    for given in ([row], row, {name: [value] for name, value in row.items()}):
        pd.testing.assert_frame_equal(model.predict(given), whole)
    nothing = model.predict([{"question": "Who?", "context": " \u200b"}])
    assert nothing.to_dict("records") == [{"answer": "", "score": 0.0, "start": 0, "end": 0}]
    with pytest.raises(Exception, match="context"):
        model.predict([{"question": "Who?"}])
