"""What models said about each row, as a person or a program reads it. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from raydistill.config.task import TaskKind
from raydistill.evaluation.spans import predictions_of
from raydistill.tasks import TextTask

__all__ = ["prediction_lines"]


def prediction_lines(
    task: TextTask, said: Mapping[str, tuple[Tensor, Sequence[int]]]
) -> list[dict[str, Any]]:
    """One for each row: its number in the file, what is right, and by model what it said.

    Of questions, whatever windows they have, their id and a model's ``answer``, empty: there is none. Of classes a model's ``answer`` and ``scores`` (probabilities by label), of labels that do not exclude each
    other ``answers``, of numbers ``numbers``, of words ``tags`` (null: not seen), of candidates ``score``.

    Args:
        task: The rows.
        said: By model its logits ``[N, C]``, and places of the labels that it knows.
    """
    if (questions := task.questions()) is not None:
        texts = {name: predictions_of(logits, questions) for name, (logits, _) in said.items()}
        return [
            {
                "id": one,
                "right": None if right is None else list(right),
                "said": {name: {"answer": answers[one]} for name, answers in texts.items()},
            }
            for one, right in zip(questions.ids, questions.answers, strict=True)
        ]
    labels, sentences = task.hard_labels(), task.sentences()
    places = (
        [[row] for row in range(task.num_rows)]
        if sentences is None
        else [(sentences == row).nonzero().flatten().tolist() for row in range(task.num_rows)]
    )
    ids, _ = task.texts(range(task.num_rows))
    show = _SHOWN[task.kind]
    lines = []
    for row, own in zip(ids, places, strict=True):
        line: dict[str, Any] = {"row": row, "right": _right(task, labels[own])}
        line["said"] = {
            name: show([task.labels[p] for p in known], logits[own][:, list(known)])
            for name, (logits, known) in said.items()
        }
        lines.append(line)
    return lines


def _right(task: TextTask, labels: Tensor) -> Any:
    """What the file says; null where it says nothing."""
    names = task.labels
    if task.kind == "tagging":
        return [names[int(label)] if label >= 0 else None for label in labels]
    if labels.dim() == 1:
        return names[int(labels[0])] if labels[0] >= 0 else None
    known = {n: float(v) for n, v in zip(names, labels[0], strict=True) if not math.isnan(v)}
    if task.kind == "multi_label_classification":
        return [name for name, value in known.items() if value == 1] if known else None
    return (known or None) if len(names) > 1 else known.get(names[0])


def _class(names: Sequence[str], logits: Tensor) -> dict[str, Any]:
    p = logits[0].double().softmax(-1)
    return {"answer": names[int(p.argmax())], "scores": _named(names, p)}


def _labels(names: Sequence[str], logits: Tensor) -> dict[str, Any]:
    p = logits[0].double().sigmoid()
    answers = [name for name, z in zip(names, logits[0], strict=True) if z > 0]
    return {"answers": answers, "scores": _named(names, p)}


def _numbers(names: Sequence[str], logits: Tensor) -> dict[str, Any]:
    return {"numbers": _named(names, logits[0])}


def _tags(names: Sequence[str], logits: Tensor) -> dict[str, Any]:
    seen = (logits != -torch.inf).any(-1)
    best = logits.argmax(-1)
    return {"tags": [names[int(b)] if s else None for b, s in zip(best, seen, strict=True)]}


def _score(_: Sequence[str], logits: Tensor) -> dict[str, Any]:
    return {"score": float(logits[0, 0])}


def _named(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


_SHOWN: Mapping[TaskKind, Callable[[Sequence[str], Tensor], dict[str, Any]]] = {
    "text_classification": _class,
    "multi_label_classification": _labels,
    "regression": _numbers,
    "tagging": _tags,
    "reranking": _score,
    "retrieval": _score,
}
