"""Figures of a tagger, by spans of words, against tags and against a teacher. Pure.

A span is a B- and all I- of its type right behind it, in one row. It counts as found if its type and both
its ends are right: what seqeval calls IOB2 in strict mode, and the numbers are the same. An I- that
continues nothing is no span.

Figures of published taggers are mostly those of seqeval's other mode, its default, where such an I- begins a span as
conlleval has it; ``f1_lenient`` is that F1. It is the same or larger for most models, and what chooses is f1.

U words of all rows, C tags.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.errors import SignalError
from raydistill.evaluation.metrics import ClassMetrics, agreement_metrics, require_finite

__all__ = [
    "each_sentence",
    "per_type",
    "seen_words",
    "spans_of",
    "tagging_agreement",
    "tagging_metrics",
]

_IGNORED = -100
_OUTSIDE = "O"


def tagging_metrics(
    logits: Tensor, labels: Tensor, *, label_names: Sequence[str], sentences: Tensor
) -> dict[str, float]:
    """Precision, recall and F1 of spans, all types together, and the share of right words.

    Words without a tag are left out, and no span goes over them. A word that the model did not see, since
    it is cut off or has no piece, is answered with O: a model that sees less finds less.

    Args:
        logits: ``[U, C]``, any floating dtype; -inf throughout: the model did not see the word.
        labels: ``[U]``, integers; -100 is ignored.
        label_names: Names of the C tags in order: O, B-… and I-….
        sentences: The row of each word, ``[U]``, rising.

    Returns:
        ``f1``, ``precision``, ``recall`` (0 where there is nothing to divide by), ``f1_lenient`` (spans may begin
        with I-), ``accuracy`` over words and ``words_unmapped``, how many the model did not see; empty when no word has a tag.

    Raises:
        SignalError: the shapes do not fit, or a label is not one of the tags.
        NotFiniteError: NaN or infinity in a word that was seen.

    Example:
        >>> names, sentences = ["O", "B-x", "I-x"], torch.tensor([0, 0, 0, 1])
        >>> logits = torch.eye(3)[[1, 2, 0, 2]]
        >>> metrics = tagging_metrics(
        ...     logits, torch.tensor([1, 2, 0, 1]), label_names=names, sentences=sentences
        ... )
        >>> metrics["precision"], metrics["recall"], metrics["accuracy"]
        (1.0, 0.5, 0.75)
    """
    answers, known = _answers(logits, labels, label_names)
    if not known.any():
        return {}
    right, given, there = _counted(answers, labels, label_names, sentences)
    lenient = _counted(answers, labels, label_names, sentences, lenient=True)
    unseen = int((~seen_words(logits)).sum())
    return {
        "f1": _share(2 * len(right), len(given) + len(there)),
        "precision": _share(len(right), len(given)),
        "recall": _share(len(right), len(there)),
        "f1_lenient": _share(2 * len(lenient[0]), len(lenient[1]) + len(lenient[2])),
        "accuracy": float((answers == labels)[known].double().mean()),
        "words_unmapped": float(unseen),
    }


def per_type(
    logits: Tensor, labels: Tensor, *, label_names: Sequence[str], sentences: Tensor
) -> list[ClassMetrics]:
    """Precision, recall and F1 of the spans of every type, in the order of the names.

    Args:
        logits: As of :func:`tagging_metrics`.
        labels: ``[U]``, integers; -100 is ignored.
        label_names: Names of the C tags in order.
        sentences: The row of each word, ``[U]``, rising.

    Returns:
        One for each type, also for those that do not occur; ``support`` and ``given`` count spans. Empty when no
        word has a tag.

    Raises:
        SignalError: the shapes do not fit, or a label is not one of the tags.
        NotFiniteError: NaN or infinity in a word that was seen.

    Example:
        >>> names, sentences = ["O", "B-x", "I-x"], torch.tensor([0, 0])
        >>> per_type(
        ...     torch.eye(3)[[1, 2]],
        ...     torch.tensor([1, 2]),
        ...     label_names=names,
        ...     sentences=sentences,
        ... )
        [ClassMetrics(label='x', precision=1.0, recall=1.0, f1=1.0, support=1, given=1)]
    """
    answers, known = _answers(logits, labels, label_names)
    if not known.any():
        return []
    right, given, there = _counted(answers, labels, label_names, sentences)
    found = []
    for number, name in enumerate(_Tags.of(label_names).types):
        counts = [int((spans[:, 2] == number).sum()) for spans in (right, given, there)]
        found.append(
            ClassMetrics(
                name,
                precision=_share(counts[0], counts[1]),
                recall=_share(counts[0], counts[2]),
                f1=_share(2 * counts[0], counts[1] + counts[2]),
                support=counts[2],
                given=counts[1],
            )
        )
    return found


def each_sentence(
    logits: Tensor, labels: Tensor, *, label_names: Sequence[str], sentences: Tensor
) -> NDArray[np.float64]:
    """What the figures are sums of, sentence by sentence.

    Args:
        logits: As of :func:`tagging_metrics`.
        labels: ``[U]``, integers; -100 is ignored.
        label_names: Names of the C tags in order.
        sentences: The row of each word, ``[U]``, rising.

    Returns:
        ``[N, 5]``: spans that are right, given, there; words that are right, that have a tag.

    Raises:
        SignalError: the shapes do not fit, or a label is not one of the tags.
        NotFiniteError: NaN or infinity in a word that was seen.
    """
    answers, known = _answers(logits, labels, label_names)
    rows = sentences.numpy()
    number = int(rows[-1]) + 1 if len(rows) else 0
    spans = _counted(answers, labels, label_names, sentences)
    right = ((answers == labels) & known).numpy()
    of_spans = [np.bincount(rows[found[:, 0]], minlength=number) for found in spans]
    of_words = [np.bincount(rows[mask], minlength=number) for mask in (right, known.numpy())]
    return np.stack([*of_spans, *of_words], axis=1).astype(np.float64)


def tagging_agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """How much a student answers as a teacher does, over the words that both see.

    Args:
        student: Logits, ``[U, C]``; -inf throughout where it did not see the word.
        teacher: The same of the teacher.

    Returns:
        ``agreement``, the share of words with the same tag, and ``kl``, nats; empty when there is no
        such word.

    Example:
        >>> student, unseen = torch.tensor([[2.0, 0.0]]), torch.full((1, 2), -torch.inf)
        >>> tagging_agreement(torch.cat([student, student]), torch.cat([student, unseen]))
        {'agreement': 1.0, 'kl': 0.0}
    """
    both = seen_words(student) & seen_words(teacher)
    return agreement_metrics(student[both], teacher[both])


def seen_words(logits: Tensor) -> Tensor:
    """Words that a model saw, ``[U]`` bool: those with a logit that is not -inf."""
    return (logits != -torch.inf).any(-1)


def spans_of(
    tags: NDArray[np.int64],
    label_names: Sequence[str],
    sentences: NDArray[np.int64],
    *,
    lenient: bool = False,
) -> NDArray[np.int64]:
    """Spans, ``[N, 3]``: first word, number of words, type.

    Args:
        tags: Numbers of tags, ``[U]``; negative: none, which ends a span.
        label_names: Names of the tags in order.
        sentences: The row of each word, ``[U]``, rising.
        lenient: Whether an I- that continues nothing begins a span.

    Example:
        >>> names = ["O", "B-x", "I-x"]
        >>> spans_of(np.array([1, 2, 1, 0, 2]), names, np.array([0, 0, 0, 0, 0])).tolist()
        [[0, 2, 0], [2, 1, 0]]
    """
    known, number = _Tags.of(label_names), tags.clip(0)
    begins = known.begins[number] & (tags >= 0)
    inside = known.inside[number] & (tags >= 0)
    kinds = np.where(begins | inside, known.kinds[number], -1)
    # A word goes on with what stands before it: the same type, in the same row.
    goes_on = np.zeros(len(tags), bool)
    goes_on[1:] = inside[1:] & (kinds[1:] == kinds[:-1]) & (sentences[1:] == sentences[:-1])
    heads = np.flatnonzero(~goes_on)
    sizes = np.diff(np.append(heads, len(tags)))
    spans = (begins | inside if lenient else begins)[heads]
    return np.stack([heads[spans], sizes[spans], kinds[heads[spans]]], axis=1).astype(np.int64)


@dataclass(frozen=True)
class _Tags:
    """What tags mean, by their numbers."""

    types: tuple[str, ...]
    begins: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    kinds: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Tags":
        parts = [name.partition("-") for name in names]
        types = tuple(dict.fromkeys(kind for _, _, kind in parts if kind))
        return cls(
            types,
            np.array([prefix == "B" for prefix, _, _ in parts]),
            np.array([prefix == "I" for prefix, _, _ in parts]),
            np.array([types.index(kind) if kind else -1 for _, _, kind in parts]),
        )


def _answers(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The tag that a model gives each word, and which words have one, ``[U]``; after all checks."""
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:  # noqa: PLR2004
        raise SignalError(
            "logits must be [words, tags] and labels [words], got "
            f"{list(logits.shape)} and {list(labels.shape)}."
        )
    if logits.shape[1] != len(label_names):
        raise SignalError(
            f"label_names must name the {logits.shape[1]} tags of the logits, "
            f"got {len(label_names)} names."
        )
    if _OUTSIDE not in label_names:
        raise SignalError(f"label_names must hold {_OUTSIDE}, got {', '.join(label_names)}.")
    known, seen = labels != _IGNORED, seen_words(logits)
    require_finite(logits, "logits", known & seen)
    wrong = known & ((labels < 0) | (labels >= len(label_names)))
    if wrong.any():
        raise SignalError(
            f"labels must be -100 or 0 to {len(label_names) - 1}, "
            f"got {int(labels[wrong][0])} in word {int(wrong.nonzero()[0])}."
        )
    answers = logits.detach().argmax(-1)
    return answers.masked_fill(~seen, list(label_names).index(_OUTSIDE)), known


def _counted(
    answers: Tensor,
    labels: Tensor,
    label_names: Sequence[str],
    sentences: Tensor,
    *,
    lenient: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Spans that are right, given, and there."""
    answers = answers.masked_fill(labels == _IGNORED, _IGNORED)
    rows = sentences.numpy()
    given = spans_of(answers.numpy(), label_names, rows, lenient=lenient)
    there = spans_of(labels.numpy(), label_names, rows, lenient=lenient)
    # A word begins one span at most, so that spans are the same if those that begin there are.
    both = np.isin(given[:, 0], there[:, 0])
    other = there[np.isin(there[:, 0], given[:, 0])]
    right = given[both][(given[both] == other).all(1)]
    return right, given, there


def _share(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0
