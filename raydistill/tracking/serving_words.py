"""A tagger of words as an MLflow model: rows of words in, their tags, scores and spans out.

This file is copied into the model's folder and runs there, with MLflow, PyTorch, Transformers and
pandas and without raydistill; nothing of the package may be imported here.
"""

import json
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModelContext
from transformers import AutoModelForTokenClassification, AutoTokenizer

_BATCH_ROWS = 32
_OUTSIDE = "O"


class WordTagger(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers in columns: ``words``, ``tags``, ``scores`` and ``spans``, a list of each for every row.

    A row is a list of words, or a text, which is cut at its spaces. A score is the probability of the tag;
    of words that the model does not see, since they lie behind its longest input or are made of
    nothing visible, the tag is O and the score 0. A span is ``{"type", "begin", "end", "text"}``: words
    from ``begin`` to before ``end``.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads model, tokenizer and what was written down beside them."""
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.labels: list[str] = settings["labels"]
        self.column: str = settings["text_columns"][0]
        self.max_length: int = settings["max_length"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = context.artifacts["student"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.prefix = self._prefix()
        model = AutoModelForTokenClassification.from_pretrained(folder)
        self.model = model.to(self.device).eval()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow goes by these names
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Tags rows of words.

        Args:
            context: Of MLflow; not needed after loading.
            model_input: A frame with a column of lists of words or of texts, a list of rows by column, or a
                dictionary of that column.
            params: None are known.

        Returns:
            One row for each row.
        """
        rows, index = self._rows(model_input)
        answers: list[dict[str, Any]] = []
        for start in range(0, len(rows), _BATCH_ROWS):
            answers += self._tag(rows[start : start + _BATCH_ROWS])
        columns = ("words", "tags", "scores", "spans")
        return pd.DataFrame(
            {name: pd.Series([row[name] for row in answers], dtype=object) for name in columns}
        ).set_axis(index, axis=0)

    def _tag(self, rows: list[list[str]]) -> list[dict[str, Any]]:
        # An empty row has nothing to be cut into; its answer is as empty.
        given = [[self.prefix + word if word else word for word in row] or [""] for row in rows]
        encoded = self.tokenizer(
            given, is_split_into_words=True, truncation=True, max_length=self.max_length,
            padding=True, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            logits = self.model(**encoded.to(self.device)).logits.float()
        best = logits.softmax(-1).max(-1)
        values, places = best.values.cpu().tolist(), best.indices.cpu().tolist()
        answers = []
        for number, words in enumerate(rows):
            tags, scores = [_OUTSIDE] * len(words), [0.0] * len(words)
            seen: set[int] = set()
            for place, word in enumerate(encoded.encodings[number].word_ids):
                if word is None or word in seen or word >= len(words):
                    continue
                seen.add(word)
                tags[word] = self.labels[places[number][place]]
                scores[word] = values[number][place]
            spans = _spans(words, tags)
            answers.append({"words": words, "tags": tags, "scores": scores, "spans": spans})
        return answers

    def _rows(self, given: Any) -> tuple[list[list[str]], Any]:
        """Rows of words, whatever form they came in, and their index."""
        frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
        if self.column not in frame.columns:
            raise ValueError(
                f"The model reads the column {self.column}, which is not among those it got: "
                f"{', '.join(map(str, frame.columns)) or 'none'}."
            )
        cells = frame[self.column]
        if len(cells) == 1 and _is_rows(cells.iloc[0]):
            # What MLflow makes of a dictionary of columns: a single row of them.
            cells = pd.Series(list(cells.iloc[0]), dtype=object)
        return [self._words(cell) for cell in cells], cells.index

    @staticmethod
    def _words(cell: Any) -> list[str]:
        if isinstance(cell, str):
            return cell.split()
        return [str(word) for word in cell]

    def _prefix(self) -> str:
        """What must stand before a word for byte-level tokenizers to cut it as within a text."""

        def ids(text: Any) -> list[int]:
            is_split = not isinstance(text, str)
            found = self.tokenizer(text, is_split_into_words=is_split, add_special_tokens=False)
            return list(found["input_ids"])

        behind_x = ids("x y")[len(ids("x")) :]
        return " " if ids(["y"]) != behind_x and ids([" y"]) == behind_x else ""


def _is_rows(cell: Any) -> bool:
    """Whether a cell holds rows of words, not words."""
    return not isinstance(cell, str) and any(not isinstance(item, str) for item in cell)


def _spans(words: list[str], tags: list[str]) -> list[dict[str, Any]]:
    """What begins with B- and goes on with I- of the same type."""
    found: list[dict[str, Any]] = []
    open_type = ""
    for place, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "B":
            found.append({"type": kind, "begin": place, "end": place + 1})
            open_type = kind
        elif prefix == "I" and kind == open_type:
            found[-1]["end"] = place + 1
        else:
            open_type = ""
    return [{**span, "text": " ".join(words[span["begin"] : span["end"]])} for span in found]


set_model(WordTagger())
