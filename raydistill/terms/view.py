"""What the terms of one micro-batch look at, each thing made once however many terms use it.

Where rows are words, B of logits, labels and weights is the number U of words of all rows; where they are
questions with windows, it is twice the number of rows, and classes are units of the window.

Dimensions: B rows, C classes, M teachers, S tokens with padding, L tokens of one row, T of all rows, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raydistill.config.task import TaskKind
from raydistill.errors import SignalError
from raydistill.losses import LossEntry, PairScorer, shift_probability, standardize_logits
from raydistill.models import SpanPieces, mean_pieces, pool_hidden
from raydistill.signals import AttentionAsk, HiddenAsk, Side, TeacherSignal
from raydistill.signals.ask import Pooling, States
from raydistill.tasks import Batch

__all__ = ["Embedded", "Nearby", "StudentOutputs", "View"]

_SIDES: Mapping[Pooling, tuple[Side, ...]] = {
    "queries": ("query",),
    "passages": ("passage",),
    "both": ("query", "passage"),
}
"""Of what is compared of embeddings."""


@dataclass(frozen=True)
class Nearby:
    """The student where its embeddings are moved.

    Attributes:
        embeddings: Of the tokens as they are, ``[B, S, D]``, without gradient.
        logits_at: A move of them to its logits, ``[B, C]`` float32; all else as in the pass without.
    """

    embeddings: Tensor
    logits_at: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Embedded:
    """The student's embeddings of a batch of pairs, each text once.

    Attributes:
        queries: ``[Q, D]`` float32.
        passages: ``[P, D]`` float32.
    """

    queries: Tensor
    passages: Tensor


@dataclass(frozen=True)
class StudentOutputs:
    """What the student says about the rows.

    Attributes:
        logits: ``[B, C]`` float32.
        hidden_states: ``[B, S, D]`` each, index 0 the embeddings; empty if nothing needs them.
        attentions: Probabilities ``[B, H, S, S]`` of each block; empty if nothing needs them.
        inside: Queries, keys and values that are needed, ``[B, S, D]``, by ``query.3``: what, and of which
            block, from 1.
        nearby: To ask again with other embeddings; None if nothing needs it.
        embedded: Of pairs whose texts are read apart, what logits were made of.
    """

    logits: Tensor
    hidden_states: Sequence[Tensor] = ()
    attentions: Sequence[Tensor] = ()
    inside: Mapping[str, Tensor] = field(default_factory=dict)
    nearby: Nearby | None = None
    embedded: Embedded | None = None


@dataclass
class View:
    """Student and teachers on the same rows.

    Attributes:
        student: Its outputs.
        batch: The rows.
        heard: Bool ``[B]``, rows that count and that any teacher says something about.
        signals: The teachers' answers, by name.
        logits: Of the teachers in the student's classes, ``[M, B, C]`` float32, in the order of
            ``signals``; ``-inf`` for classes that a teacher does not know.
        weights: Of the teachers: numbers if they are the same in all rows, else ``[M, B]``.
        group_rows: Rows that are seen beside each other.
        answered: Bool ``[M, B]``, which teachers are heard about which rows; None: all about all.
        label_weights: Of the teachers for each label, ``[M, B, C]``, where they differ and labels do not
            exclude each other.
        task: What logits mean.
        classes: How many of the C classes each row has, ``[B]``; the others are padding. None: all.
        scorer: What makes scores of the student's embeddings; None: it does not embed.
        temperatures: What divides each teacher's scores first; those not named: 1.
    """

    student: StudentOutputs
    batch: Batch
    heard: Tensor
    signals: Mapping[str, TeacherSignal]
    logits: Tensor | None
    weights: Sequence[float] | Tensor
    group_rows: int
    answered: Tensor | None = None
    label_weights: Tensor | None = None
    task: TaskKind = "text_classification"
    classes: Tensor | None = None
    scorer: PairScorer | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)
    laid_out: dict[str, Any] = field(default_factory=dict)
    """What :mod:`raydistill.terms.groups` has worked out of the batch, so that the device is asked once."""
    _alike: set[str] = field(default_factory=set)
    _prepared: dict[tuple[bool, bool], Tensor] = field(default_factory=dict)
    _pooled: dict[tuple[States, int, Pooling], Tensor] = field(default_factory=dict)

    def teacher_logits(self, *, standardize: bool, shift: bool) -> Tensor:
        """``[M, B, C]``, after what is done to them before they are compared."""
        if self.logits is None:
            raise SignalError("a loss needs teachers' logits, but there are no teachers.")
        key = (standardize, shift)
        if key not in self._prepared:
            logits = self.logits
            if shift:
                labels = self.batch.labels.expand(len(logits), -1)
                logits = shift_probability(logits, labels)
            self._prepared[key] = standardize_logits(logits) if standardize else logits
        return self._prepared[key]

    def of_probabilities(self, entry: LossEntry) -> bool:
        """Whether a loss on labels that do not exclude each other compares probabilities, not numbers."""
        return self.task == "multi_label_classification" and entry.name != "logit_mse"

    def pooled(self, layer: int, positions: Pooling, kind: States = "hidden") -> Tensor:
        """The student's states of one layer, ``[T, D]``, ``[B, D]`` or, of words or units, ``[U, D]``.

        Of embeddings those of the rows' queries, ``[B, D]``, their passages, or both, ``[2 B, D]``.
        """
        if kind == "embedding":
            return self._embeddings(positions)
        # Once a layer, however many teachers: gathering tokens costs as much as comparing them.
        key = (kind, layer, positions)
        if key not in self._pooled:
            of_model = self.student
            states = (
                of_model.hidden_states[layer]
                if kind == "hidden"
                else of_model.inside[f"{kind}.{layer}"]
            )
            if positions == "words":
                assert self.batch.words is not None, "words are compared where rows are words"
                self._pooled[key] = mean_pieces(states, self.batch.words)
            elif positions == "units":
                self._pooled[key] = mean_pieces(states, self._spans.units)
            else:
                self._pooled[key] = pool_hidden(states, self.batch.token_mask, positions)
        return self._pooled[key]

    def _embeddings(self, of: Pooling) -> Tensor:
        embedded, pairs, group = self.student.embedded, self.batch.pairs, self.batch.group
        assert embedded is not None, "a student of pairs embeds"
        assert pairs is not None, "what is embedded are texts of pairs"
        rows = {"query": embedded.queries[group], "passage": embedded.passages[pairs.passage]}
        return torch.cat([rows[side] for side in _SIDES[of]])

    def embeddings_of(self, teacher: str, side: Side) -> Tensor:
        """Of a teacher, one side's texts of all rows, ``[B, D]``."""
        found = self.signals[teacher].embedding(side)
        return found.to(self.student.logits.device, non_blocking=True)

    def teacher_states(self, term: str, teacher: str, ask: HiddenAsk) -> Tensor:
        """One layer of a teacher for the positions of :meth:`pooled`.

        Raises:
            SignalError: the two sides have cut the rows into other numbers of tokens.
        """
        if ask.states == "embedding":
            return torch.cat([self.embeddings_of(teacher, side) for side in _SIDES[ask.pooling]])
        if ask.pooling in ("all", "gram"):
            self._require_like_tokens(term, teacher)
        states = self.signals[teacher].hidden(ask)
        return states.to(self.student.logits.device, non_blocking=True)

    def teacher_maps(self, term: str, teacher: str, ask: AttentionAsk) -> Tensor:
        """Maps of one block of a teacher in the places of the student's tokens, ``[B, H, S, S]``.

        Raises:
            SignalError: the two sides have cut the rows into other numbers of tokens.
        """
        self._require_like_tokens(term, teacher)
        pieces, mask = self.signals[teacher].attention(ask), self.batch.token_mask.cpu()
        size = mask.shape[1]
        out = torch.zeros(len(pieces), len(pieces[0]), size, size, dtype=pieces[0].dtype)
        for maps, keep, piece in zip(out, mask, pieces, strict=True):
            places = keep.nonzero().squeeze(1)
            maps[:, places.unsqueeze(1), places] = piece.cpu()
        return out.to(self.student.logits.device, non_blocking=True)

    def _require_like_tokens(self, term: str, teacher: str) -> None:
        if teacher in self._alike:  # looking waits for the device
            return
        own = self.batch.token_mask.sum(1).cpu()
        theirs = torch.from_numpy(self.signals[teacher].lengths).to(own)
        if not torch.equal(own, theirs):
            row = int((own != theirs).nonzero()[0])
            raise SignalError(
                f"losses.{term}: teachers.{teacher} has {int(theirs[row])} tokens for row "
                f"{self.batch.row_ids[row]}, the student {int(own[row])}. Both must tokenize alike; "
                "else use positions: first or mean."
            )
        self._alike.add(teacher)

    @property
    def _spans(self) -> SpanPieces:
        assert self.batch.spans is not None, "units are compared where rows are windows"
        return self.batch.spans

    def spread(self, rows: Tensor, positions: Pooling) -> Tensor:
        """One value a row, ``[B]``, for every position of :meth:`pooled`."""
        if positions == "units":
            return rows[::2][self._spans.units.row]  # both sides of a row have the same
        if positions == "all":
            return rows.repeat_interleave(self.batch.token_mask.sum(1))
        if positions == "gram":
            return rows.repeat_interleave(self.batch.token_mask.sum(1) ** 2)
        return torch.cat([rows, rows]) if positions == "both" else rows

    def counted(self, positions: Pooling) -> Tensor:
        """Which positions of :meth:`pooled` count, bool: those of rows that are heard; units that all have pieces of."""
        found = self.spread(self.heard, positions)
        return found & self._spans.shared if positions == "units" else found

    def weight_of(self, teacher: int, positions: Pooling = "first") -> float | Tensor:
        """Of one teacher by its place: a number, or one per position."""
        if not isinstance(self.weights, Tensor):
            return self.weights[teacher]
        return self.spread(self.weights[teacher], positions)

    def by_group(
        self, function: Callable[..., Tensor], *tensors: Tensor, teacher: int | None = None
    ) -> Tensor:
        """Values of rows that are seen beside each other, ``[B]``; 0 for rows that are not heard.

        Args:
            function: Some rows of each tensor to one value a row, ``[n]``.
            tensors: ``[B, ...]`` each.
            teacher: Place of the only teacher whose rows these are; None: of all.
        """
        found = torch.zeros_like(self.student.logits[:, 0])
        heard = self.heard
        if teacher is not None and self.answered is not None:
            heard = heard & self.answered[teacher]
        of = self.batch.group  # the candidates of a query are a group of their own
        if of is None:
            of = self.batch.row_of // self.group_rows
        for number in range(int(of[-1]) + 1):
            rows = heard & (of == number)
            # What nobody speaks about, and what only fills a place, is beside no one.
            found = found.masked_scatter(rows, function(*(tensor[rows] for tensor in tensors)))
        return found

    def padded(self, packed: Tensor) -> Tensor:
        """Tokens one behind the other, ``[T, D]``, in the places of the student's, ``[B, S, D]``."""
        mask = self.batch.token_mask
        out = packed.new_zeros((*mask.shape, packed.shape[-1]))
        out[mask] = packed
        return out
