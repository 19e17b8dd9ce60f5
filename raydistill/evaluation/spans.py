"""From logits of starts and ends to answers, and their figures. Pure.

Places of windows stand one behind the other, as of :func:`raydistill.models.spans.span_table`: of each window no
answer, all other pieces, and its units, ``[P, 2]``, with -inf where a unit has no start or no end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from raydistill.ensemble import combine_log_p, fixed_weights, routed
from raydistill.errors import NotFiniteError, SignalError
from raydistill.evaluation.answers import exact_match, overlap_f1
from raydistill.models.spans import FIRST_UNIT, NEVER, merge, merge_targets
from raydistill.tasks import Questions

__all__ = [
    "Answer",
    "answer_agreement",
    "answer_metrics",
    "answers_of",
    "answers_together",
    "each_answer",
    "predictions_of",
]

_CHUNK = 2048  # windows that are laid out at once


@dataclass(frozen=True)
class Answer:
    """What a model answers a question.

    Attributes:
        text: Empty: there is no answer.
        score: Of the best place, start plus end; -inf where a model sees nothing.
        null_score: Of no answer: the least over the windows.
    """

    text: str
    score: float
    null_score: float


def answers_of(logits: Tensor, questions: Questions) -> list[Answer]:
    """The best answer to each question, over all its windows.

    The best pair of a start and an end that does not lie before it, nor further behind than the longest
    answer has units; the first of equals. Where questions of the data may have no answer, none is given if its score is
    larger by more than the threshold.

    Args:
        logits: Of all places, ``[P, 2]``.
        questions: Whose windows they are of.

    Raises:
        SignalError: The number of places is another.
        NotFiniteError: NaN, or plus infinity.
    """
    _require(logits, questions)
    answering = questions.answering
    best: list[tuple[float, int, int, int]] = [(-np.inf, -1, 0, 0)] * len(questions.ids)
    nulls = [np.inf] * len(questions.ids)
    for window, places in enumerate(_windows(logits, questions)):
        q = int(questions.question[window])
        nulls[q] = min(nulls[q], float(places[0].sum()))
        score, first, last = _best_span(places[FIRST_UNIT:], answering.max_answer_units)
        if score > best[q][0]:
            best[q] = (score, window, first, last)
    found = []
    for (score, window, first, last), null in zip(best, nulls, strict=True):
        none = answering.unanswerable and null > score + answering.null_threshold
        text = "" if none or window < 0 else questions.text(window, first, last)
        found.append(Answer(text, score, null))
    return found


def predictions_of(logits: Tensor, questions: Questions) -> dict[str, str]:
    """Answers by id, as the official scripts read them."""
    texts = (answer.text for answer in answers_of(logits, questions))
    return dict(zip(questions.ids, texts, strict=True))


def answer_metrics(logits: Tensor, questions: Questions) -> dict[str, float]:
    """F1 and exact match, means over the questions whose answer is known.

    Args:
        logits: Of all places, ``[P, 2]``.
        questions: Whose windows they are of.

    Returns:
        ``f1``, ``exact_match``; where some questions have an answer and some have none also both of each:
        ``answerable_f1``, ``answerable_exact_match``, ``unanswerable_accuracy``. Empty when no answer is known.
    """
    scored = each_answer(logits, questions)
    if not scored:
        return {}
    found = {
        "f1": _mean([f1 for _, f1, _ in scored]),
        "exact_match": _mean([exact for _, _, exact in scored]),
    }
    answerable = [(f1, exact) for there, f1, exact in scored if there]
    if 0 < len(answerable) < len(scored):
        found |= {
            "answerable_f1": _mean([f1 for f1, _ in answerable]),
            "answerable_exact_match": _mean([exact for _, exact in answerable]),
            "unanswerable_accuracy": _mean([exact for there, _, exact in scored if not there]),
        }
    return found


def each_answer(logits: Tensor, questions: Questions) -> list[tuple[bool, float, float]]:
    """Of each question whose answer is known: whether there is one, F1 and exact match.

    Args:
        logits: Of all places, ``[P, 2]``.
        questions: Whose windows they are of.
    """
    how = questions.answering.normalisation
    return [
        (bool(right), overlap_f1(answer.text, right, how), exact_match(answer.text, right, how))
        for answer, right in zip(answers_of(logits, questions), questions.answers, strict=True)
        if right is not None
    ]


def answer_agreement(student: Tensor, teacher: Tensor, questions: Questions) -> dict[str, float]:
    """How much a student answers as a teacher does.

    Args:
        student: Logits of all places, ``[P, 2]``.
        teacher: The same of the teacher.
        questions: Whose windows they are of.

    Returns:
        ``agreement``, the share of questions with the same answer, and ``kl``, nats, the mean over the starts
        and ends of all windows, in classes that both have.
    """
    own, theirs = answers_of(student, questions), answers_of(teacher, questions)
    same = [a.text == b.text for a, b in zip(own, theirs, strict=True)]
    total, number = 0.0, 0
    for logits, _ in _common([student, teacher], questions):
        log_q, log_p = (one.double().log_softmax(-1) for one in logits)
        total += float((log_p.exp() * (log_p - log_q)).sum())
        number += len(log_q)
    return {"agreement": _mean([float(one) for one in same]), "kl": max(0.0, total / number)}


def answers_together(
    logits: Mapping[str, Tensor],
    weights: Mapping[str, float],
    combine: str,
    questions: Questions,
    route: Tensor | None = None,
) -> Tensor:
    """The teachers' common log-probabilities of all places, ``[P, 2]``, in classes that all have.

    Args:
        logits: Of each teacher, ``[P, 2]``.
        weights: Summing to 1.
        combine: As in `ensemble.combine`; summed losses pull towards the mean of probabilities.
        questions: Whose windows they are of.
        route: Place of the one teacher of the starts and ends of each window, ``[2 N]``, -1: all; None: all everywhere.
    """
    geometric = combine in ("logits", "log_probabilities")
    space: Literal["logits", "probabilities"] = "logits" if geometric else "probabilities"
    base: Any = [weights[name] for name in logits]
    if route is not None:
        base = fixed_weights(base, routed(route, len(base)))
    found = []
    for (merged, kept), begin in zip(
        _common(list(logits.values()), questions),
        range(0, len(questions.sizes), _CHUNK),
        strict=True,
    ):
        mine = base if route is None else base[:, 2 * begin : 2 * begin + merged.shape[1]]
        log_p = combine_log_p(merged, mine, temperature=1.0, space=space)
        log_p = log_p.float().masked_fill(~kept, -torch.inf).view(-1, 2, kept.shape[1])
        sizes = questions.sizes[begin : begin + _CHUNK] + FIRST_UNIT
        found += [row[:, :size].T for row, size in zip(log_p, sizes.tolist(), strict=True)]
    return torch.cat(found)


def _best_span(units: Tensor, longest: int) -> tuple[float, int, int]:
    """Score, start and end of the best answer among units, ``[N, 2]``."""
    number, within = len(units), min(longest, len(units))
    if not number:
        return -np.inf, 0, 0
    ends = torch.nn.functional.pad(units[:, 1], (0, within - 1), value=-torch.inf)
    scores = units[:, :1] + ends.unfold(0, within, 1)  # [N, within]
    first, more = divmod(int(scores.argmax()), within)
    return float(scores[first, more]), first, first + more


def _common(logits: Sequence[Tensor], questions: Questions) -> Iterator[tuple[Tensor, Tensor]]:
    """Some windows at a time: logits of several models in classes that all have, ``[M, 2 B, C]``, and which."""
    for one in logits:
        _require(one, questions)
    sizes = torch.from_numpy(questions.sizes) + FIRST_UNIT
    for begin in range(0, len(sizes), _CHUNK):
        some = sizes[begin : begin + _CHUNK]
        row = torch.arange(len(some)).repeat_interleave(some)
        column = torch.arange(len(row)) - (some.cumsum(0) - some)[row]
        first = int(questions.begins[begin])
        laid = []
        for one in logits:
            whole = torch.full((len(some), int(some.max()), 2), -torch.inf)
            whole[row, column] = one[first : first + len(row)].float()
            laid.append(whole.transpose(1, 2).flatten(0, 1))
        stacked = torch.stack(laid)
        kept = (stacked != -torch.inf).all(0)
        target = merge_targets(kept)
        finite = stacked.masked_fill(stacked == -torch.inf, NEVER)
        merged = torch.stack([merge(one, target) for one in finite])
        yield merged.masked_fill(~kept, NEVER), kept


def _windows(logits: Tensor, questions: Questions) -> Sequence[Tensor]:
    return torch.split(logits.detach().float(), (questions.sizes + FIRST_UNIT).tolist())


def _require(logits: Tensor, questions: Questions) -> None:
    number = int(questions.begins[-1])
    if tuple(logits.shape) != (number, 2):
        raise SignalError(
            f"logits must be a start and an end of {number} places, got {list(logits.shape)}."
        )
    broken = (logits.isnan() | (logits == torch.inf)).any(1)
    if broken.any():
        place = int(broken.nonzero()[0])
        window = int(np.searchsorted(questions.begins, place, side="right")) - 1
        raise NotFiniteError("logits", [window])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
