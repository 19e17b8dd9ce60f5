"""A teacher that counts what it computes."""

import time
from collections.abc import Mapping

from raydistill.signals import Request, TeacherSignal
from raydistill.teachers.protocol import Teacher, TeacherDescription

__all__ = ["CountingTeacher"]


class CountingTeacher:
    """Passes everything on.

    Attributes:
        teacher: Who computes.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._description: TeacherDescription | None = None
        self._rows = self._requests = self._bytes = 0
        self._seconds = 0.0

    def describe(self) -> TeacherDescription:
        """The teacher's description; it is asked once, for that takes passes of its own."""
        if self._description is None:
            self._description = self.teacher.describe()
        return self._description

    def answer(self, request: Request) -> TeacherSignal:
        """The teacher's answer."""
        begin = time.perf_counter()
        signal = self.teacher.answer(request)
        self._seconds += time.perf_counter() - begin
        self._rows += request.num_rows
        self._requests += 1
        self._bytes += signal.num_bytes
        return signal

    def stats(self) -> Mapping[str, float]:
        """Sums since it was made."""
        return {
            "rows_computed": self._rows,
            "requests": self._requests,
            "answer_bytes": self._bytes,
            "busy_s": self._seconds,
        }
