"""What a run has to tell MLflow, kept on disk first.

``<run folder>/tracking/journal.jsonl`` holds one operation a line, in order; ``position.json``
beside it says how far MLflow has been told, and which MLflow run it became. Nothing here knows
MLflow: a server that is away, or a run that is killed, costs no record.
"""

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

__all__ = [
    "TRACKING_FOLDER",
    "Entry",
    "Journal",
    "Position",
    "Record",
    "merge_metrics",
    "pending_journals",
]

TRACKING_FOLDER = "tracking"
_JOURNAL = "journal.jsonl"
_POSITION = "position.json"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Position:
    """How far a journal was delivered, and what MLflow made of it.

    Attributes:
        offset_bytes: Everything before is done with: delivered or skipped.
        delivered: Records that MLflow took.
        skipped: Records that MLflow refused for good.
        attempts: Failed tries of the record at ``offset_bytes``, losses of connection not counted.
        uri: Where it was delivered to.
        run_id: The MLflow run; ``None`` until it exists.
        experiment_id: The experiment of that run.
        registrations: Model URI by the registration's own id.
        model_uri: The version registered last.
    """

    offset_bytes: int = 0
    delivered: int = 0
    skipped: int = 0
    attempts: int = 0
    uri: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    registrations: Mapping[str, str] = field(default_factory=dict)
    model_uri: str | None = None


@dataclass(frozen=True)
class Entry:
    """One complete line of the journal.

    Attributes:
        record: The operation; ``{"op": "unreadable"}`` for a line that is not JSON.
        end_bytes: Offset of the line that follows.
        count: Lines that it stands for.
    """

    record: Record
    end_bytes: int
    count: int = 1


class Journal:
    """Appends operations and remembers how many were delivered. Safe to share between threads.

    Args:
        folder: The run's output folder; made when it does not exist and something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.home = self.folder / TRACKING_FOLDER
        self.path = self.home / _JOURNAL
        self._position_path = self.home / _POSITION
        self._lock = threading.Lock()
        self._mended = False
        self._position = self._read_position()

    @property
    def position(self) -> Position:
        """How far it was delivered."""
        return self._position

    def append(self, record: Record) -> None:
        """Adds one operation; it is with the operating system when this returns."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        with self._lock:
            self.home.mkdir(parents=True, exist_ok=True)
            self._mend()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)

    def move(self, **changes: Any) -> Position:
        """Changes the position, on disk as one atomic replacement."""
        with self._lock:
            self._position = replace(self._position, **changes)
            self.home.mkdir(parents=True, exist_ok=True)
            draft = self._position_path.with_suffix(".draft")
            draft.write_text(json.dumps(asdict(self._position), indent=1), encoding="utf-8")
            os.replace(draft, self._position_path)  # noqa: PTH105 - the atomic one, by its usual name
            return self._position

    def entries(self, start_bytes: int | None = None) -> Iterator[Entry]:
        """Complete lines from the position on. A torn last line (a crash while writing) is not one.

        Args:
            start_bytes: Begin here instead; 0 for the whole journal.
        """
        offset = self._position.offset_bytes if start_bytes is None else start_bytes
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield Entry(_parse(line), offset)

    def count_pending(self) -> int:
        """Records that were neither delivered nor skipped."""
        return sum(1 for _ in self.entries())

    def opening(self) -> Record | None:
        """The record that describes the run, where there is one."""
        return next((e.record for e in self.entries(0) if e.record.get("op") == "open"), None)

    def set_aside(self) -> Path | None:
        """Moves an earlier run's journal out of the way.

        Returns:
            Where it went, or ``None`` when there was nothing.
        """
        if not self.path.exists():
            return None
        count = len(list(self.home.glob("previous-*")))
        target = self.home / f"previous-{count + 1}" / TRACKING_FOLDER
        target.mkdir(parents=True)
        for name in (_JOURNAL, _POSITION):
            if (self.home / name).exists():
                shutil.move(self.home / name, target / name)
        self._position, self._mended = Position(), False
        return target

    def refer(self, path: Path) -> str:
        """The path relative to the run's folder; what lies outside is copied into it first.

        Raises:
            FileNotFoundError: There is nothing at ``path``.
        """
        resolved = path.resolve()
        if not resolved.exists():
            raise FileNotFoundError(f"{path} does not exist")
        if resolved.is_relative_to(self.folder):
            return resolved.relative_to(self.folder).as_posix()
        copy = self.home / "files" / uuid.uuid4().hex[:12] / resolved.name
        copy.parent.mkdir(parents=True)
        if resolved.is_dir():
            shutil.copytree(resolved, copy)
        else:
            shutil.copy2(resolved, copy)
        return copy.relative_to(self.folder).as_posix()

    def _read_position(self) -> Position:
        try:
            found = json.loads(self._position_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            # Without a position everything is sent again; the run is found by its tag, not made
            # twice.
            return Position()
        known = {entry.name for entry in fields(Position)}
        return Position(**{name: value for name, value in found.items() if name in known})

    def _mend(self) -> None:
        """Cuts a torn last line off, once, before the first append of this process."""
        if self._mended:
            return
        self._mended = True
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            with self.path.open("r+b") as file:
                file.truncate(complete)


def merge_metrics(entries: Iterable[Entry], max_points: int) -> Iterator[Entry]:
    """Makes one entry of metrics that follow each other: a backlog is sent in few calls."""
    held: Entry | None = None
    for entry in entries:
        if held is not None:
            points = held.record["points"] + entry.record.get("points", [])
            if entry.record["op"] == "metrics" and len(points) <= max_points:
                merged = {"op": "metrics", "points": points}
                held = Entry(merged, entry.end_bytes, held.count + 1)
                continue
            yield held
            held = None
        if entry.record["op"] == "metrics":
            held = entry
        else:
            yield entry
    if held is not None:
        yield held


def pending_journals(parent: Path) -> list[Path]:
    """Run folders with records that MLflow has not got yet.

    Args:
        parent: A run folder, or a folder of run folders; it and its direct children are looked at.
    """
    if not parent.is_dir():
        return []
    candidates = [parent, *sorted(child for child in parent.iterdir() if child.is_dir())]
    return [folder for folder in candidates if any(True for _ in Journal(folder).entries())]


def _parse(line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) and "op" in record else {"op": "unreadable"}
