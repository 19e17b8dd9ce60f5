"""Questions whose answers stand in a context: which columns hold them, and how answers are found and measured."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator

from raydistill.config.base import PositiveInt, Section

__all__ = ["PLACES", "AnswerColumns", "Normalisation", "QuestionAnsweringTask"]

PLACES = ("start", "end")
"""What the two outputs of a model are called."""
Normalisation = Literal["auto", "squad", "cmrc2018", "characters"]


def _below_one(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError("must lie between 0 and below 1")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


class AnswerColumns(Section):
    """Columns of a file with a question a row.

    Nested JSON as SQuAD has it (`data`, `paragraphs`, `qas`) is known by its form, and needs no names.
    """

    id: str | None = "id"
    """Id of a question, by which predictions are filed. Null: the number of its row."""
    question: str = "question"
    """The question."""
    context: str = "context"
    """The text that it is about, of any length."""
    answers: str | None = "answers"
    """Answers, any of which is right: an object with the lists `text` and `answer_start`, or a list of objects
    with both; empty: the context has no answer. In CSV the same as JSON. Null: a single answer, in the two columns
    below."""
    answer: str = "answer"
    """With `answers: null`, the text of the answer; empty: the context has none."""
    answer_start: str = "answer_start"
    """With `answers: null`, the place of its first character in the context, from 0."""


class QuestionAnsweringTask(Section):
    """The part of a context that answers a question, or that there is none.

    Models have two outputs for each piece of a text: whether the answer starts there, and whether it ends
    there; at the first piece of all, whether there is no answer. Contexts that are too long for a model of the run
    are read in windows that overlap. Student and teachers meet at units of the text: runs of letters, runs of
    digits, single characters of Korean and of scripts without spaces, single signs.
    """

    kind: Literal["question_answering"]
    """An answer is a part of its context."""
    columns: AnswerColumns = AnswerColumns()
    """Where things stand in the files."""
    overlap: Annotated[float, AfterValidator(_below_one)] = 0.33
    """Share of a window's units with which the next one begins. A share, not a number of tokens: it is the same
    for short and long `max_tokens`, and for every tokenizer."""
    max_answer_units: PositiveInt = 64
    """The longest answer that is given."""
    null_threshold: Annotated[float, AfterValidator(_finite)] = 0.0
    """No answer is given where the score of none exceeds that of the best by more than this. Only if any
    question of the data has no answer."""
    normalisation: Normalisation = "auto"
    """What two answers are compared by. squad: words, without case, punctuation and articles, as the official
    script of SQuAD. cmrc2018: characters of Chinese, as that of CMRC 2018. characters: characters, without case
    and punctuation, as that of KorQuAD. auto: cmrc2018 where most letters of the questions are Chinese, characters
    where most are Korean, or Japanese, Thai and the like, else squad."""

    @property
    def text(self) -> str:
        """What the first text of a pair is."""
        return "question"

    @property
    def text_pair(self) -> str:
        """What the second text of a pair is."""
        return "context"

    @property
    def label(self) -> None:
        """Nothing that is one class a row."""
        return None

    @property
    def labels(self) -> list[str]:
        """The names of the outputs."""
        return list(PLACES)
