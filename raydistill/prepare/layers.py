"""Which layers a term compares: pairs, or words for pairs, counted from the front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.alignment import choose_layers, resolve_layer
from raydistill.config.losses import AttentionLoss, FSPLoss, LayerAttentionLoss
from raydistill.errors import Fault
from raydistill.models import ModelTraits

__all__ = ["LayerChoice", "states_of"]


@dataclass
class LayerChoice:
    """The layers of one term and one teacher."""

    index: int
    loss: Any
    teacher: str
    student_traits: ModelTraits
    teacher_traits: ModelTraits
    faults: list[Fault]

    def resolved(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Pairs (student's layers, teacher's layers), counted from the front."""
        loss = self.loss
        if isinstance(loss, LayerAttentionLoss):
            return self._all_layers(loss)
        heads = self.student_traits.num_heads, self.teacher_traits.num_heads
        if isinstance(loss, AttentionLoss) and 0 in heads:
            return []  # which is a fault elsewhere
        written = loss.written_for(self.teacher)
        if written is None:
            return []
        base = f"losses.{self.index}.layers"
        base += f".{self.teacher}" if isinstance(loss.layers, dict) else ""
        depths = self.student_traits.num_layers, self.teacher_traits.num_layers
        if isinstance(written, str):
            try:
                return [((own,), (theirs,)) for own, theirs in choose_layers(written, *depths)]
            except ValueError as error:
                self.faults.append(
                    Fault(base, f"does not fit teachers.{self.teacher}: {error}", rests_on=(base,))
                )
                return []
        found = []
        for place, pair in enumerate(written):
            two = isinstance(loss, FSPLoss)
            sides = [side if two else [side] for side in pair]
            own = self._layers(f"{base}.{place}.0", sides[0], student=True)
            theirs = self._layers(f"{base}.{place}.1", sides[1], student=False)
            if own is None or theirs is None:
                continue
            if (own, theirs) in found:
                path = f"{base}.{place}"
                message = f"is there already: {pair} is the same pair as another one."
                self.faults.append(Fault(path, message, rests_on=(path,)))
                continue
            found.append((own, theirs))
        return found

    def _all_layers(
        self, loss: LayerAttentionLoss
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        base = f"losses.{self.index}"
        sides: list[tuple[int, ...] | None] = []
        for key, student in (("student_layers", True), ("teacher_layers", False)):
            traits = self.student_traits if student else self.teacher_traits
            written = getattr(loss, key)
            chosen = range(1, traits.num_layers + 1) if written == "all" else written
            if not chosen:
                path = f"{base}.{key}"
                message = "is all blocks, of which there are none. Write [0], the embeddings."
                self.faults.append(Fault(path, message, rests_on=(path,)))
                sides.append(None)
                continue
            sides.append(self._layers(f"{base}.{key}", chosen, student=student))
        own, theirs = sides
        if own is None or theirs is None:
            return []
        if len(set(own)) < len(own):
            path = f"{base}.student_layers"
            message = f"must name each layer once, got {loss.student_layers}."
            self.faults.append(Fault(path, message, rests_on=(path,)))
        return [((layer,), theirs) for layer in dict.fromkeys(own)]

    def _layers(self, path: str, layers: Sequence[int], *, student: bool) -> tuple[int, ...] | None:
        traits = self.student_traits if student else self.teacher_traits
        who = "the student" if student else f"teachers.{self.teacher}"
        model = "student" if student else f"teachers.{self.teacher}.model"
        of_blocks = isinstance(self.loss, AttentionLoss) or states_of(self.loss) != "hidden"
        try:
            found = tuple(resolve_layer(layer, traits.num_layers) for layer in layers)
            if not of_blocks and 0 in found and traits.embedding_width is not None:
                message = (
                    f"is hidden state 0 of {who}, its embeddings, {traits.embedding_width} wide, where the others are "
                    f"{traits.width}: they cannot be compared. Leave it out, or make a network of equal widths."
                )
                self.faults.append(Fault(path, message, rests_on=(path, model)))
                return None
            if not (of_blocks and 0 in found):
                return found
        except ValueError:
            pass
        several = list(layers)
        got = several[0] if len(several) == 1 else several
        rule = (
            f"must be a block of {who}, 1 to {traits.num_layers} or -1 to -{traits.num_layers} from "
            f"the end (embeddings have no attention), got {got}."
            if of_blocks
            else f"must be a hidden state of {who}, 0 (embeddings) to {traits.num_layers} "
            f"or -1 to -{traits.num_layers + 1} from the end, got {got}."
        )
        self.faults.append(Fault(path, rule, rests_on=(path, model)))
        return None


def states_of(loss: Any) -> Any:
    """Which states a term compares."""
    return getattr(loss, "states", "hidden")
