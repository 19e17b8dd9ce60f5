"""From one item of ``losses`` to what is computed: layers, widths and tokenizers fit, or faults."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raydistill.alignment import ProjectionSpec, choose_layers, projection_key, resolve_layer
from raydistill.config import DistillConfig
from raydistill.config.losses import (
    AttentionLoss,
    CrossEntropyLoss,
    CustomLoss,
    FSPLoss,
    LayerAttentionLoss,
    LossSection,
)
from raydistill.config.projection import ProjectionSection
from raydistill.errors import Fault
from raydistill.losses import CATALOG, LossEntry
from raydistill.models import ModelTraits
from raydistill.objective import Term
from raydistill.terms import FeatureMatch, HardMatch, LayerPair, SoftMatch

__all__ = ["TermPlan", "plan_term"]

_NOT_OPTIONS = {"kind", "weight", "schedule", "layers", "positions", "projection"}
_MEANS_OF_HEADS = {"attention_ce_mean"}


@dataclass
class TermPlan:
    """One term and what it brings along."""

    term: Term
    projections: list[ProjectionSpec] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def plan_term(
    config: DistillConfig,
    index: int,
    *,
    student: ModelTraits | None,
    teachers: Mapping[str, ModelTraits],
) -> TermPlan:
    """One item of ``losses``.

    Args:
        config: Valid by itself.
        index: Its place.
        student: Its shape; None if it could not be read.
        teachers: Shapes of those that could be read.
    """
    loss = config.losses[index]
    name = f"{index}.{loss.kind}"

    def term(match: HardMatch | SoftMatch | FeatureMatch) -> Term:
        return Term(name, match, loss.weight, loss.schedule)

    faults: list[Fault] = []
    entry = (
        _custom_entry(loss, index, faults) if isinstance(loss, CustomLoss) else CATALOG[loss.kind]
    )
    options = loss.options if isinstance(loss, CustomLoss) else _options(loss, entry)
    if isinstance(loss, CrossEntropyLoss):
        return TermPlan(term(HardMatch(entry, options)))
    if "logits" in entry.needs:
        soft = SoftMatch(
            entry,
            options,
            getattr(loss, "temperature", 1.0),
            getattr(loss, "standardize", False),
            getattr(loss, "probability_shift", False),
        )
        return TermPlan(term(soft), faults=faults)
    positions: Any = "gram" if loss.kind == "nst" else getattr(loss, "positions", "all")
    projection: ProjectionSection | None = getattr(loss, "projection", None)
    plan = TermPlan(term(HardMatch(entry)), faults=faults)
    pairs: list[LayerPair] = []
    if student is not None:
        for teacher, traits in teachers.items():
            found = _Pairs(config, index, loss, teacher, student, traits, faults).resolved()
            if isinstance(loss, LayerAttentionLoss) or _written(loss, teacher) is not None:
                faults += _fit(config, index, loss, teacher, student, traits)
            for own, theirs in found:
                pairs.append(
                    _pair(
                        index, teacher, own, theirs, projection, student, traits, plan.projections
                    )
                )
    match = FeatureMatch(
        name,
        entry,
        tuple(pairs),
        options,
        positions,
        ("mean" if loss.kind in _MEANS_OF_HEADS else "all")
        if isinstance(loss, AttentionLoss)
        else None,
        projection.side if projection is not None else "student",
        _states(loss),
    )
    plan.term = term(match)
    return plan


def _options(loss: LossSection, entry: LossEntry) -> dict[str, Any]:
    """Of the entry's function, as configured."""
    given = {name: getattr(loss, name) for name in entry.options if hasattr(loss, name)}
    if "logits" in entry.needs:
        given.pop("temperature", None)
    return given


def _custom_entry(loss: CustomLoss, index: int, faults: list[Fault]) -> LossEntry:
    """The user's function as an entry."""
    path, module_name, name = f"losses.{index}.target", *loss.target.split(":")
    function: Callable[..., Any] = _missing
    parameters: Mapping[str, inspect.Parameter] = {}
    try:
        function = getattr(importlib.import_module(module_name), name)
        parameters = inspect.signature(function).parameters
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        faults.append(
            Fault(
                path,
                f"cannot be imported: {error}. Its package must be installed, or in the working directory.",
            )
        )
    else:
        faults += [
            Fault(f"losses.{index}.options.{option}", f"is no argument of {loss.target}.")
            for option in loss.options
            if option not in parameters
            and not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        ]
    known = dict.fromkeys(loss.options, _anything)
    if loss.needs == "logits" and "temperature" in parameters:
        known["temperature"] = _anything
    return LossEntry(loss.kind, function, frozenset({loss.needs}), "", options=known)


def _anything(value: object) -> None:  # noqa: ARG001 - a check that allows all
    return None


def _missing(*_: Any, **__: Any) -> Any:
    raise AssertionError("a loss that cannot be imported is refused before anything starts")


