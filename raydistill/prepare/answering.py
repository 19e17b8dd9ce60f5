"""How answers are found and compared in a run, as its configuration and its rows have it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pyarrow.compute as pc
import regex

from raydistill.config.question_answering import QuestionAnsweringTask
from raydistill.data import Split
from raydistill.tasks import Answering

__all__ = ["with_answering"]

_HAN, _LETTER = regex.compile(r"\p{Han}"), regex.compile(r"\p{L}")
_LOOK = 1000  # questions that tell the script
_MOST = 0.5


def with_answering(splits: Mapping[str, Split], task: QuestionAnsweringTask) -> dict[str, Split]:
    """The splits, whose tables say how answers are found and compared.

    Args:
        splits: All of a run.
        task: What is configured.
    """
    unanswerable = any(pc.any(pc.equal(split.table["label"], 0)).as_py() for split in splits.values())  # fmt: skip
    chosen, note = task.normalisation, ""
    normalisation: Literal["squad", "cmrc2018"] = "squad"
    if chosen == "auto":
        share = _han_share(splits)
        normalisation = "cmrc2018" if share > _MOST else "squad"
        note = (
            f"answers are compared as {normalisation} does (task.normalisation: auto): {share:.0%} of the letters of "
            "questions are Chinese."
        )
    else:
        normalisation = chosen
    answering = Answering(task.max_answer_units, task.null_threshold, unanswerable, normalisation)
    found = {n: replace(s, table=answering.kept_in(s.table)) for n, s in splits.items()}
    if note:
        name = next(iter(found))
        found[name] = replace(found[name], notes=(*found[name].notes, note))
    return found


def _han_share(splits: Mapping[str, Split]) -> float:
    """Of Chinese characters among the letters of questions."""
    han = letters = 0
    for split in splits.values():
        for text in split.table["text"].slice(0, _LOOK).to_pylist():
            han += len(_HAN.findall(text))
            letters += len(_LETTER.findall(text))
    return han / letters if letters else 0.0
