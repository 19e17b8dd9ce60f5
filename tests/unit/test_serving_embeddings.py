"""A packed embedder: texts in, embeddings out, and scores of pairs, as in training and in sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from raydistill.tracking import save_model_folder
from tests.unit.embedders import PROMPTS, make_embedder

TEXTS = ["a good film", "the plot was very dull", "cast"]
SPECS: list[dict[str, Any]] = [
    {"pooling": mode, "normalize": place % 2 == 0, "similarity": ("cosine", "dot")[place % 2], **PROMPTS}
    for place, mode in enumerate(("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"))
]  # fmt: skip


def packed(folder: Path, **spec: Any) -> tuple[Any, Any]:
    """The model of MLflow, and that of sentence-transformers."""
    import mlflow.pyfunc
    from sentence_transformers import SentenceTransformer

    student = make_embedder(folder / "student", **spec)
    model = save_model_folder(
        student, folder / "model", task_kind="retrieval", labels=["score"],
        text_columns=["query", "passage"], example={"query": "good film", "passage": "a plot"},
    )  # fmt: skip
    return mlflow.pyfunc.load_model(str(model)), SentenceTransformer(str(student), device="cpu")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["pooling"])
def test_texts_are_embedded_as_sentence_transformers_does(spec: dict[str, Any], tmp_path: Path) -> None:  # fmt: skip
    """An index that is filled by one and searched by the other finds nothing."""
    model, peer = packed(tmp_path, **spec)
    sides = {"query": peer.encode_query(TEXTS), "passage": peer.encode_document(TEXTS)}
    for side, expected in sides.items():
        found = model.predict(pd.DataFrame({side: TEXTS}, index=[4, 5, 6]))
        assert list(found.index) == [4, 5, 6]
        torch.testing.assert_close(torch.tensor(found["embedding"].tolist()), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)  # fmt: skip
    scores = model.predict(pd.DataFrame({"query": TEXTS, "passage": TEXTS[::-1]}))["score"]
    expected = peer.similarity_pairwise(sides["query"], sides["passage"][::-1].copy())
    assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_requests_of_one_side_or_both_are_served(tmp_path: Path) -> None:
    """Columns that may be missing are filled up by MLflow, and a query would be scored against nothing."""
    from mlflow.pyfunc.scoring_server import invocations

    model, peer = packed(tmp_path, normalize=True, **PROMPTS)
    signature = model.metadata.signature
    assert signature.inputs.input_names() == ["query", "passage", "text"]
    assert signature.outputs.input_names() == ["embedding", "score"]

    def ask(body: str) -> list[dict[str, Any]]:
        done = invocations(body, "application/json", model, signature.inputs)
        assert done.status == 200, done.response
        return json.loads(done.response)["predictions"]

    query = torch.from_numpy(peer.encode_query(["good film"]))
    passage = torch.from_numpy(peer.encode_document(["a plot"]))
    (answer,) = ask((tmp_path / "model" / "serving_input_example.json").read_text())
    assert list(answer) == ["score"]
    assert answer["score"] == pytest.approx((query * passage).sum().item(), abs=1e-5)
    for side, expected in {"query": query, "passage": passage, "text": passage}.items():
        text = "good film" if side == "query" else "a plot"
        for body in ({"inputs": [{side: text}]}, {"dataframe_records": [{side: text}]}):
            (answer,) = ask(json.dumps(body))
            assert list(answer) == ["embedding"]
            torch.testing.assert_close(torch.tensor([answer["embedding"]]), expected, rtol=1e-5, atol=1e-6)  # fmt: skip


def test_rows_come_in_any_form(tmp_path: Path) -> None:
    """Users send texts, lists and frames."""
    model, _ = packed(tmp_path, normalize=True, **PROMPTS)
    passage = model.predict(pd.DataFrame({"passage": ["a good film"]}))
    for given in (pd.DataFrame({"text": ["a good film"]}), {"text": ["a good film"]}, [{"passage": "a good film"}]):  # fmt: skip
        pd.testing.assert_frame_equal(model.predict(given), passage)
    whole = model.predict([{"query": "good film", "passage": "a plot"}])
    assert list(whole.columns) == ["score"]
    assert -1 <= whole["score"][0] <= 1
