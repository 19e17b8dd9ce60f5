"""What a run's folder says, as the report reads it: whatever is missing or torn is left out."""

import json
from pathlib import Path
from typing import Any

from raydistill.errors import ConfigError
from raydistill.evaluation.table import number

__all__ = ["read_history", "read_object", "read_text"]


def read_text(path: Path) -> str:
    """All of it; nothing of a file that is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is no such file.

    Raises:
        ConfigError: It is torn, or something else.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError.of(str(path), f"is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ConfigError.of(str(path), f"must hold a JSON object, got {type(value).__name__}.")
    return value


def read_history(path: Path) -> tuple[list[dict[str, Any]], int]:
    """One record a step, in order, and how many lines were torn; the last one may always be."""
    lines = read_text(path).splitlines()
    records: dict[float, dict[str, Any]] = {}
    num_torn = 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            num_torn += index < len(lines) - 1
            continue
        step = number(record.get("step")) if isinstance(record, dict) else None
        if step is not None:
            # A resumed run repeats steps: what it measured last is what it went on from.
            records.setdefault(step, {}).update(record)
    return [records[step] for step in sorted(records)], num_torn