@dataclass
class _Pairs:
    """The layers of one term and one teacher."""

    config: DistillConfig
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
        written = _written(loss, self.teacher)
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
            if own is not None and theirs is not None:
                found.append((own, theirs))
        return found

    def _all_layers(
        self, loss: LayerAttentionLoss
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        base, sides = f"losses.{self.index}", []
        for key, student in (("student_layers", True), ("teacher_layers", False)):
            traits = self.student_traits if student else self.teacher_traits
            written = getattr(loss, key)
            chosen = range(1, traits.num_layers + 1) if written == "all" else written
            sides.append(self._layers(f"{base}.{key}", chosen, student=student))
        own, theirs = sides
        return [((layer,), theirs) for layer in own or ()] if theirs is not None else []

    def _layers(self, path: str, layers: Sequence[int], *, student: bool) -> tuple[int, ...] | None:
        traits = self.student_traits if student else self.teacher_traits
        who = "the student" if student else f"teachers.{self.teacher}"
        model = "student" if student else f"teachers.{self.teacher}.model"
        of_blocks = isinstance(self.loss, AttentionLoss) or _states(self.loss) != "hidden"
        try:
            found = tuple(resolve_layer(layer, traits.num_layers) for layer in layers)
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


def _states(loss: Any) -> Any:
    """Which states a term compares."""
    return getattr(loss, "states", "hidden")


def _written(loss: Any, teacher: str) -> Any:
    """Pairs or a word for one teacher; None: nothing."""
    return loss.written_for(teacher)


def _pair(  # noqa: PLR0917 - plain facts
    index: int,
    teacher: str,
    own: tuple[int, ...],
    theirs: tuple[int, ...],
    projection: ProjectionSection | None,
    student: ModelTraits,
    traits: ModelTraits,
    projections: list[ProjectionSpec],
) -> LayerPair:
    if projection is None:
        return LayerPair(teacher, own, theirs, None, student.width)
    widths = student.width, traits.width
    ends = widths if projection.side == "student" else widths[::-1]
    key = projection_key(index, teacher, "_".join(map(str, own)), "_".join(map(str, theirs)))
    projections.append(
        ProjectionSpec(
            key,
            projection.kind,
            *ends,
            hidden_width=projection.hidden_width,
            learning_rate=projection.learning_rate,
            weight_decay=projection.weight_decay,
        )
    )
    return LayerPair(teacher, own, theirs, key, ends[1])


_ANY_WIDTH = {"nst", "relation_kl", "rkd_distance", "rkd_angle"}
_HEAD_BY_HEAD = {"attention_mse", "attention_ce"}
_PLURAL = {"query": "queries", "key": "keys", "value": "values"}


def _fit(  # noqa: PLR0917 - plain facts
    config: DistillConfig,
    index: int,
    loss: Any,
    name: str,
    student: ModelTraits,
    teacher: ModelTraits,
) -> list[Fault]:
    """What keeps a term from comparing this student with this teacher."""
    faults, base = [], f"losses.{index}"
    on_maps = isinstance(loss, AttentionLoss)
    needs_width = not on_maps and loss.kind not in _ANY_WIDTH
    if needs_width and student.width != teacher.width and loss.projection is None:
        faults.append(
            Fault(
                f"{base}.projection",
                f"is needed: hidden states of the student are {student.width} wide, those of "
                f"teachers.{name} {teacher.width}. Write projection: linear.",
                rests_on=(f"{base}.projection", f"teachers.{name}.model"),
            )
        )
    if loss.kind in _HEAD_BY_HEAD and student.num_heads != teacher.num_heads:
        faults.append(
            Fault(
                f"{base}.kind",
                f"compares head by head, but the student has {student.num_heads} heads and "
                f"teachers.{name} {teacher.num_heads}. Use attention_ce_mean.",
                rests_on=(f"{base}.kind", f"teachers.{name}.model"),
            )
        )
    if loss.kind == "relation_kl":
        for who, traits, model in (
            ("the student", student, "student"),
            (f"teachers.{name}", teacher, f"teachers.{name}.model"),
        ):
            faults += _relation_faults(base, loss, who, traits, model)
    if getattr(loss, "positions", "all") == "all":
        faults += _tokens_fit(config, index, loss, name, student, teacher)
    return faults


def _relation_faults(
    base: str, loss: Any, who: str, traits: ModelTraits, model: str
) -> list[Fault]:
    """What keeps one side's states from being read, or from being cut into heads."""
    states, width, what = _states(loss), traits.width, "width"
    if states != "hidden":
        assert traits.inside is not None, "whoever reads traits looks, if a loss needs it"
        if isinstance(traits.inside, str):
            message = f"is {states}, but {who} {traits.inside}. Use states: hidden."
            return [Fault(f"{base}.states", message, rests_on=(f"{base}.states", model))]
        width, what = traits.inside[states], f"width of the {_PLURAL[states]}"
    if width % loss.relation_heads == 0:
        return []
    path = f"{base}.relation_heads"
    message = f"must divide the {what} of {who}, {width}, got {loss.relation_heads}."
    return [Fault(path, message, rests_on=(path, f"{base}.states", model))]


def _tokens_fit(  # noqa: PLR0917 - plain facts
    config: DistillConfig,
    index: int,
    loss: Any,
    name: str,
    student: ModelTraits,
    teacher: ModelTraits,
) -> list[Fault]:
    """Losses that compare token by token need the same tokens."""
    faults, path = [], f"losses.{index}.positions"
    chosen = hasattr(loss, "positions")
    path = path if chosen else f"losses.{index}.kind"
    if student.tokenizer != teacher.tokenizer:
        subject = "'all'" if chosen else f"{loss.kind}"
        way_out = (
            "Write positions: first or positions: mean."
            if chosen
            else "Use a loss on vectors, e.g. hidden_mse with positions: mean."
        )
        faults.append(
            Fault(
                path,
                f"{subject} compares token by token, but teachers.{name} has another tokenizer than "
                f"the student. {way_out}",
                rests_on=(path, f"teachers.{name}.tokenizer", "student.tokenizer"),
            )
        )
    cut = config.teachers[name].max_tokens
    if cut is not None and cut != config.student.max_tokens:
        said = "positions: all" if chosen else loss.kind
        faults.append(
            Fault(
                f"teachers.{name}.max_tokens",
                f"must equal student.max_tokens = {config.student.max_tokens} for "
                f"losses.{index} with {said}, got {cut}.",
                rests_on=(path, f"teachers.{name}.max_tokens", "student.max_tokens"),
            )
        )
    return faults
