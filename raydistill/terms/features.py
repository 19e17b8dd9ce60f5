"""Terms on what is inside: sums over teachers, their pairs of layers, and what counts.

Each pair's loss is a mean of its own; a term is their sum, weighted by teacher. What all pairs of a term
average over is the same: tokens, rows, or pairs of tokens, so one denominator serves all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from raydistill.alignment import Projections
from raydistill.losses import LossEntry, hidden_mse_sum, masked_sum
from raydistill.signals import SIDES, Ask, AttentionAsk, HiddenAsk, Side
from raydistill.signals.ask import Heads, Pooling, SignalDtype, States, Units
from raydistill.tasks import Batch
from raydistill.terms.groups import GroupMatch
from raydistill.terms.view import View

__all__ = [
    "FeatureMatch",
    "LayerPair",
    "asked_of",
    "attention_sum",
    "count_features",
    "learned_key",
    "states_sum",
]

_PLURAL: Mapping[Side, Pooling] = {"query": "queries", "passage": "passages"}


@dataclass(frozen=True)
class LayerPair:
    """What of the student is compared with what of one teacher.

    Attributes:
        teacher: Its name.
        student: Layers of the student: one, or two whose flow is compared.
        layers: Of the teacher: one, two, or all that are mixed.
        projection: Key of its projection; None compares directly.
        width: Of what is compared, after the projection.
    """

    teacher: str
    student: tuple[int, ...]
    layers: tuple[int, ...]
    projection: str | None = None
    width: int = 0


@dataclass(frozen=True)
class FeatureMatch:
    """How a term on features is computed.

    Attributes:
        name: Of the term, for errors.
        entry: The loss.
        pairs: Of all teachers.
        options: Of its function.
        positions: What is asked of hidden states.
        heads: What is asked of attention maps; None: the term is on hidden states.
        projected: Whose states projections map.
        states: Which states are compared: hidden ones, those inside blocks, or embeddings of texts, whose one
            layer is 0.
    """

    name: str
    entry: LossEntry
    pairs: tuple[LayerPair, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    positions: Pooling = "all"
    heads: Heads | None = None
    projected: Literal["student", "teacher"] = "student"
    states: States = "hidden"

    @property
    def on_maps(self) -> bool:
        """Whether attention maps are compared, not states."""
        return self.heads is not None

    @property
    def by_tokens(self) -> bool:
        """Whether the loss's function sees whole rows of tokens."""
        return self.entry.over == "sequences" and self.positions == "all"

    def asks(self, pair: LayerPair) -> list[HiddenAsk] | list[AttentionAsk]:
        """What a pair needs of its teacher."""
        if self.heads is not None:
            return [AttentionAsk(layer, self.heads) for layer in pair.layers]
        return self.state_asks(pair)

    def state_asks(self, pair: LayerPair) -> list[HiddenAsk]:
        """What a pair needs of its teacher's states."""
        return [HiddenAsk(layer, self.positions, self.states) for layer in pair.layers]

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose embeddings are needed."""
        if self.states != "embedding":
            return ()
        return tuple(side for side in SIDES if self.positions in (_PLURAL[side], "both"))

    @property
    def inside(self) -> set[str]:
        """What of the student's blocks must be read while it computes: ``query.3``."""
        if self.on_maps or self.states in ("hidden", "embedding"):
            return set()
        return {f"{self.states}.{layer}" for pair in self.pairs for layer in pair.student}


def asked_of(
    teacher: str, matches: Iterable[object], dtype: SignalDtype, logits: Units = "texts"
) -> Ask:
    """What some terms together need of one teacher.

    Args:
        teacher: Its name.
        matches: Of the terms; those on logits alone need nothing more than logits.
        dtype: What answers travel in.
        logits: What they are for.
    """
    hidden: set[HiddenAsk] = set()
    maps: set[AttentionAsk] = set()
    sides: set[Side] = set()
    for match in matches:
        if isinstance(match, GroupMatch) and teacher in match.embedding:
            sides |= {*SIDES}
        if not isinstance(match, FeatureMatch):
            continue
        for pair in match.pairs:
            if pair.teacher != teacher:
                continue
            if match.states == "embedding":
                sides |= {*match.sides}
                continue
            for ask in match.asks(pair):
                if isinstance(ask, HiddenAsk):
                    hidden.add(ask)
                else:
                    maps.add(ask)
    embeddings = tuple(side for side in SIDES if side in sides)
    return Ask(tuple(sorted(hidden)), tuple(sorted(maps)), dtype, logits, embeddings)


def count_features(match: FeatureMatch, batch: Batch, heard: Tensor) -> Tensor:
    """How many values of a term count in a batch, a scalar."""
    if match.positions == "words":
        return heard.sum()
    if match.positions == "units":
        assert batch.spans is not None, "units are compared where rows are windows"
        return (heard[::2][batch.spans.units.row] & batch.spans.shared).sum()
    if match.states == "embedding":
        return heard.sum() * len(match.sides)
    tokens = batch.token_mask & heard.unsqueeze(1)
    if (match.on_maps or match.by_tokens) and match.entry.units is not None:
        return match.entry.units(tokens)
    if match.positions == "all":
        return tokens.sum()
    return (tokens.sum(1) ** 2).sum() if match.positions == "gram" else heard.sum()


