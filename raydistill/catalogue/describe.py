"""What is to be said of one loss, from its entry in the catalog, its docstring and its section."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from raydistill.catalogue.docstring import Docstring, arguments, read_docstring
from raydistill.config.base import Section
from raydistill.config.losses import LossBase, LossSection
from raydistill.config.schedules import TemperatureSetting
from raydistill.losses import CATALOG, LossEntry
from raydistill.losses.catalog.features import FEATURES
from raydistill.losses.catalog.logits import LOGITS
from raydistill.losses.catalog.ranking import RANKING

__all__ = [
    "GROUPS",
    "SIZES",
    "Group",
    "LossDescription",
    "Option",
    "bytes_of",
    "describe",
    "descriptions",
    "group_of",
    "kinds",
    "sections_of",
    "settings_of",
]

Group = Literal["labels", "logits", "tokens", "vectors", "attention", "scores", "embeddings"]
GROUPS: Mapping[Group, str] = {
    "labels": "Labels",
    "logits": "Logits",
    "tokens": "Hidden states of tokens",
    "vectors": "One vector a row",
    "attention": "Attention maps",
    "scores": "Scores of candidates",
    "embeddings": "Embeddings",
}
"""In the order of the page, each with its heading."""
SIZES: Mapping[str, int] = {"V": 2, "L": 64, "D": 384, "H": 12, "N": 6}
"""Of the teacher in examples, one like MiniLM-L6 with two classes, and rows of 64 tokens."""
_NEEDS = {
    "logits": "logits",
    "hidden": "hidden states",
    "layers": "hidden states of all layers",
    "attention": "attention maps",
    "scores": "scores of candidates",
    "embeddings": "embeddings",
}
_LABELS = {
    "class": "labels (one class a row)",
    "classes": "labels (0 or 1 for each class)",
    "number": "labels (a number a row)",
}
_SUPERSCRIPTS = {"²": 2, "³": 3}


@dataclass(frozen=True)
class Option:
    """One option of a function, or one setting of a section.

    Attributes:
        name: As it is written.
        default: As it is written in a configuration; None: it must be given.
        rule: What it must be; "" where its meaning says so.
        meaning: In the notation of docstrings.
        in_runs: Whether a configuration has it, not only the function.
    """

    name: str
    default: str | None
    rule: str
    meaning: str
    in_runs: bool = True


@dataclass(frozen=True)
class LossDescription:
    """One loss.

    Attributes:
        entry: Of the catalog.
        doc: Docstring of its function.
        group: What it is listed with.
        needs: What is compared with the student.
        mean_over: What its values are one of.
        cost: Formula of the bytes a row -> when it is that; more than one where `positions` decides.
        options: Of its function.
        settings: What a configuration has beside these, ``weight`` and ``schedule``.
        kind: Whether a configuration knows it.
        parity: Of each library that it can equal, how.
    """

    entry: LossEntry
    doc: Docstring
    group: Group
    needs: tuple[str, ...]
    mean_over: str
    cost: Mapping[str, str]
    options: tuple[Option, ...]
    settings: tuple[Option, ...]
    kind: bool
    parity: Mapping[str, str]

    @property
    def name(self) -> str:
        """As in a configuration."""
        return self.entry.name

    @property
    def value(self) -> str:
        """What a value is and where it lies, without how it is reduced."""
        text = self.doc.sections.get("Returns", "")
        return " ".join(re.split(r"\s*Not\s+reduced\b", text)[0].split())


def describe(name: str) -> LossDescription:
    """All that is to be said of a loss of the catalog.

    Example:
        >>> found = describe("forward_kl")
        >>> found.group, found.needs, found.mean_over, dict(found.cost), found.kind
        ('logits', ('logits',), 'rows', {'4·V': ''}, True)
    """
    entry = CATALOG[name]
    doc, section = read_docstring(entry.function), kinds().get(name)
    settings = settings_of(section) if section else ()
    own = {option.name for option in settings}
    shared = {option.name for option in settings_of(LossBase)}
    meanings, defaults = arguments(doc), entry.defaults()
    return LossDescription(
        entry=entry,
        doc=doc,
        group=group_of(entry),
        needs=tuple(
            _LABELS[entry.label] if need == "labels" else _NEEDS[need]
            for need in sorted(entry.needs, key=lambda need: need == "labels")
        ),
        mean_over=_mean_over(entry, section),
        cost=_cost(entry, section),
        options=tuple(
            Option(
                option,
                _written(defaults[option]),
                _rule(check, section, option),
                meanings[option],
                section is None or option in own,
            )
            for option, check in entry.options.items()
        ),
        settings=tuple(
            option for option in settings if option.name not in {*shared, *entry.options}
        ),
        kind=section is not None,
        parity={library: _parity(entry, library) for library in entry.parity},
    )


def descriptions() -> list[LossDescription]:
    """All losses, in reading order."""
    return [describe(entry.name) for entry in (*LOGITS, *FEATURES, *RANKING)]


def group_of(entry: LossEntry) -> Group:
    """What a loss is listed with: by what it compares and whether it looks at tokens."""
    if entry.needs == {"labels"}:
        return "labels"
    for group in ("logits", "attention", "scores", "embeddings"):
        if group in entry.needs:
            return group
    return "tokens" if "L" in entry.cost else "vectors"


def bytes_of(cost: str, sizes: Mapping[str, int] = SIZES) -> int:
    """What a formula of the catalog comes to.

    Example:
        >>> bytes_of("4·H·L²"), bytes_of("0")
        (196608, 0)
    """

    def factor(word: str) -> int:
        power = _SUPERSCRIPTS.get(word[-1], 1)
        base = word[:-1] if power > 1 else word
        return math.prod([int(sizes.get(base) or base)] * power)

    return math.prod(factor(word) for word in cost.split("·"))


@cache
def kinds() -> Mapping[str, type[LossBase]]:
    """Every kind of loss that a configuration knows, with its section."""
    return {get_args(s.model_fields["kind"].annotation)[0]: s for s in sections_of(LossSection)}


def sections_of(union: Any) -> Iterator[type[Any]]:
    """The sections that are joined in a union, in order."""
    if isinstance(union, type) and issubclass(union, Section):
        yield union
    elif get_origin(union) in (Union, UnionType) or hasattr(union, "__metadata__"):
        for part in get_args(union):
            yield from sections_of(part)


def settings_of(section: type[Section]) -> tuple[Option, ...]:
    """What may be written in a section; its kind only where there is a choice."""
    return tuple(
        Option(
            name,
            None if info.default is PydanticUndefined else _written(info.default),
            _rule_of_type(info.annotation),
            " ".join((info.description or "").split()),
        )
        for name, info in section.model_fields.items()
        if name != "kind" or len(get_args(info.annotation)) > 1
    )


def _positions(section: type[LossBase] | None) -> tuple[str, ...]:
    """What `positions` may be, if there is a choice."""
    info = section.model_fields.get("positions") if section else None
    return get_args(info.annotation) if info else ()


def _mean_over(entry: LossEntry, section: type[LossBase] | None) -> str:
    if entry.units is not None:
        words = (entry.units.__doc__ or "").partition("\n")[0].split(", a scalar")[0].rstrip(".")
        return words[0].lower() + words[1:]
    if entry.over == "rows":
        return "rows, seen in groups"
    if "all" in _positions(section):
        return "tokens that count; rows with `positions: first` or `mean`"
    return "rows"


def _cost(entry: LossEntry, section: type[LossBase] | None) -> dict[str, str]:
    if group_of(entry) == "tokens" and {"first", "mean"} <= set(_positions(section)):
        return {entry.cost: "", "4·D": "with `positions: first` or `mean`"}
    return {entry.cost: ""}


def _rule(check: Any, section: type[LossBase] | None, option: str) -> str:
    words = re.sub(r"^must (be|lie) ", "", check(object()) or "")
    if check(None) is None and "None" not in words:
        words += ", or none"
    info = section.model_fields.get(option) if section else None
    if info is not None and info.annotation in get_args(TemperatureSetting)[:1]:
        words += ", or a [schedule](#temperatures)"
    return words.replace(", or None", ", or none")


def _rule_of_type(annotation: Any) -> str:
    if annotation is bool:
        return "true or false"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(get_args(annotation))
    return ""


def _parity(entry: LossEntry, library: str) -> str:
    peer = entry.parity[library]
    parts = []
    if peer.options:
        parts.append("with " + ", ".join(f"`{k}: {_written(v)}`" for k, v in peer.options.items()))
    if peer.function is not None:
        parts.append("its own reduction")
    return ", ".join(parts) or "equal as it is"


def _written(value: object) -> str:
    """A value as YAML has it.

    Example:
        >>> _written(True), _written(None), _written(8.0), _written("mean")
        ('true', 'null', '8', 'mean')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Section):
        return str(getattr(value, "kind", value))
    return f"{value:g}" if isinstance(value, float) else str(value)
