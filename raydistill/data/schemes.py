"""How tags write spans, and how every way becomes one: IOB2.

IOB2 has B- at the beginning of every span and I- inside. IOB1 has B- only where two spans of a type touch.
BIOES has E- at the end and S- for a single word; BILOU calls them L- and U-, BMES has M- inside.
"""

from collections.abc import Sequence
from typing import Literal

from raydistill.errors import ConfigError, Fault

__all__ = ["IOB2_PREFIXES", "OUTSIDE", "Scheme", "TagSet"]

Scheme = Literal["iob2", "iob1", "bioes"]
OUTSIDE = "O"
IOB2_PREFIXES = {"B": "B", "I": "I", "M": "I", "E": "I", "L": "I", "S": "B", "U": "B"}
"""What prefixes of all schemes become."""
_PREFIXES: dict[Scheme, dict[str, str]] = {
    "iob2": {"B": "B", "I": "I"},
    "iob1": {"B": "B", "I": "I"},
    "bioes": IOB2_PREFIXES,
}


class TagSet:
    """The tags of a task: those of the files, and what they become.

    Args:
        written: As files write them, in the order of their numbers.
        scheme: How they write spans.
        path_in_config: The subject of faults.

    Raises:
        ConfigError: There is no O, or a tag is none of the scheme.

    Attributes:
        names: In IOB2. Tags that are so already keep their order; others are O, and B- and I- of each type.
    """

    def __init__(
        self, written: Sequence[str], scheme: Scheme, path_in_config: str = "task.labels"
    ) -> None:
        self.written, self.scheme = tuple(written), scheme
        known = _PREFIXES[scheme]
        parts = [name.partition("-") for name in written]
        strange = [
            name
            for name, (prefix, _, kind) in zip(written, parts, strict=True)
            if name != OUTSIDE and (prefix not in known or not kind)
        ]
        faults = []
        if OUTSIDE not in written:
            faults.append(
                Fault(
                    path_in_config,
                    f"must hold {OUTSIDE}, the tag of words outside of all spans, got {_few(written)}.",
                )
            )
        if strange:
            faults.append(
                Fault(
                    path_in_config,
                    f"must be {OUTSIDE} or begin with {', '.join(f'{one}-' for one in known)} (task.scheme: {scheme}), "
                    f"got {_few(strange)}.{_other_scheme(strange, scheme)}",
                    rests_on=(path_in_config, "task.scheme"),
                )
            )
        types = tuple(dict.fromkeys(kind for _, _, kind in parts if kind))
        without = [kind for kind in types if f"B-{kind}" not in written]
        if scheme == "iob2" and without and not faults:
            faults.append(
                Fault(
                    path_in_config,
                    f"must hold B- of every type (task.scheme: iob2), got none of {_few(without)}. "
                    "Set task.scheme: iob1 if spans may begin with I-.",
                    rests_on=(path_in_config, "task.scheme"),
                )
            )
        if faults:
            raise ConfigError(faults)
        self.names: tuple[str, ...] = self.written
        if scheme != "iob2":
            both = [f"{prefix}-{kind}" for kind in types for prefix in ("B", "I")]
            self.names = (OUTSIDE, *both)
        number = {name: place for place, name in enumerate(self.names)}
        outside = number[OUTSIDE]
        self._begin = [number.get(f"B-{kind}", outside) for _, _, kind in parts]
        self._inside = [number.get(f"I-{kind}", outside) for _, _, kind in parts]
        self._goes_on = [known.get(prefix) == "I" for prefix, _, _ in parts]
        self._ends = [prefix in ("E", "L", "S", "U") for prefix, _, _ in parts]
        self._kinds = [kind for _, _, kind in parts]

    def read(self, tags: Sequence[int]) -> tuple[list[int], int | None]:
        """The tags of a row in IOB2, and the first word that goes on with no span; None: there is none.

        Args:
            tags: Numbers of written tags.

        Example:
            >>> TagSet(["O", "I-x"], "iob1").read([1, 1, 0, 1])
            ([1, 2, 0, 1], None)
            >>> TagSet(["O", "B-x", "I-x"], "iob2").read([0, 2])
            ([0, 1], 1)
        """
        found, stray, open_kind = [], None, ""
        for place, tag in enumerate(tags):
            kind = self._kinds[tag]
            goes_on = self._goes_on[tag] and kind == open_kind
            if self._goes_on[tag] and not goes_on and self.scheme != "iob1" and stray is None:
                stray = place
            found.append(self._inside[tag] if goes_on else self._begin[tag])
            open_kind = "" if self._ends[tag] else kind
        return found, stray


def _other_scheme(strange: Sequence[str], scheme: Scheme) -> str:
    others = _PREFIXES["bioes"]
    if scheme != "bioes" and all(name.partition("-")[0] in others for name in strange):
        return " Set task.scheme: bioes."
    return ""


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "none"  # noqa: PLR2004
