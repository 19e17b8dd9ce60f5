"""What answers questions as an MLflow model: question and context in, the answer, its score and place out.

This file is copied into the model's folder and runs there, with MLflow, PyTorch, Transformers, pandas and regex
and without raydistill; nothing of the package may be imported here.
"""

import json
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import regex
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModelContext
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

_BATCH_ROWS = 32
_SPACES = ("▁", "Ġ")


@dataclass
class _Best:
    """The best so far of a question."""

    score: float = float("-inf")
    probability: float = 0.0
    begin: int = 0
    end: int = 0
    null: float = float("inf")
    null_probability: float = 1.0


class QuestionAnswerer(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers in columns: ``answer``, ``score``, ``start`` and ``end``.

    An answer is ``context[start:end]``, from the beginning of a unit (a word, a number, a character of Chinese, a
    sign) to the end of one. Its score is the probability of its start times that of its end, in the window that it was
    found in; long contexts are read in several. No answer, where the training data had such questions, is an empty
    text at 0, and its score the least probability over the windows.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads model, tokenizer and what was written down beside them."""
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.columns: list[str] = settings["text_columns"]
        self.max_length: int = settings["max_length"]
        self.overlap: float = settings["overlap"]
        self.longest: int = settings["max_answer_units"]
        self.threshold: float = settings["null_threshold"]
        self.unanswerable: bool = settings["unanswerable"]
        self.unit = regex.compile(settings["unit"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = context.artifacts["student"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForQuestionAnswering.from_pretrained(folder)
        self.model = model.to(self.device).eval()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow goes by these names
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Answers questions.

        Args:
            context: Of MLflow; not needed after loading.
            model_input: A frame, a list of rows, or a dictionary of columns: questions and contexts.
            params: None are known.

        Returns:
            One row for each row, with the same index.
        """
        frame = self._frame(model_input)
        rows = list(zip(*(frame[name].astype(str) for name in self.columns), strict=True))
        answers = [self._answer(question, text) for question, text in rows]
        found = pd.DataFrame(answers, columns=["answer", "score", "start", "end"])
        return found.set_axis(frame.index, axis=0)

    def _answer(self, question: str, text: str) -> tuple[str, float, int, int]:
        units = [one.span() for one in self.unit.finditer(text)]
        best = _Best()
        if units:
            room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
            room -= len(self.tokenizer(question, add_special_tokens=False)["input_ids"])
            if room < 1:
                raise ValueError(
                    f"A question leaves no room for its context among {self.max_length} tokens: {question[:80]}"
                )
            encoded = self.tokenizer(
                question, text, truncation="only_second", max_length=self.max_length,
                stride=min(room - 1, int(self.overlap * room)), return_overflowing_tokens=True,
            )  # fmt: skip
            for begin in range(0, len(encoded.encodings), _BATCH_ROWS):
                self._read(encoded.encodings[begin : begin + _BATCH_ROWS], units, best)
        none = self.unanswerable and best.null > best.score + self.threshold
        if none or best.end == 0:
            return "", best.null_probability if none else 0.0, 0, 0
        return text[best.begin : best.end], best.probability, best.begin, best.end

    def _read(self, windows: list[Any], units: list[tuple[int, int]], best: _Best) -> None:
        """Some windows of a context."""
        names = set(self.tokenizer.model_input_names)
        fields = {
            "input_ids": "ids",
            "token_type_ids": "type_ids",
            "attention_mask": "attention_mask",
        }
        inputs = self.tokenizer.pad(
            {n: [getattr(one, f) for one in windows] for n, f in fields.items() if n in names},
            padding=True, return_tensors="pt",
        ).to(self.device)  # fmt: skip
        with torch.inference_mode():
            outputs = self.model(**inputs)
        both = torch.stack([outputs.start_logits, outputs.end_logits], 1).float().cpu()
        mask = inputs["attention_mask"].bool().cpu()
        for window, padded, keep in zip(windows, both, mask, strict=True):
            logits = padded[:, keep]
            # Lists: to read a number out of a tensor takes many times as long.
            of_starts, of_ends = logits.tolist()
            log_starts, log_ends = logits.log_softmax(-1).tolist()
            best.null = min(best.null, of_starts[0] + of_ends[0])
            null = math.exp(log_starts[0] + log_ends[0])
            best.null_probability = min(best.null_probability, null)
            starts, ends = self._places(window, units)
            for unit, start in starts.items():
                for last in range(unit, unit + self.longest):
                    end = ends.get(last)
                    if end is None:
                        continue
                    score = of_starts[start] + of_ends[end]
                    if score > best.score:
                        best.score = score
                        best.probability = math.exp(log_starts[start] + log_ends[end])
                        best.begin, best.end = units[unit][0], units[last][1]

    @staticmethod
    def _places(window: Any, units: list[tuple[int, int]]) -> tuple[dict[int, int], dict[int, int]]:
        """Of units the first piece that begins in them, and the last that ends in them."""
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        at: int | None = None
        described = zip(window.sequence_ids, window.tokens, window.offsets, strict=True)
        for place, (sequence, token, (begin, end)) in enumerate(described):
            if sequence != 1 or begin == end or token in _SPACES:
                continue
            if at is None:  # what stands before the window is passed over at once
                at = bisect_right(units, begin, key=lambda unit: unit[1])
            while at < len(units) and units[at][1] <= begin:
                at += 1
            last = at - 1
            while last + 1 < len(units) and units[last + 1][0] < end:
                last += 1
            if last >= at:
                starts.setdefault(at, place)
                ends[last] = place
        return starts, ends

    def _frame(self, given: Any) -> pd.DataFrame:
        """Both columns by name, whatever form the rows came in."""
        if isinstance(given, dict) and all(isinstance(value, str) for value in given.values()):
            given = [given]
        frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
        if len(frame) == 1 and all(isinstance(cell, list) for cell in frame.iloc[0]):
            # What MLflow makes of a dictionary of columns: a single row of lists.
            frame = frame.explode(list(frame.columns), ignore_index=True)
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            raise ValueError(
                f"The model reads the columns {', '.join(self.columns)}; {', '.join(missing)} is not among those it "
                f"got: {', '.join(map(str, frame.columns)) or 'none'}."
            )
        return frame[self.columns]


set_model(QuestionAnswerer())
