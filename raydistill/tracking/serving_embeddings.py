"""An embedder of texts as an MLflow model: text in, embedding out; a query and a passage in, their score too.

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
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

_BATCH_ROWS = 32
_SIDES = ("query", "passage")


class Embedder(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers in columns: ``embedding``, a list of numbers, of a column of queries or of passages, or of texts.

    The column's name says what stands before a text: ``query``, ``passage``, or any other name for passages too.
    With both, ``score``: how alike the two are, by the student's similarity.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads model, tokenizer and what was written down beside them."""
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.max_length: int = settings["max_length"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = Path(context.artifacts["student"])
        modules = [one["type"].rpartition(".")[2] for one in _read(folder / "modules.json")]
        pooling = _read(folder / "1_Pooling" / "config.json")
        self.pooling = next(k for k, v in pooling.items() if k.startswith("pooling_mode_") and v)
        self.normalize = "Normalize" in modules
        said = _read(folder / "config_sentence_transformers.json")
        prompts = said["prompts"]
        self.prompts = {"query": prompts["query"], "passage": prompts["document"]}
        self.cosine = said["similarity_fn_name"] == "cosine"
        self.lower_case: bool = _read(folder / "sentence_bert_config.json")["do_lower_case"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).to(self.device).eval()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow goes by these names
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Embeds texts, or scores pairs of them.

        Args:
            context: Of MLflow; not needed after loading.
            model_input: A frame, a list of texts or of rows, a dictionary of columns, or a text.
            params: None are known.

        Returns:
            One row for each row, with the same index.
        """
        frame = _frame(model_input)
        if set(_SIDES) <= set(frame.columns):
            found = {side: self._embed(frame[side], side) for side in _SIDES}
            query, passage = found["query"], found["passage"]
            if self.cosine:
                query, passage = (
                    torch.nn.functional.normalize(x, dim=-1) for x in (query, passage)
                )
            scores = (query * passage).sum(-1).tolist()
            return pd.DataFrame({"score": pd.Series(scores, dtype=float)}).set_axis(frame.index)
        if len(frame.columns) != 1:
            raise ValueError(
                "The model reads one column of texts, or the columns query and passage; it got "
                f"{', '.join(map(str, frame.columns)) or 'none'}."
            )
        name = frame.columns[0]
        vectors = self._embed(frame[name], "query" if name == "query" else "passage").tolist()
        return pd.DataFrame({"embedding": pd.Series(vectors, dtype=object)}).set_axis(frame.index)

    def _embed(self, column: "pd.Series[Any]", side: str) -> Tensor:
        texts = [self.prompts[side] + str(text) for text in column]
        texts = [text.lower() for text in texts] if self.lower_case else texts
        parts = [
            self._pooled(texts[begin : begin + _BATCH_ROWS])
            for begin in range(0, len(texts), _BATCH_ROWS)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    def _pooled(self, texts: list[str]) -> Tensor:
        encoded = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            states = self.model(**encoded).last_hidden_state.float()
        mask = encoded["attention_mask"].bool()
        found = _pool(states, mask, self.pooling.removeprefix("pooling_mode_"))
        return (torch.nn.functional.normalize(found, dim=-1) if self.normalize else found).cpu()


def _pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    place = mask.int().cumsum(1)
    if how in ("cls_token", "lasttoken"):
        place = place == (1 if how == "cls_token" else place[:, -1:])
        return torch.where((place & mask).unsqueeze(-1), states, 0.0).sum(1)
    if how == "max_tokens":
        return states.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
    weights = torch.where(mask, place if how == "weightedmean_tokens" else 1, 0).float()
    total, number = (states * weights.unsqueeze(-1)).sum(1), weights.sum(1, keepdim=True)
    return total / (number.sqrt() if how == "mean_sqrt_len_tokens" else number)


def _frame(rows: Any) -> pd.DataFrame:
    """Columns of texts, whatever form the rows came in."""
    if isinstance(rows, str):
        rows = [rows]
    if isinstance(rows, dict) and all(isinstance(value, str) for value in rows.values()):
        rows = [rows]
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    if len(frame) == 1 and all(isinstance(cell, list) for cell in frame.iloc[0]):
        # What MLflow makes of a dictionary of columns: a single row of lists.
        frame = frame.explode(list(frame.columns), ignore_index=True)
    return frame.dropna(axis=1, how="all")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


set_model(Embedder())
