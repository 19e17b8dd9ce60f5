"""A folder that an export wrote: ``model.onnx``, configuration, tokenizer, and what was exported."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from raydistill.errors import ConfigError

__all__ = ["ExportForm", "ExportRecord", "is_exported", "onnx_file", "read_export", "write_export"]

ExportForm = Literal["onnx", "int8"]
_RECORD, _MODEL = "export.json", "model.onnx"


@dataclass(frozen=True)
class ExportRecord:
    """What lies in such a folder.

    Attributes:
        form: ``onnx`` in float32, ``int8`` with weights of 8 bits.
        source: The model it was made from, as the user named it.
        fingerprint: Of that model's weights, configuration, tokenizer and cut.
        num_parameters: Of that model.
        difference: From that model, the largest on several shapes, relative to the largest logit or 1.
        tolerance: What it may be at most; None: nothing was required.
    """

    form: ExportForm
    source: str
    fingerprint: str
    num_parameters: int
    difference: float
    tolerance: float | None


def onnx_file(folder: Path) -> Path:
    """The model in a folder."""
    return folder / _MODEL


def is_exported(location: str) -> bool:
    """Whether a source is such a folder."""
    folder = Path(location)
    return (folder / _RECORD).is_file() and onnx_file(folder).is_file()


def write_export(folder: Path, record: ExportRecord) -> None:
    """Say what lies there."""
    (folder / _RECORD).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")


def read_export(path: str, folder: Path) -> ExportRecord:
    """What an export says about itself.

    Args:
        path: Where the folder was named, for the message.
        folder: That `is_exported`.

    Raises:
        ConfigError: It is torn, or of another version.
    """
    try:
        return ExportRecord(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ConfigError.of(
            path, f"holds a {_RECORD} that cannot be read: {folder}. Export the model again."
        ) from None
