"""Reading a JSON file of settings: every fault at once, one line each."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.config.faults import nearest
from raydistill.errors import ConfigError, Fault
from raydistill.importing.imported import Remark

__all__ = ["Findings", "Part", "is_finite", "read_json", "shown"]

_MAX_SHOWN = 60


@dataclass
class Findings:
    """What is wrong with a file, and what does not come over.

    Attributes:
        faults: As found.
        remarks: As found.
    """

    faults: list[Fault] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """An object of the file; what is read and cannot be used is a fault, and the default goes on.

    Attributes:
        values: Its settings.
        path: Where it stands; empty for the whole file.
        findings: Shared by all parts of a file.
    """

    values: dict[str, Any]
    path: str
    findings: Findings

    def at(self, key: str | int) -> str:
        """Where a setting stands."""
        name = key if isinstance(key, int) or key.isprintable() else shown(key)
        return f"{self.path}.{name}" if self.path else f"{name}"

    def fault(self, key: str, message: str) -> None:
        """Say what is wrong with a setting."""
        self.findings.faults.append(Fault(self.at(key), message))

    def remark(self, key: str, message: str) -> None:
        """Say what does not come over of a setting."""
        self.findings.remarks.append(Remark(self.at(key), message))

    def refuse_unknown(
        self, known: Iterable[str], elsewhere: Iterable[str] = (), hint: str = ""
    ) -> None:
        """A fault for every setting that does not exist.

        Args:
            known: Those that do.
            elsewhere: Those that exist in another place.
            hint: Which that is.
        """
        names = list(known)
        for key in self.values:
            if key in names:
                continue
            self.fault(
                key, f"is not known here. {hint if key in elsewhere else nearest(key, names)}"
            )

    def part(self, key: str) -> "Part | None":
        """An object in this one; None if it is none, which is then a fault."""
        value = self.values.get(key)
        if isinstance(value, dict):
            return Part(value, self.at(key), self.findings)
        self.fault(key, f"must be an object of settings, got {shown(value)}.")
        return None

    def number(self, key: str, default: float, *, positive: bool = False) -> float:
        """A finite number, zero or more; or more than zero."""
        value = self.values.get(key, default)
        if is_finite(value) and (value > 0 or (value == 0 and not positive)):
            return value  # type: ignore[no-any-return]
        rule = "a positive finite number" if positive else "a finite number, zero or more"
        self.fault(key, f"must be {rule}, got {shown(value)}.")
        return default

    def whole(self, key: str, default: int, *, least: int = 1) -> int:
        """A whole number."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.fault(key, f"must be a whole number, {least} or more, got {shown(value)}.")
        return default

    def flag(self, key: str) -> bool:
        """True or false; false if nothing is said."""
        value = self.values.get(key, False)
        if isinstance(value, bool):
            return value
        self.fault(key, f"must be true or false, got {shown(value)}.")
        return False

    def word(self, key: str, default: str) -> str:
        """A text on one line."""
        value = self.values.get(key, default)
        if isinstance(value, str) and value and value.isprintable():
            return value
        self.fault(key, f"must be text, got {shown(value)}.")
        return default


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A value as JSON has it, cut when it is long."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a file.

    Args:
        path: UTF-8.
        what: How such a file is made, for the error.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is not JSON, or holds no object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError.of(str(path), "does not exist.") from None
    except IsADirectoryError:
        raise ConfigError.of(str(path), "is a folder; a JSON file is needed.") from None
    except UnicodeDecodeError as error:
        raise ConfigError.of(
            str(path),
            f"is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}.",
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError.of(str(path), f"cannot be read: {reason}.") from None
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ConfigError.of(
            str(path),
            f"is not JSON, line {error.lineno}, column {error.colno}: {error.msg}. {what}",
        ) from None
    except ValueError as error:  # a doubled key; a number of thousands of digits
        raise ConfigError.of(str(path), f"is not sound JSON: {error}.") from None
    except RecursionError:
        raise ConfigError.of(str(path), "is nested too deeply.") from None
    if not isinstance(found, dict):
        raise ConfigError.of(str(path), f"must hold an object, got {shown(found)}. {what}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} stands twice")
        found[key] = value
    return found
