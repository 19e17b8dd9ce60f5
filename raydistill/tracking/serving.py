"""A classifier, or what predicts numbers, as an MLflow model: text in, labels and scores out.

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
from transformers import AutoModelForSequenceClassification, AutoTokenizer

_BATCH_ROWS = 32
_HALF = 0.5


class TextClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers in columns, by the kind of its task.

    ``text_classification``: ``label``, ``score`` (its probability) and ``scores`` (of all labels, in
    their order); a model with a single output gives that number as it is.
    ``multi_label_classification``: ``labels`` with a probability above a half, and ``scores`` of all.
    ``regression``: a column for each number, called as in the training data.
    ``reranking``: ``score``, larger for more relevant passages; only the order of scores means anything.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads model, tokenizer and what was written down beside them."""
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.kind: str = settings["task_kind"]
        self.labels: list[str] = settings["labels"]
        self.text_columns: list[str] = settings["text_columns"]
        self.max_length: int = settings["max_length"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = context.artifacts["student"]
        options = {"trust_remote_code": _has_own_code(Path(folder))}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
        self.model = model.to(self.device).eval()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow goes by these names
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Classifies rows, or predicts their numbers.

        Args:
            context: Of MLflow; not needed after loading.
            model_input: A frame, a list of texts or of rows, a dictionary of columns, or a text.
            params: None are known.

        Returns:
            One row for each row, with the same index.
        """
        frame = self._columns(model_input)
        texts = [frame[column].astype(str).tolist() for column in self.text_columns]
        scores: list[list[float]] = []
        for start in range(0, len(frame), _BATCH_ROWS):
            scores += self._score([column[start : start + _BATCH_ROWS] for column in texts])
        return pd.DataFrame(self._answers(scores)).set_axis(frame.index, axis=0)

    def _answers(self, scores: list[list[float]]) -> dict[str, Any]:
        """Columns from the scores of all rows."""
        if self.kind in ("regression", "reranking"):
            return {
                name: pd.Series([row[place] for row in scores], dtype=float)
                for place, name in enumerate(self.labels)
            }
        whole = pd.Series(scores, dtype=object)
        if self.kind == "multi_label_classification":
            there = [
                [name for name, score in zip(self.labels, row, strict=True) if score > _HALF]
                for row in scores
            ]
            return {"labels": pd.Series(there, dtype=object), "scores": whole}
        best = [max(range(len(row)), key=row.__getitem__) for row in scores]
        chosen = [row[place] for row, place in zip(scores, best, strict=True)]
        return {
            "label": pd.Series([self.labels[place] for place in best], dtype=object),
            "score": pd.Series(chosen, dtype=float),
            "scores": whole,
        }

    def _score(self, texts: list[list[str]]) -> list[list[float]]:
        encoded = self.tokenizer(
            *texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            logits = self.model(**encoded).logits.float()
        if self.kind == "multi_label_classification":
            scores = logits.sigmoid()
        elif self.kind == "regression" or logits.shape[-1] == 1:
            scores = logits
        else:
            scores = logits.softmax(-1)
        result: list[list[float]] = scores.cpu().tolist()
        return result

    def _columns(self, rows: pd.DataFrame | list[Any] | dict[str, Any] | str) -> pd.DataFrame:
        """The text columns by name, whatever form the rows came in."""
        if isinstance(rows, str):
            rows = [rows]
        if isinstance(rows, dict) and all(isinstance(value, str) for value in rows.values()):
            rows = [rows]
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        if len(frame) == 1 and all(isinstance(cell, list) for cell in frame.iloc[0]):
            # What MLflow makes of a dictionary of columns: a single row of lists.
            frame = frame.explode(list(frame.columns), ignore_index=True)
        unnamed = not any(isinstance(name, str) for name in frame.columns)
        if unnamed and len(frame.columns) == len(self.text_columns):
            return frame.set_axis(self.text_columns, axis=1)
        missing = [name for name in self.text_columns if name not in frame.columns]
        if missing:
            got = ", ".join(map(str, frame.columns)) or "none"
            raise ValueError(
                f"The model reads the columns {', '.join(self.text_columns)}; "
                f"{', '.join(missing)} is not among those it got: {got}."
            )
        return frame[self.text_columns]


def _has_own_code(folder: Path) -> bool:
    """Whether the model's code lies beside its weights, in the package that this file is part of too."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = str(config.get("auto_map", {}).get("AutoModelForSequenceClassification", ""))
    return (folder / f"{named.partition('.')[0]}.py").is_file()


set_model(TextClassifier())
