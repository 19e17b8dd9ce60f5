"""A teacher that computes nothing twice: what the store has is read, what it has not is added."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from raydistill.errors import TeacherError
from raydistill.models import ModelTraits
from raydistill.signals import Request, TeacherSignal
from raydistill.store import Pick, ShelfStore, row_keys
from raydistill.teachers.protocol import Teacher, TeacherDescription

__all__ = ["Publisher", "StoredTeacher", "description_from"]

_SAID = ("fingerprint", "num_parameters", "num_bytes", "steady")
_LOOK_S = 1.0  # between two looks whether something is due


def description_from(about: Mapping[str, object], traits: ModelTraits) -> TeacherDescription | None:
    """What a teacher that need not be started would say; None if the store does not know."""
    said: Any = {key: about[key] for key in _SAID if key in about}
    if len(said) < len(_SAID):
        return None
    return TeacherDescription(traits=traits, device="not started", **said)


class StoredTeacher:
    """Reads through and writes through a shelf of the store.

    Args:
        teacher: Who computes what is missing.
        store: Its shelf.

    Raises:
        TeacherError: The shelf holds answers of other weights.
    """

    def __init__(self, teacher: Teacher, store: ShelfStore) -> None:
        self._teacher, self._store = teacher, store
        self._found = 0
        description = teacher.describe()
        self._refuse_other(description)
        store.tell({key: getattr(description, key) for key in _SAID})

    def _refuse_other(self, description: TeacherDescription) -> None:
        known = self._store.about().get("fingerprint")
        if known is not None and known != description.fingerprint:
            raise TeacherError(
                self._store.teacher,
                f"is not the teacher whose answers its shelf of the store holds (fingerprint "
                f"{description.fingerprint[:12]}, there {str(known)[:12]}): the model's files changed since this "
                "run looked at them, or transformers is of another version than when the shelf was made",
                "Start the run again if the files changed; else delete the folder "
                f"{self._store.place.uri.rstrip('/')}/{self._store.shelf.name}, and its answers are computed again.",
            )

    def describe(self) -> TeacherDescription:
        """The teacher's own description."""
        return self._teacher.describe()

    def answer(self, request: Request) -> TeacherSignal:
        """Every distinct text that is not in the store is computed once."""
        picks = self.fill(request)
        return self._store.read(request.row_ids, picks, request.ask)

    def fill(self, request: Request) -> list[Pick]:
        """Compute what the store has not, and file it; where every row stands then."""
        keys = row_keys(request.texts)
        picks = self._store.find(keys, request.ask)
        absent: dict[bytes, list[int]] = {}
        for row, pick in enumerate(picks):
            if pick is None:
                absent.setdefault(keys[row].tobytes(), []).append(row)
        self._found += request.num_rows - len(absent)
        if absent:
            first = [rows[0] for rows in absent.values()]
            signal = self._teacher.answer(request.select(first))
            block = self._store.add(keys[np.array(first)], signal)
            for place, rows in enumerate(absent.values()):
                for row in rows:
                    picks[row] = (block, place)
        return [pick for pick in picks if pick is not None]

    def publish(self) -> None:
        """Let other processes find what was added so far."""
        self._store.publish()

    def publish_due(self) -> None:
        """The same, if what was added is large or old enough."""
        self._store.publish(only_due=True)

    def stats(self) -> Mapping[str, float]:
        """Rows that were asked and did not have to be computed."""
        return {"rows_found": self._found}


class Publisher:
    """Publishes what is due also while nobody asks, so that a death costs no more than that.

    Args:
        stored: Whose answers.
        run: Runs something when nothing is computed.
        look_s: Between two looks.
    """

    def __init__(
        self,
        stored: StoredTeacher,
        run: Callable[[Callable[[], None]], None],
        look_s: float = _LOOK_S,
    ) -> None:
        self._stored, self._run, self._look_s = stored, run, look_s
        self._ended = threading.Event()

    def start(self) -> None:
        """Look until the process ends, which this does not delay."""
        threading.Thread(target=self._look, name="publisher", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(self._look_s):
            try:
                self._run(self._stored.publish_due)
            except OSError:  # a disk may be emptied; the store itself says what is wrong
                continue