def learned_key(term: str, pair: LayerPair) -> str:
    """Of a loss's own parameters for one pair, without dots."""
    layers = "_".join(map(str, (*pair.student, "to", *pair.layers)))
    return f"{term.replace('.', '_')}_{pair.teacher}_{layers}"


def states_sum(
    match: FeatureMatch, view: View, projections: Projections, learned: nn.ParameterDict
) -> Tensor:
    """A term on hidden states, queries, keys or values, summed over what counts, a scalar.

    Args:
        match: The term.
        view: Student and teachers.
        projections: Of the run.
        learned: Parameters of the loss itself, by :func:`learned_key`.
    """
    names = list(view.signals)
    fixed = not isinstance(view.weights, Tensor) and match.projected == "student"
    if match.entry.name == "hidden_mse" and fixed:
        return _fused(match, view, projections, names)
    total = view.student.logits.new_zeros(())
    for pair in match.pairs:
        place = names.index(pair.teacher)
        own = [view.pooled(layer, match.positions, match.states) for layer in pair.student]
        theirs = [
            view.teacher_states(match.name, pair.teacher, ask) for ask in match.state_asks(pair)
        ]
        options = dict(match.options)
        if (key := learned_key(match.name, pair)) in learned:
            options["raw_variance"] = learned[key]
        if pair.projection is None:
            total = total + _weighted(match, view, own, theirs, options, place)
        elif match.projected == "student":
            own = [projections(pair.projection, states) for states in own]
            total = total + _weighted(match, view, own, theirs, options, place)
        else:
            theirs = [projections(pair.projection, states) for states in theirs]
            value = _weighted(match, view, own, theirs, options, place)
            # No loss gives a gradient to its second side; with the sides changed, the value being the
            # same, it comes to the projection.
            mirrored = _weighted(match, view, theirs, own, options, place)
            total = total + value + mirrored - mirrored.detach()
    return total


def _weighted(  # noqa: PLR0917 - what one pair is
    match: FeatureMatch,
    view: View,
    own: list[Tensor],
    theirs: list[Tensor],
    options: dict[str, Any],
    place: int,
) -> Tensor:
    """One pair: sum over what counts of the teacher's weight times the values."""
    function = match.entry.function
    if match.by_tokens:
        mask = view.batch.token_mask & view.heard.unsqueeze(1)
        student, teacher = [view.padded(x) for x in own], [view.padded(x) for x in theirs]
        return _by_rows(view, function(_one(student), _one(teacher), mask=mask, **options), place)
    if match.positions == "gram":  # `nst`, its products taken where the states are
        values = (own[0] - theirs[0].float()).square()
    elif match.entry.needs == {"layers"}:
        values = function(own[0], torch.stack(theirs, 1), **options)
    elif match.entry.over == "rows":
        values = view.by_group(partial(function, **options), own[0], theirs[0], teacher=place)
    else:
        values = function(own[0], theirs[0], **options)
    weight = view.weight_of(place, match.positions)
    return masked_sum(values * weight, view.counted(match.positions))


def _by_rows(view: View, values: Tensor, place: int) -> Tensor:
    """Sum of values that are 0 where nothing counts, ``[B, …]``, times the teacher's weight."""
    weight = view.weight_of(place)
    if isinstance(weight, Tensor):
        weight = weight.view(-1, *[1] * (values.dim() - 1))
    return (weight * values).sum()


def _fused(
    match: FeatureMatch, view: View, projections: Projections, names: Sequence[str]
) -> Tensor:
    """Mean squared errors of all teachers of a layer in one pass: the dearest term beside the models."""
    counts = view.counted(match.positions)
    grouped: dict[tuple[int, str | None], list[LayerPair]] = {}
    for pair in match.pairs:
        grouped.setdefault((pair.student[0], pair.projection), []).append(pair)
    total = view.student.logits.new_zeros(())
    for (layer, projection), pairs in grouped.items():
        student = view.pooled(layer, match.positions, match.states)
        teachers = [
            view.teacher_states(match.name, pair.teacher, match.state_asks(pair)[0])
            for pair in pairs
        ]
        if projection is not None:
            student = projections(projection, student)
        weights = [float(view.weights[names.index(pair.teacher)]) for pair in pairs]
        total = total + hidden_mse_sum(student, teachers, weights, counts)
    return total


def attention_sum(match: FeatureMatch, view: View) -> Tensor:
    """A term on attention maps, summed over what counts, a scalar."""
    names = list(view.signals)
    mask = view.batch.token_mask & view.heard.unsqueeze(1)
    total = view.student.logits.new_zeros(())
    for pair in match.pairs:
        # Maps are counted from 1 as hidden states are: k is the map inside block k.
        student = view.student.attentions[pair.student[0] - 1]
        ask = AttentionAsk(pair.layers[0], match.heads or "all")
        teacher = view.teacher_maps(match.name, pair.teacher, ask)
        if match.heads == "mean":
            student, teacher = student.float().mean(1), teacher[:, 0]
        values = match.entry.function(student, teacher, mask=mask, **match.options)
        total = total + _by_rows(view, values, names.index(pair.teacher))
    return total


def _one(tensors: list[Tensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors
