"""Sizes of students by name, as TextBrewer has them.

A preset stands for the settings of another part of the section, which are written out when the
configuration is read: what is saved with a run says the sizes, not only the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

__all__ = ["PRESETS", "Preset", "PresetName", "with_preset"]


@dataclass(frozen=True)
class Preset:
    """One row of the table.

    Attributes:
        part: Where its settings belong: ``from_config`` or ``network``.
        settings: What it stands for.
    """

    part: str
    settings: Mapping[str, Any]

    @property
    def layers(self) -> int:
        """Blocks, or recurrent layers."""
        return int(self.settings.get("num_hidden_layers") or self.settings["layers"])

    @property
    def width(self) -> int:
        """Of hidden states; of a recurrent network in each direction."""
        return int(self.settings["hidden_size"])

    @property
    def sizes(self) -> str:
        """For a person."""
        ways = " both ways" if self.part == "network" else ""
        return f"{self.layers} x {self.width}{ways}"


def _bert(layers: int, width: int, feed_forward: int) -> Preset:
    return Preset(
        "from_config",
        {
            "model_type": "bert",
            "num_hidden_layers": layers,
            "hidden_size": width,
            "intermediate_size": feed_forward,
            "num_attention_heads": 12,
        },
    )


PRESETS: Mapping[str, Preset] = {
    "t6": _bert(6, 768, 3072),
    "t3": _bert(3, 768, 3072),
    "t3-small": _bert(3, 384, 1536),
    "t4-tiny": _bert(4, 312, 1200),
    "bigru": Preset(
        "network",
        {"kind": "gru", "layers": 1, "hidden_size": 768, "embedding_size": 768, "head_size": 768},
    ),
}
"""By name. Feed-forward widths and heads are those of TextBrewer's published configurations."""


def _known(value: str) -> str:
    if value.lower() not in PRESETS:
        table = ", ".join(f"{name} ({preset.sizes})" for name, preset in PRESETS.items())
        raise ValueError(f"must be one of {table}")
    return value.lower()


PresetName = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"enum": list(PRESETS)})
]
"""A name of the table; capitals do not matter."""


def with_preset(student: Mapping[str, Any]) -> dict[str, Any]:
    """A student section as written, with what its preset stands for written out.

    What stands there already goes before. Nothing is added beside another source of weights: that is
    for the rules to judge.

    Args:
        student: The section, not yet validated.
    """
    section, name = dict(student), student.get("preset")
    if not isinstance(name, str) or name.lower() not in PRESETS:
        return section
    preset = PRESETS[name.lower()]
    section["preset"] = name.lower()
    others = {"model", "from_teacher", "from_config", "network"} - {preset.part}
    written = section.get(preset.part)
    if written is None:
        written = {}
    if any(section.get(other) is not None for other in others) or not isinstance(written, Mapping):
        return section
    if written.get("kind") in (None, preset.settings.get("kind")):
        section[preset.part] = {**preset.settings, **written}
    return section
