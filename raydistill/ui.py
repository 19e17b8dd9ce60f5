"""What a person sees while a run goes on: sentences and progress, on standard error."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["TrainingBar", "Ui"]

_NAME_COLUMNS = 2  # role and name
_WIDE = 500  # more than any table where there is no terminal
_QUIET_LINE_S = 15.0  # between two lines of progress where there is no terminal


class Ui:
    """Sentences and progress.

    Args:
        console: Where to; None: standard error.
        quiet: Say nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet

    def say(self, sentence: str) -> None:
        """One line."""
        if not self._quiet:
            self.console.print(sentence, markup=False)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on standard output, names left and numbers right; as wide as it must be."""
        _print_wide(Console(highlight=False), _table(headers, rows))

    def aside(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The same where sentences go, since standard output is for a program."""
        if not self._quiet:
            _print_wide(Console(stderr=True, highlight=False), _table(headers, rows))

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Something that takes seconds."""
        if self._quiet:
            yield
            return
        begin = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"{what} …"):
                yield
        else:
            self.say(f"{what} …")
            yield
        self.say(f"{what}: {time.monotonic() - begin:.1f} s")

    @contextmanager
    def rows(self, total: int, what: str) -> Iterator[Callable[[int], None]]:
        """A bar over rows; call what is given with the number that is done."""
        done, last_line = 0, time.monotonic()
        terminal = self.console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns,
            TimeRemainingColumn(),
            console=self.console,
            disable=self._quiet or not terminal,
        ) as progress:
            task = progress.add_task(what, total=total)

            def advance(rows: int) -> None:
                nonlocal done, last_line
                done += rows
                progress.update(task, completed=done)
                if not terminal and time.monotonic() - last_line > _QUIET_LINE_S:
                    last_line = time.monotonic()
                    self.say(f"{what}: {done:,} of {total:,} rows")

            yield advance

    @contextmanager
    def training(self, total: int, name: str) -> Iterator["TrainingBar"]:
        """A bar over optimizer steps."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=self._quiet or not self.console.is_terminal,
        )
        with progress:
            yield TrainingBar(self, progress, total, name)


def _print_wide(out: Console, table: Table) -> None:
    if not out.is_terminal:
        out.width = _WIDE
    out.print(table)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < _NAME_COLUMNS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


class TrainingBar:
    """Steps done, loss, and what the validation rows say."""

    def __init__(self, ui: Ui, progress: Progress, total: int, name: str) -> None:
        self._ui, self._progress, self._total = ui, progress, total
        self._task = progress.add_task(f"training {name}", total=total, note="starting workers")
        self._name, self._step, self._note = name, 0, ""
        self._last_line = time.monotonic()

    def events(self, events: list[dict[str, Any]]) -> None:
        """What workers dropped at the recorder."""
        for event in events:
            if event["kind"] == "say":
                self._ui.say(event["text"])
                continue
            self._step = max(self._step, event["step"])
            values = event.get("values", {})
            if "train/loss" in values:
                self._note = f"loss {values['train/loss']:.4f}, waiting for teachers {values['train/teacher_wait_fraction']:.0%}"
            measured = {
                name.replace("validation/", "", 1).replace("_", " "): value
                for name, value in values.items()
                if "validation/" in name
            }
            if measured:
                first = ", ".join(f"{n} {value:.4f}" for n, value in list(measured.items())[:3])
                self._ui.say(f"step {event['step']}: validation {first}")
        self._progress.update(self._task, completed=self._step, note=self._note)
        if not self._ui.console.is_terminal and time.monotonic() - self._last_line > _QUIET_LINE_S:
            self._last_line = time.monotonic()
            self._ui.say(f"training {self._name}: step {self._step} of {self._total}, {self._note}")
