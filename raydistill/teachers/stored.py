"""A teacher that computes nothing twice: what the store has is read, what it has not is added."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raydistill.models import ModelTraits
from raydistill.signals import Request, TeacherSignal
from raydistill.store import Pick, ShelfStore, row_keys
from raydistill.teachers.teacher import Teacher, TeacherDescription

__all__ = ["StoredTeacher", "description_from"]

_SAID = ("fingerprint", "num_parameters", "num_bytes", "steady")


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
    """

    def __init__(self, teacher: Teacher, store: ShelfStore) -> None:
        self._teacher, self._store = teacher, store
        self._found = 0
        description = teacher.describe()
        store.tell({key: getattr(description, key) for key in _SAID})

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

    def stats(self) -> Mapping[str, float]:
        """Rows that were asked and did not have to be computed."""
        return {"rows_found": self._found}
