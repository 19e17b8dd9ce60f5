"""How answers are found and compared in a run, as its configuration and its rows have it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pyarrow.compute as pc
import regex

from raydistill.config.question_answering import QuestionAnsweringTask
from raydistill.data import UNSPACED, Split, units_of
from raydistill.tasks import Answering

__all__ = ["with_answering"]

_HAN, _HANGUL, _LETTER = (regex.compile(rf"\p{{{name}}}") for name in ("Han", "Hangul", "L"))
_OTHERS = "".join(rf"\p{{{script}}}" for script in UNSPACED if script != "Han")
_UNSPACED = regex.compile(rf"(?V1)[\p{{L}}&&[{_OTHERS}]]")
_LOOK = 1000  # questions that tell the script
_MOST = 0.5
_SOME = 0.1  # A Chinese question may name a Japanese film; Japanese has kana everywhere.


def with_answering(splits: Mapping[str, Split], task: QuestionAnsweringTask) -> dict[str, Split]:
    """The splits, whose tables say how answers are found and compared.

    Args:
        splits: All of a run.
        task: What is configured.
    """
    unanswerable = any(pc.any(pc.equal(split.table["label"], 0)).as_py() for split in splits.values())  # fmt: skip
    chosen, notes = task.normalisation, {name: list[str]() for name in splits}
    normalisation: Literal["squad", "cmrc2018", "characters"] = "squad"
    if chosen == "auto":
        chinese, korean, others = _shares(splits)
        unspaced = chinese + others
        if unspaced > _MOST and others >= _SOME * unspaced:
            normalisation = "characters"
        elif chinese > _MOST:
            normalisation = "cmrc2018"
        elif korean > _MOST:
            normalisation = "characters"
        how = "by characters" if normalisation == "characters" else f"as {normalisation} does"
        more = f", {others:.0%} of other scripts without spaces" if others else ""
        notes[next(iter(splits))].append(
            f"answers are compared {how} (task.normalisation: auto): {chinese:.0%} of the letters of questions are "
            f"Chinese, {korean:.0%} Korean{more}."
        )
    else:
        normalisation = chosen
    for name, split in splits.items():
        notes[name] += _too_long(split, task.max_answer_units)
    answering = Answering(task.max_answer_units, task.null_threshold, unanswerable, normalisation)
    return {
        name: replace(
            split, table=answering.kept_in(split.table), notes=(*split.notes, *notes[name])
        )
        for name, split in splits.items()
    }


def _shares(splits: Mapping[str, Split]) -> tuple[float, float, float]:
    """Of Chinese characters, of Korean ones and of those of other scripts without spaces among the letters of questions."""
    han = hangul = others = letters = 0
    for split in splits.values():
        for text in split.table["text"].slice(0, _LOOK).to_pylist():
            han += len(_HAN.findall(text))
            hangul += len(_HANGUL.findall(text))
            others += len(_UNSPACED.findall(text))
            letters += len(_LETTER.findall(text))
    letters = letters or 1
    return han / letters, hangul / letters, others / letters


def _too_long(split: Split, most: int) -> list[str]:
    """A note, if the shortest answer to some questions has more units than any that is given."""
    answered = [texts for texts in split.table["answers"].to_pylist() if texts]
    # A unit has a character at least: few texts have to be cut.
    number = sum(
        all(len(text) > most and len(units_of(text)) > most for text in texts) for texts in answered
    )
    if not number:
        return []
    return [
        f"{split.name}: {number:,} of {len(answered):,} answers are longer than task.max_answer_units = {most} and "
        "cannot be given."
    ]
