"""One file that is read: what is wanted of it, and how to complain about it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TextIO

from raydistill.data.checks import RowFaults, column_list, did_you_mean, setting_of
from raydistill.data.files import DataFile
from raydistill.errors import ConfigError, Fault

__all__ = [
    "BOM",
    "Cells",
    "NotPlainError",
    "Reading",
    "Skip",
    "Wanted",
    "absent_roles",
    "cells_of",
    "column_faults",
    "is_name",
    "require_utf8",
]

BOM = b"\xef\xbb\xbf"
_SINGLE = ("route", "id", "answer_start")
_NAMES = (*_SINGLE, "words", "tags", "answers")

Wanted = dict[
    str, str
]  # role (text, text_pair, label, labels.0, route, words, tags, answers) -> name of its column
Cells = Literal["class", "list", "texts", "number", "record"]
"""What a column of labels holds: one class (or a yes or no), a list of classes, a list of texts, a number; or, of answers,
an object."""


class NotPlainError(Exception):
    """The fast reader would refuse or misread this file."""


class Skip:
    """Rows that are still to be passed over, without a look at them.

    Attributes:
        left: How many.
    """

    def __init__(self, rows: int) -> None:
        self.left = rows

    def of(self, there: int) -> int:
        """How many of so many are passed over."""
        taken = min(self.left, there)
        self.left -= taken
        return taken


@dataclass(frozen=True)
class Reading:
    """One file, what is wanted of it, and how to complain about it.

    Attributes:
        file: It.
        wanted: Role to column.
        path_in_config: The subject of faults.
        cells: What columns of labels hold.
        labels: Names of the classes, if they are known; a file that names them itself may call them otherwise.
        problems: What is wrong with rows so far.
    """

    file: DataFile
    wanted: Wanted
    path_in_config: str
    cells: Cells = "class"
    labels: Sequence[str] | None = None
    problems: RowFaults = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", RowFaults(self.path_in_config, self.file.name))

    def open_text(self) -> TextIO:
        """UTF-8 with its line ends as they are."""
        return io.TextIOWrapper(self.file.open(), encoding="utf-8-sig", newline="")

    def raise_problems(self) -> None:
        """Raises what was wrong with rows so far, if anything was."""
        if self.problems:
            raise ConfigError(self.problems.faults())

    def refuse(self, message: str) -> ConfigError:
        """An error with one fault."""
        return ConfigError.of(self.path_in_config, message)

    def require_columns(self, there: Sequence[str], hint: str = "") -> None:
        """Raises for each wanted column that is missing or that two columns are called by."""
        faults = column_faults(
            self.wanted, there, name=self.file.name, path_in_config=self.path_in_config, hint=hint
        )
        if faults:
            raise ConfigError(faults)


def column_faults(
    wanted: Wanted, there: Sequence[str], *, name: str, path_in_config: str, hint: str = ""
) -> list[Fault]:
    """One for each wanted column that is missing or that two columns are called by."""
    faults = []
    for role, column in wanted.items():
        if there.count(column) > 1:
            faults.append(
                Fault(
                    path_in_config,
                    f"must hold one column {column!r} ({setting_of(role)}), got "
                    f"{there.count(column)} of that name in {name}. Rename the others.",
                )
            )
        elif column not in there:
            faults.append(
                Fault(
                    path_in_config,
                    f"{_absent(role, column)}{column_list(there)} in {name}.{did_you_mean(column, there)}{hint}",
                )
            )
    return faults


def _absent(role: str, column: str) -> str:
    """How the fault about a column that is missing begins."""
    return f"must hold a column {column!r} ({setting_of(role)}), got the columns "


def absent_roles(faults: Sequence[Fault], wanted: Wanted) -> set[str]:
    """Roles whose columns are missing, if that is all that is wrong; one that may be misspelt is not missing.

    Args:
        faults: What a file was refused for.
        wanted: Role to column, as it was asked for.
    """
    begins = {_absent(role, column): role for role, column in wanted.items()}
    found = set()
    for fault in faults:
        role = next(
            (role for begin, role in begins.items() if fault.message.startswith(begin)), None
        )
        if role is None or "Did you mean" in fault.message:
            return set()
        found.add(role)
    return found


def is_name(role: str) -> bool:
    """Whether its cells may be something else than text, too."""
    return role.startswith("label") or _plain(role) in _NAMES


def cells_of(role: str, cells: Cells) -> Cells:
    """What the column of a role holds, if those of labels hold ``cells``."""
    if _plain(role) == "answers":
        return "record"
    return "class" if _plain(role) in _SINGLE else cells


def _plain(role: str) -> str:
    """Without the place where its column is named."""
    return role.partition(":")[0]


def require_utf8(reading: Reading) -> None:
    """Raises with line and byte offset of the first bytes that are not UTF-8, if there are any."""
    problems, offset = RowFaults(reading.path_in_config, reading.file.name), 0
    with reading.file.open() as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isascii():
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    hint = "Convert it: iconv -f CP1252 -t UTF-8, or save it as UTF-8."
                    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        hint = "It begins like UTF-16: save it as UTF-8."
                        problems.add("be UTF-8", "other bytes", "line 1, byte 0", hint)
                        break
                    where = (
                        f"line {number}, byte {offset + error.start} (0x{line[error.start]:02x})"
                    )
                    problems.add("be UTF-8", "other bytes", where, hint)
            offset += len(line)
    if problems:
        raise ConfigError(problems.faults())
