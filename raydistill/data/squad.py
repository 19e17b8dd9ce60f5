"""Answers as SQuAD writes them, and its nested JSON: articles, paragraphs, questions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.data.checks import HALF_PAIR, RowFaults, has_half_pair
from raydistill.data.files import DataFile
from raydistill.data.readers.reading import BOM

__all__ = ["Answers", "Nested", "as_answers", "unfolded"]

_LOOK = 4096  # bytes that tell a list of rows

Answers = tuple[tuple[str, int], ...]
"""Texts and places of the answers of a question; empty: its context has none."""


@dataclass(frozen=True)
class Nested:
    """A question of a nested file.

    Attributes:
        where: In messages.
        id: As written.
        question: Itself.
        context: The paragraph.
        answers: None: nobody says.
    """

    where: str
    id: str
    question: str
    context: str
    answers: Answers | None


def as_answers(found: object) -> Answers | None:
    """Answers from what JSON holds; None: it holds something else.

    Args:
        found: An object with the lists ``text`` and ``answer_start``, or a list of objects with both.

    Example:
        >>> as_answers({"text": ["a"], "answer_start": [3]})
        (('a', 3),)
        >>> as_answers([{"text": "a", "answer_start": 3}])
        (('a', 3),)
    """
    if isinstance(found, dict):
        texts, starts = found.get("text"), found.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
        pairs: Sequence[Any] = list(zip(texts, starts, strict=True))
    elif isinstance(found, list) and all(isinstance(one, dict) for one in found):
        pairs = [(one.get("text"), one.get("answer_start")) for one in found]
    else:
        return None
    if all(isinstance(text, str) and type(start) is int for text, start in pairs):
        return tuple(dict.fromkeys(pairs))
    return None


def unfolded(file: DataFile, problems: RowFaults) -> Iterator[Nested] | None:
    """The questions of a nested file; None: it is another one.

    Args:
        file: On this machine.
        problems: Gets what is wrong with its parts.
    """
    with file.open() as stream:
        content = stream.read(_LOOK)
        if content.removeprefix(BOM).lstrip().startswith(b"["):
            return None  # rows; the whole would be parsed twice
        content += stream.read()
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return None  # the reader of columns says what is wrong with it
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), list):
        return None
    return _unfold(whole["data"], problems)


def _unfold(articles: list[Any], problems: RowFaults) -> Iterator[Nested]:
    for i, article in enumerate(articles):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        for j, paragraph in enumerate(_listed(paragraphs, "paragraphs", f"data[{i}]", problems)):
            where = f"data[{i}].paragraphs[{j}]"
            known = paragraph if isinstance(paragraph, dict) else {}
            context = known.get("context")
            if not isinstance(context, str):
                problems.add("have a context in every paragraph", "none", where)
                continue
            if has_half_pair(context):
                problems.add("hold text in every context", HALF_PAIR, where)
                continue
            for k, one in enumerate(_listed(known.get("qas"), "qas", where, problems)):
                found = _question(one, context, f"{where}.qas[{k}]", problems)
                if found is not None:
                    yield found


def _listed(found: Any, name: str, where: str, problems: RowFaults) -> list[Any]:
    if isinstance(found, list):
        return found
    problems.add(f"hold a list {name} as SQuAD has it", "none", where)
    return []


def _question(one: Any, context: str, where: str, problems: RowFaults) -> Nested | None:
    known = one if isinstance(one, dict) else {}
    key, question = known.get("id"), known.get("question")
    if not isinstance(key, str | int) or not isinstance(question, str):
        problems.add("have an id and a question in every item of qas", "others", where)
        return None
    if has_half_pair(question) or has_half_pair(str(key)):
        problems.add("hold text in the id and the question of every item of qas", HALF_PAIR, where)
        return None
    answers: Answers | None = None
    if known.get("is_impossible") is True:
        answers = ()
    elif "answers" in known:
        answers = as_answers(known["answers"])
        if answers is None:
            problems.add("hold answers as lists of text and answer_start", "something else", where)
    return Nested(f"{where} ({key})", str(key), question, context, answers)
