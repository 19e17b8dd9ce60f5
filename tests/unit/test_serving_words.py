"""A packed tagger: words or texts in, tags, scores and spans out, whatever form they come in."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from raydistill.models.pieces import first_pieces, tokenize_words
from raydistill.tracking import save_model_folder
from tests.unit.words import TAGS, byte_level, make_tagger, word_piece

ROWS = [["Ada", "Lovelace", "saw", "", "Paris"], ["the", "unbelievably", "New", "York"], ["中国"]]


def packed(folder: Path, tokenizer: Any) -> Any:
    import mlflow.pyfunc

    student = make_tagger(folder / "student", tokenizer, seed=5)
    model = save_model_folder(
        student, folder / "model", task_kind="tagging", labels=TAGS, text_columns=["words"],
        example={"words": ["Ada", "saw"]},
    )  # fmt: skip
    return mlflow.pyfunc.load_model(str(model))


@pytest.mark.parametrize("make", [word_piece, byte_level])
def test_words_are_tagged_as_in_training(make: Any, tmp_path: Path) -> None:
    """A word that is cut otherwise than it was learnt is another word."""
    from transformers import AutoModelForTokenClassification

    tokenizer = make()
    model = packed(tmp_path, tokenizer)
    found = model.predict(pd.DataFrame({"words": ROWS}))
    inputs, pieces = tokenize_words(tokenizer, ROWS, 64)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        p = first_pieces(plain(**inputs).logits, pieces).softmax(-1)
    flat = [tag for row in found["tags"] for tag in row]
    scores = [score for row in found["scores"] for score in row]
    for number, there in enumerate(pieces.mapped.tolist()):
        expected = (TAGS[int(p[number].argmax())], float(p[number].max())) if there else ("O", 0.0)
        assert flat[number] == expected[0]
        assert scores[number] == pytest.approx(expected[1], abs=1e-5)


def test_rows_come_in_any_form(tmp_path: Path) -> None:
    """Users send texts, lists and frames."""
    model = packed(tmp_path, word_piece())
    whole = model.predict(pd.DataFrame({"words": [["Ada", "saw", "Paris"]]}))
    words = ["Ada", "saw", "Paris"]
    for given in (
        pd.DataFrame({"words": ["Ada saw  Paris"]}),
        [{"words": words}],
        [{"words": "Ada saw Paris"}],
        {"words": [words]},
        {"words": words},
    ):
        pd.testing.assert_frame_equal(model.predict(given), whole)
    twice = model.predict({"words": [words, words]})
    assert twice["tags"].tolist() == whole["tags"].tolist() * 2
    assert model.predict(pd.DataFrame({"words": ["", []]}))["tags"].tolist() == [[], []]
    with pytest.raises(Exception, match="words"):
        model.predict([words])


def test_spans_are_those_of_the_tags() -> None:
    """Who shows names to people wants them whole."""
    from raydistill.tracking.serving_words import _spans

    words, tags = (
        ["Ada", "Lovelace", "saw", "New", "York", "x"],
        ["B-per", "I-per", "O", "B-loc", "I-loc", "I-per"],
    )
    assert _spans(words, tags) == [
        {"type": "per", "begin": 0, "end": 2, "text": "Ada Lovelace"},
        {"type": "loc", "begin": 3, "end": 5, "text": "New York"},
    ]
